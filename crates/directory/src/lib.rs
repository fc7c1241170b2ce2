//! The presence and routing tables of a Kurir system, in Redis or in this process.

#![warn(missing_docs)]

mod backend;
mod claims;
mod clock;
mod component;
mod directory;
mod entry;
mod error;
mod lease;
mod member;
mod membership;
mod outcome;
mod pending;
mod record;
mod rules;
#[cfg(test)]
mod suite;
mod timing;
mod watch;

pub use component::{
    Address, BadComponentId, BadGeneration, Component, ComponentId, Generation, Kind, NewComponent,
};
pub use directory::Directory;
pub use entry::{NewSession, Route, Session, UserEntries};
pub use error::{DirectoryError, Fenced};
pub use member::Member;
pub use outcome::{Cause, Event, Reclaimed, RouteClaim, SessionClaim, SessionEnd};
pub use timing::Timing;
