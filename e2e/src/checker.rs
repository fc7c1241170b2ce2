//! Devices that send and read tracked messages while parts of the system fail, and the verdict on what they saw
//! (PROTOCOL Part II, `id` and `resume`).
//!
//! | module | is |
//! | --- | --- |
//! | [`history`] | what happened: plain data |
//! | [`verdict`] | what is wrong with a history: plain data in, plain data out |
//! | [`quiet`] | when a device was online and nothing was under way that excuses a delay |
//! | [`outgoing`] | what a device has sent and must send again: no IO |
//! | [`journal`] | the history as it grows, shared by all devices |
//! | [`people`] | which devices each account has |
//! | [`device`] | a device: its manager connection, its relay connection, what it does with each packet |
//! | [`session`] | the half of a device that keeps it logged in |
//! | [`fault`] | what can be done to a system |
//! | [`dice`] | repeatable random numbers |

pub mod device;
pub mod dice;
pub mod fault;
pub mod history;
pub mod journal;
pub mod outgoing;
pub mod people;
pub mod quiet;
pub mod session;
pub mod verdict;

pub use dice::Dice;
pub use fault::Fault;
pub use journal::Journal;
pub use verdict::{Verdict, judge};
