//! The task that owns both sockets and makes one thing of them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kurir_protocol::client::{FromServer, Relay, ToServer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::error::{ConnectError, Failure};
use crate::event::{Ended, Event, Message, Outlet, Socket};
use crate::leaving::Leaving;
use crate::login::{Account, Attempt, Attempted, Outcome, Verdict};
use crate::manager::{ManagerEvent, ManagerSide};
use crate::options::Options;
use crate::pending::{Answer, Ask, Pending, Request};
use crate::relay::{Coming, Joined, Outgoing, RelayEvent, RelaySide};
use crate::wire::Received;

/// A lost session that is still counted as online is asked for again after this at most: a manager that was killed is
/// found dead within seconds.
const STILL_LOGGED_IN_RETRY: Duration = Duration::from_secs(3);

/// The roster is asked for again after this, if the manager could not give it.
const ROSTER_RETRY: Duration = Duration::from_secs(1);

/// What a [`Client`](crate::Client) says to the session's task.
#[derive(Debug)]
pub(crate) enum Command {
    Message(Outgoing),
    Request(Request),
    Logout(oneshot::Sender<()>),
}

/// One user's session, over every reconnection.
pub(crate) struct Session {
    options: Options,
    commands: mpsc::Receiver<Command>,
    outlet: Outlet,
    ended: Arc<OnceLock<Ended>>,
    /// Until the first time online.
    starting: Option<Starting>,
    account: Account,
    managers: Vec<String>,
    avoid: Option<String>,
    manager: ManagerSide,
    manager_backoff: Backoff,
    still_logged_in_backoff: Backoff,
    relay: RelaySide,
    relay_backoff: Backoff,
    pending: Pending,
    roster: RosterState,
    announced: bool,
    leaving: Option<Leaving>,
}

/// Whether the roster of this login has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RosterState {
    Asked,
    Here,
    Again(Instant),
}

struct Starting {
    done: oneshot::Sender<Result<(), ConnectError>>,
    deadline: Instant,
    failure: Failure,
}

enum Happened {
    Command(Option<Command>),
    Manager(ManagerEvent),
    Relay(RelayEvent),
    Room,
    Timer,
}

/// The session is over.
struct Over(Ended);

impl Session {
    pub(crate) fn new(
        options: Options,
        commands: mpsc::Receiver<Command>,
        outlet: Outlet,
        ended: Arc<OnceLock<Ended>>,
        done: oneshot::Sender<Result<(), ConnectError>>,
    ) -> Self {
        let timing = &options.timing;
        let backoff = |longest| Backoff::new(timing.first_retry, longest);
        Self {
            commands,
            outlet,
            ended,
            starting: Some(Starting {
                done,
                deadline: Instant::now() + timing.connect,
                failure: Failure::NoManager,
            }),
            account: Account::new(&options),
            managers: Vec::new(),
            avoid: None,
            manager: ManagerSide::Waiting(Instant::now()),
            manager_backoff: backoff(timing.longest_retry),
            still_logged_in_backoff: backoff(timing.longest_retry.min(STILL_LOGGED_IN_RETRY)),
            relay: RelaySide::new(),
            relay_backoff: backoff(timing.longest_retry),
            pending: Pending::default(),
            roster: RosterState::Asked,
            announced: false,
            leaving: None,
            options,
        }
    }

    pub(crate) async fn run(mut self) {
        let Over(ended) = loop {
            let happened = self.next().await;
            let over = match happened {
                Happened::Command(Some(command)) => self.command(command),
                // Every handle is gone.
                Happened::Command(None) => Err(Over(Ended::LoggedOut)),
                Happened::Manager(event) => self.on_manager(event),
                Happened::Relay(event) => self.on_relay(event),
                Happened::Room => Ok(()),
                Happened::Timer => self.on_timer(),
            };
            if let Err(over) = over {
                break over;
            }
            self.announce();
        };
        // Set before anybody is told, so that whoever is told can read it.
        let _ = self.ended.set(ended.clone());
        self.manager = ManagerSide::Waiting(Instant::now());
        self.relay.end(&ended);
        self.pending.end(&ended);
        if let Some(starting) = self.starting.take() {
            let error = match &ended {
                Ended::Refused(refusal) => ConnectError::Refused(refusal.clone()),
                Ended::LoggedOut => ConnectError::TimedOut(starting.failure),
            };
            let _ = starting.done.send(Err(error));
        }
        if let Some(leaving) = self.leaving.take() {
            leaving.finish();
        }
        self.commands.close();
        self.outlet.put(Event::Ended(ended));
        // With the sockets closed only the application's reading is left to wait for; dropping `Events` ends it too.
        self.outlet.drained().await;
    }

    async fn next(&mut self) -> Happened {
        let due = self.due();
        let read = self.outlet.has_room();
        let take = !self.pending.is_full() && !self.relay.is_full();
        tokio::select! {
            command = self.commands.recv(), if take => Happened::Command(command),
            event = self.manager.next(read) => Happened::Manager(event),
            event = self.relay.next(read) => Happened::Relay(event),
            () = self.outlet.drained(), if !read => Happened::Room,
            () = sleep_until(due) => Happened::Timer,
        }
    }

    /// When the next of the session's own deadlines passes.
    fn due(&self) -> Instant {
        let starting = self.starting.as_ref().map(|starting| starting.deadline);
        let leaving = self.leaving.as_ref().map(Leaving::due);
        let roster = match self.roster {
            RosterState::Again(at) => Some(at),
            RosterState::Asked | RosterState::Here => None,
        };
        let far = Instant::now() + Duration::from_hours(1);
        [starting, leaving, roster].into_iter().flatten().min().unwrap_or(far)
    }

    fn on_timer(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if self.starting.as_ref().is_some_and(|starting| starting.deadline <= now) {
            return Err(Over(Ended::LoggedOut));
        }
        if matches!(self.roster, RosterState::Again(at) if at <= now) {
            self.ask_roster();
        }
        if self.leaving.as_ref().is_some_and(|leaving| leaving.due() <= now) {
            self.leave()?;
            // Told, and not closed in time.
            if self.leaving.as_ref().is_some_and(|leaving| leaving.due() <= now) {
                return Err(Over(Ended::LoggedOut));
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<(), Over> {
        match command {
            Command::Message(message) => self.relay.send(message),
            Command::Request(request) => {
                self.pending.push(request);
                self.write_requests();
            }
            Command::Logout(done) => {
                let flushing = Leaving::start(&mut self.leaving, done, &self.options.timing);
                match self.relay.current() {
                    Some(wire) if flushing => wire.queue(&ToServer::Ping { id: Leaving::PING_ID }),
                    Some(_) => {}
                    None => return self.leave(),
                }
            }
        }
        Ok(())
    }

    /// The next step of a logout: what was sent is with the relay, or had its time.
    fn leave(&mut self) -> Result<(), Over> {
        if !self.leaving.as_mut().is_some_and(Leaving::flushed) {
            return Ok(());
        }
        let Some(wire) = self.manager.online() else { return Err(Over(Ended::LoggedOut)) };
        wire.queue(&ToServer::Logout { from: &self.options.username });
        Ok(())
    }

    // The manager.

    fn on_manager(&mut self, event: ManagerEvent) -> Result<(), Over> {
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
    fn ask_roster(&mut self) {
        self.roster = RosterState::Asked;
        self.pending.push(Request { ask: Ask::Roster, reply: None });
        self.write_requests();
    }

    fn write_requests(&mut self) {
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

    // The relay.

    /// The manager's answer to "which relay".
    fn offered(&mut self, relay: Option<Relay>) {
        if let Some(relay) = relay {
            self.relay.join(relay, &self.options.username, &self.options.timing);
        } else {
            self.failed(Failure::NoRelay);
            self.retry_relay();
        }
    }

    fn retry_relay(&mut self) {
        let delay = self.relay_backoff.next(rand::random());
        self.relay.coming(Coming::Waiting(Instant::now() + delay));
    }

    fn on_relay(&mut self, event: RelayEvent) -> Result<(), Over> {
        match event {
            RelayEvent::Value(received) => return self.on_relay_value(received),
            RelayEvent::Written => self.relay.pump(),
            RelayEvent::Retired => {}
            RelayEvent::Due => {
                // Without a manager nothing is asked: the next login names a relay.
                if let Some(wire) = self.manager.online() {
                    wire.queue(&ToServer::GetRelay);
                    self.relay.coming(Coming::Asked(Instant::now() + self.options.timing.request));
                }
            }
            RelayEvent::Unanswered => self.retry_relay(),
            RelayEvent::Joined(Joined { outcome, early }) => {
                match outcome {
                    Ok(wire) => self.relay.replace(wire),
                    Err(failure) => self.not_joined(failure),
                }
                for received in early {
                    self.on_relay_value(received)?;
                }
            }
            RelayEvent::Lost { failure, lived } => {
                if self.leaving.is_some() {
                    return self.leave();
                }
                self.relay_backoff.worked(lived);
                // A relay closes the connection that a newer login of ours replaces, before or after it answers the new
                // one: then nothing is lost.
                if !self.relay.is_joining() {
                    self.went_offline(Socket::Relay, failure);
                    self.retry_relay();
                }
            }
        }
        Ok(())
    }

    fn not_joined(&mut self, failure: Failure) {
        tracing::debug!(error = %failure, "relay refused or unreachable; asking for another");
        self.failed(failure.clone());
        // Lost while this one was coming, and not told yet.
        if self.announced && !self.relay.is_online() {
            self.went_offline(Socket::Relay, failure);
        }
        self.retry_relay();
    }

    fn on_relay_value(&mut self, Received { value, packet }: Received) -> Result<(), Over> {
        let stanza = value.clone();
        self.show(Socket::Relay, value);
        match packet {
            FromServer::Message(message) => self.outlet.put(Event::Message(Message {
                from: message.from,
                to: message.to,
                body: message.body,
                lang: message.lang,
                stanza,
            })),
            FromServer::NotDelivered => self.outlet.put(Event::MessageFailed),
            FromServer::Pong { id: Some(id) } if id == Leaving::PING_ID => return self.leave(),
            _ => {}
        }
        Ok(())
    }

    // What the application is told.

    fn show(&mut self, socket: Socket, value: String) {
        if self.options.packets {
            self.outlet.put(Event::Packet { socket, value });
        }
    }

    /// Remembered as the reason, should connecting run out of time.
    fn failed(&mut self, failure: Failure) {
        if let Some(starting) = &mut self.starting {
            starting.failure = failure;
        }
    }

    fn went_offline(&mut self, socket: Socket, reason: Failure) {
        self.failed(reason.clone());
        if self.starting.is_none() {
            tracing::debug!(%socket, error = %reason, "connection lost");
            self.outlet.put(Event::Offline { socket, reason });
            self.announced = false;
        }
    }

    fn announce(&mut self) {
        let online = self.manager.is_online() && self.relay.is_online() && self.roster != RosterState::Asked;
        if !online || self.announced || self.leaving.is_some() {
            return;
        }
        self.announced = true;
        self.outlet.put(Event::Online);
        if let Some(starting) = self.starting.take() {
            // If nobody waits any more, the handle is gone too, and the command channel says so.
            let _ = starting.done.send(Ok(()));
        }
    }
}
