//! What happened, as the devices saw it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// A device, by its place in [`History::devices`].
pub type Device = usize;

/// A message: who sent it, and which of theirs it is, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The device that sent it.
    pub from: Device,
    /// In the order in which that device first sent.
    pub number: u64,
}

impl Message {
    /// The id that it is sent with: the same as other devices use, also those of its account. Ids are told apart by account and
    /// device (PROTOCOL Part II, `id`).
    pub fn id(self) -> String {
        self.number.to_string()
    }

    /// Which message of this device an id is of.
    pub fn of_id(from: Device, id: &str) -> Option<Message> {
        Some(Message { from, number: id.parse().ok()? })
    }

    /// Reads what [`fmt::Display`] has written.
    pub fn of_name(name: &str) -> Option<Message> {
        let (from, number) = name.split_once('-')?;
        Some(Message { from: from.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.number)
    }
}

/// What a device has shown a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its account's password.
    Password,
    /// The session that its last login has brought.
    Session,
}

/// Something that a device did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A manager has let it in, and given it a session.
    LoggedIn {
        /// Who.
        device: Device,
        /// With what.
        with: Shown,
    },
    /// A manager says that its session is not good.
    Unauthorized {
        /// Who.
        device: Device,
    },
    /// A relay has answered the device's hello: from here on it is to get what there is.
    Online {
        /// Who.
        device: Device,
        /// Where.
        relay: u16,
    },
    /// It has no relay connection any more.
    Offline {
        /// Who.
        device: Device,
    },
    /// It has written a message to its relay connection, for the first time or again.
    Sent {
        /// Which.
        message: Message,
        /// The receiving account, by its place in the order of accounts.
        to: usize,
    },
    /// The relay has refused a message for now: it is to come again.
    Refused {
        /// Which.
        message: Message,
    },
    /// The relay has acknowledged it as stored.
    Acked {
        /// Which.
        message: Message,
        /// What it is called in every log.
        stanza_id: String,
        /// Its place in its sender's log.
        seq: u64,
    },
    /// A device that goes by places has read it.
    Delivered {
        /// Who.
        device: Device,
        /// Which.
        message: Message,
        /// What it is called in every log.
        stanza_id: String,
        /// Its place in the log of the device's account.
        seq: u64,
    },
    /// The same of a device that does not go by places: it is not told them.
    Stored {
        /// Which.
        message: Message,
        /// What it is called in every log.
        stanza_id: String,
    },
    /// A device that does not go by places has read a message.
    Read {
        /// Who.
        device: Device,
        /// Which.
        message: Message,
    },
    /// A device got what it must never get.
    Strange {
        /// Who.
        device: Device,
        /// What.
        what: String,
    },
}

/// An event and when it was, counted from the history's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// A time in which messages may be delayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// From its beginning.
    pub from: Duration,
    /// To its end, and what recovery is granted after it.
    pub until: Duration,
    /// Whom it hits.
    pub place: Place,
}

/// Which devices a disturbance hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All.
    Everywhere,
    /// Those that are connected to this relay.
    Relay(u16),
}

/// Everything that a verdict needs.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The account of each device.
    pub devices: Vec<usize>,
    /// Those that do not go by places: each is promised no more than its socket (PROTOCOL Part II, no `resume`).
    pub plain: BTreeSet<Device>,
    /// In the order of time.
    pub records: Vec<Record>,
    /// In any order.
    pub disturbances: Vec<Disturbance>,
    /// When it ended.
    pub end: Duration,
}

impl Place {
    /// Whether devices at this relay are hit.
    pub fn hits(self, relay: u16) -> bool {
        self == Place::Everywhere || self == Place::Relay(relay)
    }
}

impl History {
    /// Whether something is under way, or just over, that hits devices at this relay.
    pub fn is_disturbed(&self, at: Duration, relay: u16) -> bool {
        let under_way = |disturbance: &Disturbance| disturbance.from <= at && at <= disturbance.until;
        self.disturbances.iter().any(|disturbance| disturbance.place.hits(relay) && under_way(disturbance))
    }

    /// The devices that a message is for: those of the receiver, and of the sender's others those that go by places.
    pub fn receivers(&self, message: Message, to: usize) -> impl Iterator<Item = Device> {
        let sender = self.devices[message.from];
        let is_for = move |(device, account): &(Device, &usize)| {
            let copied = **account == sender && !self.plain.contains(device);
            (**account == to || copied) && *device != message.from
        };
        self.devices.iter().enumerate().filter(is_for).map(|(device, _)| device)
    }
}
