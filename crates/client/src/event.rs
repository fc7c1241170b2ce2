//! What the application is told.

use std::collections::VecDeque;
use std::fmt;

pub use kurir_protocol::client::Presence;
pub use kurir_protocol::manager::{Item as RosterItem, Subscription};
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
    MessageFailed,
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
    /// A packet as it came, whoever it was for, if [`Options::packets`](crate::Options::packets) asks for them. The event that it
    /// means follows, if it means one.
    Packet {
        /// From where.
        socket: Socket,
        /// One JSON value.
        value: String,
    },
}

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// Who is there: of every login a short connection, which only packets come from.
    Tracker,
    /// Login, roster, presence.
    Manager,
    /// Messages.
    Relay,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tracker => "tracker",
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
    /// The receiver as the sender wrote it.
    pub to: Option<String>,
    /// The text, if it has one.
    pub body: Option<String>,
    /// The text's language.
    pub lang: Option<String>,
    /// The whole stanza: what this library does not know travels along.
    pub stanza: String,
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

/// Where the session puts events: never blocks, and says when to stop making more.
#[derive(Debug)]
pub(crate) struct Outlet {
    sender: Option<mpsc::Sender<Event>>,
    overflow: VecDeque<Event>,
}

impl Outlet {
    pub(crate) fn new() -> (Self, Events) {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        (Self { sender: Some(sender), overflow: VecDeque::new() }, Events { receiver })
    }

    pub(crate) fn put(&mut self, event: Event) {
        let Some(sender) = &self.sender else { return };
        if !self.overflow.is_empty() {
            self.overflow.push_back(event);
            return;
        }
        match sender.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.overflow.push_back(event),
            Err(mpsc::error::TrySendError::Closed(_)) => self.sender = None,
        }
    }

    /// While false, nothing is read from the sockets: what one packet means is all that can overflow.
    pub(crate) fn has_room(&self) -> bool {
        self.overflow.is_empty()
    }

    /// Resolves once the application has read something and nothing overflows any more. Cancel-safe.
    pub(crate) async fn drained(&mut self) {
        while let Some(event) = self.overflow.pop_front() {
            let Some(sender) = self.sender.clone() else {
                self.overflow.clear();
                return;
            };
            // Put back before the wait, so that a cancelled one loses nothing.
            self.overflow.push_front(event);
            let Ok(permit) = sender.reserve().await else {
                self.sender = None;
                continue;
            };
            if let Some(event) = self.overflow.pop_front() {
                permit.send(event);
            }
        }
    }
}
