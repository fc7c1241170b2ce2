//! The user component: one connected user of Kurir.
//!
//! [`Client::connect`] finds a manager through any of several trackers, registers or logs in there, connects to the
//! relay that the manager names, and from then on keeps both sockets as one thing: it pings them when they are
//! silent, reconnects with random growing delays, moves to another relay or manager when one fails, and tells of all
//! that by [`Event`]s.
//!
//! It knows the client protocol (PROTOCOL Part I, rows U1–U15, and from Part II ticket, ping and `id` of an iq). It is
//! not a server's crate: it knows nothing of gRPC, the directory, or the servers' configuration.
//!
//! - [`client`]: the handle and its requests
//! - [`event`]: what the application is told
//! - [`options`]: who to be, and all the deadlines
//! - [`error`]: what can go wrong, by operation
//! - `session`: the task that owns both sockets; `manager` and `relay` are its two sides, `discovery` and `login` the
//!   way to a manager
//! - `wire`: one socket, framed and pinged
//! - `backoff`, `liveness`, `pending`, `leaving`: rules without IO

#![warn(missing_docs)]

mod backoff;
pub mod client;
mod discovery;
pub mod error;
pub mod event;
mod leaving;
mod liveness;
mod login;
mod manager;
pub mod options;
mod pending;
mod relay;
mod session;
mod wire;

pub use client::Client;
pub use error::{ConnectError, Failure, PresenceError, Refusal, RequestError, SendError};
pub use event::{Ended, Event, Events, Message, Presence, RosterItem, Socket, Subscription};
pub use options::{Options, Timing};
