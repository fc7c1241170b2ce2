//! What the parts say to each other.

use kurir_delivery::storing::Message;

use super::store::{Account, Appended, Entry};

/// A connection between a device and a relay, by its number.
pub type ConnId = usize;

/// One attempt at one call of a relay to a manager.
pub type CallId = usize;

/// From a device to its relay.
#[derive(Clone, Debug)]
pub enum FromDevice {
    /// The first thing: with the last place that it has, if it goes by places.
    Hello { resume: Option<u64> },
    /// A tracked message; none: to nobody's name.
    Message { number: u64, to: Option<Account> },
    /// It has everything up to here.
    Ack(u64),
    /// Is anybody there?
    Ping,
}

/// From a relay to a device.
#[derive(Clone, Debug)]
pub enum ToDevice {
    /// The log ends here. With `reset` everything comes again.
    Ready { seq: u64, reset: bool },
    /// Acknowledgements, as [`Ack::write`] wrote them.
    Acks(Vec<u8>),
    /// To be sent again, before any later one.
    Wait(u64),
    /// No such account.
    NoAccount(u64),
    /// An entry of the log.
    Entry { seq: u64, entry: Entry },
    /// Somebody is.
    Pong,
}

/// A message of the device is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which of the device's.
    pub number: u64,
    /// What it is called.
    pub stanza_id: u64,
    /// Its place in the account's log; 0: the device does not go by places.
    pub seq: u64,
}

impl Ack {
    /// As the bytes that [`kurir_delivery`] passes on.
    pub fn write(self) -> Vec<u8> {
        [self.number, self.stanza_id, self.seq].iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    /// All of these bytes.
    pub fn read(bytes: &[u8]) -> Vec<Ack> {
        let values: Vec<u64> =
            bytes.chunks(8).map(|value| u64::from_be_bytes(value.try_into().expect("8 bytes"))).collect();
        values.chunks(3).map(|ack| Ack { number: ack[0], stanza_id: ack[1], seq: ack[2] }).collect()
    }
}

/// From where a page is read.
#[derive(Clone, Debug)]
pub enum After {
    /// This place.
    Seq(u64),
    /// The stored cursor of this device, which may have a name.
    CursorOf { device: String, named: bool },
}

/// From a relay to a manager.
#[derive(Clone, Debug)]
pub enum Request {
    /// Store these.
    Append(Vec<Message>),
    /// A part of a log.
    Read { account: Account, after: After },
    /// Where logs end.
    Heads(Vec<Account>),
    /// Account, device, place.
    MoveCursors(Vec<(Account, String, u64)>),
}

/// What a manager answers.
#[derive(Clone, Debug)]
pub enum Response {
    /// One for each message.
    Appended(Vec<Appended>),
    /// Entries after `after` of a log that ends at `last`.
    Page { after: u64, last: u64, entries: Vec<(u64, Entry)> },
    /// Where logs end.
    Heads(Vec<(Account, u64)>),
    /// Done.
    Moved,
    /// Not, or perhaps.
    Failed,
}
