//! What the manager's side tells the session.

use std::time::Duration;

use kurir_protocol::client::{FromServer, ToServer};
use tokio::time::Instant;

use super::{Over, RosterState, STILL_LOGGED_IN_RETRY, Session};
use crate::backoff::Backoff;
use crate::error::{Failure, Refusal};
use crate::event::{Ended, Entry, Event, Socket, name, named};
use crate::login::{Attempt, Attempted, Outcome, Verdict};
use crate::manager::{ManagerEvent, ManagerSide};
use crate::message::MessageId;
use crate::pending::{Answer, Ask, Request};
use crate::relay::Coming;
use crate::wire::Received;

/// The roster is asked for again after this, if the manager could not give it.
const ROSTER_RETRY: Duration = Duration::from_secs(1);

/// And the archive.
const LOOK_UP_RETRY: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn on_manager(&mut self, event: ManagerEvent) -> Result<(), Over> {
        match event {
            ManagerEvent::Value(received) => self.on_manager_value(received),
            ManagerEvent::Written => Ok(()),
            ManagerEvent::Due => {
                let attempt = Attempt {
                    trackers: self.options.trackers.clone(),
                    managers: std::mem::take(&mut self.managers),
                    avoid: self.avoid.clone(),
                    packet: self.account.packet(),
                    timing: self.options.timing.clone(),
                };
                self.manager = ManagerSide::Connecting(Box::pin(attempt.run()));
                Ok(())
            }
            ManagerEvent::Attempted(attempted) => self.on_attempted(*attempted),
            ManagerEvent::Lost { address, failure, lived } => {
                if self.leaving.is_some() {
                    return Err(Over(Ended::LoggedOut));
                }
                self.avoid = Some(address);
                self.account.lost(Instant::now());
                self.pending.lost();
                self.roster = RosterState::Asked;
                if self.relay.was_asked() {
                    self.relay.coming(Coming::Nothing);
                }
                self.manager_backoff.worked(lived);
                self.went_offline(Socket::Manager, failure);
                self.retry_manager();
                Ok(())
            }
        }
    }

    fn on_attempted(&mut self, attempted: Attempted) -> Result<(), Over> {
        self.managers = attempted.managers;
        for (socket, value) in attempted.values {
            self.show(socket, value);
        }
        let now = Instant::now();
        let failure = match attempted.outcome {
            Outcome::Unreachable(failure) => failure,
            Outcome::Unanswered { address, failure } => {
                self.avoid = Some(address);
                self.account.unanswered(now);
                failure
            }
            Outcome::Answered { wire, answer } => match self.account.answered(&answer, now) {
                Verdict::Online => {
                    self.manager = ManagerSide::Online(wire);
                    self.logged_in(answer);
                    return Ok(());
                }
                Verdict::Refused(refusal) => return Err(Over(Ended::Refused(refusal))),
                Verdict::Again(failure) => {
                    self.avoid = Some(wire.address().to_owned());
                    failure
                }
            },
        };
        tracing::debug!(error = %failure, "login failed; trying again");
        if matches!(failure, Failure::StillLoggedIn) {
            let delay = self.still_logged_in_backoff.next(rand::random());
            self.manager = ManagerSide::Waiting(now + delay);
        } else {
            self.retry_manager();
        }
        self.failed(failure);
        Ok(())
    }

    fn retry_manager(&mut self) {
        let delay = self.manager_backoff.next(rand::random());
        self.manager = ManagerSide::Waiting(Instant::now() + delay);
    }

    fn logged_in(&mut self, answer: FromServer) {
        let timing = &self.options.timing;
        self.still_logged_in_backoff =
            Backoff::new(timing.first_retry, timing.longest_retry.min(STILL_LOGGED_IN_RETRY));
        if let Some(wire) = self.manager.online() {
            wire.queue(&ToServer::InitialPresence);
        }
        self.ask_roster();
        self.look_up();
        if let FromServer::AccountCreated { relay, session } | FromServer::LoggedIn { relay, session } =
            answer
        {
            if let Some(session) = session {
                self.tracking.logged_in(session);
            }
            self.offered(relay);
        }
    }

    /// U6; answered after the initial presence has been handled.
    pub(super) fn ask_roster(&mut self) {
        self.roster = RosterState::Asked;
        self.pending.push(Request { ask: Ask::Roster, reply: None });
        self.write_requests();
    }

    pub(super) fn write_requests(&mut self) {
        if let Some(wire) = self.manager.online() {
            let mut lines = Vec::new();
            self.pending.write(&self.options.username, &mut lines);
            wire.queue_line(&lines);
        }
    }

    fn on_manager_value(&mut self, Received { value, packet }: Received) -> Result<(), Over> {
        self.show(Socket::Manager, value);
        let removed_itself = self.pending.removes(&packet, self.options.resource.as_deref());
        // One of the session's own questions answered: the roster of this login, or what the archive has.
        match self.pending.received(&packet) {
            Some((Ask::Sent(id), answer)) => self.found(id, answer),
            Some((_, Answer::Roster(items))) => {
                self.roster = RosterState::Here;
                self.outlet.put(Event::Roster(items));
            }
            Some(_) => self.roster = RosterState::Again(Instant::now() + ROSTER_RETRY),
            None => {}
        }
        if removed_itself {
            // As with a logout nothing is left to come back with; the manager closes.
            self.tracking.logs_out();
            return Err(Over(Ended::LoggedOut));
        }
        match packet {
            FromServer::Refused { code: 409, .. } => return Err(Over(Ended::Refused(Refusal::Displaced))),
            FromServer::Refused { code: 401, .. } => return Err(Over(Ended::Refused(Refusal::Removed))),
            FromServer::RelayLessConnection { relay } if self.relay.was_asked() => self.offered(relay),
            FromServer::Refused { code: 503, .. } if self.relay.was_asked() => self.retry_relay(),
            FromServer::Presence(presence) => self.outlet.put(Event::Presence(named(presence))),
            FromServer::Unavailable { from } => self.outlet.put(Event::Unavailable { from: name(&from) }),
            FromServer::Subscribed { item, .. } => self.outlet.put(Event::Subscribed(item)),
            FromServer::Unsubscribed { from } => self.outlet.put(Event::Unsubscribed { from: name(&from) }),
            _ => {}
        }
        Ok(())
    }

    /// The archive has said whether a message of long ago is stored.
    fn found(&mut self, id: MessageId, answer: Answer) {
        if self.looked_up.take_if(|asked| *asked == id).is_none() {
            return;
        }
        let in_this_log = |log: &str| self.tracking.log().is_none_or(|known| known == log);
        match answer {
            Answer::Refused { kind, .. } if kind == "wait" => {
                self.looked_up = Some(id);
                self.look_up_again = Some(Instant::now() + LOOK_UP_RETRY);
            }
            Answer::Archive(page) if !page.messages.is_empty() => {
                let entry = page.messages.into_iter().find_map(|archived| archived.message.entry);
                let stored = entry.filter(|_| self.tracking.settle(id));
                if let Some(Entry { seq, stanza_id, .. }) = stored {
                    self.outlet.put(Event::Stored { id, stanza_id, seq: Some(seq) });
                }
            }
            // Nothing was ever dropped: what is not there never was.
            Answer::Archive(page) if page.first.is_none() && in_this_log(&page.log) => {
                self.tracking.renew(id);
            }
            _ => {
                if let Some(waiting) = self.tracking.expire(id) {
                    self.outlet.put(Event::Expired(waiting));
                }
            }
        }
    }
}
