//! What the end-to-end scenarios are written with: real processes, real Redis and `PostgreSQL`, and people on raw sockets.
//!
//! It is not a client library: [`Raw`] knows the framing and nothing else, so that a scenario says byte for byte what a
//! client sends. Everything here fails by panicking, with a message that says who expected what.
//!
//! | module | is |
//! | --- | --- |
//! | [`deadline`] | waiting for something, never longer than so |
//! | [`ports`] | a block of free ports, laid out as `kurir up` lays out its own |
//! | [`process`] | one process: its log, signals, memory |
//! | [`redis`], [`postgres`] | the real servers, in a temporary directory |
//! | [`containers`] | the parts in containers, where that is asked for |
//! | [`proxy`], [`dialler`], [`network`] | what lies between the parts, to be broken |
//! | [`island`] | a network namespace of its own for one relay, where packets are dropped |
//! | [`disk`] | a small disk, to be filled |
//! | [`system`] | Kurir itself, as one process or as many |
//! | [`pattern`] | what a packet must look like |
//! | [`packets`] | the packets of PROTOCOL Part I, as patterns |
//! | [`raw`] | a scripted connection |
//! | [`person`] | a user with a manager connection and a relay connection |
//! | [`crowd`] | many people who keep coming back, for faults |
//! | [`checker`] | devices that send and read tracked messages under faults, and the verdict on what they saw |
//! | [`simulation`] | the same checker over the rules joined in memory, in virtual time: thousands of seeds |
//! | [`collector`] | a collector of OpenTelemetry, which keeps what it is sent |
//! | [`rows`] | which test shows which row of the protocol |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a scenario fails by panicking and reports by printing; nothing but tests uses this crate"
)]

pub mod checker;
pub mod collector;
pub mod containers;
pub mod crowd;
pub mod deadline;
pub mod dialler;
pub mod disk;
pub mod island;
pub mod network;
pub mod packets;
pub mod pattern;
pub mod person;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod rows;
pub mod simulation;
pub mod system;

pub use crowd::Crowd;
pub use deadline::{PATIENCE, until, within};
pub use person::Person;
pub use raw::{Raw, Speaks};
pub use system::{Plan, System, Topology};
