//! What a relay writes about tracked messages (Part II).

use crate::{
    replies::no_receiver,
    write::{self, Object},
};

/// Why a tracked message was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The id is no string of 1 to 255 bytes.
    BadId,
    /// It is a chat state, which is stored by nobody.
    State,
    /// The device has used the id for other content.
    Conflict,
    /// It could not be stored now: the same message is to be sent again, before any later one.
    Wait,
}

impl Refusal {
    fn error(self) -> (&'static str, &'static str) {
        match self {
            Self::BadId | Self::State => ("modify", "bad-request"),
            Self::Conflict => ("cancel", "conflict"),
            Self::Wait => ("wait", "resource-constraint"),
        }
    }
}

/// Tells the sender that its message `id` is stored, as a canonical line; `seq` is its place in the sender's own log, for
/// a connection that goes by it.
pub fn acknowledge(out: &mut Vec<u8>, id: &str, stanza_id: &str, seq: Option<u64>) {
    let ack = Object::begin(out).text("stanza", "message").text("type", "ack").text("id", id);
    let ack = ack.text("stanza_id", stanza_id);
    let ack = match seq {
        Some(seq) => ack.raw("seq", &seq.to_string()),
        None => ack,
    };
    ack.text("level", "stored").end_line();
}

/// Tells the sender `to` that its message is not stored, and why, as a canonical line. `id` is JSON as the client wrote
/// it.
pub fn refuse(out: &mut Vec<u8>, to: &str, id: &str, refusal: Refusal) {
    Object::begin(out)
        .text("stanza", "message")
        .text("type", "error")
        .text("from", "relay")
        .text("to", to)
        .raw("id", id)
        .value("error", |out| crate::iq::error(out, refusal.error()))
        .end_line();
}

/// Tells the sender `to` that no account has the name that its message `id` is for: R15's packet with the id, as a
/// canonical line.
pub fn not_delivered(out: &mut Vec<u8>, to: &str, id: &str) {
    no_receiver(out, to).text("id", id).end_line();
}

/// Tells a device that it has acknowledged what it was not sent, as a canonical line.
pub fn refuse_ack(out: &mut Vec<u8>, seq: u64) {
    Object::begin(out)
        .text("stanza", "ack")
        .text("type", "error")
        .raw("seq", &seq.to_string())
        .value("error", |out| crate::iq::error(out, ("modify", "unexpected-request")))
        .end_line();
}

/// The answer to a hello with `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready<'a> {
    /// The log's last place.
    pub seq: u64,
    /// The log's life.
    pub log: &'a str,
    /// The log's first place, where older entries are gone.
    pub first: Option<u64>,
    /// What the device has is of another life, or from beyond the end: everything follows from the first on.
    pub reset: bool,
}

/// What a place that is not in the log is called, or one that is not there any more.
const NOT_THERE: (&str, &str) = ("cancel", "item-not-found");

/// Appends a [`Ready`] as a canonical line.
pub fn ready(out: &mut Vec<u8>, ready: &Ready<'_>) {
    let packet = Object::begin(out).text("stanza", "stream").text("type", "ready");
    let packet = packet.raw("seq", &ready.seq.to_string()).text("log", ready.log);
    let packet = match ready.first {
        Some(first) => packet.raw("first", &first.to_string()),
        None => packet,
    };
    let packet = if ready.reset {
        packet.raw("reset", "true").value("error", |out| crate::iq::error(out, NOT_THERE))
    } else {
        packet
    };
    packet.end_line();
}

/// Tells a device that the entries after `after` and before `first` are gone, as a canonical line.
pub fn gap(out: &mut Vec<u8>, after: u64, first: u64) {
    let packet = Object::begin(out).text("stanza", "stream").text("type", "gap");
    let packet = packet.raw("after", &after.to_string()).raw("first", &first.to_string());
    packet.value("error", |out| crate::iq::error(out, NOT_THERE)).end_line();
}

/// Appends a log's entry as a device that resumes is sent it, as a canonical line. `stanza` is what is stored: an object
/// with at least one member.
pub fn deliver(out: &mut Vec<u8>, stanza: &str, seq: u64, stanza_id: &str, ts_ms: i64) {
    entry(out, stanza, seq, stanza_id, ts_ms);
    out.push(b'\n');
}

/// Appends a log's entry with its place, as one JSON object.
pub(crate) fn entry(out: &mut Vec<u8>, stanza: &str, seq: u64, stanza_id: &str, ts_ms: i64) {
    let members = stanza.strip_prefix('{').unwrap_or(stanza);
    out.extend_from_slice(format!(r#"{{"seq":{seq},"ts":{ts_ms},"stanza_id":"#).as_bytes());
    write::string(out, stanza_id);
    out.push(b',');
    out.extend_from_slice(members.as_bytes());
}
