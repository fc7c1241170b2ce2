//! What becomes of claims, and what a member is told.

use crate::{Component, Generation, Route, Session};

/// What became of [`Member::claim_session`](crate::Member::claim_session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionClaim {
    /// On record.
    Granted {
        /// The life that it is claimed under.
        generation: Generation,
        /// The older session of the same named device, to be ended at its manager. One, unless a request was lost on its
        /// way or carried out twice.
        displaced: Vec<Session>,
    },
    /// The device is online at a live manager and has no name, or has had a newer login: M12.
    AlreadyLoggedIn,
    /// This login was ended while it was under way.
    Ended,
}

/// What became of [`Member::claim_route`](crate::Member::claim_route).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteClaim {
    /// On record.
    Granted {
        /// The life that it is claimed under.
        generation: Generation,
        /// The connection that had the device before, to be closed at its relay (which may be this one). One, if any, as
        /// above.
        replaced: Vec<Route>,
    },
    /// A newer login has the device, or this login was ended.
    Stale,
}

/// What became of a reclaim; `E` is the kind of entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reclaimed<E> {
    /// On record again.
    Kept {
        /// The life that it is claimed under from now on.
        generation: Generation,
        /// Who had it meanwhile and is to be closed. One, if any, as above.
        displaced: Vec<E>,
    },
    /// Somebody else has the device now: close the connection.
    Lost,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The connection was lost; the login's ticket stays good.
    Lost,
    /// Logged out, displaced or removed: no claim of this login or an older one succeeds any more.
    Ended,
}

/// What a member learns of the others and of its own lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A component holds its lease.
    Joined(Component),
    /// That generation is dead, for good: close the streams to it, drop what was cached of it.
    Died(Component),
    /// This component was fenced or declared dead, and has a new life: claim every connection again.
    Renewed {
        /// The life that is over.
        old: Generation,
        /// The life from now on.
        new: Generation,
    },
    /// The tables were lost: claim every connection again, at once. What is read now is not complete.
    Epoch,
    /// Everybody has had a lease's time to write their entries again: what is read from now on is complete.
    Recovered,
    /// The directory can't be reached: go on with what there is.
    Away,
    /// The directory is in reach again.
    Back,
}
