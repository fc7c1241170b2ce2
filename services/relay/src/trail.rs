//! What this relay remembers of tracked messages (`kurir explain`, ADR 9). Messages without an id never come here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kurir_delivery::page;
use kurir_rpc::v1::{ExplainResponse, KeepRequest, LogEntry};
use kurir_socket::Ended;
use kurir_trail::{Asked, Event, Kept, Reason, Step, now_us};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{connection::Connection, relay::Relay};

/// How often what is old is forgotten where nothing new is noted.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// A manager that has not kept events by then is not waited for.
const ANSWER: Duration = Duration::from_secs(3);

/// How often it is looked whether a manager keeps trails: none was attached at the start.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Relay {
    /// What is known here of a message.
    pub(crate) async fn explain(&self, asked: Asked) -> ExplainResponse {
        let id = self.member.id().as_str();
        let events = self.trail.explain(asked, now_us()).await;
        ExplainResponse {
            events: events.into_iter().map(|event| Kept::encode(id, event)).collect(),
            off: !self.trail.is_on(),
            since_us: self.trail.since_us(),
            incomplete: false,
        }
    }

    /// A message that was refused on the spot.
    pub(crate) fn note_refused(&self, from: &Connection, id: &str, reason: Reason) {
        if let Some(event) = self.refusal(from, id, reason, now_us()) {
            self.trail.note(event);
        }
    }

    /// The event of a refusal. None: nothing is noted, or too many of this sender.
    pub(crate) fn refusal(&self, from: &Connection, id: &str, reason: Reason, at_us: i64) -> Option<Event> {
        if !self.trail.is_on() || !from.device().notes_refusal(at_us) {
            return None;
        }
        let event = Event::new(at_us, Step::Refused, from.device());
        Some(Event { reason, message_id: Some(id.into()), ..event })
    }

    /// The log that a device reads has grown to `seq`, and it goes on reading.
    pub(crate) fn note_heard(&self, connection: &Connection, seq: u64, reason: Reason) {
        if self.trail.is_on() {
            let event = Event::new(now_us(), Step::Heard, connection.device());
            self.trail.note(Event { reason, seq, ..event });
        }
    }

    /// A device's socket has taken everything up to `seq`.
    pub(crate) fn note_written(&self, connection: &Connection, seq: u64) {
        let Some(device) = connection.traced().filter(|device| device.writes(seq)) else { return };
        let at_us = connection.outbox.written_at().map_or_else(now_us, kurir_trail::micros);
        // That may have been the part of a page that fitted: the rest is written too, and was not there yet then.
        let at_us = at_us.max(device.shown_us());
        self.trail.note(Event { seq, ..Event::new(at_us, Step::Written, device) });
    }

    /// A device has acknowledged everything up to `seq`.
    pub(crate) fn note_acked(&self, connection: &Connection, seq: u64) {
        // Before the first page nothing is known of the log that this is a place in.
        let Some(device) = connection.traced().filter(|_| !connection.reading().is_plain()) else { return };
        if device.acknowledges(seq) {
            self.trail.note(Event { seq, ..Event::new(now_us(), Step::Acked, device) });
        }
    }

    /// A connection is over. What its socket has taken is noted by now.
    pub(crate) fn note_end(&self, connection: &Connection, at_us: i64, ended: &Ended) {
        let Some(device) = connection.traced().filter(|device| device.is_owed()) else { return };
        let reason = match ended {
            Ended::ByClient => Reason::ClosedByDevice,
            Ended::TooSlow => Reason::SlowConsumer,
            Ended::Failed(_) => Reason::ConnectionLost,
            Ended::Shutdown => Reason::RelayStops,
            Ended::ByServer | Ended::Deadline => Reason::ClosedByRelay,
        };
        self.trail.note(Event { reason, ..Event::new(at_us, Step::Lost, device) });
    }
}

/// What the trail is told of a page: with one lock, when it is out or has to wait for the socket.
pub(crate) struct PageNotes<'a> {
    relay: &'a Relay,
    connection: &'a Connection,
    manager: Arc<str>,
    /// Of the entry that is being written.
    step: Option<(Step, Reason)>,
    shown: bool,
    events: Vec<Event>,
}

impl<'a> PageNotes<'a> {
    /// Of a page that was read at `manager`.
    pub(crate) fn new(relay: &'a Relay, connection: &'a Connection, manager: Arc<str>) -> Self {
        Self { relay, connection, manager, step: None, shown: false, events: Vec::new() }
    }

    /// What becomes of an entry, if it finds its place.
    pub(crate) fn step(&mut self, entry: &LogEntry, step: &page::Step) {
        let own = entry.sent_by.as_deref() == Some(self.connection.resource.as_str());
        self.step = match step {
            page::Step::Skip(_) if own => Some((Step::Skipped, Reason::OwnMessage)),
            page::Step::Skip(_) => Some((Step::Skipped, Reason::CopyToOriginalClient)),
            page::Step::Acknowledge(_) | page::Step::Tell(_) => Some((Step::Confirmed, Reason::InTurn)),
            page::Step::Show(_) => Some((Step::Read, Reason::None)),
            page::Step::Ready { .. }
            | page::Step::Gap { .. }
            | page::Step::Acks(_)
            | page::Step::Done { .. } => None,
        };
    }

    /// The entry is in the outbox, or not to be shown.
    pub(crate) fn done(&mut self, entry: &LogEntry) {
        let Some((step, reason)) = self.step.take().filter(|_| self.relay.trail.is_on()) else { return };
        let (device, at_us) = (self.connection.device(), now_us());
        if step == Step::Read {
            device.shows(entry.seq, at_us);
            self.shown = true;
        }
        let (stanza_id, seq) = (Uuid::try_parse(&entry.stanza_id).ok(), entry.seq);
        let peer = (step != Step::Confirmed).then(|| Arc::clone(&self.manager));
        let event = Event::new(at_us, step, device);
        self.events.push(Event { reason, stanza_id, seq, peer, ..event });
    }

    /// So much of the page is in the outbox, and its connection's task is woken next. Also the rest of a page that found the
    /// connection closed half way.
    pub(crate) fn note(&mut self) {
        if self.shown {
            self.connection.outbox.note_when_written();
        }
        if !self.events.is_empty() {
            self.relay.trail.note_all(std::mem::take(&mut self.events));
        }
    }
}

/// Forgets what is old, for as long as it is polled.
pub(crate) async fn forget_old(relay: &Relay) {
    while relay.trail.is_on() {
        sleep(FORGET_EVERY).await;
        relay.trail.forget_old(now_us());
    }
}

/// Hands events on to a manager that keeps them, once there is one, for as long as it is polled.
pub(crate) async fn hand_on(relay: &Relay) {
    if !relay.trail.is_on() {
        return;
    }
    while !relay.trail_is_kept.load(Ordering::Relaxed) {
        sleep(LOOK_EVERY).await;
    }
    kurir_trail::keep(&relay.trail, |events| keep(relay, events)).await;
}

/// Has a manager keep events. False: none has.
async fn keep(relay: &Relay, events: Vec<Event>) -> bool {
    let id = relay.member.id().as_str();
    let events = events.into_iter().map(|event| Kept::encode(id, event)).collect();
    let request = KeepRequest { events };
    for mut manager in relay.managers.trails() {
        if let Ok(Ok(_)) = timeout(ANSWER, manager.keep(request.clone())).await {
            return true;
        }
    }
    tracing::debug!("trail not kept yet");
    false
}
