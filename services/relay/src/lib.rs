//! The relay: users' message connections, and the way of a message from one to another. It speaks no SQL and trusts no
//! `from`.
//!
//! A message's way:
//!
//! - [`config`]: what can be configured
//! - `session`: one client's socket: what each packet does
//! - `admission`, `tickets`: hello: who is let in
//! - `tracked`: messages that are stored before they are acknowledged; its rules and those of `readers` are kurir-delivery's
//! - `readers`: what is stored, sent to the devices that have not had it
//! - `router`: all routing rules; `table`: what they are applied to; `lookup`: their questions to the directory
//! - `link`: what is on its way to another relay; `links`: all of them; `streams`: the streams that carry them;
//!   `rpc`: those that other relays dial
//!
//! Around it:
//!
//! - `peers`: who else is there, and what this relay's own lease demands
//! - `attach`, `load`, `managers`: what managers are told, and tell, and are asked
//! - `fence`: whether this relay may act
//! - `audit`: connections compared with the directory
//! - `trail`: what is remembered of tracked messages for `kurir explain`
//! - `drain`: how its users leave before it stops
//! - `connection`, `relay`: what tasks share; `metrics`

#![warn(missing_docs)]

mod admission;
mod attach;
mod audit;
pub mod config;
mod connection;
mod drain;
mod fence;
mod handover;
mod link;
mod links;
mod load;
mod lookup;
mod managers;
mod metrics;
mod peers;
mod readers;
mod relay;
mod router;
mod rpc;
mod serve;
mod session;
mod streams;
mod table;
mod tickets;
mod tracked;
mod trail;

pub use config::{BareHello, Config};
pub use serve::serve;
