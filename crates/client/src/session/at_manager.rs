//! What the manager's side tells the session.

use std::time::Duration;

use kurir_protocol::client::{FromServer, ToServer};
use tokio::time::Instant;

use super::{LONGEST_MOVE, Over, RosterState, STILL_LOGGED_IN_RETRY, Session};
use crate::backoff::Backoff;
use crate::error::{Failure, Refusal};
use crate::event::{Ended, Entry, Event, Socket, name, named};
use crate::login::{Attempt, Attempted, Outcome, Verdict};
use crate::manager::ManagerEvent;
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
                self.log_in();
                Ok(())
            }
            ManagerEvent::Attempted(attempted) => self.on_attempted(*attempted),
            ManagerEvent::Lost { address, failure, lived, login } => {
                if self.leaving.is_some() {
                    return Err(Over(Ended::LoggedOut));
                }
                if failure.condition() == Some("conflict") {
                    self.displaced(login)?;
                }
                self.manager_backoff.worked(lived);
                self.left_manager(address);
                // With a successor under way, which closes it, this is told once that one has failed.
                if !self.manager.is_connecting() {
                    self.retry_manager(&failure);
                    self.went_offline(Socket::Manager, failure);
                }
                Ok(())
            }
        }
    }

    fn log_in(&mut self) {
        // Whoever cannot take the place of the older connection gives that up first.
        if !self.account.displaces()
            && let Some(address) = self.manager.leave()
        {
            self.left_manager(address.clone());
            self.went_offline(Socket::Manager, Failure::Moving { address });
        }
        let mut timing = self.options.timing.clone();
        if self.starting.is_some() {
            // What accepts and says nothing, as a proxy with nobody behind it, leaves time for another attempt.
            timing.login = timing.login.min(timing.connect / 2);
        }
        let attempt = Attempt {
            trackers: self.options.trackers.clone(),
            managers: std::mem::take(&mut self.managers),
            avoid: self.avoid.clone(),
            leave: self.moving_from.clone(),
            packet: self.account.packet(),
            timing,
        };
        self.manager.connect(attempt.run());
    }

    /// There is no connection to this manager any more.
    fn left_manager(&mut self, address: String) {
        self.avoid = Some(address);
        self.moving_from = None;
        self.account.lost(Instant::now());
        self.ask_again();
    }

    /// What the connection before has not answered is for the next one.
    fn ask_again(&mut self) {
        self.pending.lost();
        self.roster = RosterState::Asked;
        if self.relay.was_asked() {
            self.relay.coming(Coming::Nothing);
        }
    }

    /// The manager will be gone soon: after this time another one is logged in at. The connection is used until that has
    /// worked; its address is the last that is tried.
    fn move_manager(&mut self, after: Duration) {
        if self.leaving.is_some() || !self.manager.is_settled() {
            return;
        }
        let Some(wire) = self.manager.online() else { return };
        let (address, lived) = (wire.address().to_owned(), wire.since().elapsed());
        self.moving_from = Some(address);
        self.manager_backoff.worked(lived);
        let delay = after.min(LONGEST_MOVE) + self.manager_backoff.next(rand::random());
        self.manager.wait_until(Instant::now() + delay);
    }

    /// A new login, for a new ticket; the connection is used until that has worked. False: there is nothing that it could
    /// be done with.
    pub(super) fn log_in_again(&mut self, failure: &Failure) -> bool {
        if !self.account.displaces() {
            return false;
        }
        // No message goes out until there is one: a manager that will be gone soon is better than none.
        if let Some(address) = self.moving_from.take() {
            self.avoid = Some(address);
        }
        if self.manager.is_online() {
            let delay = self.manager_backoff.after(failure, rand::random());
            self.manager.wait_at_most_until(Instant::now() + delay);
        }
        true
    }

    /// Another connection has the device that one of this login had. An error: it is somebody else's.
    pub(super) fn displaced(&mut self, login: u64) -> Result<(), Over> {
        if login < self.login {
            return Ok(());
        }
        if self.manager.is_connecting() {
            // That one says how it goes on.
            self.conflict = true;
            return Ok(());
        }
        if self.is_in_doubt() { Ok(()) } else { Err(Over(Ended::Refused(Refusal::Displaced))) }
    }

    fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some_and(|until| Instant::now() < until)
    }

    fn on_attempted(&mut self, attempted: Attempted) -> Result<(), Over> {
        self.managers = attempted.managers;
        for (socket, value) in attempted.values {
            self.show(socket, value);
        }
        let now = Instant::now();
        let conflict = std::mem::take(&mut self.conflict);
        let failure = match attempted.outcome {
            Outcome::Unreachable(failure) => failure,
            Outcome::Unanswered { address, failure } => {
                self.avoid = Some(address);
                self.account.unanswered(now);
                self.in_doubt = Some(now + self.options.timing.already_logged_in);
                failure
            }
            Outcome::Answered { wire, answer } => match self.account.answered(&answer, now) {
                Verdict::Online => {
                    if self.manager.is_online() {
                        self.ask_again();
                    }
                    (self.moving_from, self.in_doubt) = (None, None);
                    self.login += 1;
                    self.manager.replace(wire, self.login);
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
        // A login that takes its device from older ones is only refused for a newer one.
        let newer = matches!(failure, Failure::StillLoggedIn) && self.account.displaces();
        // Or this login has displaced nobody.
        let conflict = conflict || newer;
        if conflict && !self.is_in_doubt() {
            return Err(Over(Ended::Refused(Refusal::Displaced)));
        }
        tracing::debug!(error = %failure, "login failed; trying again");
        if matches!(failure, Failure::StillLoggedIn) {
            let delay = self.still_logged_in_backoff.next(rand::random());
            self.manager.wait_until(now + delay);
        } else {
            self.retry_manager(&failure);
        }
        self.failed(failure.clone());
        // Lost while this one was coming, and not told yet.
        if self.announced && !self.manager.is_online() {
            self.went_offline(Socket::Manager, failure);
        }
        Ok(())
    }

    fn retry_manager(&mut self, failure: &Failure) {
        let delay = self.manager_backoff.after(failure, rand::random());
        self.manager.wait_until(Instant::now() + delay);
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
            FromServer::Refused { code: 409, .. } => self.displaced(self.login)?,
            FromServer::Refused { code: 401, .. } => return Err(Over(Ended::Refused(Refusal::Removed))),
            FromServer::RelayLessConnection { relay } if self.relay.was_asked() => {
                // The same relay again would not help.
                self.offered(relay.filter(|relay| !self.relay.moves_from(relay)));
            }
            FromServer::Refused { code: 503, .. } if self.relay.was_asked() => {
                self.retry_relay(&Failure::Temporary);
            }
            FromServer::Move { after_ms } => self.move_manager(Duration::from_millis(after_ms)),
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
