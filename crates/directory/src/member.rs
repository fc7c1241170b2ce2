//! A component's place in the directory: its lease, its fence, its entries.

use kurir_protocol::name::{LoginId, Resource, UserKey};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Component, ComponentId, Directory, DirectoryError, Fenced, Generation, NewComponent, NewSession, Route,
    Session,
};

/// A component that has joined. Clones share the lease.
#[derive(Debug, Clone)]
pub struct Member {}

impl Member {
    /// Takes the component's lease and starts the task that renews it until `shutdown` or [`leave`](Self::leave).
    ///
    /// Where the lease is still held by an earlier life of the component, waits for it to run out; where that one
    /// goes on renewing, fails with [`DirectoryError::IdInUse`].
    ///
    /// Events must be read: while the queue is full nothing is announced (the lease is renewed all the same).
    pub async fn join(
        directory: Directory,
        component: NewComponent,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Event>), DirectoryError> {
        todo!()
    }

    /// The configured name.
    pub fn id(&self) -> &ComponentId {
        todo!()
    }

    /// The latest life; see [`check`](Self::check) for whether it still lasts.
    pub fn generation(&self) -> Generation {
        todo!()
    }

    /// The tables that this is a member of.
    pub fn directory(&self) -> &Directory {
        todo!()
    }

    /// Whether this component may act, and as which generation. Cheap: an atomic and a clock read.
    ///
    /// Ask before acting on a batch, a claim or a delivery. A connection may be acted for only while the answer is the
    /// generation it was last claimed (or reclaimed) under.
    pub fn check(&self) -> Result<Generation, Fenced> {
        todo!()
    }

    /// Puts a new login of a device on record.
    pub async fn claim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        session: NewSession,
    ) -> Result<SessionClaim, DirectoryError> {
        todo!()
    }

    /// Puts a new message connection of a device on record.
    pub async fn claim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
    ) -> Result<RouteClaim, DirectoryError> {
        todo!()
    }

    /// Puts a session that this component has had all along back on record.
    pub async fn reclaim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        session: NewSession,
        cause: Cause,
    ) -> Result<Reclaimed<Session>, DirectoryError> {
        todo!()
    }

    /// Puts a route that this component has had all along back on record. Of two routes the newer login's stays, and of
    /// two of one login the one that is on record.
    pub async fn reclaim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
    ) -> Result<Reclaimed<Route>, DirectoryError> {
        todo!()
    }

    /// Records how many presences a session has published. `false`: the session is no longer this component's.
    pub async fn update_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        presence_counter: u64,
    ) -> Result<bool, DirectoryError> {
        todo!()
    }

    /// Takes a session off record, if it still is this component's. An error means that it will be done later, by itself.
    pub async fn release_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        end: SessionEnd,
    ) -> Result<(), DirectoryError> {
        todo!()
    }

    /// Takes a route off record, if it still is this connection's. An error means that it will be done later, by itself.
    pub async fn release_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        connection: u64,
    ) -> Result<(), DirectoryError> {
        todo!()
    }

    /// Stops cleanly: lease and entries are gone when this returns, and others count this generation as dead.
    /// Does nothing the second time.
    pub async fn leave(&self) {
        todo!()
    }
}

/// What became of [`Member::claim_session`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionClaim {
    /// On record.
    Granted {
        /// The life that it is claimed under.
        generation: Generation,
        /// The older session of the same named device, to be ended at its manager.
        displaced: Option<Session>,
    },
    /// The device is online at a live manager and has no name, or has had a newer login: M12.
    AlreadyLoggedIn,
}

/// What became of [`Member::claim_route`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteClaim {
    /// On record.
    Granted {
        /// The life that it is claimed under.
        generation: Generation,
        /// The connection that had the device before, to be closed at its relay (which may be this one).
        replaced: Option<Route>,
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
        /// Who had it meanwhile and is to be closed.
        displaced: Option<E>,
    },
    /// Somebody else has the device now: close the connection.
    Lost,
}

/// Why a session is claimed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// After [`Event::Renewed`]: this component was dead to others, so whoever claimed meanwhile did so rightly.
    Renewed,
    /// After [`Event::Epoch`]: nobody was dead, so of two owners the conflict rule chooses. The device without a
    /// name stays with its older login, a named one goes to the newer.
    Epoch,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The connection was lost; the login's ticket stays good.
    Lost,
    /// Logged out, displaced or removed: no route claim of this login or an older one succeeds any more.
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
