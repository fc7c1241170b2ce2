//! Client-facing sockets: the framing of `kurir-protocol` joined to tokio's sockets.
//!
//! One task owns one socket. It reads, splits values off and hands them to a [`Session`]; whoever wants to send
//! something to the client puts canonical stanzas into its [`Outbox`], and the task writes them in the client's framing,
//! many with one system call. An idle connection costs no buffer.
//!
//! Not here: what the stanzas mean (`kurir-protocol`, the services) and accepting sockets (`kurir-service`).
//!
//! - [`connection`]: [`run`], the task of one connection from its first byte to its close
//! - [`ended`]: why it ended
//! - [`outbox`]: what waits to be written
//! - `writer`: from canonical stanzas to the bytes of the client's framing
#![warn(missing_docs)]

pub mod connection;
pub mod ended;
pub mod outbox;
mod writer;

pub use connection::{Flow, Options, Pace, Session, run};
pub use ended::{End, Ended};
pub use outbox::{Closed, Outbox};
