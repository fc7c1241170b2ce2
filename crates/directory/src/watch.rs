//! Who else is there: noticing who came and who died, and sweeping up after the dead.

use std::collections::HashMap;

use kurir_protocol::name::UserKey;

use crate::backend::{Owned, Swap};
use crate::lease::Claim;
use crate::membership::Membership;
use crate::record::Record;
use crate::rules::Life;
use crate::{Component, ComponentId, DirectoryError, Event, Generation};

/// How many entries are swept in one go.
const CHUNK: usize = 256;
/// How many goes between two looks at who is there: sweeping tidies up, it must not crowd out logins.
const CHUNKS: usize = 16;

/// What one member has seen of the others.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    alive: HashMap<Generation, Component>,
    /// Dead generations that may still have entries.
    dead: Vec<(ComponentId, Generation)>,
}

impl Membership {
    /// Looks at who is there, and says what has changed.
    pub(crate) async fn look_around(&self, peers: &mut Peers) -> Result<Vec<Event>, DirectoryError> {
        let view = self.view()?;
        let mut known = self.backend.registered().await?;
        // After a loss those who live are registered again within moments; meanwhile they are not gone.
        known.extend(peers.alive.values().filter(|peer| !known.contains(peer)).cloned().collect::<Vec<_>>());
        let ids: Vec<ComponentId> = known.iter().map(|component| component.id.clone()).collect();
        let (holders, standing) = self.backend.leases(Some(&self.me), &ids).await?;
        if view.admit(&standing, Claim::Again).is_err() {
            self.hurry.notify_one();
        }
        let mut events = Vec::new();
        peers.dead.clear();
        for (component, holder) in known.into_iter().zip(holders) {
            let generation = component.generation;
            if holder == Some(generation) {
                if component.id != self.me && !peers.alive.contains_key(&generation) {
                    peers.alive.insert(generation, component.clone());
                    events.push(Event::Joined(component));
                }
                continue;
            }
            match self.life((&component.id, generation), &view).await {
                Ok(Life::Dead) => {
                    if peers.alive.remove(&generation).is_some() {
                        events.push(Event::Died(component.clone()));
                    }
                    peers.dead.push((component.id, generation));
                }
                Ok(Life::Live | Life::Own) => {}
                // What has been seen is told only once: the rest is for the next time.
                Err(_) if !events.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(events)
    }

    /// Sweeps up after one of the dead, some of its entries.
    pub(crate) async fn sweep(&self, peers: &Peers) -> Result<(), DirectoryError> {
        if peers.dead.is_empty() {
            return Ok(());
        }
        // All members sweep: starting anywhere they seldom meet.
        let chosen = rand::random_range(..peers.dead.len());
        let Some((id, generation)) = peers.dead.get(chosen) else { return Ok(()) };
        for _ in 0..CHUNKS {
            if !self.remove_owned(id, *generation).await? {
                return self.backend.forget(id, *generation).await;
            }
        }
        Ok(())
    }

    /// Removes a chunk of the entries that still carry a generation; false: there is none left.
    pub(crate) async fn remove_owned(
        &self,
        id: &ComponentId,
        generation: Generation,
    ) -> Result<bool, DirectoryError> {
        let owned = self.backend.owned(id, generation, CHUNK).await?;
        if owned.is_empty() {
            return Ok(false);
        }
        let users: Vec<UserKey> = owned.iter().map(|entry| entry.user.clone()).collect();
        let (records, _) = self.backend.users(&users).await?;
        let swaps: Vec<Swap> = owned
            .iter()
            .zip(records)
            .filter_map(|(Owned { user, field, .. }, fields)| {
                let expected = Record::new(fields).carrying(field, generation)?.to_owned();
                let (user, field) = (user.clone(), field.clone());
                Some(Swap { user, field, expected: Some(expected), new: None, ended: None, owner: None })
            })
            .collect();
        self.backend.swap(&self.me, &swaps).await?;
        self.backend.disown(id, generation, &owned).await?;
        Ok(true)
    }

    /// Takes off record what could not be taken off in time.
    pub(crate) async fn settle(&self) -> Result<(), DirectoryError> {
        while let Some(removal) = self.pending.pop() {
            self.remove_or_keep(removal).await?;
        }
        Ok(())
    }

    /// Gives everything back: the entries, then the lease.
    pub(crate) async fn leave(&self) -> Result<(), DirectoryError> {
        let generation = self.lease().generation();
        self.settle().await?;
        while self.remove_owned(&self.me, generation).await? {}
        self.backend.resign(&self.me, generation).await?;
        self.backend.forget(&self.me, generation).await
    }
}
