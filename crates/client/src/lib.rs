//! The user component: one connected user of Kurir.
//!
//! [`Client::connect`] finds a manager through any of several trackers, registers or logs in there, connects to the
//! relay that the manager names, and from then on keeps both sockets as one thing: it pings them when they are
//! silent, reconnects with random growing delays, moves to another relay or manager when one fails, and tells of all
//! that by [`Event`]s.
//!
//! Messages sent with [`Client::send`] are stored before they count as sent, kept in a file until then if
//! [`Options::state`] names one, and repeated with the same id on every new connection; what others send is read from the
//! place where this device was.
//!
//! It knows the client protocol (PROTOCOL Part I, rows U1–U15, and from Part II ticket, ping, `id` of an iq, tracked
//! messages, `resume`, `resource`, `session`, `account`, `archive`, `explain`, receipts, markers and states). It is not a
//! server's crate: it knows nothing of gRPC, the directory, or the servers' configuration.
//!
//! - [`client`]: the handle and its requests
//! - [`event`]: what the application is told
//! - [`message`]: what to send
//! - [`options`]: who to be, and all the deadlines
//! - [`error`]: what can go wrong, by operation
//! - `session`: the task that owns both sockets; `manager` and `relay` are its two sides, `discovery` and `login` the
//!   way to a manager
//! - `wire`: one socket, framed and pinged
//! - `tracking`: what outlives a connection: kurir-delivery's queue goes out, its inbox comes in, `journal` is what is kept
//!   of both
//! - `keeper`, `state_file`: keeping it on disk
//! - `backoff`, `journal`, `leaving`, `liveness`, `pending`: rules without IO

#![warn(missing_docs)]

mod backoff;
pub mod client;
mod discovery;
pub mod error;
pub mod event;
mod journal;
mod keeper;
mod leaving;
mod liveness;
mod login;
mod manager;
pub mod message;
pub mod options;
mod pending;
mod relay;
mod session;
mod state_file;
mod tracking;
mod wire;

pub use client::Client;
pub use error::{
    ConnectError, Failure, MessageRefusal, PresenceError, Refusal, RequestError, SendError, StateError,
};
pub use event::{
    Displayed, Ended, Entry, Event, Events, ExplainedStep, Explanation, ListedDevice, Message, Page, Place,
    Presence, RosterItem, Search, Socket, Subscription, Waiting, same_user,
};
pub use message::{ChatState, Marker, MessageId, NewMessage, Receipt};
pub use options::{Options, Timing};
