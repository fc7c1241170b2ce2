//! The task that owns both sockets and makes one thing of them.
//!
//! - `at_manager`, `at_relay`: what its two sides tell it
//! - `own_messages`: what follows for tracked messages and for what is kept

mod at_manager;
mod at_relay;
mod own_messages;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kurir_protocol::client::ToServer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::error::{ConnectError, Failure};
use crate::event::{Ended, Event, Outlet, Socket, Taken, Waiting};
use crate::leaving::Leaving;
use crate::login::Account;
use crate::manager::{ManagerEvent, ManagerSide};
use crate::message::MessageId;
use crate::options::Options;
use crate::pending::{Pending, Request};
use crate::relay::{Outgoing, RelayEvent, RelaySide};
use crate::state_file::NotWritten;
use crate::tracking::{Done, Opened, Tracking};

/// A lost session that is still counted as online is asked for again after this at most: a manager that was killed is
/// found dead within seconds.
const STILL_LOGGED_IN_RETRY: Duration = Duration::from_secs(3);

/// A server that will be gone soon is not stayed at for longer, whatever it says.
const LONGEST_MOVE: Duration = Duration::from_mins(10);

/// An application that reads its events to the end gets so long for each session's last ones.
const LAST_TAKEN: Duration = Duration::from_secs(2);

/// What a [`Client`](crate::Client) says to the session's task.
#[derive(Debug)]
pub(crate) enum Command {
    Message(Outgoing),
    Send { id: MessageId, stanza: String, done: Done },
    SendAgain { old: MessageId, new: MessageId, done: Done },
    Discard(MessageId, Done),
    Waiting(oneshot::Sender<Vec<Waiting>>),
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
    /// The number of the last login that has worked: what older ones are told is of our own doing.
    login: u64,
    /// Until then a login whose answer is lost may be found to have worked.
    in_doubt: Option<Instant>,
    /// Another connection was said to have the device while a login was under way, which may be that one.
    conflict: bool,
    /// The manager in use, if it will be gone soon.
    moving_from: Option<String>,
    manager: ManagerSide,
    manager_backoff: Backoff,
    still_logged_in_backoff: Backoff,
    relay: RelaySide,
    relay_backoff: Backoff,
    tracking: Tracking,
    taken: Arc<Taken>,
    pending: Pending,
    roster: RosterState,
    /// The message that the archive is asked for, and when it is to be asked again.
    looked_up: Option<MessageId>,
    look_up_again: Option<Instant>,
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
    /// A write to the state file has ended.
    Written(Result<(), NotWritten>),
    Taken,
    Room,
    Timer,
}

/// The session is over.
struct Over(Ended);

impl Session {
    pub(crate) fn new(
        options: Options,
        opened: Opened,
        commands: mpsc::Receiver<Command>,
        mut outlet: Outlet,
        ended: Arc<OnceLock<Ended>>,
        done: oneshot::Sender<Result<(), ConnectError>>,
    ) -> Self {
        let timing = &options.timing;
        let account = Account::new(&options, opened.session());
        let mut tracking = Tracking::new(opened, options.resume.clone(), timing);
        tracking.waiting().into_iter().for_each(|waiting| outlet.put(Event::Waiting(waiting)));
        if let Some(complaint) = tracking.complaint() {
            outlet.put(Event::NotKept(complaint));
        }
        let backoff = |longest| Backoff::new(timing.first_retry, longest);
        Self {
            commands,
            tracking,
            taken: outlet.taken(),
            outlet,
            ended,
            starting: Some(Starting {
                done,
                deadline: Instant::now() + timing.connect,
                failure: Failure::NoManager,
            }),
            account,
            managers: Vec::new(),
            avoid: None,
            login: 0,
            in_doubt: None,
            conflict: false,
            moving_from: None,
            manager: ManagerSide::new(),
            manager_backoff: backoff(timing.longest_retry),
            still_logged_in_backoff: backoff(timing.longest_retry.min(STILL_LOGGED_IN_RETRY)),
            relay: RelaySide::new(),
            relay_backoff: backoff(timing.longest_retry),
            pending: Pending::default(),
            roster: RosterState::Asked,
            looked_up: None,
            look_up_again: None,
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
                Happened::Written(written) => {
                    self.on_written(written);
                    Ok(())
                }
                Happened::Room | Happened::Taken => Ok(()),
                Happened::Timer => self.on_timer(),
            };
            if let Err(over) = over.and_then(|()| self.own_messages()) {
                break over;
            }
            self.announce();
        };
        // Set before anybody is told, so that whoever is told can read it.
        let _ = self.ended.set(ended.clone());
        self.manager.end();
        self.relay.end(&ended);
        self.tracking.end(&self.options.username, &ended).await;
        self.pending.end(&ended);
        if let Some(starting) = self.starting.take() {
            let error = match ended {
                Ended::Refused(refusal) => ConnectError::Refused(refusal),
                Ended::LoggedOut => ConnectError::TimedOut(starting.failure),
            };
            // Whoever tries again at once finds the state file free.
            drop(self);
            let _ = starting.done.send(Err(error));
            return;
        }
        if let Some(leaving) = self.leaving.take() {
            leaving.finish();
        }
        self.commands.close();
        self.last_taken(&ended).await;
        self.outlet.put(Event::Ended(ended));
        // With the sockets closed only the application's reading is left to wait for; dropping `Events` ends it too.
        self.outlet.drained().await;
    }

    /// What the application still takes is not to come again.
    async fn last_taken(&mut self, ended: &Ended) {
        let until = Instant::now() + LAST_TAKEN;
        while self.tracking.inbox().is_some() && self.taken.count() < self.outlet.count() {
            let overflows = !self.outlet.has_room();
            tokio::select! {
                () = self.taken.more() => {}
                () = self.outlet.drained(), if overflows => {}
                () = sleep_until(until) => break,
            }
        }
        if let Some(inbox) = self.tracking.inbox() {
            inbox.took(self.taken.count());
        }
        self.tracking.end(&self.options.username, ended).await;
    }

    async fn next(&mut self) -> Happened {
        let due = self.due();
        let read = self.outlet.has_room();
        let take = !self.pending.is_full() && !self.relay.is_full();
        tokio::select! {
            command = self.commands.recv(), if take => Happened::Command(command),
            event = self.manager.next(read) => Happened::Manager(event),
            event = self.relay.next(read) => Happened::Relay(event),
            written = self.tracking.write() => Happened::Written(written),
            () = self.taken.more() => Happened::Taken,
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
        [starting, leaving, roster, self.look_up_again, self.tracking.due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
    }

    fn on_timer(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        self.tracking.on_time(now);
        if self.starting.as_ref().is_some_and(|starting| starting.deadline <= now) {
            return Err(Over(Ended::LoggedOut));
        }
        if matches!(self.roster, RosterState::Again(at) if at <= now) {
            self.ask_roster();
        }
        if self.look_up_again.take_if(|at| *at <= now).is_some() {
            self.look_up();
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
            Command::Send { id, stanza, done } => {
                // It may say that a message has been read: that it has arrived comes first.
                self.take();
                self.tracking.send(id, stanza, Some(done));
            }
            Command::SendAgain { old, new, done } => self.tracking.send_again(old, new, done),
            Command::Discard(id, done) => self.tracking.discard(id, done),
            Command::Waiting(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(self.tracking.waiting());
            }
            Command::Request(request) => {
                self.pending.push(request);
                self.write_requests();
            }
            Command::Logout(done) => {
                self.manager.stay();
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
        self.tracking.logs_out();
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
