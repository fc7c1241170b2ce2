//! What the application is told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kurir_protocol::client as packet;
pub use kurir_protocol::client::{Entry, Presence};
pub use kurir_protocol::manager::{
    Displayed, ExplainedStep, Explanation, Item as RosterItem, ListedDevice, Search, Subscription,
};
use kurir_protocol::name::{Address, UserKey};
pub use kurir_protocol::relay::Resume as Place;
use tokio::sync::{Notify, mpsc};

use crate::error::{Failure, MessageRefusal, Refusal, StateError};
use crate::message::{ChatState, Marker, MessageId, NewMessage, Receipt};

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
    /// A message (R16), or one that this account has sent from elsewhere.
    Message(Message),
    /// An untracked message of ours reached nobody (R15). The protocol does not say which.
    MessageFailed,
    /// A tracked message that an earlier session has left, neither stored nor refused. These are the first events, in the
    /// order of sending.
    Waiting(Waiting),
    /// A tracked message of ours is on its way to a relay, for the first time in this session.
    Sent {
        /// Which one.
        id: MessageId,
    },
    /// A tracked message of ours is stored, and will be delivered.
    Stored {
        /// Which one.
        id: MessageId,
        /// The servers' id of it, which [`Event::Delivered`] and [`Event::Read`] name.
        stanza_id: String,
        /// Its place in the own log, if this device goes by places.
        seq: Option<u64>,
    },
    /// A tracked message of ours is not stored, and not sent again.
    Refused {
        /// Which one.
        id: MessageId,
        /// Why.
        refusal: MessageRefusal,
    },
    /// A tracked message of ours has waited for so long that servers may not know its id again, and the archive cannot say
    /// whether it is stored: sent now, it could be delivered twice. It is kept until [`Client::send_again`](crate::Client::send_again) or
    /// [`Client::discard`](crate::Client::discard); told once in a session.
    Expired(Waiting),
    /// A client of the receiver has a message of ours that asked for a receipt.
    Delivered {
        /// Who has it.
        by: String,
        /// Which one, as in [`Event::Stored`].
        stanza_id: String,
        /// Where this is in the log, if this device goes by places.
        entry: Option<Entry>,
    },
    /// The receiver has read a message of ours, and all earlier ones of the conversation. With the own name in `by`:
    /// another device of this account has read one of somebody else's.
    Read {
        /// Who has read it.
        by: String,
        /// Which one, as in [`Event::Stored`].
        stanza_id: String,
        /// Where this is in the log, if this device goes by places.
        entry: Option<Entry>,
    },
    /// What somebody in a conversation is doing. It is live only.
    ChatState {
        /// Who.
        from: String,
        /// What.
        state: ChatState,
    },
    /// [`Options::state`](crate::Options::state) cannot be written: it is tried again, and until then nothing new is kept. Told
    /// once until it can, and not where [`SendError`](crate::SendError) has said it.
    NotKept(StateError),
    /// Everything has come that was in the log when this connection was made, if this device goes by places.
    UpToDate,
    /// Messages that this device had not had are gone: they were too old, or too many.
    Gap {
        /// Those after this place of the log.
        after: u64,
        /// And before this one.
        first: u64,
    },
    /// The account's log is another than before, a restored backup for example: everything in it comes, from the first
    /// entry on.
    Reset,
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

/// Whether two names, or addresses, are the same user's: names compare case-mapped (RFC 8265), and the rest of an address
/// not at all.
///
/// [`Event::Delivered`] and [`Event::Read`] tell what `by` claims: an application compares it with the message's receiver.
pub fn same_user(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|address| Address::of(address).name);
    one == other || UserKey::map(one).is_some_and(|one| Some(one) == UserKey::map(other))
}

/// The name in an address: a device that has a name of its own reads addresses where others read names.
pub(crate) fn name(address: &str) -> String {
    Address::of(address).name.to_owned()
}

pub(crate) fn named(presence: Presence) -> Presence {
    Presence { from: name(&presence.from), ..presence }
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

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, by name.
    pub from: String,
    /// From which device, if this one reads addresses.
    pub device: Option<String>,
    /// The receiver, by name.
    pub to: Option<String>,
    /// It is from this account.
    pub own: bool,
    /// The sender's id, if it is tracked.
    pub id: Option<String>,
    /// The text, if it has one.
    pub body: Option<String>,
    /// The text's language.
    pub lang: Option<String>,
    /// Whether it asks for a receipt.
    pub receipt: Option<Receipt>,
    /// Whether [`Client::displayed`](crate::Client::displayed) is to be told.
    pub marker: Option<Marker>,
    /// What the sender is doing.
    pub state: Option<ChatState>,
    /// Where it is in the log, if it is tracked and this device goes by places.
    pub entry: Option<Entry>,
    /// It was in the log before this connection was made.
    pub waited: bool,
    /// The whole stanza: what this library does not know travels along.
    pub stanza: String,
}

impl Message {
    pub(crate) fn new(message: packet::Message, username: &str, waited: bool, stanza: String) -> Self {
        let packet::Message { from, to, id, body, lang, receipt, marker, state, entry } = message;
        Self {
            own: same_user(&from, username),
            device: Address::of(&from).resource.map(str::to_owned),
            from: name(&from),
            to: to.as_deref().map(name),
            id,
            body,
            lang,
            receipt,
            marker,
            state,
            entry,
            waited,
            stanza,
        }
    }
}

/// A part of the account's log, as [`Client::archive`](crate::Client::archive) finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the log's order. Receipts and markers are messages here, too.
    pub messages: Vec<Message>,
    /// There is no more in the direction that was asked for.
    pub complete: bool,
    /// The log's first place, where older entries are gone.
    pub first: Option<u64>,
}

/// A tracked message of ours that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub id: MessageId,
    /// When it was given to be sent, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// It is too old to be sent as it is.
    pub expired: bool,
    /// What it says.
    pub message: NewMessage,
}

/// How many events wait for an application that does not read them. When full, the sockets are not read any more, and
/// before long the servers close them.
pub(crate) const EVENT_QUEUE: usize = 4096;

/// The events of one session, in order. An event counts as taken when the next one is asked for.
///
/// Dropping it is allowed: the session goes on untold. What comes from then on is not taken, and comes again to the next
/// session that goes by places.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    given: u64,
    taken: Arc<Taken>,
}

impl Events {
    /// The next event; `None` after [`Event::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.taken.set(self.given);
        let event = self.receiver.recv().await;
        self.given += u64::from(event.is_some());
        event
    }

    /// The next event if it is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.taken.set(self.given);
        let event = self.receiver.try_recv().ok();
        self.given += u64::from(event.is_some());
        event
    }
}

/// How many events the application has taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    count: AtomicU64,
    news: Notify,
}

impl Taken {
    fn set(&self, count: u64) {
        if self.count.swap(count, Ordering::AcqRel) != count {
            self.news.notify_one();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Resolves once there are more. Cancel-safe.
    pub(crate) async fn more(&self) {
        self.news.notified().await;
    }
}

/// Where the session puts events: never blocks, and says when to stop making more.
#[derive(Debug)]
pub(crate) struct Outlet {
    sender: Option<mpsc::Sender<Event>>,
    overflow: VecDeque<Event>,
    count: u64,
    taken: Arc<Taken>,
}

impl Outlet {
    pub(crate) fn new() -> (Self, Events) {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        let taken = Arc::new(Taken::default());
        let events = Events { receiver, given: 0, taken: Arc::clone(&taken) };
        (Self { sender: Some(sender), overflow: VecDeque::new(), count: 0, taken }, events)
    }

    /// How many were put so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are taken.
    pub(crate) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    pub(crate) fn put(&mut self, event: Event) {
        self.count += 1;
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
