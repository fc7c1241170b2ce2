//! The own log, read back (Part II `archive`).

use std::str::FromStr;

use crate::{
    Malformed, iq,
    object::{Fields, Key, is_null, text},
    relay, write,
};

/// A request to read the own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRequest {
    /// To be echoed.
    pub id: Option<iq::Id>,
    /// What is asked for.
    pub action: ArchiveAction,
}

/// What an [`ArchiveRequest`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveAction {
    /// A part of the log.
    Search(Search),
    /// The message that this device has sent with this id, if it is there.
    Sent(String),
    /// How far the account has read each conversation.
    Displayed,
    /// Answered with [`iq::Condition::BadRequest`].
    Bad,
}

/// Which part of the log: with `after` the first entries of it, otherwise the last ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Only the conversation with this user, as the asker wrote the address.
    pub with: Option<String>,
    /// Only what comes after this place.
    pub after: Option<u64>,
    /// Only what comes before this place.
    pub before: Option<u64>,
    /// No more entries than these: 1 to [`Search::MOST`].
    pub limit: u64,
}

impl Search {
    /// Entries of one answer where the asker says nothing.
    pub const USUAL: u64 = 50;
    /// Entries of one answer at most.
    pub const MOST: u64 = 100;

    /// The last entries of the conversation with somebody.
    pub fn with(user: impl Into<String>) -> Self {
        Self { with: Some(user.into()), ..Self::default() }
    }

    fn read(query: &Fields<'_>) -> Option<Self> {
        Some(Self {
            with: optional(query, Key::With, |raw| text(raw).map(Into::into))?,
            after: optional(query, Key::After, number)?,
            before: optional(query, Key::Before, number)?,
            limit: optional(query, Key::Limit, number)?.unwrap_or(Self::USUAL).clamp(1, Self::MOST),
        })
    }
}

/// The last entries of all.
impl Default for Search {
    fn default() -> Self {
        Self { with: None, after: None, before: None, limit: Self::USUAL }
    }
}

/// None: it is there, and wrong.
#[expect(clippy::option_option, reason = "missing and wrong are different things")]
fn optional<'a, T>(
    fields: &Fields<'a>,
    key: Key,
    read: impl FnOnce(&'a str) -> Option<T>,
) -> Option<Option<T>> {
    fields.given(key).map_or(Some(None), |raw| read(raw).map(Some))
}

fn number<T: FromStr>(raw: &str) -> Option<T> {
    raw.parse().ok()
}

impl ArchiveRequest {
    /// What it is answered with: to the asker, null before login.
    pub fn answer<'a>(&'a self, to: Option<&'a str>) -> iq::Answer<'a> {
        iq::Answer::new("archive", to, self.id.as_ref())
    }

    /// None where an iq asks for nothing: a result or an error.
    pub(super) fn read(iq: &Fields<'_>) -> Result<Option<Self>, Malformed> {
        let action = match iq::Kind::of(iq) {
            iq::Kind::Answer => return Ok(None),
            iq::Kind::Get => match iq.raw(Key::Query).filter(|raw| !is_null(raw)) {
                Some(_) => match iq.object(Key::Query)? {
                    Some(query) => ArchiveAction::read(&query),
                    None => ArchiveAction::Bad,
                },
                // All of it, from the end.
                None => ArchiveAction::read(&Fields::read("{}")?),
            },
            iq::Kind::Set | iq::Kind::Bad => ArchiveAction::Bad,
        };
        Ok(Some(Self { id: iq::Id::of(iq), action }))
    }
}

impl ArchiveAction {
    fn read(query: &Fields<'_>) -> Self {
        if query.raw(Key::Displayed).is_some() {
            return Self::Displayed;
        }
        match query.given(Key::Id) {
            Some(raw) => text(raw).map_or(Self::Bad, |id| Self::Sent(id.into_owned())),
            None => Search::read(query).map_or(Self::Bad, Self::Search),
        }
    }
}

/// An entry of the log, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Its place.
    pub seq: u64,
    /// The same in every log.
    pub stanza_id: String,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// As the asker reads it: an object with at least one member, without LF.
    pub stanza: String,
}

/// A part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// In the log's order.
    pub messages: &'a [Filed],
    /// There is no more in the direction that was asked for.
    pub complete: bool,
    /// The log's life.
    pub log: &'a str,
    /// The log's first place, where older entries are gone.
    pub first: Option<u64>,
}

/// How far a conversation was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displayed {
    /// With whom, as the asker reads the address.
    pub with: String,
    /// The last message that was read.
    pub stanza_id: String,
    /// When that was said, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
}

/// To an [`ArchiveRequest`].
impl iq::Answer<'_> {
    /// A part of the log.
    pub fn found(self, out: &mut Vec<u8>, found: &Found<'_>) {
        self.result(out, |query| {
            let query = query.value("messages", |out| write::array(out, found.messages, write_filed));
            let query = query.raw("complete", if found.complete { "true" } else { "false" });
            let query = query.text("log", found.log);
            match found.first {
                Some(first) => query.raw("first", &first.to_string()),
                None => query,
            }
        });
    }

    /// How far each conversation was read.
    pub fn displayed(self, out: &mut Vec<u8>, displayed: &[Displayed]) {
        self.result(out, |query| {
            query.value("displayed", |out| write::array(out, displayed, write_displayed))
        });
    }
}

fn write_filed(out: &mut Vec<u8>, entry: &Filed) {
    relay::entry(out, &entry.stanza, entry.seq, &entry.stanza_id, entry.ts_ms);
}

fn write_displayed(out: &mut Vec<u8>, displayed: &Displayed) {
    let Displayed { with, stanza_id, ts_ms } = displayed;
    write::Object::begin(out).text("with", with).text("stanza_id", stanza_id).number("ts", *ts_ms).end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iq::Condition;

    fn read(rest: &str) -> Option<ArchiveRequest> {
        let packet = format!(r#"{{"stanza":"iq","namespace":"archive","id":"7",{rest}}}"#);
        ArchiveRequest::read(&Fields::read(&packet).unwrap()).unwrap()
    }

    #[test]
    fn a_search_says_with_whom_from_where_and_how_much() {
        let search = |with: Option<&str>, after, before, limit| {
            ArchiveAction::Search(Search { with: with.map(str::to_owned), after, before, limit })
        };
        for (query, expected) in [
            (r"{}", search(None, None, None, 50)),
            (r"null", search(None, None, None, 50)),
            (
                r#"{"with":"fajar","after":3,"before":9,"limit":7}"#,
                search(Some("fajar"), Some(3), Some(9), 7),
            ),
            (r#"{"limit":0}"#, search(None, None, None, 1)),
            (r#"{"limit":100000}"#, search(None, None, None, 100)),
            (r#"{"with":null,"after":null}"#, search(None, None, None, 50)),
            (r#"{"id":"a"}"#, ArchiveAction::Sent("a".into())),
            (r#"{"displayed":null}"#, ArchiveAction::Displayed),
            (r#"{"id":1}"#, ArchiveAction::Bad),
            (r#"{"with":1}"#, ArchiveAction::Bad),
            (r#"{"after":"3"}"#, ArchiveAction::Bad),
            (r#"{"before":-1}"#, ArchiveAction::Bad),
            (r#"{"limit":1.5}"#, ArchiveAction::Bad),
            (r"[]", ArchiveAction::Bad),
        ] {
            let action = read(&format!(r#""type":"get","query":{query}"#)).unwrap().action;
            assert_eq!(action, expected, "{query}");
        }
        assert_eq!(read(r#""type":"get""#).unwrap().action, search(None, None, None, 50));
        assert_eq!(read(r#""type":"set","query":{}"#).unwrap().action, ArchiveAction::Bad);
        assert_eq!(read(r#""type":"ask""#).unwrap().action, ArchiveAction::Bad);
        assert_eq!(read(r#""type":"error""#), None);
    }

    #[test]
    fn answers_are_written_as_the_documentation_says() {
        let id = read(r#""type":"get""#).unwrap().id;
        let answer = iq::Answer::new("archive", Some("esa"), id.as_ref());
        let line = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let message = Filed {
            seq: 8,
            stanza_id: "0194".into(),
            ts_ms: 5,
            stanza: r#"{"from":"fajar","stanza":"message","to":"esa","id":"1","body":"halo"}"#.into(),
        };
        let messages = std::slice::from_ref(&message);
        let found = Found { messages, complete: true, log: "41d9", first: Some(3) };
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"archive","type":"result","query":{"messages":["#,
            r#"{"seq":8,"ts":5,"stanza_id":"0194","from":"fajar","stanza":"message","to":"esa","id":"1","body":"halo"}"#,
            r#"],"complete":true,"log":"41d9","first":3},"to":"esa","id":"7"}"#,
            "\n"
        );
        assert_eq!(line(&|out| answer.found(out, &found)), expected);
        let displayed = Displayed { with: "fajar".into(), stanza_id: "0194".into(), ts_ms: 9 };
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"archive","type":"result","query":{"displayed":["#,
            r#"{"with":"fajar","stanza_id":"0194","ts":9}]},"to":"esa","id":"7"}"#,
            "\n"
        );
        assert_eq!(line(&|out| answer.displayed(out, std::slice::from_ref(&displayed))), expected);
        let refused = line(&|out| answer.refused(out, Condition::Temporary));
        assert!(
            refused.contains(r#""type":"error","error":{"type":"wait","condition":"resource-constraint"}"#)
        );
    }
}
