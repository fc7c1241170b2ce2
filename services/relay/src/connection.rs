//! A client connection that has said hello, as the rest of the relay sees it.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use kurir_delivery::{order::Order, reading::Reading, storing::Sender};
use kurir_protocol::{
    name::{Address, LoginId, Resource},
    relay::{for_device, is_plain},
    replies::{self, StreamCondition},
};
use kurir_service::leave::Guest;
use kurir_socket::{Closed, Outbox, outbox::Fill};
use kurir_trail::Device;
use prometheus_client::metrics::counter::Counter;

/// A client whose device has another connection now closes this one by itself, once it knows: so long it is served.
const PARTING: Duration = Duration::from_secs(1);

/// One admitted device. Small: there is one for every user who is online.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Case-mapped.
    pub(crate) user: Box<str>,
    /// What is written as `from`: the name as registered, and of a named device its full address.
    pub(crate) name: Box<str>,
    pub(crate) resource: Resource,
    pub(crate) login: LoginId,
    /// Its number in the routing table.
    pub(crate) number: u64,
    pub(crate) outbox: Arc<Outbox>,
    /// Whether it is all that the user has, as far as is known here: whoever has found it before may go on writing to it
    /// alone. Set with the routing table's lock held.
    alone: AtomicBool,
    /// The client has used Part II beyond its ticket.
    part_two: AtomicBool,
    /// Questions of [`crate::lookup::LookUps`] that are open for its messages.
    pub(crate) lookups: AtomicU32,
    /// Its messages whose fate is open: [`Author`].
    undecided: AtomicU32,
    not_delivered: Counter,
    /// How far it has been sent its account's log. Never locked while the outbox is.
    pub(crate) reading: Mutex<Reading>,
    /// In which order its own tracked messages are stored.
    pub(crate) order: Mutex<Order>,
    /// When it said hello, in microseconds since the Unix epoch.
    since_us: i64,
    /// Who it is in the trail, once there is something to note.
    traced: OnceLock<Arc<Device>>,
}

/// Who has sent a message whose fate is open, for as long as it is.
#[derive(Debug)]
pub(crate) struct Author(Arc<Connection>);

impl Author {
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        connection.undecided.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Deref for Author {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        self.0.undecided.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who a connection is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Case-mapped.
    pub(crate) user: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) resource: Resource,
    pub(crate) login: LoginId,
    pub(crate) number: u64,
}

impl Connection {
    /// `not_delivered` counts what it was told of by R15.
    pub(crate) fn new(
        identity: Identity,
        outbox: Arc<Outbox>,
        reading: Reading,
        not_delivered: Counter,
    ) -> Arc<Self> {
        let Identity { user, name, resource, login, number } = identity;
        Arc::new(Self {
            user,
            name,
            resource,
            login,
            number,
            outbox,
            alone: AtomicBool::new(true),
            part_two: AtomicBool::new(false),
            lookups: AtomicU32::default(),
            undecided: AtomicU32::default(),
            not_delivered,
            reading: Mutex::new(reading),
            order: Mutex::default(),
            since_us: kurir_trail::now_us(),
            traced: OnceLock::new(),
        })
    }

    /// Appends a canonical message without LF, as this device reads it, without waking the connection's task.
    pub(crate) fn deliver(&self, stanza: &[u8]) -> Result<Fill, Closed> {
        if !self.resource.is_named() && is_plain(stanza) {
            return self.outbox.push_with(|out| {
                out.extend_from_slice(stanza);
                out.push(b'\n');
            });
        }
        // Relays write text.
        let stanza = str::from_utf8(stanza).unwrap_or_default();
        self.outbox.push_with(|out| {
            self.render(stanza, Some(&self.name), out);
            out.push(b'\n');
        })
    }

    /// Writes a canonical message as this device reads it, without LF. `to`: its own address; none for what another of the
    /// user's devices has sent.
    pub(crate) fn render(&self, stanza: &str, to: Option<&str>, out: &mut Vec<u8>) {
        for_device(stanza, Address::of(&self.name).domain, to, out);
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub(crate) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Its login is over, or the device was removed. A client of the original is only closed.
    pub(crate) fn ended(&self) {
        self.close("", StreamCondition::NotAuthorized);
    }

    /// Another connection has the device. A newer login of a named device says so; a client of the original is only closed. What
    /// the client has sent, and sends until it knows, is handled.
    pub(crate) fn displaced(&self, by_newer_login: bool) {
        self.note_written();
        self.outbox.part(self.farewell(by_newer_login), PARTING);
    }

    /// As [`Connection::displaced`], found out late: nothing more is done for it.
    pub(crate) fn lost_its_device(&self, by_newer_login: bool) {
        self.note_written();
        self.outbox.close(&self.farewell(by_newer_login));
    }

    fn farewell(&self, by_newer_login: bool) -> String {
        if !by_newer_login {
            return String::new();
        }
        let reply = if self.resource.is_named() { replies::CONFLICT } else { "" };
        self.last_words(reply, StreamCondition::Conflict)
    }

    /// The client knows more than the original.
    pub(crate) fn used_part_two(&self) {
        if !self.part_two.load(Ordering::Relaxed) {
            self.part_two.store(true, Ordering::Relaxed);
        }
    }

    fn speaks_part_two(&self) -> bool {
        self.part_two.load(Ordering::Relaxed) || self.resource.is_named() || !self.reading().is_plain()
    }

    /// How far the socket has taken the log, as far as that can be told: if nothing waits to be written. False: something does.
    pub(crate) fn note_written(&self) -> bool {
        let read = self.reading().seq();
        // What was read before is written, if nothing waits now.
        let written = self.outbox.is_written();
        if let Some(seq) = read
            && written
        {
            self.reading().written(seq);
        }
        written
    }

    fn close(&self, reply: &str, why: StreamCondition) {
        // These words are not of the log: while they wait it could not be told what of it is written.
        self.note_written();
        self.outbox.close(&self.last_words(reply, why));
    }

    /// Says why: a device that has a name, or reads by places, is told in Part II's words as well as in `reply`.
    fn last_words(&self, reply: &str, why: StreamCondition) -> String {
        let part_two = self.resource.is_named() || !self.reading().is_plain();
        replies::last_words(reply, part_two.then_some(why))
    }

    /// Of a user's default device at its first login, without a socket.
    #[cfg(test)]
    pub(crate) fn alone(user: &str, number: u64, outbox: Arc<Outbox>) -> Arc<Self> {
        Self::of_device(user, Resource::default_device(), number, outbox)
    }

    #[cfg(test)]
    pub(crate) fn of_device(user: &str, resource: Resource, number: u64, outbox: Arc<Outbox>) -> Arc<Self> {
        let identity =
            Identity { user: user.into(), name: user.into(), resource, login: LoginId(number), number };
        let reading = Reading::new(kurir_delivery::reading::Device::Plain);
        Self::new(identity, outbox, reading, Counter::default())
    }

    /// Who it is in the trail.
    pub(crate) fn device(&self) -> &Arc<Device> {
        self.traced.get_or_init(|| {
            Arc::new(Device::new(&self.user, self.resource.as_str(), self.number, self.since_us))
        })
    }

    /// The same, if anything was noted of it.
    pub(crate) fn traced(&self) -> Option<&Arc<Device>> {
        self.traced.get()
    }

    pub(crate) fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may still be told of a message that it has sent.
    pub(crate) fn is_owed(&self) -> bool {
        self.undecided.load(Ordering::Relaxed) > 0
    }

    /// The last words to it as this process stops; another relay is as good.
    pub(crate) fn goodbye(&self) -> String {
        replies::goodbye(self.speaks_part_two())
    }

    /// R15, which it appends to `out`.
    pub(crate) fn write_not_delivered(&self, out: &mut Vec<u8>) {
        self.not_delivered.inc();
        replies::not_delivered(out, &self.name);
    }

    /// A message of this connection found no receiver (R15).
    pub(crate) fn not_delivered(&self) {
        let mut line = Vec::new();
        replies::not_delivered(&mut line, &self.name);
        // A link that breaks answers all that was on it at once: a client that reads must not count as too slow for that.
        if self.outbox.push_replies(&line) {
            self.not_delivered.inc();
        }
        self.outbox.wake();
    }
}

impl Guest for Connection {
    fn ask_to_move(&self, after: Duration) -> bool {
        if !self.speaks_part_two() {
            return false;
        }
        let mut line = Vec::new();
        replies::move_away(&mut line, after);
        self.outbox.push_replies(&line);
        self.outbox.wake();
        true
    }

    fn send_away(&self) {
        self.note_written();
        self.outbox.send_away(self.goodbye());
    }
}

impl Sender for Connection {
    fn order(&self) -> impl DerefMut<Target = Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
