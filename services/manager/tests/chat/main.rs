//! The manager over real sockets: `SQLite` in a file, the directory in this process, raw clients. Each test names the rows
//! of PROTOCOL §6 that it shows.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod accounts;
mod client;
mod explain;
mod managers;
mod outages;
mod presence;
mod redis;
mod relays;
mod roster;
mod sessions;
mod system;
