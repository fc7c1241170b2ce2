//! What Kurir's clients speak: JSON values on a byte stream, in both directions.
//!
//! Everything here is sans-IO. Bytes and names go in, packets and verdicts come out; no socket, no clock, no randomness,
//! no log. The rules are those of the client protocol, whose rows (T1…, M1…, R1…, U1…) the docs name.
//!
//! | module | holds |
//! | --- | --- |
//! | [`framing`] | splitting values off a stream and writing them back, in both framings; the limits |
//! | [`object`] | reading an object's members without building a tree |
//! | [`mod@write`] | writing compact JSON |
//! | [`name`] | usernames, what they compare by, devices, logins |
//! | [`replies`] | packets that never change |
//! | [`iq`] | the requests that every socket answers by itself |
//! | [`tracker`], [`manager`], [`relay`] | what each role's socket is sent and sends |
//! | [`client`] | the other end of all three: what the client library writes and reads |
//! | [`ticket`] | what a relay's ticket says |
//! | [`session`] | what a connection may do, how often, and until when |
//!
//! Packets are written as *canonical lines*: one JSON value without LF outside or inside strings, then one LF.
//! [`framing::encode`] turns those into what the client's framing needs.
#![warn(missing_docs)]

pub mod client;
pub mod framing;
pub mod iq;
pub mod manager;
pub mod name;
pub mod object;
pub mod relay;
pub mod replies;
mod runs;
pub mod session;
pub mod ticket;
pub mod tracker;
pub mod write;

pub use object::Malformed;
