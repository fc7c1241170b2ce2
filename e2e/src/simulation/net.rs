//! What lies between the parts: how long something takes from one to another, and whether it gets there.

use std::collections::HashMap;

use super::schedule::{MS, Time};
use crate::checker::Dice;

/// Something that others talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A client's device.
    Device(usize),
    /// A relay.
    Relay(usize),
    /// A manager.
    Manager(usize),
    /// The database.
    Database,
}

/// What becomes of what cannot pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It never arrives.
    Lost,
    /// It arrives when the trouble is over: TCP tries again.
    Held,
}

/// One direction of one connection: what is sent earlier arrives earlier.
#[derive(Debug, Default)]
pub struct Stream {
    last: Time,
    /// Something of it was lost, so nothing that follows arrives.
    torn: bool,
}

impl Stream {
    /// Whether nothing arrives any more.
    pub fn is_torn(&self) -> bool {
        self.torn
    }
}

/// The network.
#[derive(Debug, Default)]
pub struct Net {
    troubles: HashMap<(Part, Part), (Trouble, Time)>,
}

impl Net {
    /// Nothing passes from one to the other until then.
    pub fn block(&mut self, from: Part, to: Part, trouble: Trouble, until: Time) {
        self.troubles.insert((from, to), (trouble, until));
    }

    /// Whether everything passes, both ways.
    pub fn is_open(&self, from: Part, to: Part, now: Time) -> bool {
        [(from, to), (to, from)].iter().all(|way| self.trouble(*way, now).is_none())
    }

    /// When something that is sent now arrives, if it does.
    pub fn arrival(&self, way: (Part, Part), now: Time, dice: &mut Dice) -> Option<Time> {
        let delay = delay(dice);
        match self.trouble(way, now) {
            None => Some(now + delay),
            Some((Trouble::Held, until)) => Some(until + delay),
            Some((Trouble::Lost, _)) => None,
        }
    }

    /// The same on a stream.
    pub fn on(&self, stream: &mut Stream, way: (Part, Part), now: Time, dice: &mut Dice) -> Option<Time> {
        let arrival = self.arrival(way, now, dice).filter(|_| !stream.torn);
        stream.torn |= arrival.is_none();
        stream.last = arrival?.max(stream.last + 1);
        Some(stream.last)
    }

    fn trouble(&self, way: (Part, Part), now: Time) -> Option<(Trouble, Time)> {
        self.troubles.get(&way).copied().filter(|(_, until)| now < *until)
    }
}

/// Mostly a moment.
fn delay(dice: &mut Dice) -> Time {
    let most = if dice.once_in(20) { 60 * MS } else { 2 * MS };
    100 + dice.below(usize::try_from(most).unwrap_or(1)) as Time
}
