//! Presence (PROTOCOL §4).

use super::Sender;

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
