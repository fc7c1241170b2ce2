//! Tracked messages on their way into the log (PROTOCOL Part II, `id`): stored at a manager first, then acknowledged.
//!
//! All of this relay's go to one manager, in one order, a batch at a time; what has no answer goes to the next one as it
//! is, before anything later. So of each sender a prefix of what it sent is stored. Where no manager can store a batch
//! its messages are refused, and with them every later one of those senders, until the refused one comes again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_delivery::storing::{ANSWER, Batch, Held, Message, Outcome, Pending, Waiting};
use kurir_protocol::{
    name::UserKey,
    relay::{Refusal, acknowledge, not_delivered, refuse},
    write,
};
use kurir_rpc::v1::{AppendRequest, Appended, TrackedMessage, appended};
use kurir_trail::{Event, Reason, Step};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::Instrument;
use uuid::Uuid;

use crate::{connection::Connection, metrics::TrackedOutcome, readers, relay::Relay};

/// The messages that wait, or are on their way.
#[derive(Debug)]
pub(crate) struct Tracked {
    waiting: Mutex<Waiting<Connection>>,
    ready: Notify,
}

impl Tracked {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { waiting: Mutex::new(Waiting::new(limit_bytes)), ready: Notify::new() }
    }

    /// Puts a message on its way; what becomes of it the sender is told. An error: it is refused here and now.
    pub(crate) fn send(
        &self,
        from: &Arc<Connection>,
        id: &str,
        to: &UserKey,
        stanza: String,
    ) -> Result<(), Reason> {
        let message = Message {
            from: from.user.to_string(),
            device: from.resource.to_string(),
            id: id.to_owned(),
            to: to.to_string(),
            stanza,
            accepted_us: kurir_trail::now_us(),
        };
        let sent = self.lock().send(from, message);
        sent.map_err(|held| match held {
            Held::OutOfTurn => Reason::OutOfTurn,
            Held::Full => Reason::QueueFull,
        })?;
        self.ready.notify_one();
        Ok(())
    }

    /// Whether so much waits that senders should let it be stored first.
    pub(crate) fn is_heavy(&self) -> bool {
        self.lock().is_heavy()
    }

    async fn batch(&self) -> Batch<Connection> {
        loop {
            let batch = self.lock().take();
            if let Some(batch) = batch {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Connection>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores what comes for as long as it is polled.
pub(crate) async fn store(relay: &Arc<Relay>) {
    let mut manager: Option<Arc<str>> = None;
    loop {
        let mut batch = relay.tracked.batch().await;
        let bytes = batch.bytes();
        let refused = batch.take_refused();
        refused.iter().for_each(wait);
        let messages = batch.messages().map(tracked_message).collect();
        let (began, mut tries) = (Instant::now(), 0);
        let request = AppendRequest { messages };
        let span = kurir_trace::span!("store", messages = request.messages.len());
        let appended = append(relay, &mut manager, request, &mut tries).instrument(span).await;
        let mut notes = Notes::new(relay, manager.as_ref(), tries, began.elapsed());
        for pending in &refused {
            notes.refuse(pending, Reason::OutOfTurn);
        }
        let outcomes = appended.map(|appended| appended.into_iter().map(outcome).collect());
        for (pending, outcome) in batch.settle(outcomes) {
            let confirmed = settle(relay, &pending, &outcome);
            notes.settled(&pending, &outcome, confirmed);
        }
        notes.note();
        relay.tracked.lock().done(bytes);
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
                return Some(response.into_inner().appended);
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
fn settle(relay: &Arc<Relay>, pending: &Pending<Connection>, outcome: &Outcome<Appended>) -> bool {
    let (id, name) = (&pending.message.id, &pending.from.name);
    let mut settled = true;
    let counted = match outcome {
        Outcome::Stored(appended) => {
            settled = acknowledged(relay, &pending.from, id, appended);
            TrackedOutcome::Stored
        }
        Outcome::NoAccount => {
            answer(&pending.from, |out| not_delivered(out, name, id));
            TrackedOutcome::NoAccount
        }
        Outcome::Conflict => {
            answer(&pending.from, |out| refuse(out, name, &quoted(id), Refusal::Conflict));
            TrackedOutcome::Conflict
        }
        Outcome::Unknown => {
            wait(pending);
            TrackedOutcome::Refused
        }
    };
    relay.metrics.tracked(counted, 1);
    settled
}

/// Tells the sender to send it again.
fn wait(pending: &Pending<Connection>) {
    let (id, name) = (&pending.message.id, &pending.from.name);
    answer(&pending.from, |out| refuse(out, name, &quoted(id), Refusal::Wait));
}

fn answer(to: &Connection, packet: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    packet(&mut out);
    to.outbox.push_replies(&out);
    to.outbox.wake();
}

fn tracked_message(message: &Message) -> TrackedMessage {
    let Message { from, device, id, to, stanza, .. } = message.clone();
    TrackedMessage { from, device, id, to, stanza }
}

fn outcome(appended: Appended) -> Outcome<Appended> {
    use appended::Outcome as Said;
    match appended.outcome() {
        Said::Stored | Said::Repeated => Outcome::Stored(appended),
        Said::NoAccount => Outcome::NoAccount,
        Said::Conflict => Outcome::Conflict,
        Said::Unspecified => Outcome::Unknown,
    }
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

    fn refuse(&mut self, pending: &Pending<Connection>, reason: Reason) {
        let id = &pending.message.id;
        if let Some(event) = self.relay.refusal(&pending.from, id, reason, self.answered_us) {
            let tries = if reason == Reason::OutOfTurn { 0 } else { self.tries };
            let waited = u32::try_from(self.answered_us - pending.message.accepted_us).unwrap_or_default();
            self.events.push(Event { count: tries, took_us: waited, ..event });
        }
    }

    /// `confirmed`: the sender has been told that it is stored.
    fn settled(&mut self, pending: &Pending<Connection>, outcome: &Outcome<Appended>, confirmed: bool) {
        let appended = match outcome {
            Outcome::Stored(appended) => appended,
            Outcome::Conflict => return self.refuse(pending, Reason::Conflict),
            Outcome::NoAccount => return self.refuse(pending, Reason::NoAccount),
            Outcome::Unknown if self.tries == 0 => return self.refuse(pending, Reason::NoManager),
            Outcome::Unknown => return self.refuse(pending, Reason::NoAnswer),
        };
        if !self.relay.trail.is_on() {
            return;
        }
        let repeated = appended.outcome() == appended::Outcome::Repeated;
        let reason = if repeated { Reason::Repeated } else { Reason::None };
        let (stanza_id, seq) = (Uuid::try_parse(&appended.stanza_id).ok(), appended.sent);
        let event = |at_us, step| Event { stanza_id, ..Event::new(at_us, step, pending.from.device()) };
        let message_id = Some(pending.message.id.as_str().into());
        self.events.push(Event { message_id, ..event(pending.message.accepted_us, Step::Accepted) });
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
