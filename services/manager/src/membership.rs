//! What the directory tells this manager of the others and of itself, and what follows.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use kurir_directory::{Component, DirectoryError, Event, Kind, Reclaimed, Session, SessionEnd};
use kurir_protocol::name::{LoginId, Resource, UserKey};
use kurir_rpc::{Discovery, v1};
use tokio::sync::mpsc;

use crate::{manager::Manager, online::Online, presence::EndOfRelay, sessions::Over};

/// Sessions claimed again in parallel.
const AT_ONCE: usize = 32;

/// Every session is compared with the directory once in this time, so many with one request.
const AUDIT_EVERY: Duration = Duration::from_mins(1);
const AUDIT_BATCH: usize = 256;

/// Between two attempts to claim a session again while the directory is away.
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl Manager {
    /// Handles the directory's events, in order, until the member is gone.
    pub(crate) async fn follow(
        &self,
        mut events: mpsc::Receiver<Event>,
        discovery: &Discovery,
        me: v1::Component,
    ) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Joined(component) => {
                    self.peers.meet(component);
                    self.relays.set_other_managers(self.peers.count());
                }
                Event::Died(component) => self.died(&component),
                Event::Renewed { old, new } => {
                    tracing::warn!(%old, %new, "this manager was out of touch for too long; it claims its sessions again");
                    discovery.set_component(v1::Component { generation: new.to_string(), ..me.clone() });
                    self.reclaim().await;
                    self.peers.renewed();
                    self.differences.everything();
                }
                Event::Epoch => {
                    tracing::warn!(
                        "the directory has lost everything; this manager writes its sessions again"
                    );
                    self.reclaim().await;
                }
                Event::Recovered => {
                    self.differences.everything();
                    // Where two have claimed a device while it was lost, the one that lost it finds out now.
                    for batch in self.sessions.all().chunks(AUDIT_BATCH) {
                        self.compare_with_directory(batch).await;
                    }
                }
                Event::Away => tracing::warn!("the directory is away: no logins until it is back"),
                Event::Back => {
                    tracing::info!("the directory is back");
                    self.differences.everything();
                }
            }
        }
    }

    fn died(&self, component: &Component) {
        match component.kind {
            Kind::Relay => self.relays.died(&component.id, component.generation),
            Kind::Manager => {
                self.peers.died(component.generation);
                self.relays.set_other_managers(self.peers.count());
                self.differences.died(component.generation);
            }
        }
    }

    /// Puts every session back on record. Those that somebody else has by now are closed.
    async fn reclaim(&self) {
        stream::iter(self.sessions.all())
            .for_each_concurrent(AT_ONCE, |online| async move { self.reclaim_one(&online).await })
            .await;
    }

    /// Compares the sessions with the directory for as long as it is polled, all of them once in [`AUDIT_EVERY`]: a session
    /// that another one took the place of is told of it by nobody if its manager claimed first.
    pub(crate) async fn audit(&self) {
        loop {
            let sessions = self.sessions.all();
            let steps = u32::try_from(sessions.len() / AUDIT_BATCH + 1).unwrap_or(u32::MAX);
            for batch in sessions.chunks(AUDIT_BATCH) {
                tokio::time::sleep(AUDIT_EVERY / steps).await;
                self.compare_with_directory(batch).await;
            }
            if sessions.is_empty() {
                tokio::time::sleep(AUDIT_EVERY).await;
            }
        }
    }

    async fn compare_with_directory(&self, batch: &[Arc<Online>]) {
        let users: Vec<_> = batch.iter().map(|online| online.user.clone()).collect();
        // Away: nothing is known, and nobody judged.
        let Ok(entries) = self.member.directory().users(&users).await else { return };
        for (online, entries) in batch.iter().zip(entries) {
            let on_record = |session: &Session| session.login == online.login;
            if entries.complete && !entries.sessions.iter().any(|(_, session)| on_record(session)) {
                self.restore(online).await;
            }
        }
    }

    /// A session was found not to be on record: claims it again, or closes it.
    async fn restore(&self, online: &Online) {
        if let Some(online) = self.current(online) {
            self.reclaim_one(&online).await;
            self.owe_unless(false, &online);
        }
    }

    /// The same while a client waits: tries once, and again with the news that the session owes. An attempt ends by itself
    /// and is never broken off, as it might be on record already.
    pub(crate) async fn restore_soon(&self, online: &Online) {
        if let Some(online) = self.current(online) {
            self.try_reclaim(&online).await;
        }
        self.owe_unless(false, online);
    }

    /// None: gone meanwhile, or followed by another login of the user.
    pub(crate) fn current(&self, online: &Online) -> Option<Arc<Online>> {
        self.sessions.get(&online.user, &online.device).filter(|known| known.login == online.login)
    }

    /// Another session has this one's device.
    async fn displace(&self, online: &Arc<Online>) {
        // Removed first, so that its end is not taken for the user's.
        self.sessions.remove(online);
        online.close_for_conflict();
        self.end_relay_connection(online, EndOfRelay::Conflict).await;
    }

    /// A device's sessions of this login and before are over, also those whose login is not done yet.
    pub(crate) async fn session_over(&self, user: &UserKey, device: &Resource, login: LoginId, over: Over) {
        let Some(online) = self.sessions.end(user, device, login, over) else { return };
        match over {
            Over::Displaced => self.displace(&online).await,
            Over::Removed => {
                online.close_for_removal();
                self.depart(&online, SessionEnd::Ended).await;
            }
        }
    }

    /// The same for one that was over before it was served.
    pub(crate) async fn over_at_once(&self, online: &Online, over: Over) {
        match over {
            // Nobody has been told of it, and whoever has its device is there.
            Over::Displaced => {
                online.close_for_conflict();
                self.release(online, SessionEnd::Lost).await;
            }
            // It may have displaced one that contacts were shown, of which they were not told that it is gone.
            Over::Removed => {
                online.close_for_removal();
                self.departed(online, SessionEnd::Ended).await;
            }
        }
    }

    /// Puts one session back on record, however long it takes.
    async fn reclaim_one(&self, online: &Arc<Online>) {
        while !self.try_reclaim(online).await {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// False: the directory did not answer, and it is to be tried again.
    async fn try_reclaim(&self, online: &Arc<Online>) -> bool {
        let Online { user, device, .. } = &**online;
        let is_open = || self.sessions.get(user, device).is_some_and(|known| Arc::ptr_eq(&known, online));
        if !is_open() {
            return true;
        }
        let before = online.generation();
        match self.member.reclaim_session(user, device, online.entry(), before, is_open).await {
            // A displaced owner finds out when it claims again itself, or by its audit.
            Ok(Reclaimed::Kept { generation, displaced: _ }) => {
                online.claimed_under(generation);
                self.reclaimed.notify_waiters();
                self.metrics.session_reclaimed(true);
                // To others its user was dead for a while.
                self.owe_unless(generation == before, online);
                true
            }
            Ok(Reclaimed::Lost) => {
                self.metrics.session_reclaimed(false);
                self.displace(online).await;
                true
            }
            Err(error) => {
                log(online, &error);
                // Fenced: another new life is coming, and with it another round.
                self.member.check().is_err()
            }
        }
    }
}

fn log(online: &Online, error: &DirectoryError) {
    let error = error as &dyn std::error::Error;
    tracing::debug!(user = %online.user, error, "session not claimed again yet");
}
