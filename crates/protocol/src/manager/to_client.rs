//! What a manager writes.

use super::{Item, Presence, RosterCondition};
use crate::iq;

/// The relay that a client is to connect to: R of PROTOCOL §2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayEntry<'a> {
    /// The relay's id.
    pub id: &'a str,
    /// Host to connect to.
    pub host: &'a str,
    /// Port to connect to.
    pub port: u16,
    /// How many connections it has.
    pub connections: u64,
    /// The ticket for its hello.
    pub token: Option<&'a str>,
}

/// What a manager sends to clients. Names are written as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient<'a> {
    /// 201 after a registration. No relay alive: `None`, everywhere below too.
    AccountCreated {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
    },
    /// 200 after a login.
    LoggedIn {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
    },
    /// 200 after `get_relay_less_connection`, in an array.
    RelayLessConnection {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
    },
    /// The whole roster.
    Roster {
        /// Every contact.
        items: &'a [Item],
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A contact was added or renamed.
    RosterSet {
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A contact was removed.
    RosterRemoved {
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A roster request was refused.
    RosterError {
        /// Why.
        condition: RosterCondition,
        /// The asker, if logged in.
        to: Option<&'a str>,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// `to`'s item for `from` is now this one (M18).
    Subscribed {
        /// The contact.
        from: &'a str,
        /// The item's owner.
        to: &'a str,
        /// The item in `to`'s roster.
        item: &'a Item,
    },
    /// The item for `from` was removed (M23).
    Unsubscribed {
        /// The contact.
        from: &'a str,
        /// The item's former owner.
        to: &'a str,
    },
    /// Presence told to everybody: initial, bio.
    Presence(&'a Presence),
    /// Presence told to one user in answer: a contact's.
    PresenceTo {
        /// Whose.
        presence: &'a Presence,
        /// To whom.
        to: &'a str,
    },
    /// Presence told to one user by a directed presence.
    PresenceDirected {
        /// Whose.
        presence: &'a Presence,
        /// To whom.
        to: &'a str,
    },
    /// `from` went offline (M30).
    Unavailable {
        /// Who.
        from: &'a str,
    },
    /// Bio in somebody else's name.
    PresenceForbidden {
        /// The asker.
        to: &'a str,
    },
    /// Directed presence of an unknown user (M28).
    PresenceUnknown {
        /// The asker.
        to: &'a str,
        /// The name as the asker wrote it.
        target: &'a str,
    },
}

impl ToClient<'_> {
    /// Appends the packet as one canonical line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
}
