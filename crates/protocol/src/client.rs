//! The other end of all three sockets: what the client library writes and reads (U1–U15).

mod from_server;
mod to_server;

pub use from_server::{FromServer, Message, Presence, Relay};
pub use to_server::ToServer;
