//! A relay: what `relay::{tracked, readers, session}` do between the rules of [`kurir_delivery`].

mod readers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex};

use kurir_delivery::order::Order;
use kurir_delivery::page::Writing;
use kurir_delivery::reading::{Device as Reads, Reading};
use kurir_delivery::storing::{ANSWER, Batch, Message, Outcome, Sender, Waiting};
use kurir_protocol::relay::Resume;

use super::outbox::Outbox;
use super::schedule::{MS, S, Time};
use super::store::{Account, Appended, Entry, name_of};
use super::wire::{Ack, ConnId, FromDevice, Request, Response, ToDevice};
use super::world::{Event, World};

/// What may wait to be stored. Little, so that it is full now and then.
const TRACKED_BYTES: usize = 20 * 280;

/// As in `relay::readers`.
const READ_ANSWER: Time = 3 * S;
const RETRY: (Time, Time) = (100 * MS, 2 * S);
const ASK_EVERY: Time = 4 * S;
const STORE_EVERY: Time = 100 * MS;

/// Lines that a socket takes before its device reads one.
const SOCKET: usize = 6;

/// The one log of each account.
pub const LOG: &str = "log";

/// A relay.
#[derive(Debug)]
pub struct Relay {
    /// Counts starts.
    pub life: u32,
    /// It is not there.
    pub is_down: bool,
    /// Until then it is told of no log that has grown.
    pub hears_nothing: Time,
    /// The manager that stored last.
    pub stores_at: Option<usize>,
    /// The one that answered anything else last.
    pub reads_at: Option<usize>,
    conns: BTreeMap<ConnId, Client>,
    waiting: Waiting<Origin>,
    storing: Option<(Batch<Origin>, usize)>,
    moved: BTreeSet<ConnId>,
    stores_soon: bool,
}

/// Whose a message is.
#[derive(Debug)]
pub struct Origin {
    conn: ConnId,
    order: Mutex<Order>,
}

impl Sender for Origin {
    fn order(&self) -> impl DerefMut<Target = Order> {
        self.order.lock().expect("one thread")
    }
}

/// A connection as its relay knows it.
#[derive(Debug)]
struct Client {
    sender: Arc<Origin>,
    reading: Reading,
    outbox: Outbox,
    reader: Reader,
    pause: Time,
}

/// What the task is at that reads a log.
#[derive(Debug)]
enum Reader {
    /// There is none.
    None,
    /// A page is asked for, or is to be after a pause.
    Reads,
    /// The device is to catch up first.
    Writes(Box<Page>),
    /// The same, before another page is read.
    GoesOn { found: bool },
}

/// A page that is being written.
#[derive(Debug)]
struct Page {
    writing: Writing,
    last: u64,
    entries: Vec<(u64, Entry)>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// Whose.
    pub relay: usize,
    /// Which life of it.
    pub life: u32,
    /// Whom it asks.
    pub manager: usize,
    /// Whom it asks then.
    pub left: Vec<usize>,
    /// What.
    pub request: Request,
    /// What for.
    pub purpose: Purpose,
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// The messages under way.
    Store,
    /// A reader.
    Read(ConnId),
    /// Everybody.
    Ask,
    /// These, whose cursors are there then.
    Cursors(Vec<(ConnId, u64)>),
}

impl Default for Relay {
    fn default() -> Self {
        Relay {
            life: 0,
            is_down: false,
            hears_nothing: 0,
            stores_at: None,
            reads_at: None,
            conns: BTreeMap::new(),
            waiting: Waiting::new(TRACKED_BYTES),
            storing: None,
            moved: BTreeSet::new(),
            stores_soon: false,
        }
    }
}

impl World {
    /// The process is gone, with all it knew.
    pub fn relay_dies(&mut self, relay: usize) {
        let life = self.relays[relay].life + 1;
        let dead =
            std::mem::replace(&mut self.relays[relay], Relay { life, is_down: true, ..Relay::default() });
        for conn in dead.conns.into_keys() {
            // Of a machine that is gone nobody says so.
            if !self.dice.once_in(4) {
                let after = self.random(20 * MS);
                self.later(after, Event::Closed(conn));
            }
        }
    }

    /// It is there again, and knows nothing.
    pub fn relay_starts(&mut self, relay: usize) {
        self.tell(|| format!("relay {relay} is up"));
        self.relays[relay].is_down = false;
        let (life, after) = (self.relays[relay].life, self.random(ASK_EVERY));
        self.later(after, Event::Asks { relay, life });
    }

    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        let relay = &mut self.relays[self.conns[conn].relay];
        relay.conns.get_mut(&conn)
    }

    /// Whether both ends have this connection, and everything passes.
    pub fn is_alive(&self, conn: ConnId) -> bool {
        let client = self.relays[self.conns[conn].relay].conns.get(&conn);
        let open = client.is_some_and(|client| !client.outbox.is_closed());
        open && !self.conns[conn].up.is_torn() && !self.conns[conn].down.is_torn()
    }

    // What comes from devices.

    /// Something arrives.
    pub fn comes_up(&mut self, conn: ConnId, what: &FromDevice) {
        let (relay, device) = (self.conns[conn].relay, self.conns[conn].device);
        if self.relays[relay].is_down || self.relays[relay].life != self.conns[conn].relay_life {
            return;
        }
        if let FromDevice::Hello { resume } = *what {
            return self.admits(conn, resume);
        }
        let Some(client) = self.client(conn).filter(|client| !client.outbox.is_closed()) else { return };
        match *what {
            FromDevice::Hello { .. } => {}
            FromDevice::Ping => {
                client.outbox.reply(ToDevice::Pong);
                self.pumps(conn);
            }
            FromDevice::Ack(seq) => {
                if client.reading.acknowledged(seq) {
                    self.moved(conn);
                }
            }
            FromDevice::Message { number, to } => {
                let sender = Arc::clone(&client.sender);
                let Some(message) = self.message(device, number, to) else { return };
                if self.relays[relay].waiting.send(&sender, message).is_ok() {
                    self.stores_next(relay);
                } else {
                    self.tell(|| format!("relay {relay} refuses {device}-{number} at once"));
                    self.replies(conn, ToDevice::Wait(number));
                }
            }
        }
    }

    fn message(&self, device: usize, number: u64, to: Option<Account>) -> Option<Message> {
        let from = self.devices.get(device)?;
        Some(Message {
            from: name_of(from.account),
            device: from.resource.clone(),
            id: number.to_string(),
            to: to.map_or_else(|| "nobody".into(), name_of),
            stanza: format!("{device}-{number}"),
            accepted_us: 0,
        })
    }

    fn admits(&mut self, conn: ConnId, resume: Option<u64>) {
        let (relay, device) = (self.conns[conn].relay, self.conns[conn].device);
        let me = &self.devices[device];
        if !self.store.has(me.account, &me.resource) {
            // It was removed, and its login ended, while it was on its way here.
            return self.sends_down(conn, Event::Closed(conn));
        }
        let before = self.routes.insert(device, conn);
        if let Some(before) = before {
            // At another relay that takes the time of a word from here to there.
            let most = if self.conns[before].relay == relay { 1 } else { 300 * MS };
            let after = self.random(most);
            self.later(after, Event::Displaced(before));
        }
        let reads = resume.map_or(Reads::Plain, |seq| Reads::Resuming(Resume { seq, log: Some(LOG.into()) }));
        let client = Client {
            sender: Arc::new(Origin { conn, order: Mutex::default() }),
            reading: Reading::new(reads),
            outbox: Outbox::default(),
            reader: Reader::Reads,
            pause: RETRY.0,
        };
        self.relays[relay].conns.insert(conn, client);
        self.reads_page(conn);
    }

    /// The connection is over.
    pub fn ends(&mut self, conn: ConnId) {
        let Some(client) = self.client(conn) else { return };
        if client.outbox.is_closed() {
            return;
        }
        self.pumps(conn);
        if let Some(client) = self.client(conn) {
            client.outbox.close();
            client.reader = Reader::None;
        }
        self.sends_down(conn, Event::Closed(conn));
        self.moved(conn);
        let relay = self.conns[conn].relay;
        self.stores_some(relay, &[conn]);
    }

    fn replies(&mut self, conn: ConnId, what: ToDevice) {
        if let Some(client) = self.client(conn) {
            client.outbox.reply(what);
            self.pumps(conn);
        }
    }

    // Storing.

    fn stores_next(&mut self, relay: usize) {
        while self.relays[relay].storing.is_none() {
            let Some(mut batch) = self.relays[relay].waiting.take() else { return };
            let bytes = batch.bytes();
            for refused in batch.take_refused() {
                self.replies(refused.from.conn, ToDevice::Wait(number(&refused.message)));
            }
            let messages: Vec<Message> = batch.messages().cloned().collect();
            if messages.is_empty() {
                self.relays[relay].waiting.done(bytes);
                continue;
            }
            self.relays[relay].storing = Some((batch, bytes));
            let first = self.relays[relay].stores_at;
            self.begins_call(relay, first, Purpose::Store, Request::Append(messages));
        }
    }

    fn settles(&mut self, relay: usize, appended: Option<Vec<Appended>>) {
        let Some((batch, bytes)) = self.relays[relay].storing.take() else { return };
        let outcomes =
            appended.map(|appended| appended.into_iter().map(|appended| outcome(&appended)).collect());
        for (pending, outcome) in batch.settle(outcomes) {
            let (conn, number) = (pending.from.conn, number(&pending.message));
            match outcome {
                Outcome::Stored((stanza_id, sent)) => self.acknowledges(conn, number, stanza_id, sent),
                Outcome::NoAccount => self.replies(conn, ToDevice::NoAccount(number)),
                Outcome::Conflict => self.wrong(&format!("{} is a conflict", pending.message.stanza)),
                Outcome::Unknown => self.replies(conn, ToDevice::Wait(number)),
            }
        }
        self.relays[relay].waiting.done(bytes);
        self.stores_next(relay);
    }

    fn acknowledges(&mut self, conn: ConnId, number: u64, stanza_id: u64, sent: u64) {
        self.is_stored(self.conns[conn].device, number, stanza_id, sent);
        let Some(client) = self.client(conn) else { return };
        let seq = if client.reading.is_plain() { 0 } else { sent };
        let ack = Ack { number, stanza_id, seq }.write();
        if let Some(ack) = client.reading.stored(sent, ack) {
            self.replies(conn, ToDevice::Acks(ack));
        } else if client.reading.hear(sent) {
            self.begins_reading(conn);
        }
    }

    // Calling.

    fn begins_call(&mut self, relay: usize, first: Option<usize>, purpose: Purpose, request: Request) {
        let attached = (0..self.managers.len()).filter(|manager| !self.managers[*manager].is_down);
        let mut managers: Vec<usize> = attached.collect();
        managers.sort_by_key(|manager| Some(*manager) != first);
        if managers.is_empty() {
            return self.called_back(relay, purpose, Response::Failed);
        }
        let life = self.relays[relay].life;
        self.calls_next(Call { relay, life, manager: 0, left: managers, request, purpose });
    }

    /// The next manager is asked.
    pub fn calls_next(&mut self, mut call: Call) {
        call.manager = call.left.remove(0);
        self.called += 1;
        let (id, relay, manager, request) = (self.called, call.relay, call.manager, call.request.clone());
        self.tell(|| format!("relay {relay} calls manager {manager}, {id}: {request:?}"));
        let store = Time::try_from(ANSWER.as_micros()).expect("seconds");
        let deadline = if matches!(call.purpose, Purpose::Store) { store } else { READ_ANSWER };
        self.calls.insert(id, call);
        self.later(deadline, Event::Deadline(id));
        self.call(id, relay, manager, request);
    }

    /// A call is over: one manager has answered, or none.
    pub fn called_back(&mut self, relay: usize, purpose: Purpose, response: Response) {
        match (purpose, response) {
            (Purpose::Store, Response::Appended(appended)) => self.settles(relay, Some(appended)),
            (Purpose::Store, _) => self.settles(relay, None),
            (Purpose::Read(conn), Response::Page { after, last, entries }) => {
                self.writes_page(conn, after, last, entries);
            }
            (Purpose::Read(conn), _) => self.pauses(conn),
            (Purpose::Ask, Response::Heads(heads)) => self.hears(relay, &heads),
            (Purpose::Ask, _) => {}
            (Purpose::Cursors(cursors), Response::Moved) => {
                for (conn, seq) in cursors {
                    if let Some(client) = self.client(conn) {
                        client.reading.cursor_is_stored(seq);
                    }
                }
            }
            (Purpose::Cursors(cursors), _) => {
                for (conn, _) in cursors {
                    self.relays[relay].moved.insert(conn);
                }
                self.stores_after(relay, RETRY.1);
            }
        }
    }
}

fn number(message: &Message) -> u64 {
    message.id.parse().expect("a number")
}

fn outcome(appended: &Appended) -> Outcome<(u64, u64)> {
    match *appended {
        Appended::Stored { stanza_id, sent } => Outcome::Stored((stanza_id, sent)),
        Appended::Conflict => Outcome::Conflict,
        Appended::NoAccount => Outcome::NoAccount,
    }
}
