//! Tracked messages on their way into the log (PROTOCOL Part II, `id`): stored at a manager first, then acknowledged.
//!
//! All of this relay's go to one manager, in one order, a batch at a time; what has no answer goes to the next one as it
//! is, before anything later. So of each sender a prefix of what it sent is stored. Where no manager can store a batch
//! its messages are refused, and with them every later one of those senders, until the refused one comes again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_protocol::{
    name::UserKey,
    relay::{Refusal, acknowledge, not_delivered, refuse},
    write,
};
use kurir_rpc::v1::{AppendRequest, Appended, TrackedMessage, appended::Outcome};
use tokio::{sync::Notify, time::timeout};

use crate::{connection::Connection, metrics::TrackedOutcome, readers, relay::Relay};

/// A batch is closed at either: well below what one call may carry.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

/// Without an answer by then a batch may be stored or not, and goes to the next manager.
const ANSWER: Duration = Duration::from_secs(2);

/// What a message on its way costs besides its stanza.
const PENDING_BYTES: usize = 256;

/// The messages that wait, or are on their way.
#[derive(Debug)]
pub(crate) struct Tracked {
    limit_bytes: usize,
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    bytes: usize,
}

#[derive(Debug)]
struct Pending {
    from: Arc<Connection>,
    /// Which of the sender's turns it belongs to.
    turn: u32,
    message: TrackedMessage,
}

/// A sender's order: after a refusal nothing of it is stored before what was refused.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// What was sent in an earlier one is refused.
    turn: u32,
    /// The id that has to come next.
    refused: Option<Box<str>>,
}

impl Order {
    /// The turn that the message belongs to; none: another one has to come first.
    fn admit(&mut self, id: &str) -> Option<u32> {
        if self.refused.as_ref().is_some_and(|refused| **refused != *id) {
            return None;
        }
        self.refused = None;
        Some(self.turn)
    }

    /// A message of `turn` finds no place; unless one before it was refused meanwhile, it is the one to come again.
    fn hold(&mut self, turn: u32, id: &str) {
        if turn == self.turn && self.refused.is_none() {
            self.refused = Some(id.into());
        }
    }

    /// A message of `turn` was refused. The first of its turn is the one to come again.
    fn refuse(&mut self, turn: u32, id: &str) {
        if turn == self.turn {
            self.turn = self.turn.wrapping_add(1);
            self.refused = Some(id.into());
        }
    }
}

impl Tracked {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, queue: Mutex::default(), ready: Notify::new() }
    }

    /// Puts a message on its way; what becomes of it the sender is told. False: it is refused here and now.
    pub(crate) fn send(&self, from: &Arc<Connection>, id: &str, to: &UserKey, stanza: String) -> bool {
        let Some(turn) = from.order().admit(id) else { return false };
        let bytes = stanza.len() + PENDING_BYTES;
        let mut queue = self.lock();
        if queue.bytes + bytes > self.limit_bytes {
            drop(queue);
            from.order().hold(turn, id);
            return false;
        }
        queue.bytes += bytes;
        let message = TrackedMessage {
            from: from.user.to_string(),
            device: from.resource.to_string(),
            id: id.to_owned(),
            to: to.to_string(),
            stanza,
        };
        queue.waiting.push_back(Pending { from: Arc::clone(from), turn, message });
        drop(queue);
        self.ready.notify_one();
        true
    }

    /// Whether so much waits that senders should let it be stored first.
    pub(crate) fn is_heavy(&self) -> bool {
        self.lock().bytes > self.limit_bytes / 4
    }

    async fn batch(&self) -> Vec<Pending> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    fn take(&self) -> Vec<Pending> {
        let mut queue = self.lock();
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(pending) = queue.waiting.pop_front() else { break };
            bytes += pending.bytes();
            batch.push(pending);
        }
        batch
    }

    fn done(&self, batch: &[Pending]) {
        self.lock().bytes -= batch.iter().map(Pending::bytes).sum::<usize>();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        self.message.stanza.len() + PENDING_BYTES
    }

    fn is_refused(&self) -> bool {
        self.from.order().turn != self.turn
    }

    fn refuse(&self) {
        self.from.order().refuse(self.turn, &self.message.id);
        self.answer(|out| refuse(out, &self.from.name, &quoted(&self.message.id), Refusal::Wait));
    }

    fn answer(&self, packet: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        packet(&mut out);
        self.from.outbox.push_replies(&out);
        self.from.outbox.wake();
    }
}

/// Stores what comes for as long as it is polled.
pub(crate) async fn store(relay: &Arc<Relay>) {
    let mut manager: Option<Arc<str>> = None;
    loop {
        let batch = relay.tracked.batch().await;
        let (refused, sent): (Vec<_>, Vec<_>) = batch.into_iter().partition(Pending::is_refused);
        refused.iter().for_each(Pending::refuse);
        let messages = sent.iter().map(|pending| pending.message.clone()).collect();
        if let Some(appended) = append(relay, &mut manager, AppendRequest { messages }).await {
            for (pending, appended) in sent.iter().zip(&appended) {
                settle(relay, pending, appended);
            }
        } else {
            relay.metrics.tracked(TrackedOutcome::Refused, sent.len() as u64);
            sent.iter().for_each(Pending::refuse);
        }
        relay.tracked.done(&refused);
        relay.tracked.done(&sent);
    }
}

/// Has one of the managers store the batch, each tried once. None: nobody has, as far as is known.
async fn append(
    relay: &Relay,
    manager: &mut Option<Arc<str>>,
    request: AppendRequest,
) -> Option<Vec<Appended>> {
    if request.messages.is_empty() {
        return Some(Vec::new());
    }
    for (id, mut client) in relay.managers.all(manager.as_deref()) {
        match timeout(ANSWER, client.append(request.clone())).await {
            Ok(Ok(response)) => {
                *manager = Some(id);
                let appended = response.into_inner().appended;
                return (appended.len() == request.messages.len()).then_some(appended);
            }
            Ok(Err(status)) => {
                tracing::debug!(peer = &*id, error = kurir_rpc::chain(&status), "messages not stored");
            }
            Err(_) => tracing::debug!(peer = &*id, "no answer whether messages are stored"),
        }
    }
    None
}

fn settle(relay: &Arc<Relay>, pending: &Pending, appended: &Appended) {
    let TrackedMessage { id, .. } = &pending.message;
    let name = &pending.from.name;
    let outcome = match appended.outcome() {
        Outcome::Stored | Outcome::Repeated => {
            acknowledged(relay, &pending.from, id, appended);
            TrackedOutcome::Stored
        }
        Outcome::NoAccount => {
            pending.answer(|out| not_delivered(out, name, id));
            TrackedOutcome::NoAccount
        }
        Outcome::Conflict => {
            pending.answer(|out| refuse(out, name, &quoted(id), Refusal::Conflict));
            TrackedOutcome::Conflict
        }
        Outcome::Unspecified => {
            pending.refuse();
            TrackedOutcome::Refused
        }
    };
    relay.metrics.tracked(outcome, 1);
}

/// Tells the sender that its message is stored: a device that goes by places in its log, when it has what comes before.
fn acknowledged(relay: &Arc<Relay>, from: &Arc<Connection>, id: &str, appended: &Appended) {
    let mut ack = Vec::new();
    let mut reading = from.reading();
    let seq = (!reading.is_plain()).then_some(appended.sent);
    acknowledge(&mut ack, id, &appended.stanza_id, seq);
    // With the lock held: nothing that is read later gets before it.
    if let Some(ack) = reading.stored(appended.sent, ack) {
        from.outbox.push_replies(&ack);
        from.outbox.wake();
    } else if reading.hear(appended.sent) {
        readers::begin(relay, from);
    }
}

/// An id as JSON.
pub(crate) fn quoted(id: &str) -> String {
    let mut raw = Vec::new();
    write::string(&mut raw, id);
    String::from_utf8(raw).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_nothing_is_admitted_before_what_was_refused() {
        let mut order = Order::default();
        let turn = order.admit("1").unwrap();
        assert_eq!(order.admit("2"), Some(turn));
        order.refuse(turn, "1");
        // The rest of that turn is refused with it, and changes nothing.
        order.refuse(turn, "2");
        assert_eq!(order.admit("3"), None);
        assert_eq!(order.admit("2"), None);
        let again = order.admit("1").unwrap();
        assert_ne!(again, turn);
        assert_eq!(order.admit("2"), Some(again));
    }

    #[test]
    fn what_finds_no_place_does_not_go_before_what_was_refused_meanwhile() {
        let mut order = Order::default();
        let turn = order.admit("1").unwrap();
        assert_eq!(order.admit("5"), Some(turn));
        order.refuse(turn, "1");
        order.hold(turn, "5");
        assert_eq!(order.admit("5"), None);
        let again = order.admit("1").unwrap();
        order.hold(again, "6");
        assert_eq!(order.admit("7"), None);
        assert_eq!(order.admit("6"), Some(again));
    }
}
