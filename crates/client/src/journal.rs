//! What the state file says: one JSON object a line, the first naming its owner. No IO.
//!
//! A message is in it from before it is sent until it is settled; the place in the log is the last one written. A crash
//! can tear the last line, which then never was: nobody had been promised it. Any other line that cannot be read is an
//! error, because it may be a message.

use std::borrow::Cow;
use std::collections::VecDeque;

use kurir_protocol::manager::Session;
use kurir_protocol::relay::Resume;
use serde::{Deserialize, Serialize};

use crate::message::MessageId;
use crate::tracking::Queued;

/// What this version writes.
const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Record<'a> {
    /// The first line.
    Kurir { version: u32, user: Cow<'a, str> },
    /// To be sent until it is settled.
    Queued { id: MessageId, since_ms: i64, stanza: Cow<'a, str> },
    /// Settled.
    Done { id: MessageId },
    /// Everything up to here has been taken.
    Place { seq: u64, log: Option<Cow<'a, str>> },
    /// Logs this device in the next time; none after a logout.
    Session { token: Option<Cow<'a, str>> },
}

impl<'a> Record<'a> {
    pub(crate) fn queued(queued: &'a Queued) -> Self {
        Self::Queued { id: queued.id, since_ms: queued.since_ms, stanza: (&queued.stanza).into() }
    }

    pub(crate) fn place(place: &'a Resume) -> Self {
        Self::Place { seq: place.seq, log: place.log.as_deref().map(Cow::Borrowed) }
    }

    pub(crate) fn session(session: Option<&'a Session>) -> Self {
        Self::Session { token: session.map(|session| session.expose().into()) }
    }

    /// Appends the line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Neither the records nor writing to memory can fail.
        if serde_json::to_writer(&mut *out, self).is_ok() {
            out.push(b'\n');
        }
    }
}

/// What is kept for the next process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) queued: VecDeque<Queued>,
    pub(crate) place: Option<Resume>,
    pub(crate) session: Option<Session>,
}

/// Why a file is not taken for a state file of this user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error("it does not begin as a state file does")]
    Foreign,
    #[error("it is of version {0}")]
    Version(u32),
    #[error("it belongs to {0}")]
    OtherUser(String),
    #[error("line {0}")]
    Line(usize, #[source] serde_json::Error),
}

impl Kept {
    /// Reads a file of `user`; an empty one keeps nothing. Also the length of what is whole.
    pub(crate) fn read(bytes: &[u8], user: &str) -> Result<(Self, usize), NotRead> {
        let mut kept = Self::default();
        if bytes.is_empty() {
            return Ok((kept, 0));
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').ok_or(NotRead::Foreign)? + 1;
        let lines = bytes.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
        for (number, line) in (1..).zip(lines) {
            match serde_json::from_slice(line) {
                Ok(Record::Kurir { version, .. }) if version != VERSION => {
                    return Err(NotRead::Version(version));
                }
                Ok(Record::Kurir { user: owner, .. }) if owner != user => {
                    return Err(NotRead::OtherUser(owner.into_owned()));
                }
                Ok(Record::Kurir { .. }) => {}
                _ if number == 1 => return Err(NotRead::Foreign),
                Ok(Record::Queued { id, since_ms, stanza }) => {
                    let queued = Queued { id, since_ms, stanza: stanza.into_owned() };
                    // Once more: it is as new, in its old place.
                    match kept.queued.iter_mut().find(|known| known.id == id) {
                        Some(known) => *known = queued,
                        None => kept.queued.push_back(queued),
                    }
                }
                Ok(Record::Done { id }) => {
                    let settled = kept.queued.iter().position(|queued| queued.id == id);
                    settled.and_then(|index| kept.queued.remove(index));
                }
                Ok(Record::Place { seq, log }) => {
                    kept.place = Some(Resume { seq, log: log.map(Cow::into_owned) });
                }
                Ok(Record::Session { token }) => kept.session = token.map(|token| Session::new(&token)),
                Err(error) => return Err(NotRead::Line(number, error)),
            }
        }
        Ok((kept, whole))
    }
}

/// A whole file that says this.
pub(crate) fn whole<'a>(
    user: &str,
    queued: impl Iterator<Item = &'a Queued>,
    place: Option<&Resume>,
    session: Option<&Session>,
) -> Vec<u8> {
    let mut out = Vec::new();
    Record::Kurir { version: VERSION, user: user.into() }.write(&mut out);
    queued.for_each(|queued| Record::queued(queued).write(&mut out));
    if let Some(place) = place {
        Record::place(place).write(&mut out);
    }
    if session.is_some() {
        Record::session(session).write(&mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(number: u128) -> Queued {
        let stanza = format!(r#"{{"stanza":"message","to":"fajar","body":"{number}\n€"}}"#);
        Queued { id: MessageId::numbered(number), since_ms: 7, stanza }
    }

    fn file() -> Vec<u8> {
        let mut file = whole("esa", [queued(1), queued(2)].iter(), None, Some(&Session::new("s1")));
        Record::Done { id: MessageId::numbered(1) }.write(&mut file);
        Record::queued(&Queued { since_ms: 8, ..queued(2) }).write(&mut file);
        Record::queued(&queued(3)).write(&mut file);
        Record::place(&Resume { seq: 7, log: Some("l".into()) }).write(&mut file);
        Record::session(None).write(&mut file);
        Record::session(Some(&Session::new("s2"))).write(&mut file);
        file
    }

    fn kept() -> Kept {
        let place = Some(Resume { seq: 7, log: Some("l".into()) });
        let queued = [Queued { since_ms: 8, ..queued(2) }, queued(3)];
        Kept { queued: queued.into(), place, session: Some(Session::new("s2")) }
    }

    #[test]
    fn what_was_written_is_read() {
        let file = file();
        assert_eq!(Kept::read(&file, "esa").unwrap(), (kept(), file.len()));
        let rewritten = whole("esa", kept().queued.iter(), kept().place.as_ref(), kept().session.as_ref());
        assert_eq!(Kept::read(&rewritten, "esa").unwrap().0, kept());
        assert_eq!(Kept::read(b"", "esa").unwrap(), (Kept::default(), 0));
    }

    #[test]
    fn a_torn_last_line_takes_nothing_else_with_it() {
        let file = file();
        let mut line = Vec::new();
        Record::queued(&queued(4)).write(&mut line);
        for cut in 0..line.len() {
            let torn = [&file, &line[..cut]].concat();
            assert_eq!(Kept::read(&torn, "esa").unwrap(), (kept(), file.len()), "{cut}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_never_passed_over() {
        let mut damaged = file();
        damaged.extend_from_slice(b"{\"queued\":{\"id\":7}}\n");
        assert!(matches!(Kept::read(&damaged, "esa"), Err(NotRead::Line(11, _))));
        let mut newer = file();
        newer.extend_from_slice(b"{\"later\":{}}\n");
        assert!(matches!(Kept::read(&newer, "esa"), Err(NotRead::Line(11, _))));
        assert!(matches!(Kept::read(&file(), "fajar"), Err(NotRead::OtherUser(user)) if user == "esa"));
        let version = b"{\"kurir\":{\"version\":2,\"user\":\"esa\"}}\n";
        assert!(matches!(Kept::read(version, "esa"), Err(NotRead::Version(2))));
        for foreign in
            ["hello", "hello\n", "\n", "{\"done\":{\"id\":\"00000000-0000-0000-0000-000000000001\"}}\n"]
        {
            assert!(matches!(Kept::read(foreign.as_bytes(), "esa"), Err(NotRead::Foreign)), "{foreign}");
        }
    }
}
