//! A device: what `kurir_client` does between the rules of [`kurir_delivery`], and its application.

mod connection;

use std::collections::{BTreeSet, VecDeque};

use kurir_delivery::inbox::Inbox;
use kurir_delivery::queue::{Next, Queue, Queued};
use kurir_protocol::relay::Resume;

use super::net::Part;
use super::relay::LOG;
use super::schedule::{MS, S, Time};
use super::store::{Account, Entry};
use super::wire::{ConnId, FromDevice};
use super::world::{Event, World};
use crate::checker::history;

/// A device that has so many messages unsettled writes no more.
const MOST_UNSETTLED: usize = 15;

/// Silent for so long: it asks; and then it goes.
const SILENT: Time = 5 * S;
const GONE: Time = 8 * S;
const LOOK: Time = S;

/// A device leaves its relay by itself once in so many looks.
const LEAVES: usize = 40;

/// A device.
#[derive(Debug)]
pub struct Device {
    /// Whose.
    pub account: Account,
    /// What it is called.
    pub resource: String,
    /// How it reads.
    pub manner: Manner,
    /// Counts starts.
    pub life: u32,
    /// Its process runs.
    pub is_up: bool,
    /// It reads nothing before then.
    pub slow: Time,
    /// Which connection it uses.
    pub conn: Option<ConnId>,
    /// It has said hello there, and uses the other one until it is welcomed.
    pub joining: Option<ConnId>,
    heard: Time,
    queue: Queue<u64>,
    inbox: Inbox,
    goes_on: bool,
    disk: Disk,
    writing: Option<(Disk, Vec<u64>)>,
    /// Something is to be written; of which these are messages that wait for it.
    dirty: bool,
    unsaved: Vec<u64>,
    place: u64,
    outlet: VecDeque<News>,
    taken: u64,
    put: u64,
    /// What the application knows, whatever happens.
    app: Application,
}

/// How a device reads.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It goes by places; otherwise it reads as the original does.
    pub resumes: bool,
    /// Its application keeps the place itself.
    pub keeps_place: bool,
}

/// What outlives the process.
#[derive(Clone, Debug)]
struct Disk {
    queued: Vec<Queued<u64>>,
    place: u64,
}

#[derive(Debug, Default)]
struct Application {
    /// The number of its last message.
    last: u64,
    /// The last place that it has taken something from.
    seen: u64,
    /// What came up to here may come again, since the process was killed.
    again: u64,
    acked: BTreeSet<u64>,
}

/// What the application is told.
#[derive(Debug)]
struct News {
    seq: u64,
    stanza_id: u64,
    message: history::Message,
    stored: bool,
}

impl Device {
    /// A new device.
    pub fn new(account: Account, resource: &str, manner: Manner) -> Device {
        Device {
            account,
            resource: resource.into(),
            manner,
            life: 0,
            is_up: true,
            slow: 0,
            conn: None,
            joining: None,
            heard: 0,
            queue: Queue::load([]),
            inbox: Inbox::new(place(0)),
            goes_on: false,
            disk: Disk { queued: Vec::new(), place: 0 },
            writing: None,
            dirty: false,
            unsaved: Vec::new(),
            place: 0,
            outlet: VecDeque::new(),
            taken: 0,
            put: 0,
            app: Application::default(),
        }
    }

    /// Whether it logs in with a `resource`.
    pub fn is_named(&self) -> bool {
        self.resource != "default"
    }

    /// Whether it is not shown an entry: its own, and of a client of the original what another device sent to others.
    pub fn hides(&self, entry: &Entry) -> bool {
        let own = entry.sent_by.as_deref() == Some(&self.resource);
        let copy = entry.sent_by.is_some() && entry.to != self.account;
        own || !self.manner.resumes && !self.is_named() && copy
    }

    /// Nothing is on its way from it or to its application.
    pub fn is_settled(&self, head: u64) -> bool {
        let read = !self.manner.resumes || self.place == head && self.outlet.is_empty();
        self.queue.is_idle() && self.writing.is_none() && !self.dirty && read
    }
}

fn place(seq: u64) -> Resume {
    Resume { seq, log: Some(LOG.into()) }
}

impl World {
    // The application.

    /// It writes a message, to any account or to nobody.
    pub fn writes(&mut self, device: usize) {
        if self.now() >= self.calm {
            return;
        }
        let after = 20 * MS + self.random(self.pace);
        self.later(after, Event::Writes(device));
        let me = &mut self.devices[device];
        if !me.is_up || me.queue.iter().count() >= MOST_UNSETTLED {
            return;
        }
        me.app.last += 1;
        let number = me.app.last;
        let to = (!self.dice.once_in(40)).then(|| self.dice.below(self.store.logs.len()));
        let stanza = to.map_or_else(String::new, |to| to.to_string());
        let me = &mut self.devices[device];
        if me.queue.push(Queued { id: number, since_ms: 0, stanza }).is_ok() {
            me.unsaved.push(number);
            me.dirty = true;
        }
        self.goes(device);
    }

    /// It takes the next thing that has come.
    pub fn takes(&mut self, device: usize, life: u32) {
        let me = &mut self.devices[device];
        let Some(News { seq, stanza_id, message, stored }) =
            me.outlet.pop_front().filter(|_| me.life == life)
        else {
            return;
        };
        me.taken += 1;
        let known = seq <= me.app.again && seq <= me.app.seen;
        me.app.seen = me.app.seen.max(seq);
        let own = message.from == device;
        // One's own that comes back without an ack that was heard of is the ack.
        let acked = own && (stored || !me.app.acked.contains(&message.number));
        let more = !me.outlet.is_empty();
        if acked {
            me.app.acked.insert(message.number);
            self.records_ack(device, message, stanza_id, seq);
        } else if !known {
            self.records_delivery(device, message, stanza_id, seq);
        }
        if more {
            self.takes_later(device);
        }
        self.goes(device);
    }

    fn takes_later(&mut self, device: usize) {
        let (life, after) = (self.devices[device].life, 50 + self.random(5 * MS));
        self.later(after, Event::Takes { device, life });
    }

    fn tells(&mut self, device: usize, news: News) {
        let me = &mut self.devices[device];
        me.put += 1;
        me.outlet.push_back(news);
        if me.outlet.len() == 1 {
            self.takes_later(device);
        }
    }

    // The library.

    /// What follows, after whatever happened.
    fn goes(&mut self, device: usize) {
        let me = &mut self.devices[device];
        me.inbox.took(me.taken);
        self.keeps(device);
        let me = &mut self.devices[device];
        if !me.goes_on && me.queue.can_go_on() {
            me.goes_on = true;
            let (life, after) = (me.life, 50 * MS + self.random(300 * MS));
            self.later(after, Event::GoesOn { device, life });
        }
        self.sends_queued(device);
    }

    fn keeps(&mut self, device: usize) {
        let me = &mut self.devices[device];
        let seq = if me.manner.resumes { me.inbox.place().seq } else { 0 };
        if me.writing.is_some() || !(me.dirty || seq != me.place) {
            return;
        }
        me.dirty = false;
        let disk = Disk { queued: me.queue.iter().cloned().collect(), place: seq };
        me.writing = Some((disk, std::mem::take(&mut me.unsaved)));
        let (life, after) = (me.life, 100 + self.random(4 * MS));
        self.later(after, Event::Saved { device, life });
    }

    /// A write to the disk is over.
    pub fn saved(&mut self, device: usize, life: u32) {
        let me = &mut self.devices[device];
        if me.life != life {
            return;
        }
        let Some((disk, ids)) = me.writing.take() else { return };
        for id in ids {
            me.queue.saved(id);
        }
        let moved = disk.place != me.place;
        (me.place, me.disk) = (disk.place, disk);
        if let Some(conn) = me.conn.filter(|_| moved) {
            self.acks(device, conn);
        }
        self.goes(device);
    }

    fn acks(&mut self, device: usize, conn: ConnId) {
        let seq = self.devices[device].place;
        if seq > 0 {
            self.oath.acknowledges(device, seq);
            self.sends(conn, FromDevice::Ack(seq));
        }
    }

    fn sends_queued(&mut self, device: usize) {
        let Some(conn) = self.devices[device].conn else { return };
        loop {
            let me = &mut self.devices[device];
            match me.queue.next(0) {
                Next::Send { queued, .. } => {
                    let (number, to) = (queued.id, queued.stanza.parse().ok());
                    if !me.disk.queued.iter().any(|kept| kept.id == number) {
                        self.wrong(&format!("{device}-{number} is sent and not on disk"));
                    }
                    self.goes_out(device, number);
                    if let Some(to) = to {
                        self.records_sent(device, number, to);
                    }
                    self.sends(conn, FromDevice::Message { number, to });
                }
                Next::Reconnect => return self.leaves(device),
                Next::Ask(_) => return self.wrong("nothing is old here, and the archive is asked"),
                Next::Nothing => return,
            }
        }
    }

    /// What was refused is sent again.
    pub fn goes_on(&mut self, device: usize, life: u32) {
        let me = &mut self.devices[device];
        if me.life == life && std::mem::replace(&mut me.goes_on, false) {
            me.queue.go_on();
            self.tries_again(device);
            self.goes(device);
        }
    }

    fn sends(&mut self, conn: ConnId, what: FromDevice) {
        self.sends_up(conn, Event::Up { conn, what });
    }

    fn sends_up(&mut self, conn: ConnId, event: Event) {
        let (relay, device, now) = (self.conns[conn].relay, self.conns[conn].device, self.now());
        let way = (Part::Device(device), Part::Relay(relay));
        if let Some(at) = self.net.on(&mut self.conns[conn].up, way, now, &mut self.dice) {
            self.schedule.at(at, event);
        }
    }
}

/// Which message an entry is.
pub fn message_of(entry: &Entry) -> history::Message {
    let (from, number) = entry.stanza.split_once('-').expect("a device and a number");
    let (from, number) = (from.parse().expect("a device"), number.parse().expect("a number"));
    history::Message { from, number }
}
