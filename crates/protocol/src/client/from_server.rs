//! What a client reads.

use crate::{Malformed, manager::Item, tracker::Component};

/// What servers send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// From the tracker: who is there.
    Components(Vec<Component>),
    /// From the manager: registered, and online.
    AccountCreated {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
    },
    /// From the manager: online.
    LoggedIn {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
    },
    /// From the manager: the relay asked for.
    RelayLessConnection {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
    },
    /// `{"error":true,"msg":…,"code":…}` from any of them.
    Refused {
        /// As HTTP would have it.
        code: u16,
        /// A fixed sentence.
        msg: String,
    },
    /// The whole roster.
    Roster {
        /// Every contact.
        items: Vec<Item>,
        /// Of the request.
        id: Option<String>,
    },
    /// Added or renamed.
    RosterSet {
        /// Of the request.
        id: Option<String>,
    },
    /// Removed.
    RosterRemoved {
        /// Of the request.
        id: Option<String>,
    },
    /// A request was refused: of the roster, or of anything else.
    IqError {
        /// What was asked.
        namespace: Option<String>,
        /// RFC 6120 error type.
        kind: String,
        /// RFC 6120 condition.
        condition: String,
        /// Of the request.
        id: Option<String>,
    },
    /// The own item for `from` is now this one.
    Subscribed {
        /// The contact.
        from: String,
        /// The own item.
        item: Item,
    },
    /// The own item for `from` is gone.
    Unsubscribed {
        /// The former contact.
        from: String,
    },
    /// Somebody's presence.
    Presence(Presence),
    /// Somebody went offline.
    Unavailable {
        /// Who.
        from: String,
    },
    /// A presence was refused: the bio of somebody else.
    PresenceForbidden,
    /// A directed presence found nobody.
    PresenceUnknown {
        /// The name as it was asked for.
        target: String,
    },
    /// From the relay.
    Message(Message),
    /// From the relay: one's message found no receiver (R15).
    NotDelivered,
    /// A ping was answered.
    Pong {
        /// Of the ping.
        id: Option<String>,
    },
    /// Something newer than this library: nothing to do (U15).
    Unknown,
}

impl FromServer {
    /// Reads one value.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let _ = value;
        todo!()
    }
}

/// Where to connect for messages: R of PROTOCOL §2. Its `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Relay {
    /// The relay's id.
    pub id: String,
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// The ticket for the hello.
    pub token: Option<String>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Relay")
            .field("id", &self.id)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("token", &token)
            .finish()
    }
}

/// A user's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user's name as registered.
    pub from: String,
    /// What the user says of itself.
    pub bio: String,
    /// Reachable or not.
    pub online: bool,
    /// When the account last changed, in milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
    /// Sent by a directed presence.
    pub directed: bool,
}

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender, as the sender's relay knows it.
    pub from: String,
    /// The receiver as the sender wrote it.
    pub to: Option<String>,
    /// The text; none where it is no string.
    pub body: Option<String>,
    /// Its language.
    pub lang: Option<String>,
}
