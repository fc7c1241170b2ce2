//! Everything there is, and what happens to it.

use std::collections::HashMap;
use std::time::Duration;

use kurir_delivery::storing::Message;

use super::device::Device;
use super::fault::Fault;
use super::manager::Manager;
use super::net::{Net, Part, Stream};
use super::oath::Oath;
use super::relay::{Call, Purpose, Relay};
use super::schedule::{Schedule, Time};
use super::store::{Account, Store};
use super::wire::{CallId, ConnId, FromDevice, Request, Response, ToDevice};
use crate::checker::Dice;

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// The application of a device writes a message.
    Writes(usize),
    /// A device's write to its disk is over.
    Saved { device: usize, life: u32 },
    /// An application takes the next thing that has come.
    Takes { device: usize, life: u32 },
    /// A device sends again what was refused.
    GoesOn { device: usize, life: u32 },
    /// A device looks for a relay.
    Connects { device: usize, life: u32 },
    /// A device looks whether its connection is alive.
    Looks { device: usize, conn: ConnId },
    /// A device's process starts again.
    Starts(usize),
    /// Something arrives at a relay.
    Up { conn: ConnId, what: FromDevice },
    /// Something arrives at a device.
    Down { conn: ConnId, what: ToDevice },
    /// A relay's socket has room for another line.
    Room(ConnId),
    /// A relay learns that a device is gone.
    Left(ConnId),
    /// A device learns that its relay has closed.
    Closed(ConnId),
    /// A relay learns that a newer connection has the device, or that it was removed.
    Displaced(ConnId),
    /// A relay is up again.
    RelayStarts(usize),
    /// A reader's pause is over.
    Retries { relay: usize, life: u32, conn: ConnId },
    /// A relay asks where logs end.
    Asks { relay: usize, life: u32 },
    /// A relay stores the cursors that have moved.
    Stores { relay: usize, life: u32 },
    /// A relay is told where logs end.
    Heads { relay: usize, heads: Vec<(Account, u64)> },
    /// A manager's answer arrives.
    Answers { call: CallId, response: Response },
    /// A call was not answered in time.
    Deadline(CallId),
    /// A call arrives at a manager.
    Asked { call: CallId, manager: usize, request: Request },
    /// A manager reads what is after a place of a log, which ended at `last` when it looked.
    Reads { call: CallId, manager: usize, account: Account, after: u64, last: u64 },
    /// A manager's transaction is over.
    Commits { manager: usize, life: u32 },
    /// A transaction that nobody waits for any more is committed after all.
    CommitsLate(Vec<Message>),
    /// A manager is up again.
    ManagerStarts(usize),
    /// Something goes wrong.
    Happens(Fault),
}

/// One connection: what the two ends know of it.
#[derive(Debug)]
pub struct Conn {
    /// Whose.
    pub device: usize,
    /// Where.
    pub relay: usize,
    /// Which life of the relay.
    pub relay_life: u32,
    /// To the relay.
    pub up: Stream,
    /// To the device.
    pub down: Stream,
    /// Lines in the socket that the device has not read.
    pub unread: usize,
}

/// The simulated system.
#[derive(Debug)]
pub struct World {
    /// All that is random.
    pub dice: Dice,
    /// Time.
    pub schedule: Schedule<Event>,
    /// What lies between.
    pub net: Net,
    /// The database.
    pub store: Store,
    /// Until then the database answers nobody.
    pub store_away: Time,
    /// All managers.
    pub managers: Vec<Manager>,
    /// All relays.
    pub relays: Vec<Relay>,
    /// All devices, by their place in the history.
    pub devices: Vec<Device>,
    /// All connections that there ever were.
    pub conns: Vec<Conn>,
    /// Which connection has a device: the directory.
    pub routes: HashMap<usize, ConnId>,
    /// How much goes wrong.
    pub faults: usize,
    /// Calls that wait for an answer.
    pub calls: HashMap<CallId, Call>,
    /// How many calls there were.
    pub called: usize,
    /// Between two messages of a device, at most.
    pub pace: Time,
    /// When nobody writes any more and nothing goes wrong.
    pub calm: Time,
    /// What was promised.
    pub oath: Oath,
    /// Every step is told.
    pub tells: bool,
}

impl World {
    /// The time.
    pub fn now(&self) -> Time {
        self.schedule.now()
    }

    /// The event happens so much later.
    pub fn later(&mut self, after: Time, event: Event) {
        let at = self.now() + after;
        self.schedule.at(at, event);
    }

    /// Less than `limit`.
    pub fn random(&mut self, limit: Time) -> Time {
        self.dice.below(usize::try_from(limit).expect("a short time")) as Time
    }

    /// Tells a step.
    pub fn tell(&self, step: impl FnOnce() -> String) {
        if self.tells {
            println!("{:11.4} ms  {}", Duration::from_micros(self.now()).as_secs_f64() * 1e3, step());
        }
    }

    /// Something is wrong.
    pub fn wrong(&mut self, what: &str) {
        self.tell(|| format!("WRONG: {what}"));
        let at = Duration::from_micros(self.now());
        self.oath.wrongs.push(format!("at {at:.2?}: {what}"));
    }

    /// Something is sent to a manager.
    pub fn call(&mut self, call: CallId, relay: usize, manager: usize, request: Request) {
        let now = self.now();
        if self.managers[manager].is_down {
            // Refused at once.
            self.later(200, Event::Answers { call, response: Response::Failed });
            return;
        }
        let way = (Part::Relay(relay), Part::Manager(manager));
        if let Some(at) = self.net.arrival(way, now, &mut self.dice) {
            self.schedule.at(at, Event::Asked { call, manager, request });
        }
    }

    /// Lets it happen.
    pub fn does(&mut self, event: Event) {
        match event {
            Event::Writes(device) => self.writes(device),
            Event::Saved { device, life } => self.saved(device, life),
            Event::Takes { device, life } => self.takes(device, life),
            Event::GoesOn { device, life } => self.goes_on(device, life),
            Event::Connects { device, life } => self.connects(device, life),
            Event::Looks { device, conn } => self.looks(device, conn),
            Event::Starts(device) => self.starts(device),
            Event::Down { conn, what } => self.comes_down(conn, what),
            Event::Closed(conn) => self.loses(conn),
            Event::Up { conn, what } => self.comes_up(conn, &what),
            Event::Room(conn) => self.has_room(conn),
            Event::Left(conn) | Event::Displaced(conn) => self.ends(conn),
            Event::RelayStarts(relay) => self.relay_starts(relay),
            Event::Retries { relay, life, conn } => self.retries(relay, life, conn),
            Event::Asks { relay, life } => self.asks(relay, life),
            Event::Stores { relay, life } => self.stores(relay, life),
            Event::Heads { relay, heads } => self.hears(relay, &heads),
            Event::Answers { call, response } => self.answers(call, response),
            Event::Deadline(call) => {
                if self.calls.contains_key(&call) {
                    self.tell(|| format!("call {call} had no answer"));
                    self.answers(call, Response::Failed);
                }
            }
            Event::Asked { call, manager, request } => self.asked(call, manager, request),
            Event::Reads { call, manager, account, after, last } => {
                self.reads(call, manager, (account, after, last));
            }
            Event::Commits { manager, life } => self.commits(manager, life),
            Event::CommitsLate(messages) => self.commits_late(&messages),
            Event::ManagerStarts(manager) => {
                self.tell(|| format!("manager {manager} is up"));
                self.managers[manager].is_down = false;
            }
            Event::Happens(fault) => self.happens(fault),
        }
    }

    /// A manager answers, or something between them does not let it.
    pub fn answer(&mut self, call: CallId, manager: usize, response: Response) {
        let Some(Call { relay, .. }) = self.calls.get(&call) else { return };
        let way = (Part::Manager(manager), Part::Relay(*relay));
        let now = self.now();
        if let Some(at) = self.net.arrival(way, now, &mut self.dice) {
            self.schedule.at(at, Event::Answers { call, response });
        }
    }

    /// The answer to a call has come, or none.
    fn answers(&mut self, id: CallId, response: Response) {
        let Some(call) = self.calls.remove(&id) else { return };
        let Call { relay, life, manager, .. } = call;
        if self.relays[relay].life != life {
            return;
        }
        let failed = matches!(response, Response::Failed);
        if failed && !call.left.is_empty() {
            return self.calls_next(call);
        }
        let storing = matches!(call.purpose, Purpose::Store);
        if !failed {
            let relay = &mut self.relays[relay];
            let answered = if storing { &mut relay.stores_at } else { &mut relay.reads_at };
            *answered = Some(manager);
        }
        self.called_back(relay, call.purpose, response);
    }
}
