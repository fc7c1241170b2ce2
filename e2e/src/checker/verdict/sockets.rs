//! Devices that do not go by places: each is promised no more than its socket (PROTOCOL Part II, no `resume`).
//!
//! The servers move such a device's place when they have written to its socket, so what was on its way when a connection ended may
//! be lost. They put the place down a moment later, so what was read last may come again on the next connection.

use std::collections::HashMap;
use std::time::Duration;

use crate::checker::history::{Device, Message};

/// What such devices read, and when their connections ended.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// In the order of time.
    ends: HashMap<Device, Vec<Duration>>,
    /// On which of the device's connections it was read last, and when.
    read: HashMap<(Device, Message), (usize, Duration)>,
    /// On which connection a device read a sender last, and which number.
    last: HashMap<(Device, Device), (usize, u64)>,
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
    /// A connection is over.
    pub(super) fn ended(&mut self, device: Device, at: Duration) {
        self.ends.entry(device).or_default().push(at);
    }

    /// The end of the first connection that was over at or after `from`.
    pub(super) fn end_after(&self, device: Device, from: Duration) -> Option<Duration> {
        self.ends.get(&device)?.iter().copied().find(|end| *end >= from)
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
