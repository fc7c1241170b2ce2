//! Messages to send.

use std::fmt;

pub use kurir_protocol::client::{ChatState, Marker, Receipt};
use kurir_protocol::client::{Draft, FromServer, ToServer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a message of one's own, made by this library: a UUID, so that no two are ever the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// None where it is none of this library's.
    pub(crate) fn read(id: &str) -> Option<Self> {
        Uuid::parse_str(id).ok().map(Self)
    }

    #[cfg(test)]
    pub(crate) fn numbered(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message to be stored, and delivered even if the receiver is offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The receiver.
    pub to: String,
    /// The text.
    pub body: Option<String>,
    /// The text's language.
    pub lang: Option<String>,
    /// Asks for an [`Event::Delivered`](crate::Event::Delivered), or is the receipt that makes one.
    pub receipt: Option<Receipt>,
    /// Asks for an [`Event::Read`](crate::Event::Read), or is the marker that makes one.
    pub marker: Option<Marker>,
}

impl NewMessage {
    /// A text, and nothing asked for.
    pub fn text(to: impl Into<String>, body: impl Into<String>) -> Self {
        Self { body: Some(body.into()), ..Self::to(to) }
    }

    /// Asks the receiver's client to say when it has the message.
    #[must_use]
    pub fn ask_receipt(mut self) -> Self {
        self.receipt = Some(Receipt::Request);
        self
    }

    /// Allows the receiver to say that the message has been read.
    #[must_use]
    pub fn markable(mut self) -> Self {
        self.marker = Some(Marker::Markable);
        self
    }

    /// The message `stanza_id` of `to` has arrived.
    pub(crate) fn received(to: String, stanza_id: String) -> Self {
        Self { receipt: Some(Receipt::Received(stanza_id)), ..Self::to(to) }
    }

    /// The message `stanza_id` of `to`, and all before it, have been read.
    pub(crate) fn displayed(to: String, stanza_id: String) -> Self {
        Self { marker: Some(Marker::Displayed(stanza_id)), ..Self::to(to) }
    }

    fn to(to: impl Into<String>) -> Self {
        Self { to: to.into(), body: None, lang: None, receipt: None, marker: None }
    }

    /// The stanza as one line without LF. It is kept as it is until it is acknowledged: the same id with other bytes would
    /// be a conflict.
    pub(crate) fn stanza(&self, from: &str, id: MessageId) -> String {
        let id = id.to_string();
        let draft = Draft {
            from,
            to: &self.to,
            id: Some(&id),
            lang: self.lang.as_deref(),
            body: self.body.as_deref(),
            receipt: self.receipt.as_ref(),
            marker: self.marker.as_ref(),
            state: None,
        };
        let mut line = Vec::new();
        ToServer::Message(draft).write(&mut line);
        line.pop();
        // It is made of strings.
        String::from_utf8(line).unwrap_or_default()
    }

    /// Reads what [`NewMessage::stanza`] wrote.
    pub(crate) fn read(stanza: &str) -> Option<Self> {
        let Ok(FromServer::Message(message)) = FromServer::parse(stanza) else { return None };
        let to = message.to?;
        Some(Self {
            to,
            body: message.body,
            lang: message.lang,
            receipt: message.receipt,
            marker: message.marker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_from_its_stanza() {
        let message = NewMessage::text("fajar", "halo\n\"fajar\"").ask_receipt().markable();
        let stanza = message.stanza("esa", MessageId::numbered(7));
        assert!(
            !stanza.contains('\n') && stanza.contains("00000000-0000-0000-0000-000000000007"),
            "{stanza}"
        );
        assert_eq!(NewMessage::read(&stanza), Some(message));
        let receipt = NewMessage::received("esa".into(), "s".into());
        assert_eq!(NewMessage::read(&receipt.stanza("fajar", MessageId::numbered(8))), Some(receipt));
    }
}
