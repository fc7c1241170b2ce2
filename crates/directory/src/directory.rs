//! Reading the tables.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kurir_metrics::Requests;
use kurir_protocol::name::{Resource, UserKey};

use crate::backend::memory::Memory;
use crate::backend::redis::Redis;
use crate::backend::{Backend, Epoch, Fields, Standing};
use crate::clock::Clock;
use crate::lease::View;
use crate::membership::Membership;
use crate::record::{Entry, Record, Stored};
use crate::{Component, ComponentId, DirectoryError, Generation, Route, Session, Timing, UserEntries};

/// A connection to the tables. Clones share it.
///
/// Members read through [`Member::directory`](crate::Member::directory), which leaves the entries of a component in
/// place whose death nobody may judge: while the member was out of touch until just now, or the tables are being
/// written again. Any other sees an entry without a lease as absent.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) backend: Arc<dyn Backend>,
    timing: Timing,
    patience: Duration,
    requests: Requests,
    in_process: bool,
    /// Who reads.
    member: Option<Arc<Membership>>,
}

impl Directory {
    /// Connects to Redis. `prefix` comes before every key, so that several systems can share one.
    ///
    /// Fails with [`DirectoryError::Away`] if it can't be reached, with [`DirectoryError::BadUrl`] if it never will.
    pub async fn connect(url: &str, prefix: &str, timing: Timing) -> Result<Self, DirectoryError> {
        let requests = Requests::default();
        let redis = Redis::connect(url, prefix, timing, requests.clone()).await?;
        Ok(Self { requests, ..Self::on(Arc::new(redis), timing) })
    }

    /// Tables in this process; clones share them, and they end with the last one.
    pub fn in_process(timing: Timing) -> Self {
        Self { in_process: true, ..Self::on(Arc::new(Memory::new(Clock::Boot, timing)), timing) }
    }

    /// The same tables, where who joins goes on trying for so long while they are away. Not at all unless told.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn on(backend: Arc<dyn Backend>, timing: Timing) -> Self {
        let (patience, requests) = (Duration::ZERO, Requests::default());
        Self { backend, timing, patience, requests, in_process: false, member: None }
    }

    pub(crate) fn read_by(&self, member: Arc<Membership>) -> Self {
        Self { member: Some(member), ..self.clone() }
    }

    /// The durations this directory was made with.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Whether the tables are in this process: nothing is asked elsewhere.
    pub fn is_in_process(&self) -> bool {
        self.in_process
    }

    /// How long its round trips to Redis take; those that failed gave no answer in time. Tables in this process make none.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// One round trip: whether the tables can be reached.
    pub async fn ping(&self) -> Result<(), DirectoryError> {
        self.backend.ping().await
    }

    /// What stands for one user.
    pub async fn user(&self, user: &UserKey) -> Result<UserEntries, DirectoryError> {
        let all = self.users(std::slice::from_ref(user)).await?;
        Ok(all.into_iter().next().unwrap_or_default())
    }

    /// What stands for each of `users`, in their order, in two round trips. Look at [`UserEntries::complete`] before taking
    /// anybody for absent.
    pub async fn users(&self, users: &[UserKey]) -> Result<Vec<UserEntries>, DirectoryError> {
        let view = self.view();
        let (all, standing) = self.backend.users(users).await?;
        let whole = self.is_whole(view.as_ref(), &standing);
        let all: Vec<Found> = all.into_iter().map(Found::new).collect();
        let owners: BTreeSet<&ComponentId> = all.iter().flat_map(Found::owners).collect();
        let owners: Vec<ComponentId> = owners.into_iter().cloned().collect();
        if owners.is_empty() {
            return Ok(vec![UserEntries { complete: whole, ..UserEntries::default() }; users.len()]);
        }
        let (holders, standing) = self.backend.leases(self.me(), &owners).await?;
        let leases: HashMap<ComponentId, Option<Generation>> = owners.into_iter().zip(holders).collect();
        let judge = self.may_judge(view.as_ref(), &standing);
        let lives = |id: &ComponentId, generation| match leases.get(id).copied().flatten() {
            Some(holder) => holder == generation,
            None => !judge,
        };
        let complete = whole && self.is_whole(view.as_ref(), &standing);
        let living = |user: Found| user.living(standing.epoch.as_ref(), complete, lives);
        Ok(all.into_iter().map(living).collect())
    }

    /// The components that hold their lease, and for a member those whose death nobody may judge. Whoever is not among them
    /// is gone: to a member this fails with [`DirectoryError::Recovering`] while some may only not be on record yet.
    pub async fn components(&self) -> Result<Vec<Component>, DirectoryError> {
        let view = self.view();
        let mut components = self.backend.registered().await?;
        let ids: Vec<ComponentId> = components.iter().map(|component| component.id.clone()).collect();
        let (holders, standing) = self.backend.leases(self.me(), &ids).await?;
        if self.member.is_some() && !self.is_whole(view.as_ref(), &standing) {
            return Err(DirectoryError::Recovering);
        }
        let judge = self.may_judge(view.as_ref(), &standing);
        let mut holders = holders.into_iter();
        components.retain(|component| {
            holders.next().flatten().map_or(!judge, |holder| holder == component.generation)
        });
        Ok(components)
    }

    fn me(&self) -> Option<&ComponentId> {
        self.member.as_ref().map(|member| &member.me)
    }

    fn view(&self) -> Option<View> {
        self.member.as_ref().map(|member| member.lease().view())
    }

    /// Whether all owners have had the time to write what is read together with `standing`.
    fn is_whole(&self, view: Option<&View>, standing: &Standing) -> bool {
        let known = view.map_or(standing.epoch.is_some(), |view| view.knows(standing));
        if !known && let Some(member) = &self.member {
            member.hurry.notify_one();
        }
        known && !standing.recovering
    }

    /// Whether a lease that is not there means that its component is dead.
    fn may_judge(&self, view: Option<&View>, standing: &Standing) -> bool {
        match (&self.member, view) {
            (Some(member), Some(view)) => member.may_judge(view, standing),
            _ => true,
        }
    }
}

/// All entries of a user, dead ones and lost ones, too.
struct Found {
    sessions: Vec<(Resource, Stored<Session>)>,
    routes: Vec<(Resource, Stored<Route>)>,
}

impl Found {
    fn new(fields: Fields) -> Self {
        let record = Record::new(fields);
        Self { sessions: record.entries().collect(), routes: record.entries().collect() }
    }

    fn owners(&self) -> impl Iterator<Item = &ComponentId> {
        let sessions = self.sessions.iter().map(|(_, stored)| &stored.entry.manager);
        sessions.chain(self.routes.iter().map(|(_, stored)| &stored.entry.relay))
    }

    fn living(
        self,
        epoch: Option<&Epoch>,
        complete: bool,
        lives: impl Fn(&ComponentId, Generation) -> bool,
    ) -> UserEntries {
        UserEntries {
            complete,
            sessions: living(self.sessions, epoch, &lives),
            routes: living(self.routes, epoch, &lives),
        }
    }
}

fn living<E: Entry>(
    entries: Vec<(Resource, Stored<E>)>,
    epoch: Option<&Epoch>,
    lives: impl Fn(&ComponentId, Generation) -> bool,
) -> Vec<(Resource, E)> {
    let lives = |stored: &Stored<E>| {
        let (id, generation) = stored.entry.owner();
        Some(&stored.epoch) == epoch && lives(id, generation)
    };
    entries
        .into_iter()
        .filter(|(_, stored)| lives(stored))
        .map(|(resource, stored)| (resource, stored.entry))
        .collect()
}
