//! What one user is told of another, wherever the two are connected.

use kurir_directory::Generation;
use kurir_protocol::{
    manager::{Item, Presence, ToClient},
    name::{LoginId, UserKey, Username},
};

use crate::store::{Account, Profile};

/// Orders what is told of one user: by login, and within a login by how often it has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) login: LoginId,
    pub(crate) counter: u64,
}

/// The manager that a user is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Here,
    At(Generation),
}

/// Where a user is online, as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) place: Place,
    pub(crate) version: Version,
}

/// Something to tell of a user.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) about: UserKey,
    pub(crate) from: Username,
    pub(crate) version: Version,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// To everybody who sees this user's presence: initial presence (M24) and a new bio (M26).
    Presence(Presence),
    /// To one user, who need not be a contact (M27).
    Directed(Presence),
    /// Logged out or lost (M30, M31).
    Unavailable,
    /// The receiver's roster item for this user is now this one (M18).
    Subscribed(Item),
}

impl News {
    /// Appends the packet for the receiver `to`, as one canonical line.
    pub(crate) fn write(&self, to: &Username, out: &mut Vec<u8>) {
        let (from, to) = (self.from.as_str(), to.as_str());
        match &self.what {
            What::Presence(presence) => ToClient::Presence(presence).write(out),
            What::Directed(presence) => ToClient::PresenceDirected { presence, to }.write(out),
            What::Unavailable => ToClient::Unavailable { from }.write(out),
            What::Subscribed(item) => ToClient::Subscribed { from, to, item }.write(out),
        }
    }
}

/// A contact's presence.
pub(crate) fn presence_of(contact: &Profile, online: bool) -> Presence {
    Presence {
        username: contact.username.to_string(),
        bio: contact.bio.clone(),
        online,
        updated_at_ms: contact.updated_at_ms,
    }
}

/// The presence of anybody with an account.
pub(crate) fn presence_of_account(account: &Account, online: bool) -> Presence {
    Presence {
        username: account.username.to_string(),
        bio: account.bio.clone(),
        online,
        updated_at_ms: account.updated_at_ms,
    }
}
