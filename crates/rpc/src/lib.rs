//! The contract between Kurir's components, generated from `proto/kurir/v1`, and how they reach each other.
//!
//! Not here: what a component does with a call (each service's `rpc.rs`), and anything that clients speak
//! (`kurir-protocol`).
//!
//! - [`v1`]: generated messages, clients and servers
//! - [`transport`]: channels and servers with the deadlines and keepalives that every internal stream needs
//! - [`streams`]: how many of those there are, as metrics
//! - [`discovery`]: membership at every configured tracker
//! - [`drain`]: `kurir.v1.Drain`, which relays and managers offer alike
#![warn(missing_docs)]

pub mod discovery;
pub mod drain;
pub mod streams;
pub mod transport;

pub use discovery::Discovery;
pub use streams::{Peer, Streams};
pub use transport::{Channel, ConnectError, chain, connect, incoming, is_url, server};

/// Generated from `proto/kurir/v1`; the `.proto` files hold the documentation.
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("kurir.v1");
}
