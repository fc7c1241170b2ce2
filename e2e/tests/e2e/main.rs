//! The end-to-end scenarios: real processes, real Redis and `PostgreSQL`, people on raw sockets.
//!
//! Each scenario is one test that can be run alone: `cargo test -p kurir-e2e --test e2e -- acceptance`. They are one
//! binary because linking one is cheaper than linking ten.
//!
//! | module | shows |
//! | --- | --- |
//! | [`acceptance`] | the original's acceptance run, in its order, in one process and in separate ones |
//! | [`original`] | the original's client, byte for byte |
//! | [`accounts`], [`contacts`], [`any_packet`] | bad input, row by row |
//! | [`framing`] | the framing as seen from outside, the delimiter traps |
//! | [`relays`] | choosing relays, finding receivers, losing them |
//! | [`tickets`] | who may say hello at a relay |
//! | [`archive`] | the log read back, and what is gone of it |
//! | [`tracked`] | messages that are stored, and devices that resume |
//! | [`explain`] | what became of them |
//! | [`client`], [`chat`] | the user component: the library and the terminal client |
//! | [`faults`], [`pauses`] | parts that die, lose everything, or stop and go on |
//! | [`drain`] | parts that are replaced under load |
//! | [`soak`] | nothing lost, whatever fails: the checker |
//! | [`load`], [`bench`] | a thousand users, `kurir bench` |
//! | [`hostile`] | clients that mean harm |
//! | [`operations`] | configuration, ports, stores that are away, stopping |
//! | [`signals`] | metrics, readiness, traces |
//! | [`report`] | that every row T1–U15 has a test |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a scenario fails by panicking and reports by printing"
)]

mod acceptance;
mod accounts;
mod any_packet;
mod archive;
mod bench;
mod chat;
mod client;
mod contacts;
mod devices;
mod drain;
mod explain;
mod faults;
mod framing;
mod hostile;
mod load;
mod operations;
mod original;
mod pauses;
mod relays;
mod report;
mod sessions;
mod signals;
mod soak;
mod tickets;
mod tracked;
