//! What the application is told.

use std::fmt;

use tokio::sync::mpsc;

use crate::error::{Failure, Refusal};

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Logged in at a manager and reachable at a relay; comes again after every [`Event::Offline`] that was overcome.
    Online,
    /// One of the two sockets is lost; it is being connected again. While only the manager's is, messages still
    /// go through.
    Offline {
        /// Which one.
        socket: Socket,
        /// What happened to it.
        reason: Failure,
    },
    /// The session is over; the last event.
    Ended(Ended),
    /// The roster as it is after each login (U6).
    Roster(Vec<RosterItem>),
    /// A message (R16).
    Message(Message),
    /// A message of ours reached nobody (R15). The protocol does not say which.
    MessageFailed {
        /// What the relay says.
        text: String,
    },
    /// A user's presence, directed ones included.
    Presence(Presence),
    /// A contact went offline (M30).
    Unavailable {
        /// Who.
        from: String,
    },
    /// A contact was added or renamed, or became mutual (M18).
    Subscribed(RosterItem),
    /// A contact was removed (M23).
    Unsubscribed {
        /// Who.
        from: String,
    },
    /// A packet as it came, if [`Options::packets`](crate::Options::packets) asks for them. The event that it
    /// means follows, if it means one.
    Packet {
        /// From where.
        socket: Socket,
        /// One JSON value.
        value: String,
    },
}

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// Login, roster, presence.
    Manager,
    /// Messages.
    Relay,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Relay => "relay",
        })
    }
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// [`Client::logout`](crate::Client::logout), or every [`Client`](crate::Client) was dropped.
    #[error("logged out")]
    LoggedOut,
    /// A reconnect was refused for good.
    #[error("{0}")]
    Refused(Refusal),
}

/// A message from another user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, as the relay knows them.
    pub from: String,
    /// The text, if it has one.
    pub body: Option<String>,
    /// The whole stanza: what this library does not know travels along.
    pub stanza: String,
}

/// What a user shows to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub from: String,
    /// What they say about themselves.
    pub bio: String,
    /// Whether they are connected.
    pub online: bool,
    /// Milliseconds since the Unix epoch.
    pub updated_at: i64,
    /// The answer to a directed presence, or somebody's directed presence (M27).
    pub directed: bool,
}

/// A contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterItem {
    /// The contact's username.
    pub jid: String,
    /// The name that this user gave them.
    pub name: Option<String>,
    /// Who sees whose presence.
    pub subscription: Subscription,
}

/// Who of the two sees the other's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// I see theirs.
    To,
    /// They see mine.
    From,
    /// Both.
    Both,
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        })
    }
}

/// How many events wait for an application that does not read them. When full, the sockets are not read any more, and
/// before long the servers close them.
pub(crate) const EVENT_QUEUE: usize = 4096;

/// The events of one session, in order. Dropping it is allowed: the session goes on untold.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` after [`Event::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event if it is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}
