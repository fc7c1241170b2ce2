//! The presence and routing tables of a Kurir system, in Redis or in this process.

#![warn(missing_docs)]

mod component;
mod directory;
mod entry;
mod error;
mod member;
mod timing;

pub use component::{
    Address, BadComponentId, BadGeneration, Component, ComponentId, Generation, Kind, NewComponent,
};
pub use directory::Directory;
pub use entry::{NewSession, Route, Session, UserEntries};
pub use error::{DirectoryError, Fenced};
pub use member::{Cause, Event, Member, Reclaimed, RouteClaim, SessionClaim, SessionEnd};
pub use timing::Timing;
