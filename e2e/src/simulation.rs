//! A deterministic simulation of tracked messages: clients, relays, managers and their database in one thread, in virtual
//! time, while everything between them fails (PROTOCOL Part II, `id` and `resume`).
//!
//! The rules are the real ones, [`kurir_delivery`]'s: what a client sends again, what a relay stores, refuses, shows and
//! acknowledges, where a device is in its log. What they are joined by is a model: of the manager's transactions and tables, of
//! sockets, calls, disks, and of all that goes wrong with these. All that is random follows from the seed, so a run that went
//! wrong goes wrong again. The checker's verdict judges each run, as it does those of the real system in scenario `soak`.
//!
//! | module | is |
//! | --- | --- |
//! | [`schedule`] | virtual time |
//! | [`net`], [`wire`] | what lies between the parts, and what they say |
//! | [`store`], [`manager`] | the tables, and the transactions over them |
//! | [`relay`], [`outbox`] | a relay around the rules |
//! | [`device`] | a client and its application around the rules |
//! | [`fault`] | what goes wrong |
//! | [`oath`] | what was promised |
//! | [`world`] | all of it |

pub mod device;
pub mod fault;
pub mod manager;
pub mod net;
pub mod oath;
pub mod outbox;
pub mod relay;
pub mod schedule;
pub mod store;
pub mod wire;
pub mod world;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use self::device::{Device, Manner};
use self::manager::Manager;
use self::net::Net;
use self::oath::Oath;
use self::relay::Relay;
use self::schedule::{MS, S, Schedule, Time};
use self::store::Store;
use self::world::{Event, World};
use crate::checker::history::History;
use crate::checker::{Dice, Verdict, judge};

/// Once nothing goes wrong any more, everything is stored and read so soon.
const SETTLED_WITHIN: Time = 20 * S;

/// Where nothing goes wrong a message is there before anybody asks for it.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// After that nothing may come that has come before.
const AFTERWARDS: Time = 5 * S;

/// More steps than any run takes: one that takes them does not come to rest.
const MOST_STEPS: usize = 400_000;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The checker's.
    pub verdict: Verdict,
    /// What else was wrong.
    pub wrongs: Vec<String>,
    /// How many steps there were.
    pub steps: usize,
    /// From the last fault until everything was settled.
    pub settled_after: Duration,
}

/// Lives through one seed. With `tells`, every step is printed.
pub fn run(seed: u64, tells: bool) -> Outcome {
    let mut world = World::of(seed, tells);
    let settled = world.lives();
    world.closes();
    let end = Duration::from_micros(world.now());
    let history = History { end, ..std::mem::take(&mut world.oath.history) };
    let verdict = judge(&history);
    let slowest = verdict.figures.longest_quiet_delivery.longest;
    if world.faults == 0 && slowest > AT_ONCE {
        world.wrong(&format!("nothing was wrong, and a delivery took {slowest:.2?}"));
    }
    Outcome {
        verdict,
        wrongs: world.oath.wrongs,
        steps: world.schedule.happened(),
        settled_after: Duration::from_micros(settled.saturating_sub(world.calm)),
    }
}

impl Outcome {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.verdict.wrongs.is_empty() && self.wrongs.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        writeln!(f, "{} steps, settled after {:.2?}", self.steps, self.settled_after)?;
        self.verdict.wrongs.iter().try_for_each(|(wrong, what)| writeln!(f, "{wrong:?}: {what}"))?;
        self.wrongs.iter().try_for_each(|what| writeln!(f, "{what}"))
    }
}

impl World {
    fn of(seed: u64, tells: bool) -> World {
        let mut dice = Dice::new(seed);
        let accounts = 2 + dice.below(3);
        let schedule = Schedule::new(dice.fork());
        // Now and then long enough for what is excused after a fault to be over.
        let (most, pace) = dice.one_of(&[(8000, 100), (8000, 400), (8000, 1500), (40_000, 3000)]);
        let (calm, pace) = (2 * S + dice.below(most) as Time * MS, pace * MS);
        let (managers, relays) = (2, 2 + dice.below(3));
        let mut world = World {
            schedule,
            net: Net::default(),
            store: Store::new(accounts),
            store_away: 0,
            managers: (0..managers).map(|_| Manager::default()).collect(),
            relays: (0..relays).map(|_| Relay::default()).collect(),
            devices: Vec::new(),
            conns: Vec::new(),
            routes: HashMap::new(),
            faults: 0,
            calls: HashMap::new(),
            called: 0,
            pace,
            calm,
            oath: Oath::default(),
            tells,
            dice,
        };
        world.is_peopled(accounts);
        world.suffers();
        world
    }

    fn is_peopled(&mut self, accounts: usize) {
        for account in 0..accounts {
            let first = self.dice.below(3);
            for resource in 0..=self.dice.below(3) {
                let resource = ["default", "laptop", "ponsel"][(first + resource) % 3];
                let (resumes, keeps_place) = (!self.dice.once_in(3), self.dice.once_in(2));
                self.devices.push(Device::new(account, resource, Manner { resumes, keeps_place }));
                self.oath.history.devices.push(account);
            }
        }
        for device in 0..self.devices.len() {
            // Everybody has a login before anything is written.
            self.logs_in(device);
            let (writes, connects) = (self.random(S), self.random(300 * MS));
            self.later(writes, Event::Writes(device));
            self.later(connects, Event::Connects { device, life: 0 });
        }
        for relay in 0..self.relays.len() {
            self.relay_starts(relay);
        }
    }

    fn suffers(&mut self) {
        self.faults = self.dice.below(9);
        for _ in 0..self.faults {
            let (at, fault) = self.any_fault(self.calm);
            self.schedule.at(at, Event::Happens(fault));
        }
    }

    /// Until everything is settled, and for a while after that. Says when it was.
    fn lives(&mut self) -> Time {
        let mut settled = None;
        loop {
            let now = self.now();
            let over = self.schedule.happened() > MOST_STEPS || now > self.calm + SETTLED_WITHIN;
            if settled.is_none() && now > self.calm && self.is_settled() {
                settled = Some(now);
            }
            match settled {
                Some(at) if now > at + AFTERWARDS => return at,
                None if over => {
                    let steps = self.schedule.happened();
                    self.wrong(&format!("it does not come to rest, after {steps} steps"));
                    return now;
                }
                _ => {}
            }
            let Some(event) = self.schedule.pop() else { return now };
            self.does(event);
        }
    }
}
