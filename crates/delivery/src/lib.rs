//! What keeps a tracked message from being lost, doubled or overtaken, at its sender's client, at the relay, and on its way
//! to the receiver's devices (PROTOCOL Part II, `id` and `resume`).
//!
//! Everything here is sans-IO: no socket, no clock, no task, no lock. Relay and client library move it; the simulation in
//! `e2e` joins the same rules in memory and lets everything between them fail.
//!
//! | module | holds |
//! | --- | --- |
//! | [`queue`] | the client's messages that are not settled: which to send now, and what an answer means |
//! | [`order`] | one connection's order at its relay: what may be stored after a refusal |
//! | [`storing`] | all of a relay's messages on their way into the log, batch by batch |
//! | [`reading`] | how far a connection has been sent its account's log, and its device's cursor |
//! | [`page`] | a page of the log on its way to the device |
//! | [`inbox`] | the client's place in the log: what has come, what is taken, which receipts are owed |
#![warn(missing_docs)]

pub mod inbox;
pub mod order;
pub mod page;
pub mod queue;
pub mod reading;
pub mod storing;
