//! What was promised: the history for the checker's verdict, and what is held against each step beside it.
//!
//! A device that reads as the original does is promised no more than that its socket takes each message. So that the same
//! verdict judges it, it counts as having had a message when a socket of its own took that, or when its relay passed what it is
//! not to be shown: each once, in the order of the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::device::message_of;
use super::schedule::Time;
use super::store::{Account, name_of};
use super::wire::{Ack, ConnId, ToDevice};
use super::world::World;
use crate::checker::history::{Disturbance, Event, History, Message, Place, Record};

/// What is known of the promises.
#[derive(Debug, Default)]
pub struct Oath {
    /// What was broken, beside the verdict.
    pub wrongs: Vec<String>,
    /// What the verdict is about.
    pub history: History,
    devices: HashMap<usize, Had>,
    /// The last place that each connection was sent, or from where it reads.
    sent: HashMap<ConnId, u64>,
}

/// What a device has had.
#[derive(Debug, Default)]
struct Had {
    /// It has acknowledged so much.
    acknowledged: u64,
    /// Its sockets have taken these places.
    taken: BTreeSet<u64>,
    /// Its relays have read so far.
    passed: u64,
    /// Everything up to here it has had.
    credited: u64,
    /// Its messages on this connection that have no answer, and those whose answer was to wait.
    open: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// Acknowledgements that have come, by place, until everything before them is credited.
    acks: BTreeMap<u64, (Message, u64)>,
}

impl Oath {
    /// A device says how far it is.
    pub fn acknowledges(&mut self, device: usize, seq: u64) {
        let had = self.devices.entry(device).or_default();
        had.acknowledged = had.acknowledged.max(seq);
    }

    /// What was sent on an older connection has no answer on the new one.
    pub fn forgets_connection(&mut self, device: usize) {
        let had = self.had(device);
        had.open.clear();
        had.refused.clear();
    }

    /// A message has its answer, or needs none any more. With `wait` it is to come again.
    pub fn is_answered(&mut self, device: usize, number: u64, wait: bool) {
        let had = self.had(device);
        had.open.remove(&number);
        if wait {
            had.refused.insert(number);
        }
    }

    fn had(&mut self, device: usize) -> &mut Had {
        self.devices.entry(device).or_default()
    }

    /// Everything up to here a device has had that goes by what its socket takes.
    pub fn credited(&self, device: usize) -> u64 {
        self.devices.get(&device).map_or(0, |had| had.credited)
    }
}

impl World {
    fn records(&mut self, event: Event) {
        self.tell(|| format!("{event:?}"));
        let at = Duration::from_micros(self.now());
        self.oath.history.records.push(Record { at, event });
    }

    /// A message is on its way to its relay.
    pub fn records_sent(&mut self, device: usize, number: u64, to: Account) {
        self.records(Event::Sent { message: Message { from: device, number }, to });
    }

    /// A message is about to be sent: after a refusal none is.
    pub fn goes_out(&mut self, device: usize, number: u64) {
        let had = self.oath.had(device);
        had.open.insert(number);
        if let Some(refused) = had.refused.first() {
            let wrong = format!("{device}-{number} is sent, and {refused} was refused");
            self.wrong(&wrong);
        }
    }

    /// What was refused is about to be sent again: when every answer has come.
    pub fn tries_again(&mut self, device: usize) {
        let had = self.oath.had(device);
        had.refused.clear();
        if let Some(open) = had.open.first() {
            let wrong = format!("device {device} sends again, and {open} has no answer");
            self.wrong(&wrong);
        }
    }

    /// A refusal has come.
    pub fn records_refusal(&mut self, device: usize, number: u64) {
        let message = Message { from: device, number };
        let sent = |record: &Record| matches!(record.event, Event::Sent { message: of, .. } if of == message);
        // One to nobody is no part of the history.
        if self.oath.history.records.iter().rev().any(sent) {
            self.records(Event::Refused { message });
        }
    }

    /// An application knows that its message is stored.
    pub fn records_ack(&mut self, device: usize, message: Message, stanza_id: u64, seq: u64) {
        debug_assert_eq!(device, message.from);
        self.records(Event::Acked { message, stanza_id: stanza_id.to_string(), seq });
    }

    /// A device that does not go by places is told that its message is stored.
    pub fn records_plain_ack(&mut self, device: usize, message: Message, stanza_id: u64) {
        let (account, resource) = (self.devices[device].account, self.devices[device].resource.clone());
        let stored = self.store.sent(account, &resource, &message.number.to_string());
        let Some((_, seq)) = stored.filter(|(known, _)| *known == stanza_id) else {
            return self.wrong(&format!("{message} was acknowledged and is not stored"));
        };
        if seq <= self.oath.credited(device) {
            self.records_ack(device, message, stanza_id, seq);
        } else {
            self.oath.had(device).acks.insert(seq, (message, stanza_id));
        }
    }

    /// A device has read a message.
    pub fn records_delivery(&mut self, device: usize, message: Message, stanza_id: u64, seq: u64) {
        self.records(Event::Delivered { device, message, stanza_id: stanza_id.to_string(), seq });
    }

    /// A relay has welcomed a device.
    pub fn records_online(&mut self, device: usize, relay: usize) {
        self.records(Event::Online { device, relay: u16::try_from(relay).expect("few relays") });
    }

    /// It has no relay any more.
    pub fn records_offline(&mut self, device: usize) {
        self.records(Event::Offline { device });
    }

    /// From now until then messages may be delayed.
    pub fn records_disturbance(&mut self, until: Time) {
        let (from, until) = (Duration::from_micros(self.now()), Duration::from_micros(until));
        self.oath.history.disturbances.push(Disturbance { from, until, place: Place::Everywhere });
    }

    /// A relay is about to say that a message is stored: is it?
    pub fn is_stored(&mut self, device: usize, number: u64, stanza_id: u64, sent: u64) {
        let me = &self.devices[device];
        let stored = self.store.sent(me.account, &me.resource, &number.to_string());
        if stored != Some((stanza_id, sent)) {
            self.wrong(&format!("{device}-{number} is acknowledged at {sent} and stored is {stored:?}"));
        }
    }

    /// A socket takes a line.
    pub fn is_taken(&mut self, conn: ConnId, line: &ToDevice) {
        let device = self.conns[conn].device;
        if self.devices[device].manner.resumes {
            match line {
                ToDevice::Entry { seq, .. } => self.is_next(conn, *seq),
                ToDevice::Acks(acks) => {
                    for ack in Ack::read(acks) {
                        // What was told before may be repeated at any time.
                        if ack.seq > self.oath.sent.get(&conn).copied().unwrap_or_default() {
                            self.is_next(conn, ack.seq);
                        }
                    }
                }
                _ => {}
            }
            return;
        }
        let ToDevice::Entry { seq, entry } = line else { return };
        let last = self.oath.sent.insert(conn, *seq).unwrap_or_default();
        if *seq <= last {
            self.wrong(&format!("connection {conn} is sent {seq} after {last}"));
        }
        if self.devices[device].hides(entry) {
            self.wrong(&format!("device {device} is shown {entry:?}"));
        }
        self.oath.had(device).taken.insert(*seq);
        self.credits(device);
    }

    /// A device that goes by places is sent its log, one place after the other.
    fn is_next(&mut self, conn: ConnId, seq: u64) {
        let last = self.oath.sent.insert(conn, seq).unwrap_or_default();
        if seq != last + 1 {
            self.wrong(&format!("connection {conn} is sent place {seq} after {last}"));
        }
    }

    /// A relay begins to read for a connection.
    pub fn begins(&mut self, conn: ConnId, after: u64) {
        self.oath.sent.insert(conn, after);
        let device = self.conns[conn].device;
        let credited = self.oath.credited(device);
        if !self.devices[device].manner.resumes && after > credited {
            self.wrong(&format!(
                "connection {conn} begins after {after}, device {device} has had {credited}"
            ));
        }
    }

    /// A relay has read on for a connection.
    pub fn has_read(&mut self, conn: ConnId) {
        let (device, read) = (self.conns[conn].device, self.read_up_to(conn));
        let had = self.oath.had(device);
        had.passed = had.passed.max(read);
        self.credits(device);
    }

    fn credits(&mut self, device: usize) {
        if self.devices[device].manner.resumes {
            return;
        }
        loop {
            let account = self.devices[device].account;
            let next = self.oath.credited(device) + 1;
            let Some(entry) = self.store.page(account, next - 1, 1).pop().map(|(_, entry)| entry) else {
                return;
            };
            let hidden = self.devices[device].hides(&entry);
            let had = self.oath.had(device);
            if !(had.taken.contains(&next) || hidden && next <= had.passed) {
                return;
            }
            self.credit(device, next, message_of(&entry), entry.stanza_id);
        }
    }

    fn credit(&mut self, device: usize, seq: u64, message: Message, stanza_id: u64) {
        let had = self.oath.had(device);
        had.credited = seq;
        if let Some((message, stanza_id)) = had.acks.remove(&seq) {
            return self.records_ack(device, message, stanza_id, seq);
        }
        if message.from != device {
            self.records_delivery(device, message, stanza_id, seq);
        }
    }

    /// A device logs in. What was written before a device that has a name is there is history.
    pub fn logs_in(&mut self, device: usize) {
        let me = &self.devices[device];
        let (account, resource, named) = (me.account, me.resource.clone(), me.is_named());
        let new = self.store.logs_in(account, &resource, named);
        if new && named && !me.manner.resumes {
            let after = self.oath.credited(device);
            for (seq, entry) in self.store.page(account, after, usize::MAX) {
                self.credit(device, seq, message_of(&entry), entry.stanza_id);
            }
        }
    }

    /// A cursor is about to be moved: may it?
    pub fn moves(&mut self, account: Account, resource: &str, seq: u64) {
        let is = |device: &super::device::Device| device.account == account && device.resource == resource;
        let Some(device) = self.devices.iter().position(is) else {
            return self.wrong(&format!("{} has no device {resource}", name_of(account)));
        };
        let had = self.oath.had(device);
        // What it has read on an older connection it may acknowledge on a newer one.
        let most = if self.devices[device].manner.resumes { had.acknowledged } else { had.credited };
        if seq > most {
            self.wrong(&format!("the cursor of device {device} is moved to {seq}, it has had {most}"));
        }
        self.store.move_cursor(account, resource, seq);
    }

    /// Whether there is nothing left to do.
    pub fn is_settled(&self) -> bool {
        self.devices.iter().enumerate().all(|(number, device)| {
            let head = self.store.head(device.account);
            let had = device.manner.resumes || self.oath.credited(number) == head;
            device.is_settled(head) && had && device.conn.is_some_and(|conn| self.is_alive(conn))
        })
    }

    /// What must be so in the end.
    pub fn closes(&mut self) {
        for device in 0..self.devices.len() {
            let me = &self.devices[device];
            let head = self.store.head(me.account);
            let cursor = self.store.cursor(me.account, &me.resource, me.is_named());
            if cursor != head {
                self.wrong(&format!(
                    "the cursor of device {device} stays at {cursor}, its log ends at {head}"
                ));
            }
        }
        for account in 0..self.store.logs.len() {
            let mut known = BTreeMap::new();
            for (seq, entry) in self.store.page(account, 0, usize::MAX) {
                if let Some(before) = known.insert(entry.stanza.clone(), seq) {
                    let name = name_of(account);
                    self.wrong(&format!("{name} has {} at {before} and {seq}", entry.stanza));
                }
            }
        }
    }
}
