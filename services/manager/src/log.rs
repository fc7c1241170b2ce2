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
    time::{Instant, sleep_until},
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

/// A sender's own log is announced so much later than its receiver's. By then its relay has the answer, and has no need to
/// read what it has handed in itself; only the sender's other devices wait for it.
const OWN: Duration = Duration::from_millis(50);

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

/// Where logs end.
type Heads = HashMap<UserKey, u64>;

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
    own: Own,
}

/// Where the logs of those end who have sent, as far as that is still to be announced.
#[derive(Debug, Default)]
struct Own {
    heads: Heads,
    due: Option<Instant>,
}

impl Log {
    pub(crate) fn new(
        store: Store,
        relays: Arc<Relays>,
        metrics: Metrics,
        trail: Arc<Trail>,
    ) -> (Log, Committer) {
        let (sender, batches) = mpsc::channel(WAITING);
        (Log { batches: sender }, Committer { store, relays, metrics, trail, batches, own: Own::default() })
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
        loop {
            let first = tokio::select! {
                first = self.batches.recv() => first,
                () = self.own.due() => {
                    self.relays.announce(self.own.take());
                    continue;
                }
            };
            let Some(first) = first else { return };
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

    async fn commit(&mut self, batches: Vec<Batch>) {
        let ts_ms = now_ms();
        let new = |message: Tracked| {
            let Tracked { from, device, id, to, stanza } = message;
            let displayed = displayed(&stanza).and_then(|id| Uuid::try_parse(&id).ok());
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
        let (received, sent) = heads(&messages, &appended);
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
        let announced = Announced { at_us, relays: self.relays.announce(received) };
        self.own.add(sent, Instant::now());
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

impl Own {
    /// Resolves when it is time to announce.
    async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn add(&mut self, heads: Heads, now: Instant) {
        if !heads.is_empty() {
            self.heads.extend(heads);
            self.due.get_or_insert(now + OWN);
        }
    }

    fn take(&mut self) -> Heads {
        self.due = None;
        std::mem::take(&mut self.heads)
    }
}

/// Where the logs end now that have grown: of those who have received, and of those who have sent.
fn heads(messages: &[NewMessage], appended: &[Appended]) -> (Heads, Heads) {
    let (mut receivers, mut senders) = (HashMap::new(), HashMap::new());
    for (message, appended) in messages.iter().zip(appended) {
        let Appended::Stored { sent, received } = *appended else { continue };
        receivers.insert(message.to.clone(), received);
        if message.from != message.to {
            senders.insert(message.from.clone(), sent);
        }
    }
    (receivers, senders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> UserKey {
        UserKey::try_from(name.to_owned()).unwrap()
    }

    fn message(from: &str, to: &str) -> NewMessage {
        let device = Resource::try_from("phone".to_owned()).unwrap();
        let (from, to) = (key(from), key(to));
        let (id, stanza_id, stanza) = (String::new(), Uuid::nil(), String::new());
        NewMessage { from, device, id, to, stanza_id, ts_ms: 0, stanza, displayed: None }
    }

    fn stored(sent: u64, received: u64) -> Appended {
        Appended::Stored { sent, received }
    }

    fn told(heads: Heads) -> Vec<(String, u64)> {
        let mut told: Vec<_> = heads.into_iter().map(|(user, seq)| (user.to_string(), seq)).collect();
        told.sort();
        told
    }

    #[test]
    fn receivers_are_announced_apart_from_senders_and_only_what_was_stored() {
        let messages = [
            message("esa", "fajar"),
            message("esa", "fajar"),
            message("fajar", "fajar"),
            message("esa", "ani"),
        ];
        let appended = [stored(4, 7), stored(5, 8), stored(9, 9), Appended::Conflict];
        let (receivers, senders) = heads(&messages, &appended);
        assert_eq!(told(receivers), [("fajar".to_owned(), 9)]);
        assert_eq!(told(senders), [("esa".to_owned(), 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn senders_logs_are_announced_once_and_a_moment_after_the_first() {
        let mut own = Own::default();
        let began = Instant::now();
        own.add(Heads::new(), began);
        assert_eq!(own.due, None, "nothing has grown");
        own.add([(key("esa"), 4)].into(), began);
        own.add([(key("esa"), 5), (key("ani"), 2)].into(), began + OWN / 2);
        own.due().await;
        assert_eq!(began.elapsed(), OWN);
        assert_eq!(told(own.take()), [("ani".to_owned(), 2), ("esa".to_owned(), 5)]);
        assert_eq!((own.due, told(own.take())), (None, Vec::new()));
    }
}
