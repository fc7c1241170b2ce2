//! Presence (PROTOCOL §4).

use super::Sender;
use crate::object::{Fields, Key, text, truthy};

/// What a client's presence asks for: the first row of the table that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceRequest {
    /// Change the bio and tell the contacts (M25).
    Bio {
        /// Who says so; nobody named is the user. Somebody else: [`ToClient::PresenceForbidden`](super::ToClient).
        from: Option<Sender>,
        /// The new bio, not empty.
        bio: String,
    },
    /// Exchange presence with this user (M27).
    Directed {
        /// As the client wrote it.
        to: String,
    },
    /// Logout (M29).
    Logout,
    /// Tell the contacts, and tell me of them (M24).
    Initial,
}

impl PresenceRequest {
    /// None where no row applies.
    pub(super) fn read(presence: &Fields<'_>) -> Option<Self> {
        let kind = presence.given(Key::Type);
        let is = |name| presence.says(Key::Type, name);
        // RFC 6121 §3, which comes before all of these: not to be taken for a directed presence.
        if ["subscribe", "subscribed", "unsubscribe", "unsubscribed"].into_iter().any(is) {
            return None;
        }
        if let Some(bio) = presence.raw(Key::Bio).filter(|raw| truthy(raw)) {
            let from =
                presence.given(Key::From).map(|raw| Sender::of(text(raw).unwrap_or_default().into_owned()));
            return Some(Self::Bio { from, bio: text(bio)?.into_owned() });
        }
        if let Some(to) = presence.given(Key::To) {
            return Some(Self::Directed { to: text(to)?.into_owned() });
        }
        match kind {
            None => Some(Self::Initial),
            Some(_) if is("unavailable") => Some(Self::Logout),
            Some(_) => None,
        }
    }
}

/// A user's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user's name as registered.
    pub username: String,
    /// What the user says of itself.
    pub bio: String,
    /// Reachable or not.
    pub online: bool,
    /// When the account last changed, in milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
}
