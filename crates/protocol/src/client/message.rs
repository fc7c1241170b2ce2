//! A message as a client writes and reads it; receipts, markers and states (Part II).

use std::{borrow::Cow, str::FromStr};

use crate::{
    object::{Fields, Key, Members, text},
    write::Object,
};

/// A message to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Draft<'a> {
    /// Oneself.
    pub from: &'a str,
    /// The receiver.
    pub to: &'a str,
    /// Makes it tracked.
    pub id: Option<&'a str>,
    /// The text's language.
    pub lang: Option<&'a str>,
    /// The text.
    pub body: Option<&'a str>,
    /// Asks for a receipt, or is one.
    pub receipt: Option<&'a Receipt>,
    /// Says that it can be marked, or is a mark.
    pub marker: Option<&'a Marker>,
    /// What the sender is doing.
    pub state: Option<ChatState>,
}

impl Draft<'_> {
    pub(super) fn write<'o>(&self, packet: Object<'o>) -> Object<'o> {
        let message = packet.text("stanza", "message").text("from", self.from).text("to", self.to);
        let message = message.text_if("id", self.id).text_if("lang", self.lang).text_if("body", self.body);
        let message = match self.receipt {
            None => message,
            Some(Receipt::Request) => message.text("receipt", "request"),
            Some(Receipt::Received(id)) => {
                message.value("receipt", |out| Object::begin(out).text("received", id).end())
            }
        };
        let message = match self.marker {
            None => message,
            Some(Marker::Markable) => message.text("marker", "markable"),
            Some(Marker::Displayed(id)) => {
                message.value("marker", |out| Object::begin(out).text("displayed", id).end())
            }
        };
        message.text_if("state", self.state.map(ChatState::as_str))
    }
}

/// Delivery receipts (XEP-0184).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The receiver's client is to say when it has this message.
    Request,
    /// It has the one with this `stanza_id`.
    Received(String),
}

/// Read markers (XEP-0333).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// The receiver's client may say when this message has been read.
    Markable,
    /// The one with this `stanza_id`, and all earlier ones of the conversation, have been read.
    Displayed(String),
}

/// What somebody in a conversation is doing (XEP-0085).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatState {
    /// Writing.
    Composing,
    /// Began to write, and does not now.
    Paused,
    /// Looking at the conversation.
    Active,
    /// Not looking at it.
    Inactive,
    /// Has left it.
    Gone,
}

impl ChatState {
    const ALL: [Self; 5] = [Self::Composing, Self::Paused, Self::Active, Self::Inactive, Self::Gone];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Composing => "composing",
            Self::Paused => "paused",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Gone => "gone",
        }
    }
}

/// A word that is no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a chat state")]
pub struct NotAState;

impl FromStr for ChatState {
    type Err = NotAState;

    fn from_str(word: &str) -> Result<Self, NotAState> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or(NotAState)
    }
}

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender, as the sender's relay knows it.
    pub from: String,
    /// The receiver as the sender wrote it.
    pub to: Option<String>,
    /// The sender's id, if it is tracked.
    pub id: Option<String>,
    /// The text; none where it is no string.
    pub body: Option<String>,
    /// Its language.
    pub lang: Option<String>,
    /// Asks for a receipt, or is one.
    pub receipt: Option<Receipt>,
    /// Can be marked, or is a mark.
    pub marker: Option<Marker>,
    /// What the sender is doing.
    pub state: Option<ChatState>,
    /// Where it is in the own log; none unless this connection goes by places.
    pub entry: Option<Entry>,
}

/// A message's place in the own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows strictly.
    pub seq: u64,
    /// The servers' id of the message, the same in every log.
    pub stanza_id: String,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
}

impl Message {
    pub(super) fn read(value: &str, fields: &Fields<'_>, from: String) -> Self {
        let owned = |key| fields.text(key).map(Cow::into_owned);
        let lang = Members::of(value).and_then(|mut members| members.find(|member| member.key == "lang"));
        let lang = lang.and_then(|lang| text(lang.raw)).map(Cow::into_owned);
        let receipt = match fields.text(Key::Receipt).as_deref() {
            Some("request") => Some(Receipt::Request),
            _ => inner(fields, Key::Receipt, "received").map(Receipt::Received),
        };
        let marker = match fields.text(Key::Marker).as_deref() {
            Some("markable") => Some(Marker::Markable),
            _ => inner(fields, Key::Marker, "displayed").map(Marker::Displayed),
        };
        Self {
            from,
            to: owned(Key::To),
            id: owned(Key::Id),
            body: owned(Key::Body),
            lang,
            receipt,
            marker,
            state: fields.text(Key::State).and_then(|state| state.parse().ok()),
            entry: Entry::read(fields),
        }
    }
}

impl Entry {
    /// The relay removes these from what users send, so only a relay can say them.
    fn read(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            seq: fields.raw(Key::Seq)?.parse().ok()?,
            stanza_id: fields.text(Key::StanzaId)?.into_owned(),
            ts_ms: fields.raw(Key::Ts)?.parse().ok()?,
        })
    }
}

/// The text at `name` in the object at `key`.
fn inner(fields: &Fields<'_>, key: Key, name: &str) -> Option<String> {
    let mut members = Members::of(fields.raw(key)?)?;
    let member = members.find(|member| member.key == name)?;
    text(member.raw).map(Cow::into_owned)
}
