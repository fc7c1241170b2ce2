//! Devices that do not go by places: each is promised no more than its socket (PROTOCOL Part II, no `resume`).
//!
//! The servers move such a device's place when they have written to its socket, so what was on its way when a connection ended may
//! be lost: also what was written to a connection that its relay could not know to be over. They put the place down a moment
//! later, so what was read last may come again on the next connection.

use std::collections::HashMap;
use std::time::Duration;

use crate::checker::history::{Device, Message};

/// A relay knows so soon that a connection is over, where nothing keeps the news from it.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// What such devices read, and when their connections ended.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// In the order of time.
    ends: HashMap<Device, Vec<End>>,
    /// On which of the device's connections it was read last, and when.
    read: HashMap<(Device, Message), (usize, Duration)>,
    /// On which connection a device read a sender last, and which number.
    last: HashMap<(Device, Device), (usize, u64)>,
}

/// The end of a connection.
#[derive(Debug)]
struct End {
    at: Duration,
    /// So long may something have been written to it. None: until the device has another.
    written_until: Option<Duration>,
}

/// What a message is that a device has read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Not yet put down as read when that connection ended.
    Excused,
    /// On the same connection, or put down as read long before.
    Duplicated,
    /// Behind a later one of the same connection.
    Reordered,
}

impl Sockets {
    /// A connection is over. `unheard`: something is under way that may keep this from its relay.
    pub(super) fn ended(&mut self, device: Device, at: Duration, unheard: bool) {
        let written_until = (!unheard).then_some(at + NOTICED_WITHIN);
        self.ends.entry(device).or_default().push(End { at, written_until });
    }

    /// The device has another connection, and everything comes to that one.
    pub(super) fn began(&mut self, device: Device, at: Duration) {
        if let Some(last) = self.ends.get_mut(&device).and_then(|ends| ends.last_mut()) {
            last.written_until.get_or_insert(at);
        }
    }

    /// When the first connection was over with which a message may be lost that was sent at this moment.
    pub(super) fn may_lose(&self, device: Device, sent: Duration) -> Option<Duration> {
        let ends = self.ends.get(&device)?.iter();
        ends.into_iter().find(|end| end.written_until.is_none_or(|until| until >= sent)).map(|end| end.at)
    }

    /// The end of the connection that the device had then.
    fn end_after(&self, device: Device, then: Duration) -> Option<Duration> {
        self.ends.get(&device)?.iter().map(|end| end.at).find(|end| *end >= then)
    }

    /// A device reads a message on a connection. None: for the first time. `kept`: whether between these two moments the servers had
    /// the time to put down what was read.
    pub(super) fn reads(
        &mut self,
        (device, connection): (Device, usize),
        message: Message,
        at: Duration,
        kept: impl Fn(Duration, Duration) -> bool,
    ) -> Option<Again> {
        let last = self.last.insert((device, message.from), (connection, message.number));
        let (on, before) = self.read.insert((device, message), (connection, at))?;
        let end = self.end_after(device, before);
        if on == connection || end.is_some_and(|end| kept(before, end)) {
            return Some(Again::Duplicated);
        }
        let behind = last.is_some_and(|(on, number)| on == connection && message.number < number);
        Some(if behind { Again::Reordered } else { Again::Excused })
    }
}
