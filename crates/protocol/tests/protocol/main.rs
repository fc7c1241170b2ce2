//! The client protocol as bytes: what comes in, what goes out.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests, too")]

mod any_split;
mod feed;
mod framing;
mod from_client;
mod from_server;
mod limits;
mod round_trip;
mod to_client;
mod to_server;
mod traps;
