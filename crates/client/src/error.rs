//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Ended;

/// Why [`Client::connect`](crate::Client::connect) gave up.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// [`Options::trackers`](crate::Options::trackers) is empty.
    #[error("no tracker is configured")]
    NoTrackers,
    /// [`Options::state`](crate::Options::state) cannot be used.
    #[error("the state file cannot be used")]
    State(#[from] StateError),
    /// A manager answered, and trying again would not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing that was tried until the deadline worked; the source says what failed last.
    #[error("not connected in time")]
    TimedOut(#[source] Failure),
}

/// Why a state file cannot be used. It is left as it is: messages may be in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process, or another [`Client`](crate::Client), has it.
    #[error("{} is in use", .path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It is a directory, a device or a pipe.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// What it was to be.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is no state file", .path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A newer version of this library wrote it.
    #[error("{} is of a newer version ({version})", .path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It is somebody else's.
    #[error("{} belongs to {user}", .path.display())]
    OtherUser {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        user: String,
    },
    /// A line in it, other than the last, cannot be read.
    #[error("{}, line {line}, cannot be read", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: Arc<serde_json::Error>,
    },
}

/// A manager's final no to registration or login (PROTOCOL section 2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Registration: somebody has this name.
    #[error("the username is taken")]
    UsernameUsed,
    /// Login: no such account.
    #[error("there is no such user")]
    UserNotFound,
    /// The password is wrong, or name or password are not acceptable (the protocol does not say which).
    #[error("wrong password, or a username or password that is not allowed")]
    BadCredentials,
    /// The user is connected elsewhere.
    #[error("the user is logged in already")]
    AlreadyLoggedIn,
    /// The session of the last login is too old, or this device was removed: the servers do not say which. At the start there
    /// was no password to begin another; later none was used, as it would undo the removal:
    /// [`Client::connect`](crate::Client::connect) with the password begins another.
    #[error("this device's session is too old or was ended: the password is needed again")]
    SessionOver,
    /// Another connection has this device now.
    #[error("this device is logged in elsewhere")]
    Displaced,
    /// A manager said that the account's owner has removed this device, or that its session was used by somebody else. With
    /// the password of [`Options`](crate::Options) it can be connected again.
    #[error("this device was removed")]
    Removed,
    /// An answer of none of these kinds.
    #[error("refused: {text} ({code})")]
    Other {
        /// The packet's `code`.
        code: u16,
        /// The packet's `msg`.
        text: String,
    },
}

/// One thing that failed and is tried again by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No tracker answered; the source says what happened at the last one asked.
    #[error("no tracker answered")]
    NoTracker(#[source] Box<Failure>),
    /// Trackers answered, and know no active manager.
    #[error("no manager is active")]
    NoManager,
    /// The manager has no relay to offer.
    #[error("no relay is active")]
    NoRelay,
    /// A manager or relay could not be reached, or its connection broke.
    #[error("connection to {address} failed")]
    Connection {
        /// Whose address.
        address: String,
        /// What happened.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server closed the connection.
    #[error("{address} closed the connection{}", .said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default())]
    Closed {
        /// Whose address.
        address: String,
        /// The error packet that came just before, as `text (code)`.
        said: Option<String>,
    },
    /// The server closed the connection and said why in Part II's words.
    #[error("{address} closed the connection ({condition})")]
    SentAway {
        /// Whose address.
        address: String,
        /// RFC 6120 condition.
        condition: String,
        /// When to come again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The server will be gone soon, and has no place that could be taken while it is held.
    #[error("{address} will be gone soon")]
    Moving {
        /// Whose address.
        address: String,
    },
    /// No answer within the deadline.
    #[error("{address} does not answer")]
    Silent {
        /// Whose address.
        address: String,
    },
    /// The manager's database is away, or it is busy (503).
    #[error("the manager is temporarily unable to answer")]
    Temporary,
    /// The session from the last login is over; the password is next.
    #[error("the session is over")]
    SessionOver,
    /// An own, lost session is still counted as online.
    #[error("the lost session is still online")]
    StillLoggedIn,
    /// The relay goes on only after a message that has expired meanwhile.
    #[error("{address} waits for a message that has expired")]
    Stuck {
        /// Whose address.
        address: String,
    },
    /// What came was not the protocol.
    #[error("{address} does not speak the client protocol")]
    Protocol {
        /// Whose address.
        address: String,
    },
}

impl Failure {
    /// What the server has said in Part II's words.
    pub(crate) fn condition(&self) -> Option<&str> {
        match self {
            Self::SentAway { condition, .. } => Some(condition),
            _ => None,
        }
    }
}

/// Why a roster, bio or other request to the manager failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The manager refused; RFC 6120's error type and condition.
    #[error("refused: {condition}")]
    Refused {
        /// `auth`, `cancel`, `modify` or `wait`.
        kind: String,
        /// Such as `item-not-found`.
        condition: String,
    },
    /// It is larger than a server would read.
    #[error("the request is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The manager's answer lacks what was asked for.
    #[error("the manager's answer is incomplete")]
    Incomplete,
    /// No answer within [`Timing::request`](crate::Timing::request). What was asked may have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The session is over.
    #[error("{0}")]
    Ended(Ended),
}

/// Why a message was not sent, or not taken to be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No relay connection took it within [`Timing::request`](crate::Timing::request).
    #[error("no relay connection took the message in time")]
    TimedOut,
    /// Too many messages wait to be sent.
    #[error("too many messages wait to be sent")]
    QueueFull,
    /// The state file could not be written, and has nothing of the message.
    #[error("the message could not be written to the state file: {kind}")]
    NotKept {
        /// What kind of error that was.
        kind: io::ErrorKind,
    },
    /// The state file could neither be written nor be cut back: unless it can be written anew before this session ends, the
    /// next one may send the message.
    #[error(
        "the message could not be written to the state file ({kind}), and a later start may send it all the same"
    )]
    PerhapsKept {
        /// What kind of error that was.
        kind: io::ErrorKind,
    },
    /// No message with this id has expired.
    #[error("no message with this id has expired")]
    NotExpired,
    /// It is larger than a server would read.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The session is over.
    #[error("{0}")]
    Ended(Ended),
}

/// Why a tracked message is not, and will not be, stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageRefusal {
    /// No account has the receiver's name.
    #[error("there is no such user")]
    NoSuchUser,
    /// The relay refused; RFC 6120's error type and condition.
    #[error("refused: {condition}")]
    Refused {
        /// `cancel` or `modify`.
        kind: String,
        /// Such as `conflict`.
        condition: String,
    },
}

/// Why a directed presence had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// No such user (row M28).
    #[error("there is no such user")]
    UserNotFound,
    /// The manager refused; RFC 6120's error type and condition.
    #[error("refused: {condition}")]
    Refused {
        /// `auth`, `cancel`, `modify` or `wait`.
        kind: String,
        /// Such as `resource-constraint`.
        condition: String,
    },
    /// No answer within [`Timing::request`](crate::Timing::request).
    #[error("no answer in time")]
    TimedOut,
    /// The session is over.
    #[error("{0}")]
    Ended(Ended),
}
