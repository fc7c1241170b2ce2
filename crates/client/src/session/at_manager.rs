//! What the manager's side tells the session.

use std::time::Duration;

use kurir_protocol::client::{FromServer, ToServer};
use tokio::time::Instant;

use super::{Over, RosterState, STILL_LOGGED_IN_RETRY, Session};
use crate::backoff::Backoff;
use crate::error::Failure;
use crate::event::{Ended, Event, Socket};
use crate::login::{Attempt, Attempted, Outcome, Verdict};
use crate::manager::{ManagerEvent, ManagerSide};
use crate::pending::{Answer, Ask, Request};
use crate::relay::Coming;
use crate::wire::Received;

/// The roster is asked for again after this, if the manager could not give it.
const ROSTER_RETRY: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn on_manager(&mut self, event: ManagerEvent) -> Result<(), Over> {
        match event {
            ManagerEvent::Value(received) => {
                self.on_manager_value(received);
                Ok(())
            }
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
        if let FromServer::AccountCreated { relay } | FromServer::LoggedIn { relay } = answer {
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

    fn on_manager_value(&mut self, Received { value, packet }: Received) {
        self.show(Socket::Manager, value);
        // The session's own question answered: the roster of this login.
        match self.pending.received(&packet) {
            Some(Answer::Roster(items)) => {
                self.roster = RosterState::Here;
                self.outlet.put(Event::Roster(items));
            }
            Some(_) => self.roster = RosterState::Again(Instant::now() + ROSTER_RETRY),
            None => {}
        }
        match packet {
            FromServer::RelayLessConnection { relay } if self.relay.was_asked() => self.offered(relay),
            FromServer::Refused { code: 503, .. } if self.relay.was_asked() => self.retry_relay(),
            FromServer::Presence(presence) => self.outlet.put(Event::Presence(presence)),
            FromServer::Unavailable { from } => self.outlet.put(Event::Unavailable { from }),
            FromServer::Subscribed { item, .. } => self.outlet.put(Event::Subscribed(item)),
            FromServer::Unsubscribed { from } => self.outlet.put(Event::Unsubscribed { from }),
            _ => {}
        }
    }
}
