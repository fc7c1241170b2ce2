//! Reading the tables.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kurir_protocol::name::UserKey;

use crate::backend::memory::Memory;
use crate::backend::redis::Redis;
use crate::backend::{Backend, Fields};
use crate::clock::Clock;
use crate::membership::Membership;
use crate::record::{Entry, Record};
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
    /// Who reads.
    member: Option<Arc<Membership>>,
}

impl Directory {
    /// Connects to Redis. `prefix` comes before every key, so that several systems can share one.
    ///
    /// Fails with [`DirectoryError::Away`] if it can't be reached, with [`DirectoryError::BadUrl`] if it never will.
    pub async fn connect(url: &str, prefix: &str, timing: Timing) -> Result<Self, DirectoryError> {
        let redis = Redis::connect(url, prefix, timing).await?;
        Ok(Self::on(Arc::new(redis), timing))
    }

    /// Tables in this process; clones share them, and they end with the last one.
    pub fn in_process(timing: Timing) -> Self {
        Self::on(Arc::new(Memory::new(Clock::Boot, timing)), timing)
    }

    pub(crate) fn on(backend: Arc<dyn Backend>, timing: Timing) -> Self {
        Self { backend, timing, member: None }
    }

    pub(crate) fn read_by(&self, member: Arc<Membership>) -> Self {
        Self { member: Some(member), ..self.clone() }
    }

    /// The durations this directory was made with.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// What stands for one user.
    pub async fn user(&self, user: &UserKey) -> Result<UserEntries, DirectoryError> {
        let all = self.users(std::slice::from_ref(user)).await?;
        Ok(all.into_iter().next().unwrap_or_default())
    }

    /// What stands for each of `users`, in their order, in two round trips.
    pub async fn users(&self, users: &[UserKey]) -> Result<Vec<UserEntries>, DirectoryError> {
        let view = self.member.as_ref().map(|member| member.lease().view());
        let mut all: Vec<UserEntries> = self.backend.users(users).await?.into_iter().map(entries).collect();
        let owners: BTreeSet<&ComponentId> = all.iter().flat_map(owners).collect();
        let owners: Vec<ComponentId> = owners.into_iter().cloned().collect();
        if owners.is_empty() {
            return Ok(all);
        }
        let me = self.member.as_ref().map(|member| &member.me);
        let (holders, standing) = self.backend.leases(me, &owners).await?;
        let leases: HashMap<ComponentId, Option<Generation>> = owners.into_iter().zip(holders).collect();
        let judge = match (&self.member, view) {
            (Some(member), Some(view)) => member.may_judge(&view, &standing),
            _ => true,
        };
        let lives = |(id, generation): (&ComponentId, Generation)| match leases.get(id).copied().flatten() {
            Some(holder) => holder == generation,
            None => !judge,
        };
        for user in &mut all {
            user.sessions.retain(|(_, session)| lives(session.owner()));
            user.routes.retain(|(_, route)| lives(route.owner()));
        }
        Ok(all)
    }

    /// The components that hold their lease.
    pub async fn components(&self) -> Result<Vec<Component>, DirectoryError> {
        let mut components = self.backend.registered().await?;
        let ids: Vec<ComponentId> = components.iter().map(|component| component.id.clone()).collect();
        let (holders, _) = self.backend.leases(None, &ids).await?;
        let mut holders = holders.into_iter();
        components.retain(|component| holders.next().flatten() == Some(component.generation));
        Ok(components)
    }
}

fn entries(fields: Fields) -> UserEntries {
    let record = Record::new(fields);
    UserEntries {
        sessions: record.entries::<Session>().collect(),
        routes: record.entries::<Route>().collect(),
    }
}

fn owners(user: &UserEntries) -> impl Iterator<Item = &ComponentId> {
    let sessions = user.sessions.iter().map(|(_, session)| &session.manager);
    sessions.chain(user.routes.iter().map(|(_, route)| &route.relay))
}
