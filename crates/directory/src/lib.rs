//! The presence and routing tables of a Kurir system: who is online at which manager, reachable at which relay, and
//! which of those components live. In Redis, or in this process for `kurir up` and unit tests; the rules are the same.
//!
//! Not here: accounts and rosters (SQL), discovery (the tracker), what travels between components. This crate opens no
//! socket but to Redis.
//!
//! # How to use it
//!
//! A component makes a [`Directory`], then [joins](Member::join) it. It asks [`Member::check`] before it acts on a batch,
//! a claim or a delivery, and acts for a connection only while the answer is the generation that the connection was last
//! claimed under. It reads [`Event`]s: after [`Event::Renewed`] and [`Event::Epoch`] it reclaims every connection,
//! after [`Event::Died`] it drops what it had of that generation. A claim or reclaim that fails is tried again or its
//! connection closed. A connection can be found by its number before it is claimed, for another may replace it before
//! the claim's answer is read. Whoever ends one closes it before it is released, and says so to a reclaim that is under
//! way (`is_open`). While what is read is not [`complete`](UserEntries::complete) nobody is taken for absent. Now and then
//! (a minute) a component reclaims what it does not find on record: a claim that displaced an entry may have failed
//! afterwards.
//!
//! # Tables
//!
//! Every key begins with the configured prefix; braces are Redis Cluster's hash tags, and no script touches two slots.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `u:{user}` | hash | `s:<resource>` session, `r:<resource>` route (JSON; they name the epoch they were written in, and count in no other), `e:<resource>` newest ended login, of up to 128 devices; expires [`Timing::ended`] after only ended logins are left |
//! | `c:{id}:lease` | hash, expires after [`Timing::lease`] | generation and process that hold the lease, the component as JSON |
//! | `c:{id}:dead:<generation>` | string, a day | mark of death: no renewal of that generation succeeds any more |
//! | `c:{id}:judged` | string, expires after [`Timing::lease`] | the epoch in which somebody is about to declare it dead: gone when the store loses its tables in between |
//! | `c:{id}:owned:<generation>` | set | which fields the generation may own; noted before each is written, may hold too much |
//! | `components` | hash | every generation not yet swept, as JSON |
//! | `{epoch}` | string | the life of these tables, begun by whoever finds none, or one of the server's former life: a restarted server may have gone back in time, so whatever it has kept counts as lost |
//! | `{epoch}:recovering` | string, expires after [`Timing::lease`] | there while owners write their entries again |
//!
//! # Invariants
//!
//! 1. A device has at most one owner that acts. Not among them, exactly: who is cut off from the directory goes on with
//!    the connections it has, until it is back in touch; after a loss of the tables, two owners may have a device until
//!    they have reclaimed it; whose entry was displaced acts until it is told, or, where who displaced it was lost before
//!    it could tell, until it next compares its connections with what is on record.
//! 2. Death is final and is decided by the store: a mark is placed only where the lease is not held, and refuses every
//!    renewal after it. An entry is taken from a dead owner only after the mark is placed.
//!    Who was out of touch past its lease when the tables were lost takes a new generation: its mark may be lost, too.
//! 3. A component never acts past its lease because it was paused: it compares the clock that counts suspension with the
//!    time of its last answered renewal, before every claim and wherever its owner asks.
//! 4. Nobody is judged by who was out of touch less than two leases ago (or joined less than one ago), while the tables
//!    are being written again, or whose own lease is not in the store.
//! 5. A claim trusts what it read only if the tables are in the same life after it as before.
//! 6. Every write of an entry is unlike any other, so taking back a claim that failed half way never takes another's.
//!
//! # Map
//!
//! | module | holds |
//! | --- | --- |
//! | `rules` | who may have a device: pure functions |
//! | `lease` | the own lease, fence and trust as a function of time and answers |
//! | `claims`, `watch` | claiming, releasing; who came, who died, sweeping |
//! | `membership` | one step of each of those; [`Member`] gives them tasks and timers |
//! | `backend` | the operations of a store, in Redis and in memory |
//! | `model`, `suite` | tests: every interleaving in memory; the same tests on both stores |

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
#[cfg(test)]
mod model;
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
pub use outcome::{Event, Reclaimed, RouteClaim, SessionClaim, SessionEnd};
pub use timing::Timing;
