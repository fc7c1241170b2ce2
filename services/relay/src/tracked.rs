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
use kurir_trail::{Event, Reason, Step};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use uuid::Uuid;

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
    /// When it came, in microseconds since the Unix epoch.
    accepted_us: i64,
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

    /// Puts a message on its way; what becomes of it the sender is told. An error: it is refused here and now.
    pub(crate) fn send(
        &self,
        from: &Arc<Connection>,
        id: &str,
        to: &UserKey,
        stanza: String,
    ) -> Result<(), Reason> {
        let Some(turn) = from.order().admit(id) else { return Err(Reason::OutOfTurn) };
        let accepted_us = kurir_trail::now_us();
        let bytes = stanza.len() + PENDING_BYTES;
        let mut queue = self.lock();
        if queue.bytes + bytes > self.limit_bytes {
            drop(queue);
            from.order().hold(turn, id);
            return Err(Reason::QueueFull);
        }
        queue.bytes += bytes;
        let message = TrackedMessage {
            from: from.user.to_string(),
            device: from.resource.to_string(),
            id: id.to_owned(),
            to: to.to_string(),
            stanza,
        };
        queue.waiting.push_back(Pending { from: Arc::clone(from), turn, accepted_us, message });
        drop(queue);
        self.ready.notify_one();
        Ok(())
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
        let (began, mut tries) = (Instant::now(), 0);
        let appended = append(relay, &mut manager, AppendRequest { messages }, &mut tries).await;
        let mut notes = Notes::new(relay, manager.as_ref(), tries, began.elapsed());
        notes.refused(&refused, Reason::OutOfTurn);
        if let Some(appended) = appended {
            for (pending, appended) in sent.iter().zip(&appended) {
                let settled = settle(relay, pending, appended);
                notes.settled(pending, appended, settled);
            }
        } else {
            relay.metrics.tracked(TrackedOutcome::Refused, sent.len() as u64);
            sent.iter().for_each(Pending::refuse);
            notes.refused(&sent, if tries == 0 { Reason::NoManager } else { Reason::NoAnswer });
        }
        notes.note();
        relay.tracked.done(&refused);
        relay.tracked.done(&sent);
    }
}

/// Has one of the managers store the batch, each tried once. None: nobody has, as far as is known.
async fn append(
    relay: &Relay,
    manager: &mut Option<Arc<str>>,
    request: AppendRequest,
    tries: &mut u32,
) -> Option<Vec<Appended>> {
    if request.messages.is_empty() {
        return Some(Vec::new());
    }
    for (id, mut client) in relay.managers.all(manager.as_deref()) {
        *tries += 1;
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

/// Tells the sender. False: its acknowledgement waits for its turn in the log.
fn settle(relay: &Arc<Relay>, pending: &Pending, appended: &Appended) -> bool {
    let mut settled = true;
    let TrackedMessage { id, .. } = &pending.message;
    let name = &pending.from.name;
    let outcome = match appended.outcome() {
        Outcome::Stored | Outcome::Repeated => {
            settled = acknowledged(relay, &pending.from, id, appended);
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
    settled
}

/// Tells the sender that its message is stored: a device that goes by places in its log, when it has what comes before.
/// False: not yet.
fn acknowledged(relay: &Arc<Relay>, from: &Arc<Connection>, id: &str, appended: &Appended) -> bool {
    let mut ack = Vec::new();
    let mut reading = from.reading();
    let seq = (!reading.is_plain()).then_some(appended.sent);
    acknowledge(&mut ack, id, &appended.stanza_id, seq);
    // With the lock held: nothing that is read later gets before it.
    if let Some(ack) = reading.stored(appended.sent, ack) {
        from.outbox.push_replies(&ack);
        from.outbox.wake();
        return true;
    }
    if reading.hear(appended.sent) {
        readers::begin(relay, from);
    }
    false
}

/// What the trail is told of a batch: with one lock, once its senders have their answers.
struct Notes<'a> {
    relay: &'a Relay,
    manager: Option<&'a Arc<str>>,
    tries: u32,
    took_us: u32,
    answered_us: i64,
    events: Vec<Event>,
}

impl<'a> Notes<'a> {
    fn new(relay: &'a Relay, manager: Option<&'a Arc<str>>, tries: u32, took: Duration) -> Self {
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        Self { relay, manager, tries, took_us, answered_us: kurir_trail::now_us(), events: Vec::new() }
    }

    fn refused(&mut self, refused: &[Pending], reason: Reason) {
        for pending in refused {
            self.refuse(pending, reason);
        }
    }

    fn refuse(&mut self, pending: &Pending, reason: Reason) {
        let id = &pending.message.id;
        if let Some(event) = self.relay.refusal(&pending.from, id, reason, self.answered_us) {
            let tries = if reason == Reason::OutOfTurn { 0 } else { self.tries };
            let waited = u32::try_from(self.answered_us - pending.accepted_us).unwrap_or_default();
            self.events.push(Event { count: tries, took_us: waited, ..event });
        }
    }

    /// `confirmed`: the sender has been told that it is stored.
    fn settled(&mut self, pending: &Pending, appended: &Appended, confirmed: bool) {
        let reason = match appended.outcome() {
            Outcome::Stored => Reason::None,
            Outcome::Repeated => Reason::Repeated,
            Outcome::Conflict => return self.refuse(pending, Reason::Conflict),
            Outcome::NoAccount => return self.refuse(pending, Reason::NoAccount),
            Outcome::Unspecified => return self.refuse(pending, Reason::NoAnswer),
        };
        if !self.relay.trail.is_on() {
            return;
        }
        let (stanza_id, seq) = (Uuid::try_parse(&appended.stanza_id).ok(), appended.sent);
        let event = |at_us, step| Event { stanza_id, ..Event::new(at_us, step, pending.from.device()) };
        let message_id = Some(pending.message.id.as_str().into());
        self.events.push(Event { message_id, ..event(pending.accepted_us, Step::Accepted) });
        let (peer, count, took_us) = (self.manager.cloned(), self.tries, self.took_us);
        let stored = event(self.answered_us, Step::Stored);
        self.events.push(Event { reason, seq, peer, count, took_us, ..stored });
        if confirmed {
            self.events.push(Event { seq, ..event(kurir_trail::now_us(), Step::Confirmed) });
        }
    }

    fn note(self) {
        if !self.events.is_empty() {
            self.relay.trail.note_all(self.events);
        }
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
