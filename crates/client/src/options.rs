//! Who to be, where to ask, and all the deadlines.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::Place;

/// Who connects, and how.
#[derive(Clone)]
pub struct Options {
    /// Client addresses (`host:port`) of the trackers. Any one of them that answers is enough.
    pub trackers: Vec<String>,
    /// The account's name.
    pub username: String,
    /// The account's password, for the first login unless the session in [`Options::state`] is good, and for servers that
    /// give no session. Empty: this device goes on with that session, and no further.
    pub password: String,
    /// Names this device of the account; none: its default device, as with the original. The same name again takes the
    /// place of the former.
    pub resource: Option<String>,
    /// Create the account (U3) instead of logging in (U4). Only the first time: a reconnect logs in.
    pub register: bool,
    /// Where to keep what must outlive this process: messages that are not stored yet, this device's place in its log, and
    /// the session that logs it in without the password. Made if it is not there; one process at a time.
    ///
    /// With it everything after that place comes, each message with its [`Entry`](crate::Entry) and once, but for a crash:
    /// what the application had taken just before may come again. A new file begins with the log's first entry.
    ///
    /// Without it messages that are not stored when the session ends are lost, and what comes is what the servers believe
    /// this device has not had.
    pub state: Option<PathBuf>,
    /// The place to go on from, for an application that stores it with what it makes of the messages. Goes before the
    /// one in [`Options::state`].
    pub resume: Option<Place>,
    /// Answer receipts that are asked for, once the application has taken the message. Needs [`Options::state`] or
    /// [`Options::resume`]; default true.
    pub receipts: bool,
    /// Emit an [`Event::Packet`](crate::Event::Packet) for every packet received, besides what it means.
    pub packets: bool,
    /// Deadlines and delays.
    pub timing: Timing,
}

impl Options {
    /// Log in as `username`; the other fields have their defaults and can be set afterwards.
    pub fn new<T: Into<String>>(
        trackers: impl IntoIterator<Item = T>,
        username: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self {
            trackers: trackers.into_iter().map(Into::into).collect(),
            username: username.into(),
            password: password.into(),
            resource: None,
            register: false,
            state: None,
            resume: None,
            receipts: true,
            packets: false,
            timing: Timing::default(),
        }
    }

    /// The same, creating the account.
    #[must_use]
    pub fn register(mut self) -> Self {
        self.register = true;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("trackers", &self.trackers)
            .field("username", &self.username)
            .field("resource", &self.resource)
            .field("register", &self.register)
            .field("state", &self.state)
            .field("resume", &self.resume)
            .field("receipts", &self.receipts)
            .field("packets", &self.packets)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// Deadlines and delays. The defaults are PROTOCOL's; tests make them shorter.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long [`Client::connect`](crate::Client::connect) tries altogether. Default 30 s.
    pub connect: Duration,
    /// One TCP connection, or one tracker's answer. Default 3 s.
    pub dial: Duration,
    /// The manager's answer to registration or login: hashing waits in a queue there. Default 15 s; before the client has been
    /// online half of `connect` at most, so that another attempt is possible.
    pub login: Duration,
    /// The relay's answer to a hello, which may wait for the tables. Default 5 s.
    pub hello: Duration,
    /// How long a request or a message waits, a reconnection in between included. Default 10 s.
    pub request: Duration,
    /// Silence after which a socket is pinged. Default 5 s.
    pub silence: Duration,
    /// How long the ping's answer may take before the socket counts as lost. Default 3 s.
    pub ping: Duration,
    /// The first retry comes after a random time up to this. Default 200 ms.
    pub first_retry: Duration,
    /// No retry waits longer than this. Default 5 s.
    pub longest_retry: Duration,
    /// How long "Already logged in" is retried after an own session was lost: a server may take 30 s to notice that
    /// a cut connection is gone. And how long a login that was not answered may be what another connection of the device
    /// gave way to. Default 60 s.
    pub already_logged_in: Duration,
    /// How long [`Client::logout`](crate::Client::logout) waits for the manager to close. Default 3 s.
    pub logout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            dial: Duration::from_secs(3),
            login: Duration::from_secs(15),
            hello: Duration::from_secs(5),
            request: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            ping: Duration::from_secs(3),
            first_retry: Duration::from_millis(200),
            longest_retry: Duration::from_secs(5),
            already_logged_in: Duration::from_mins(1),
            logout: Duration::from_secs(3),
        }
    }
}
