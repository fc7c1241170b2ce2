//! Packets that never change, or only by a name.
//!
//! The constants are values without LF; [`push`] appends one as a canonical line.

use std::time::Duration;

use crate::write;

/// Malformed input, on every socket; at the manager also bad usernames and passwords.
pub const BAD_REQUEST: &str = r#"{"error":true,"msg":"Bad request","code":400}"#;
/// A relay hello that is refused; the connection is closed.
pub const UNAUTHORIZED: &str = r#"{"error":true,"msg":"Unauthorized","code":401}"#;
/// Login: no such account.
pub const USER_NOT_FOUND: &str = r#"{"error":true,"msg":"User not found","code":404}"#;
/// The receiver does not read; the connection is closed.
pub const TOO_SLOW: &str = r#"{"error":true,"msg":"Too slow","code":408}"#;
/// Register: the name is taken.
pub const USERNAME_USED: &str = r#"{"error":true,"msg":"Username used","code":409}"#;
/// Login: this device is online already.
pub const ALREADY_LOGGED_IN: &str = r#"{"error":true,"msg":"Already logged in","code":409}"#;
/// Login: the account has as many named devices as it may have, and this is another one.
pub const TOO_MANY_DEVICES: &str = r#"{"error":true,"msg":"Too many devices","code":403}"#;
/// Another connection of this device took this one's place; the connection is closed.
pub const CONFLICT: &str = r#"{"error":true,"msg":"Conflict","code":409}"#;
/// A value over the limits; the connection is closed.
pub const TOO_LARGE: &str = r#"{"error":true,"msg":"Too large","code":413}"#;
/// Database away, or busy: nobody's fault, try again.
pub const TEMPORARY_FAILURE: &str = r#"{"error":true,"msg":"Temporary failure","code":503}"#;

/// Appends one of the constants above as a canonical line.
pub fn push(out: &mut Vec<u8>, reply: &str) {
    out.extend_from_slice(reply.as_bytes());
    out.push(b'\n');
}

/// Tells the sender `to` that a message found no receiver (R15), as a canonical line.
pub fn not_delivered(out: &mut Vec<u8>, to: &str) {
    no_receiver(out, to).end_line();
}

/// R15's packet, open: a tracked message's has its id as well.
pub(crate) fn no_receiver<'o>(out: &'o mut Vec<u8>, to: &str) -> write::Object<'o> {
    write::Object::begin(out)
        .text("stanza", "message")
        .text("from", "relay")
        .text("to", to)
        .raw("error", "true")
        .text("body", "User not found or User not online")
}

/// The last words to a client as the server stops: none to one of the original.
pub fn goodbye(is_of_part_two: bool) -> String {
    last_words("", is_of_part_two.then_some(StreamCondition::SystemShutdown))
}

/// What is written last before a connection is closed, for an outbox's close: a constant above, or nothing, and for a client
/// of Part II why. Canonical lines, the last one without its LF.
pub fn last_words(reply: &str, why: Option<StreamCondition>) -> String {
    let mut last = Vec::new();
    if !reply.is_empty() {
        push(&mut last, reply);
    }
    if let Some(why) = why {
        stream_error(&mut last, why, None);
    }
    String::from_utf8_lossy(last.trim_ascii_end()).into_owned()
}

/// Why a server closes a connection that used Part II.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCondition {
    /// Get a new ticket.
    NotAuthorized,
    /// Another connection took this one's place: go away.
    Conflict,
    /// The client broke a rule or a limit.
    PolicyViolation,
    /// The server has no room: wait.
    ResourceConstraint,
    /// The server stops: connect elsewhere.
    SystemShutdown,
}

impl StreamCondition {
    fn error(self) -> (&'static str, &'static str) {
        match self {
            Self::NotAuthorized => ("auth", "not-authorized"),
            Self::Conflict => ("cancel", "conflict"),
            Self::PolicyViolation => ("modify", "policy-violation"),
            Self::ResourceConstraint => ("wait", "resource-constraint"),
            Self::SystemShutdown => ("wait", "system-shutdown"),
        }
    }
}

/// Tells a client of Part II to connect elsewhere after this time, as a canonical line; until then, and while it does, this
/// connection works.
pub fn move_away(out: &mut Vec<u8>, after: Duration) {
    let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    write::Object::begin(out)
        .text("stanza", "stream")
        .text("type", "move")
        .number("after_ms", after)
        .end_line();
}

/// Tells a client of Part II why its connection is about to be closed, as a canonical line.
pub fn stream_error(out: &mut Vec<u8>, condition: StreamCondition, retry_after: Option<Duration>) {
    let (kind, condition) = condition.error();
    write::Object::begin(out)
        .text("stanza", "stream")
        .text("type", "error")
        .value("error", |out| {
            let mut error = write::Object::begin(out).text("type", kind).text("condition", condition);
            if let Some(after) = retry_after {
                error = error.number("retry_after_ms", i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
            }
            error.end();
        })
        .end_line();
}
