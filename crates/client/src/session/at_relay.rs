//! What the relay's side tells the session.

use std::time::Duration;

use kurir_delivery::inbox::Owed;
use kurir_protocol::client::{FromServer, Relay, ToServer};
use tokio::time::Instant;

use super::{LONGEST_MOVE, Over, Session};
use crate::error::{Failure, MessageRefusal};
use crate::event::{Event, Message, Socket, same_user};
use crate::leaving::Leaving;
use crate::message::{Marker, MessageId, Receipt};
use crate::relay::{Coming, Hello, Joined, RelayEvent};
use crate::wire::Received;

impl Session {
    /// The manager's answer to "which relay".
    pub(super) fn offered(&mut self, relay: Option<Relay>) {
        if let Some(relay) = relay {
            let hello = Hello { username: self.options.username.clone(), resume: self.tracking.resume() };
            self.relay.join(relay, self.login, hello, &self.options.timing);
        } else {
            self.failed(Failure::NoRelay);
            self.retry_relay(&Failure::NoRelay);
        }
    }

    /// What follows a relay that was lost or not reached: the manager is asked for another one, after a while.
    pub(super) fn retry_relay(&mut self, failure: &Failure) {
        // The login is over there, and names no relay any more.
        if failure.condition() == Some("not-authorized") && self.log_in_again(failure) {
            return;
        }
        let delay = self.relay_backoff.after(failure, rand::random());
        self.relay.coming(Coming::Waiting(Instant::now() + delay));
    }

    /// The relay will be gone soon: after this time the manager is asked for another one. The connection is used until that
    /// one has accepted ours.
    fn move_relay(&mut self, after: Duration) {
        let Some(wire) = self.relay.current() else { return };
        let lived = wire.since().elapsed();
        if self.leaving.is_some() {
            return;
        }
        self.relay_backoff.worked(lived);
        let delay = after.min(LONGEST_MOVE) + self.relay_backoff.next(rand::random());
        self.relay.move_at(Instant::now() + delay);
    }

    pub(super) fn on_relay(&mut self, event: RelayEvent) -> Result<(), Over> {
        match event {
            RelayEvent::Value(received) => self.on_relay_value(received),
            RelayEvent::Late(received) => self.on_late_value(received),
            RelayEvent::Written => self.relay.pump(),
            RelayEvent::Retired => {}
            RelayEvent::Due => {
                // Without a manager nothing is asked: the next login names a relay.
                if let Some(wire) = self.manager.online() {
                    wire.queue(&ToServer::GetRelay);
                    self.relay.coming(Coming::Asked(Instant::now() + self.options.timing.request));
                }
            }
            RelayEvent::Unanswered => self.retry_relay(&Failure::NoRelay),
            RelayEvent::Joined(Joined { login, outcome, early }) => match outcome {
                Ok(wire) => {
                    self.relay.replace(wire, login);
                    self.tracking.connected();
                    for received in early {
                        self.on_relay_value(received);
                    }
                }
                Err(failure) => {
                    self.not_joined(&failure);
                    for received in early {
                        self.on_late_value(received);
                    }
                }
            },
            RelayEvent::Lost { failure, lived, login } => {
                self.tracking.disconnected();
                if self.leaving.is_some() {
                    return self.leave();
                }
                if failure.condition() == Some("conflict") {
                    self.displaced(login)?;
                }
                self.relay_backoff.worked(lived);
                // A relay closes the connection that a newer login of ours replaces, before or after it answers the new
                // one: then nothing is lost.
                if !self.relay.is_joining() {
                    self.went_offline(Socket::Relay, failure.clone());
                    self.retry_relay(&failure);
                }
            }
        }
        Ok(())
    }

    fn not_joined(&mut self, failure: &Failure) {
        tracing::debug!(error = %failure, "relay refused or unreachable; asking for another");
        self.failed(failure.clone());
        // Lost while this one was coming, and not told yet.
        if self.announced && !self.relay.is_online() {
            self.went_offline(Socket::Relay, failure.clone());
        }
        self.retry_relay(failure);
    }

    /// From a connection that is not the one in use: what is in the log comes, or is answered, there.
    fn on_late_value(&mut self, Received { value, packet }: Received) {
        match packet {
            FromServer::Message(ref message) if message.entry.is_some() => self.show(Socket::Relay, value),
            FromServer::Stored { .. }
            | FromServer::NotStored { .. }
            | FromServer::Ready { .. }
            | FromServer::Gap { .. }
            | FromServer::Move { .. }
            | FromServer::NotDelivered { id: Some(_) } => self.show(Socket::Relay, value),
            packet => self.on_relay_value(Received { value, packet }),
        }
    }

    fn on_relay_value(&mut self, Received { value, packet }: Received) {
        let stanza = matches!(packet, FromServer::Message(_)).then(|| value.clone());
        self.show(Socket::Relay, value);
        match packet {
            FromServer::Message(message) => self.on_message(*message, stanza.unwrap_or_default()),
            FromServer::NotDelivered { id: None } => self.outlet.put(Event::MessageFailed),
            FromServer::NotDelivered { id: Some(id) } => self.refused(&id, MessageRefusal::NoSuchUser),
            FromServer::NotStored { id: Some(id), kind, condition } if kind != "wait" => {
                self.refused(&id, MessageRefusal::Refused { kind, condition });
            }
            FromServer::NotStored { id: Some(id), .. } => {
                if let Some(id) = MessageId::read(&id) {
                    self.tracking.wait(id);
                }
            }
            FromServer::Stored { id, stanza_id, seq } => self.stored(&id, stanza_id, seq),
            FromServer::Ready { seq, log, reset, .. } => self.ready(seq, log, reset),
            FromServer::Gap { after, first } => self.gap(after, first),
            FromServer::Move { after_ms } => self.move_relay(Duration::from_millis(after_ms)),
            FromServer::Pong { id: Some(id) } if id == Leaving::PING_ID => {
                if let Some(leaving) = &mut self.leaving {
                    leaving.answered();
                }
            }
            _ => {}
        }
    }

    fn ready(&mut self, seq: u64, log: String, reset: bool) {
        let Some(inbox) = self.tracking.inbox() else { return };
        inbox.ready(seq, log, reset);
        let up_to_date = inbox.becomes_up_to_date();
        let place = self.tracking.place();
        if reset {
            self.outlet.put(Event::Reset);
        } else if let Some(wire) = self.relay.current().filter(|_| place > 0) {
            wire.queue(&ToServer::Ack { seq: place });
        }
        if up_to_date {
            self.outlet.put(Event::UpToDate);
        }
    }

    /// A device that has had nothing yet misses nothing of what was before it.
    fn gap(&mut self, after: u64, first: u64) {
        if self.tracking.inbox().is_none_or(|inbox| !inbox.is_new(first.saturating_sub(1))) {
            return;
        }
        if self.tracking.inbox().is_some_and(|inbox| inbox.is_known()) {
            self.outlet.put(Event::Gap { after, first });
        }
        self.came(first.saturating_sub(1));
    }

    fn stored(&mut self, id: &str, stanza_id: String, seq: Option<u64>) {
        if let Some(id) = MessageId::read(id).filter(|id| self.tracking.settle(*id)) {
            self.outlet.put(Event::Stored { id, stanza_id, seq });
        }
        if let Some(seq) = seq {
            self.came(seq);
        }
    }

    fn refused(&mut self, id: &str, refusal: MessageRefusal) {
        if let Some(id) = MessageId::read(id).filter(|id| self.tracking.settle(*id)) {
            self.outlet.put(Event::Refused { id, refusal });
        }
    }

    fn on_message(&mut self, message: kurir_protocol::client::Message, stanza: String) {
        let own = same_user(&message.from, &self.options.username);
        let seq = message.entry.as_ref().map(|entry| entry.seq);
        let (mut past, mut expects_receipt) = (false, false);
        if let (Some(seq), Some(inbox)) = (seq, self.tracking.inbox()) {
            if !inbox.is_new(seq) {
                return;
            }
            past = inbox.is_past(seq);
            expects_receipt = !own && message.receipt == Some(Receipt::Request);
        }
        if let (true, Some(id), Some(entry)) = (own, &message.id, &message.entry)
            && MessageId::read(id).is_some_and(|id| self.tracking.is_queued(id))
        {
            // Its acknowledgement was lost with an earlier connection.
            return self.stored(id, entry.stanza_id.clone(), seq);
        }
        if let (true, Some(entry), Some(inbox)) = (expects_receipt, &message.entry, self.tracking.inbox())
            && self.options.receipts
        {
            inbox.owe(entry.seq, Owed { to: message.from.clone(), stanza_id: entry.stanza_id.clone() });
        }
        self.tell(message, own, past, stanza);
        if let Some(seq) = seq {
            self.came(seq);
        }
    }

    /// The event that a message is.
    fn tell(&mut self, message: kurir_protocol::client::Message, own: bool, waited: bool, stanza: String) {
        let message = Message::new(message, &self.options.username, waited, stanza);
        let Message { from, body, receipt, marker, state, entry, .. } = &message;
        let (from, entry) = (from.clone(), entry.clone());
        let event = match (body, receipt, marker, state) {
            (None, Some(Receipt::Received(stanza_id)), ..) if own => {
                if let Some(inbox) = self.tracking.inbox() {
                    inbox.is_answered(stanza_id);
                }
                return;
            }
            (None, Some(Receipt::Received(stanza_id)), ..) => {
                Event::Delivered { by: from, stanza_id: stanza_id.clone(), entry }
            }
            (None, _, Some(Marker::Displayed(stanza_id)), _) => {
                Event::Read { by: from, stanza_id: stanza_id.clone(), entry }
            }
            (None, None, None, Some(state)) => Event::ChatState { from, state: *state },
            _ => Event::Message(message),
        };
        self.outlet.put(event);
    }

    /// The entry at this place is with the application, once it has taken what was put for it.
    fn came(&mut self, seq: u64) {
        let events = self.outlet.count();
        if let Some(inbox) = self.tracking.inbox()
            && inbox.is_new(seq)
        {
            inbox.came(seq, events);
            if inbox.becomes_up_to_date() {
                self.outlet.put(Event::UpToDate);
            }
        }
    }
}
