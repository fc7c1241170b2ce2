//! What became of tracked messages (PROTOCOL Part II, `id`): a trail of small events in each relay and each manager, kept
//! for a bounded time, and asked for everywhere at once (`kurir explain`, ADR 9).
//!
//! Not here: where events are noted (the services), and the table that may hold them longer (the manager's store).
//!
//! - [`event`]: the events and their words
//! - [`device`]: the connections and accounts that they are about
//! - [`ring`]: a component's memory of them
//! - [`resolve`]: one message's way out of many events
//! - [`wire`]: events on gRPC
//! - [`ask`]: asking every component
//! - [`keep`]: handing events on to where they are kept longer
#![warn(missing_docs)]

pub mod ask;
pub mod device;
pub mod event;
pub mod keep;
pub mod resolve;
pub mod ring;
pub mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

pub use ask::{Answers, Asker, Silent};
pub use device::Device;
pub use event::{Event, Reason, Step};
pub use keep::keep;
pub use resolve::{Asked, SentAs, resolve};
pub use ring::{Bounds, Counts, Trail};
pub use wire::Kept;

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    micros(SystemTime::now())
}

/// The same of another moment.
pub fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
