//! What one user is told of another, wherever the two are connected.

use std::borrow::Cow;

use kurir_directory::Generation;
use kurir_protocol::{
    manager::{Item, Presence, ToClient},
    name::{self, LoginId, Resource, UserKey, Username},
};

use crate::store::{Account, Profile};

/// Orders what is told of one device: by login, and within a login by how often it has published.
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

/// Where a device is online, as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) device: Resource,
    pub(crate) place: Place,
    pub(crate) version: Version,
}

/// Something to tell of a user.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) about: UserKey,
    pub(crate) from: Username,
    /// The device that says so.
    pub(crate) device: Resource,
    pub(crate) version: Version,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// To everybody who sees this user's presence: initial presence (M24) and a new bio (M26).
    Presence(Presence),
    /// To one user, who need not be a contact (M27).
    Directed(Presence),
    /// Logged out or lost (M30, M31). `last`: no other device of the user was online then.
    Unavailable { last: bool },
    /// The receiver's roster item for this user is now this one (M18).
    Subscribed(Item),
}

/// How a session is addressed, and others to it (Part II `resource`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// Its own address: the plain name of a device without a name of its own.
    pub(crate) to: &'a str,
    /// Of the addresses that it reads; none: plain names.
    pub(crate) domain: Option<&'a str>,
}

impl Reader<'_> {
    /// A user's address as this session reads it.
    pub(crate) fn address<'n>(&self, name: &'n str) -> Cow<'n, str> {
        self.domain.map_or(Cow::Borrowed(name), |domain| name::bare(name, domain))
    }
}

impl What {
    /// Appends the packet for a receiver, as one canonical line. `from`: the name of who this is about.
    pub(crate) fn write(&self, from: &str, reader: Reader<'_>, out: &mut Vec<u8>) {
        let (from, to) = (&*reader.address(from), reader.to);
        match self {
            What::Presence(presence) => ToClient::Presence { presence, from }.write(out),
            What::Directed(presence) => ToClient::PresenceDirected { presence, from, to }.write(out),
            What::Unavailable { .. } => ToClient::Unavailable { from }.write(out),
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
