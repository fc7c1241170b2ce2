//! The other end of all three sockets: what the client library writes and reads (U1–U15).

mod account;
mod archive;
mod from_server;
mod message;
mod to_server;

pub use archive::{Archive, ArchiveQuery, Archived};
pub use from_server::{FromServer, Presence, Relay};
pub use message::{ChatState, Draft, Entry, Marker, Message, NotAState, Receipt};
pub use to_server::ToServer;
