//! A component's place in the directory: its lease, its fence, its entries.

use std::sync::Arc;
use std::time::Duration;

use kurir_protocol::name::{LoginId, Resource, UserKey};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::membership::{Exchange, Membership};
use crate::pending::Removal;
use crate::watch::Peers;
use crate::{
    Component, ComponentId, Directory, DirectoryError, Event, Fenced, Generation, NewComponent, NewSession,
    Reclaimed, Route, RouteClaim, Session, SessionClaim, SessionEnd,
};

/// How many events wait for a slow reader. When full, news of the others waits, and news of the own lease is merged.
const EVENTS: usize = 64;

/// A component that has joined. Clones share the lease; once the last one is dropped it is no longer renewed.
#[derive(Debug, Clone)]
pub struct Member {
    membership: Arc<Membership>,
    directory: Directory,
    tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks {
    stop: CancellationToken,
    running: Mutex<JoinSet<()>>,
    _stop_when_dropped: DropGuard,
}

impl Member {
    /// Takes the component's lease and starts the tasks that renew it until [`leave`](Self::leave).
    ///
    /// Where the lease is still held by an earlier life of the component, waits for it to run out; where that one
    /// goes on renewing, fails with [`DirectoryError::IdInUse`]. An outage is waited for as long as the directory is
    /// [`patient`](Directory::patient). `shutdown` ends these waits, nothing else: while clients are drained the lease
    /// is still needed.
    ///
    /// Events must be read: while the queue is full nothing is announced (the lease is renewed all the same).
    pub async fn join(
        directory: Directory,
        component: NewComponent,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Event>), DirectoryError> {
        let timing = directory.timing();
        let membership =
            Arc::new(Membership::new(Arc::clone(&directory.backend), component, timing, Clock::Boot));
        take_lease(&membership, directory.patience(), &shutdown).await?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(until(stop.clone(), tick(Arc::clone(&membership))));
        running.spawn(until(stop.clone(), renew(Arc::clone(&membership), events.clone())));
        running.spawn(until(stop.clone(), watch(Arc::clone(&membership), events)));
        let tasks =
            Tasks { running: Mutex::new(running), _stop_when_dropped: stop.clone().drop_guard(), stop };
        let directory = directory.read_by(Arc::clone(&membership));
        Ok((Self { membership, directory, tasks: Arc::new(tasks) }, receiver))
    }

    /// The configured name.
    pub fn id(&self) -> &ComponentId {
        &self.membership.me
    }

    /// The component as the others see it, in its latest life.
    pub fn component(&self) -> Component {
        self.membership.lease().component()
    }

    /// The latest life; see [`check`](Self::check) for whether it still lasts.
    pub fn generation(&self) -> Generation {
        self.membership.lease().generation()
    }

    /// The tables that this is a member of.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether the tables are new or were lost, and owners still write their entries: new sessions are refused until
    /// [`Event::Recovered`]. So it is for one lease's time after the very first start.
    pub fn is_recovering(&self) -> bool {
        self.membership.lease().is_recovering()
    }

    /// Whether this component may act, and as which generation. Cheap: an uncontended lock and a clock read.
    ///
    /// Ask before acting on a batch, a claim or a delivery. A connection may be acted for only while the answer is the
    /// generation it was last claimed (or reclaimed) under.
    pub fn check(&self) -> Result<Generation, Fenced> {
        self.membership.check()
    }

    /// Puts a new login of a device on record.
    pub async fn claim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        session: NewSession,
    ) -> Result<SessionClaim, DirectoryError> {
        self.membership.claim_session(user, resource, session).await
    }

    /// Puts a new message connection of a device on record.
    pub async fn claim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
    ) -> Result<RouteClaim, DirectoryError> {
        self.membership.claim_route(user, resource, login, connection).await
    }

    /// Puts a session that this component has had all along back on record. Where `claimed_under`, the life that it was
    /// last claimed under, is over, whoever claimed meanwhile keeps the device; else of two owners that both live the
    /// device without a name stays with its older login, and a named one goes to the newer. `is_open` says whether its connection still
    /// is there, false from before it is released: what ends meanwhile leaves nothing on record.
    pub async fn reclaim_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        session: NewSession,
        claimed_under: Generation,
        is_open: impl Fn() -> bool,
    ) -> Result<Reclaimed<Session>, DirectoryError> {
        self.membership.reclaim_session(user, resource, session, claimed_under, is_open).await
    }

    /// Puts a route that this component has had all along back on record. Of two routes the newer login's stays, and of
    /// two of one login the one that is on record. `is_open` as for [`reclaim_session`](Self::reclaim_session).
    pub async fn reclaim_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        connection: u64,
        is_open: impl Fn() -> bool,
    ) -> Result<Reclaimed<Route>, DirectoryError> {
        self.membership.reclaim_route(user, resource, login, connection, is_open).await
    }

    /// Records how many presences a session has published. `false`: the session is no longer this component's.
    pub async fn update_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        presence_counter: u64,
    ) -> Result<bool, DirectoryError> {
        self.membership.update_session(user, resource, login, presence_counter).await
    }

    /// Takes a session off record, if it still is this component's. An error means that it will be done later, by itself.
    pub async fn release_session(
        &self,
        user: &UserKey,
        resource: &Resource,
        login: LoginId,
        end: SessionEnd,
    ) -> Result<(), DirectoryError> {
        let (user, resource) = (user.clone(), resource.clone());
        self.membership.remove_or_keep(Removal::Session { user, resource, login, end }).await
    }

    /// Ends all logins of a device up to this one, at whichever component: from then on no claim of theirs succeeds, and what
    /// they had on record before is there for its owner to be told and to release. An error means that it will be done
    /// later, by itself.
    pub async fn end_logins(
        &self,
        user: &UserKey,
        resource: &Resource,
        up_to: LoginId,
    ) -> Result<(), DirectoryError> {
        let (user, resource) = (user.clone(), resource.clone());
        self.membership.remove_or_keep(Removal::Logins { user, resource, up_to }).await
    }

    /// Takes a route off record, if it still is this connection's. An error means that it will be done later, by itself.
    pub async fn release_route(
        &self,
        user: &UserKey,
        resource: &Resource,
        connection: u64,
    ) -> Result<(), DirectoryError> {
        let (user, resource) = (user.clone(), resource.clone());
        self.membership.remove_or_keep(Removal::Route { user, resource, connection }).await
    }

    /// Stops cleanly: lease and entries are gone when this returns, and others count this generation as dead. Where the
    /// directory is away they are left to run out. Does nothing the second time.
    pub async fn leave(&self) {
        let mut running = self.tasks.running.lock().await;
        if running.is_empty() {
            return;
        }
        self.tasks.stop.cancel();
        while running.join_next().await.is_some() {}
        if let Err(error) = self.membership.leave().await {
            tracing::warn!(%error, "could not leave the directory: the lease will run out");
        }
        self.membership.lease_mut().renounce();
    }
}

/// Acquires until the lease is held and the tables are known. An earlier life's lease is waited for, once: one that is
/// renewed belongs to somebody. An outage is waited for as long as `patience`, from its first failure.
async fn take_lease(
    membership: &Membership,
    patience: Duration,
    shutdown: &CancellationToken,
) -> Result<(), DirectoryError> {
    let (mut waited, mut give_up) = (false, None);
    loop {
        let pause = match membership.renew().await {
            Ok(Exchange::InUse { client, .. }) if waited || shutdown.is_cancelled() => {
                return Err(DirectoryError::IdInUse { id: membership.me.clone(), client });
            }
            Ok(Exchange::InUse { left, .. }) => {
                waited = true;
                tracing::info!(
                    component = %membership.me, wait = ?left,
                    "waiting for the lease of an earlier life to run out"
                );
                left + Duration::from_millis(1)
            }
            Ok(Exchange::Done | Exchange::Again) if membership.check().is_ok() => return Ok(()),
            Ok(Exchange::Done | Exchange::Again) => continue,
            Err(error) if error.is_passing() => {
                let (first, now) = (give_up.is_none(), Instant::now());
                if now >= *give_up.get_or_insert(now + patience) || shutdown.is_cancelled() {
                    return Err(error);
                }
                if first {
                    tracing::warn!(
                        component = %membership.me, error = &error as &dyn std::error::Error, up_to = ?patience,
                        "no lease yet: trying until the directory is back"
                    );
                }
                membership.timing.tick
            }
            Err(error) => return Err(error),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = task => {}
    }
}

/// Shows that this process runs, whatever the directory does.
async fn tick(membership: Arc<Membership>) {
    let mut acted = true;
    loop {
        let acts = membership.tick();
        if acted && !acts {
            tracing::warn!(component = %membership.me, "paused past the lease: not acting until there is a new generation");
            membership.hurry.notify_one();
        }
        acted = acts;
        tokio::time::sleep(membership.timing.tick).await;
    }
}

async fn renew(membership: Arc<Membership>, events: mpsc::Sender<Event>) {
    loop {
        match membership.renew().await {
            Ok(Exchange::Again) => continue,
            Ok(Exchange::Done) => {}
            Ok(Exchange::InUse { client, .. }) => {
                tracing::warn!(component = %membership.me, %client, "another component has taken this one's id");
            }
            Err(error) => tracing::debug!(%error, "lease not renewed"),
        }
        let settled = membership.lease().is_settled();
        let wait = if settled { membership.timing.renew } else { membership.timing.tick };
        let due = Instant::now() + wait;
        if announce(&membership, &events, due).await {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = membership.hurry.notified() => {}
            }
        }
    }
}

/// Passes on what the lease has to tell; false: the reader is so slow that the next renewal is due.
async fn announce(membership: &Membership, events: &mpsc::Sender<Event>, due: Instant) -> bool {
    loop {
        let Ok(permit) = tokio::time::timeout_at(due, events.reserve()).await else { return false };
        let Some(event) = membership.next_announcement() else { return true };
        match &event {
            Event::Away => tracing::warn!(component = %membership.me, "directory is away"),
            Event::Back => tracing::info!(component = %membership.me, "directory is back"),
            Event::Epoch => {
                tracing::warn!(component = %membership.me, "directory has lost its tables: writing them again");
            }
            Event::Renewed { old, new } => {
                tracing::warn!(component = %membership.me, %old, %new, "new generation");
            }
            Event::Recovered | Event::Joined(_) | Event::Died(_) => {}
        }
        // Nobody listens any more: nobody needs to know.
        if let Ok(permit) = permit {
            permit.send(event);
        }
    }
}

async fn watch(membership: Arc<Membership>, events: mpsc::Sender<Event>) {
    let mut peers = Peers::default();
    loop {
        match membership.look_around(&mut peers).await {
            Ok(news) => {
                for event in news {
                    // Nobody listens any more: nobody needs to know.
                    let _ = events.send(event).await;
                }
                let tidied = async {
                    membership.settle().await?;
                    membership.sweep(&peers).await
                };
                if let Err(error) = tidied.await {
                    tracing::debug!(%error, "directory not tidied");
                }
            }
            Err(error) => tracing::debug!(%error, "components not listed"),
        }
        tokio::time::sleep(membership.timing.poll).await;
    }
}
