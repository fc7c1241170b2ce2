//! A device without `resume` goes from one connection to the next: what the older one was sent is not sent again.
//!
//! Its cursor is stored as the older connection ends. The relay of the newer one has it closed ([`Displaced`]), and before it
//! reads the log it waits for the word that the cursor is stored (`Parted`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_directory::Generation;
use kurir_rpc::v1::Displaced;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{link::Link, readers, relay::Relay};

/// A device waits no longer for its older connection: with a relay that is paused it may then get something again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Questions of other relays that wait. One more is dropped, and there the patience ends.
const QUESTIONS: usize = 1024;

/// What another relay asks: to be told when this connection is over.
pub(crate) type Question = (Arc<Link>, Displaced);

#[derive(Debug)]
pub(crate) struct Handovers {
    /// Connections at other relays that are waited for, by their relay's life and their number.
    awaited: Mutex<HashMap<(Generation, u64), oneshot::Sender<()>>>,
    /// Connections of this relay that are leaving the table, and whose cursors are not stored yet.
    leaving: Mutex<HashSet<u64>>,
    left: Notify,
    questions: mpsc::Sender<Question>,
}

impl Handovers {
    /// With what other relays will ask.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (awaited, leaving) = (Mutex::default(), Mutex::default());
        (Self { awaited, leaving, left: Notify::new(), questions }, asked)
    }

    /// Another relay wants to know when this connection, which it has displaced, is over.
    pub(crate) fn asked(&self, link: &Arc<Link>, displaced: Displaced) {
        let _ = self.questions.try_send((Arc::clone(link), displaced));
    }

    /// The answer of another relay's life.
    pub(crate) fn parted(&self, relay: Generation, connection: u64) {
        if let Some(awaited) = lock(&self.awaited).remove(&(relay, connection)) {
            // Whoever waited may have lost patience.
            let _ = awaited.send(());
        }
    }

    /// To be called before the other relay is asked.
    pub(crate) fn awaits(&self, relay: Generation, connection: u64) -> Awaited<'_> {
        let (tx, parted) = oneshot::channel();
        let key = (relay, connection);
        lock(&self.awaited).insert(key, tx);
        Awaited { handovers: self, key, parted }
    }

    /// A connection of this relay leaves the table; its cursor is stored when this is dropped.
    pub(crate) fn leaving(&self, connection: u64) -> Leaving<'_> {
        lock(&self.leaving).insert(connection);
        Leaving { handovers: self, connection }
    }

    /// Waits for the cursor of a connection of this relay that has left the table.
    pub(crate) async fn until_left(&self, connection: u64) {
        let left = async {
            loop {
                let left = self.left.notified();
                if !lock(&self.leaving).contains(&connection) {
                    return;
                }
                left.await;
            }
        };
        let _ = timeout(PATIENCE, left).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection at another relay that is waited for.
#[derive(Debug)]
pub(crate) struct Awaited<'a> {
    handovers: &'a Handovers,
    key: (Generation, u64),
    parted: oneshot::Receiver<()>,
}

impl Awaited<'_> {
    pub(crate) async fn parted(&mut self) {
        let _ = timeout(PATIENCE, &mut self.parted).await;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(&self.handovers.awaited).remove(&self.key);
    }
}

#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    handovers: &'a Handovers,
    connection: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        lock(&self.handovers.leaving).remove(&self.connection);
        self.handovers.left.notify_waiters();
    }
}

/// Tells other relays when the connections that they have displaced are over, for as long as it is polled.
pub(crate) async fn answer(relay: &Arc<Relay>, mut questions: mpsc::Receiver<Question>) {
    while let Some((link, displaced)) = questions.recv().await {
        let (asked, over) = (Arc::clone(relay), relay.over.clone());
        relay.tasks.spawn(async move {
            let parting = async {
                // In the table, or leaving it, or over.
                match asked.router.held(&displaced.user, displaced.connection) {
                    Some(here) => readers::store_last(&asked, &here).await,
                    None => asked.handovers.until_left(displaced.connection).await,
                }
                link.parted(displaced.connection);
            };
            let _ = over.run_until_cancelled(parting).await;
        });
    }
}
