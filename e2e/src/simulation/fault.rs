//! What goes wrong, and for how long.

use super::net::{Part, Trouble};
use super::schedule::{MS, S, Time};
use super::world::{Event, World};

/// What is excused after a fault: as long as a device may need to notice it and find another way, and a log to be asked for.
const GRACE: Time = 12 * S;

/// Something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A relay dies with all it knew.
    RelayDies(usize, Time),
    /// A manager dies, whatever becomes of its transaction.
    ManagerDies(usize, Time),
    /// Nothing passes from one to the other; or both ways.
    Network(Part, Part, Trouble, bool, Time),
    /// The database answers nobody.
    DatabaseAway(Time),
    /// A manager's transactions take long.
    ManagerSlow(usize, Time),
    /// A relay is not told which logs have grown.
    HeadsLost(usize, Time),
    /// A device's process dies.
    DeviceDies(usize, Time),
    /// A device's connection is reset.
    DeviceCut(usize),
    /// A device reads nothing.
    DeviceSlow(usize, Time),
    /// A device logs in once more, at another relay or the same, and leaves its connection as it is.
    DeviceAgain(usize),
    /// A device is removed, and comes back.
    DeviceRemoved(usize),
}

impl World {
    /// One that ends before `end`.
    pub fn any_fault(&mut self, end: Time) -> (Time, Fault) {
        let begins = self.random(end);
        let most = (end - begins).min(6 * S);
        let lasts =
            if self.dice.once_in(2) { self.random(1 + most) } else { self.random(1 + most.min(300 * MS)) };
        let relay = self.dice.below(self.relays.len());
        let manager = self.dice.below(self.managers.len());
        let device = self.dice.below(self.devices.len());
        let fault = match self.dice.below(16) {
            0 | 1 => Fault::RelayDies(relay, lasts),
            2 | 3 => Fault::ManagerDies(manager, lasts),
            4..=7 => {
                let (from, to) = self.dice.one_of(&[
                    (Part::Relay(relay), Part::Manager(manager)),
                    (Part::Relay(relay), Part::Manager(manager)),
                    (Part::Device(device), Part::Relay(relay)),
                    (Part::Manager(manager), Part::Database),
                ]);
                let (from, to) = if self.dice.once_in(2) { (from, to) } else { (to, from) };
                let trouble = self.dice.one_of(&[Trouble::Lost, Trouble::Held]);
                Fault::Network(from, to, trouble, self.dice.once_in(2), lasts)
            }
            8 => Fault::DatabaseAway(lasts),
            9 => Fault::ManagerSlow(manager, lasts),
            10 => Fault::HeadsLost(relay, lasts),
            11 => Fault::DeviceDies(device, lasts),
            12 => Fault::DeviceCut(device),
            13 => Fault::DeviceSlow(device, lasts),
            14 => Fault::DeviceAgain(device),
            _ => Fault::DeviceRemoved(device),
        };
        (begins, fault)
    }

    /// It goes wrong now.
    pub fn happens(&mut self, fault: Fault) {
        self.tell(|| format!("FAULT {fault:?}"));
        let now = self.now();
        let mut until = now;
        match fault {
            Fault::RelayDies(relay, lasts) => {
                until = now + lasts;
                if !self.relays[relay].is_down {
                    self.relay_dies(relay);
                    self.schedule.at(until, Event::RelayStarts(relay));
                }
            }
            Fault::ManagerDies(manager, lasts) => {
                until = now + lasts;
                if !self.managers[manager].is_down {
                    self.manager_dies(manager);
                    self.schedule.at(until, Event::ManagerStarts(manager));
                }
            }
            Fault::Network(from, to, trouble, both, lasts) => {
                until = now + lasts;
                self.net.block(from, to, trouble, until);
                if both {
                    self.net.block(to, from, trouble, until);
                }
            }
            Fault::DatabaseAway(lasts) => {
                until = now + lasts;
                self.store_away = self.store_away.max(until);
            }
            Fault::ManagerSlow(manager, lasts) => {
                until = now + lasts;
                self.managers[manager].slow = until;
            }
            Fault::HeadsLost(relay, lasts) => {
                until = now + lasts;
                self.relays[relay].hears_nothing = until;
            }
            Fault::DeviceDies(device, lasts) => {
                until = now + lasts;
                if self.devices[device].is_up {
                    self.crashes(device);
                    self.schedule.at(until, Event::Starts(device));
                }
            }
            Fault::DeviceCut(device) => self.leaves(device),
            Fault::DeviceSlow(device, lasts) => {
                until = now + lasts;
                self.devices[device].slow = until;
            }
            Fault::DeviceAgain(device) => self.comes_again(device),
            Fault::DeviceRemoved(device) => self.is_removed(device),
        }
        self.records_disturbance(until + GRACE);
    }

    fn comes_again(&mut self, device: usize) {
        let (relay, now) = (self.dice.below(self.relays.len()), self.now());
        let reaches = self.net.is_open(Part::Device(device), Part::Relay(relay), now);
        let me = &self.devices[device];
        if me.is_up && me.conn.is_some() && reaches && !self.relays[relay].is_down && now >= self.store_away {
            self.logs_in(device);
            self.joins(device, relay);
        }
    }

    fn is_removed(&mut self, device: usize) {
        let me = &self.devices[device];
        if me.is_named() && self.now() >= self.store_away {
            self.store.remove_device(me.account, &me.resource);
            if let Some(conn) = self.routes.get(&device).copied() {
                let after = self.random(100 * MS);
                self.later(after, Event::Displaced(conn));
            }
        }
    }
}
