//! The accounts' logs, as relays use them: what many of them append at once is stored in one transaction, and every relay
//! is told which logs have grown.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kurir_protocol::{
    name::{Resource, UserKey},
    relay::displayed,
};
use kurir_trail::Trail;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    manager::now_ms,
    metrics::Metrics,
    relays::Relays,
    store::{
        Store, StoreError,
        log::{Appended, MOST_MESSAGES, NewMessage},
    },
    trail::{Announced, Committed},
};

/// Batches waiting for the transaction that is under way. Full: the relay is told at once, and keeps its messages.
const WAITING: usize = 64;

/// A batch that has waited so long belongs to a relay that has given up and gone to another manager.
const STALE: Duration = Duration::from_secs(2);

/// So far the clocks of two managers may be apart.
const CLOCKS_MS: i64 = 60_000;

/// A message as a relay sends it; its place and time come with the transaction.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) from: UserKey,
    pub(crate) device: Resource,
    pub(crate) id: String,
    pub(crate) to: UserKey,
    pub(crate) stanza: String,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) appended: Appended,
    pub(crate) stanza_id: Uuid,
}

/// Why nothing was stored, or perhaps nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Not stored.
    #[error("too many messages wait to be stored")]
    Busy,
    /// Perhaps stored.
    #[error("the messages were not stored, as far as is known")]
    Unknown,
}

type Answer = oneshot::Sender<Result<Vec<Outcome>, AppendError>>;

struct Batch {
    messages: Vec<Tracked>,
    came: tokio::time::Instant,
    answer: Answer,
}

/// Where batches are handed in. Clones hand in to the same [`Committer`].
#[derive(Debug, Clone)]
pub(crate) struct Log {
    batches: mpsc::Sender<Batch>,
}

/// The one task that appends.
pub(crate) struct Committer {
    store: Store,
    relays: Arc<Relays>,
    metrics: Metrics,
    trail: Arc<Trail>,
    batches: mpsc::Receiver<Batch>,
}

impl Log {
    pub(crate) fn new(
        store: Store,
        relays: Arc<Relays>,
        metrics: Metrics,
        trail: Arc<Trail>,
    ) -> (Log, Committer) {
        let (sender, batches) = mpsc::channel(WAITING);
        (Log { batches: sender }, Committer { store, relays, metrics, trail, batches })
    }

    /// Stores messages in this order, together with what others hand in meanwhile.
    pub(crate) async fn append(&self, messages: Vec<Tracked>) -> Result<Vec<Outcome>, AppendError> {
        let (answer, outcomes) = oneshot::channel();
        let batch = Batch { messages, came: tokio::time::Instant::now(), answer };
        self.batches.try_send(batch).map_err(|_| AppendError::Busy)?;
        outcomes.await.unwrap_or(Err(AppendError::Unknown))
    }
}

impl Committer {
    /// Appends for as long as it is polled.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.batches.recv().await {
            let mut batches = vec![first];
            let mut count = batches.iter().map(|batch| batch.messages.len()).sum::<usize>();
            while count < MOST_MESSAGES {
                let Ok(next) = self.batches.try_recv() else { break };
                count += next.messages.len();
                batches.push(next);
            }
            batches.retain(|batch| batch.came.elapsed() < STALE && !batch.answer.is_closed());
            self.commit(batches).await;
        }
    }

    async fn commit(&self, batches: Vec<Batch>) {
        let ts_ms = now_ms();
        let new = |message: Tracked| {
            let Tracked { from, device, id, to, stanza } = message;
            let displayed = displayed(&stanza).and_then(|id| read_by(&id, ts_ms));
            NewMessage { from, device, id, to, stanza_id: Uuid::now_v7(), ts_ms, stanza, displayed }
        };
        let mut messages = Vec::new();
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            answers.push((batch.messages.len(), batch.answer));
            messages.extend(batch.messages.into_iter().map(new));
        }
        if messages.is_empty() {
            return;
        }
        let began = Instant::now();
        let appended = self.store.append(&messages).await;
        let committed = Committed::now(began.elapsed());
        self.count(&appended);
        let Ok(appended) = appended else {
            for (_, answer) in answers {
                let _ = answer.send(Err(AppendError::Unknown));
            }
            return;
        };
        let grown = heads(&messages, &appended);
        let mut outcomes = appended.iter().copied().zip(&messages).map(|(appended, message)| {
            let stanza_id = match appended {
                Appended::Repeated { stanza_id, .. } => stanza_id,
                _ => message.stanza_id,
            };
            Outcome { appended, stanza_id }
        });
        for (count, answer) in answers {
            // A relay that has gone meanwhile sends them again.
            let _ = answer.send(Ok(outcomes.by_ref().take(count).collect()));
        }
        let at_us = kurir_trail::now_us();
        let announced = Announced { at_us, relays: self.relays.announce(grown) };
        // Made before: the trail is locked while it takes them.
        let events: Vec<_> = committed.events(&messages, &appended, announced).collect();
        self.trail.note_all(events);
    }

    fn count(&self, appended: &Result<Vec<Appended>, StoreError>) {
        match appended {
            Ok(appended) => appended.iter().for_each(|outcome| self.metrics.appended(outcome)),
            Err(error) => {
                self.metrics.append_failed();
                tracing::warn!(error = error as &dyn std::error::Error, "messages were not stored");
            }
        }
    }
}

/// The message that was read by then. None: it is no message's id, or one of the future, which no later one would pass.
fn read_by(stanza_id: &str, ts_ms: i64) -> Option<Uuid> {
    let id = Uuid::try_parse(stanza_id).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    let made_ms = seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000));
    (made_ms <= u64::try_from(ts_ms.saturating_add(CLOCKS_MS)).unwrap_or_default()).then_some(id)
}

/// Where the logs end now that have grown.
fn heads(messages: &[NewMessage], appended: &[Appended]) -> HashMap<UserKey, u64> {
    let mut heads = HashMap::new();
    for (message, appended) in messages.iter().zip(appended) {
        let Appended::Stored { sent, received } = *appended else { continue };
        heads.insert(message.from.clone(), sent);
        heads.insert(message.to.clone(), received);
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_of_before_can_have_been_read() {
        let id = Uuid::now_v7();
        let now_ms = now_ms();
        assert_eq!(read_by(&id.to_string(), now_ms), Some(id));
        assert_eq!(read_by(&id.to_string(), now_ms - 2 * CLOCKS_MS), None, "of the future");
        for none in [Uuid::max().to_string(), Uuid::new_v4().to_string(), String::new(), "0194".into()] {
            assert_eq!(read_by(&none, now_ms), None, "{none}");
        }
    }
}
