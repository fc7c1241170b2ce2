//! The client against servers played by hand, on loopback. Rows U1–U15.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, too"
)]

mod archive;
mod devices;
mod failover;
mod fake;
mod moves;
mod requests;
mod start;
mod tracked;
