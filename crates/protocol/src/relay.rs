//! The relay's client socket (PROTOCOL §5).

mod content;
mod message;
mod readdress;
mod tracked;

pub use content::content;
pub use message::{Message, MessageId, is_bounced};
pub use readdress::{displayed, for_device, id, is_plain, is_to_another, readdress};
pub(crate) use tracked::entry;
pub use tracked::{Ready, Refusal, acknowledge, deliver, gap, not_delivered, ready, refuse, refuse_ack};

use std::borrow::Cow;

use self::message::Kept;
use crate::{
    Malformed, iq,
    object::{Fields, Key, Members, Seen, is_null, text},
};

/// What clients send to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// Makes the user reachable here (R5, R6).
    Hello(Hello),
    /// To be routed (R13).
    Message(Message<'a>),
    /// Everything up to this `seq` has arrived (Part II).
    Ack(u64),
    /// Answered by [`iq::Request::answer`], before the hello by [`iq::Request::answer_before_login`].
    Iq(iq::Request),
    /// Fits no row: no answer (R26).
    Ignored,
}

impl<'a> FromClient<'a> {
    /// Reads one value, borrowed: on a message's way nothing is allocated.
    pub fn parse(value: &'a str) -> Result<Self, Malformed> {
        let header = Header::read(value)?;
        match header.stanza {
            Some(stanza) if says(stanza, "message") => {
                let id = header.id.map_or(MessageId::None, MessageId::read);
                Ok(Self::Message(Message::new(value, header.to.and_then(text), id, header.kept)))
            }
            Some(stanza) if says(stanza, "ack") => {
                Ok(header.seq.and_then(place).map_or(Self::Ignored, Self::Ack))
            }
            Some(stanza) if says(stanza, "iq") => {
                Ok(iq::Request::of(&Fields::read(value)?).map_or(Self::Ignored, Self::Iq))
            }
            // A `stanza` that is no string is none.
            Some(stanza) if text(stanza).is_some() => Ok(Self::Ignored),
            _ => Ok(header.hello()?.map_or(Self::Ignored, Self::Hello)),
        }
    }
}

/// What routing needs of a packet, found in one walk over its members.
#[derive(Default)]
struct Header<'a> {
    stanza: Option<&'a str>,
    to: Option<&'a str>,
    id: Option<&'a str>,
    seq: Option<&'a str>,
    username: Option<&'a str>,
    token: Option<&'a str>,
    resume: Option<&'a str>,
    log: Option<&'a str>,
    kept: Kept,
}

impl<'a> Header<'a> {
    fn read(value: &'a str) -> Result<Self, Malformed> {
        let mut header = Self::default();
        let mut seen = Seen::default();
        for member in Members::of(value).ok_or(Malformed)? {
            let key = Key::of(&member.key);
            if let Some(key) = key {
                seen.note(key)?;
            }
            match key {
                Some(Key::Seq) => {
                    header.seq = Some(member.raw);
                    header.kept.cut();
                    continue;
                }
                Some(Key::From | Key::StanzaId | Key::Ts | Key::Error) => {
                    header.kept.cut();
                    continue;
                }
                Some(Key::Stanza) => header.stanza = Some(member.raw),
                Some(Key::To) => header.to = Some(member.raw),
                Some(Key::Id) => header.id = Some(member.raw),
                Some(Key::Resume) => header.resume = Some(member.raw),
                Some(Key::Log) => header.log = Some(member.raw),
                Some(Key::Username) => header.username = Some(member.raw),
                Some(Key::Token) => header.token = Some(member.raw),
                _ => {}
            }
            header.kept.keep(&member.span).ok_or(Malformed)?;
        }
        Ok(header)
    }

    /// A packet without `stanza` is a hello if it names a user, however badly.
    fn hello(&self) -> Result<Option<Hello>, Malformed> {
        let Some(username) = self.username else { return Ok(None) };
        let username = text(username).map(Cow::into_owned);
        let given = |raw: Option<&'a str>| raw.filter(|raw| !is_null(raw));
        let token = given(self.token).map(|raw| text(raw).unwrap_or_default().into_owned());
        let log = given(self.log).map(|raw| text(raw).map(Cow::into_owned).ok_or(Malformed));
        let resume = match given(self.resume) {
            // Whoever does not say where it goes on would be sent everything again.
            Some(raw) => Some(Resume { seq: place(raw).ok_or(Malformed)?, log: log.transpose()? }),
            None => None,
        };
        Ok(Some(Hello { username, token, resume }))
    }
}

/// A place in a log; one that is too large for any is beyond its end.
fn place(raw: &str) -> Option<u64> {
    raw.bytes().all(|byte| byte.is_ascii_digit()).then(|| raw.parse().unwrap_or(u64::MAX))
}

fn says(raw: &str, what: &str) -> bool {
    text(raw).is_some_and(|text| text.eq_ignore_ascii_case(what))
}

/// The first packet on a relay's socket. Its `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who says to be here; none where it is no string.
    pub username: Option<String>,
    /// The ticket; absent in the original's hello. One that is no string comes as an empty one, which no relay admits.
    pub token: Option<String>,
    /// Where a device of Part II goes on; none: the original's.
    pub resume: Option<Resume>,
}

/// The last place of an account's log that a device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// 0: none.
    pub seq: u64,
    /// The life of the log that `seq` belongs to, if the device knows it.
    pub log: Option<String>,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        let Self { username, resume, .. } = self;
        f.debug_struct("Hello")
            .field("username", username)
            .field("token", &token)
            .field("resume", resume)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_escapes_is_read_borrowed() {
        let value = r#"{"stanza":"message","from":"esa","to":"fajar","lang":"id","body":"halo \"fajar\""}"#;
        assert!(Members::of(value).unwrap().all(|member| matches!(member.key, Cow::Borrowed(_))));
        assert!(matches!(Header::read(value).unwrap().to.and_then(text), Some(Cow::Borrowed("fajar"))));
    }
}
