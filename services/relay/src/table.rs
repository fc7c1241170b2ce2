//! What a relay knows of users: who is connected here, which relay the others are at, and what waits for them. Sharded,
//! each shard behind its own lock, which is never held across an await.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use kurir_socket::outbox::Fill;
use rustc_hash::FxBuildHasher;

use crate::{
    connection::Connection,
    link::{Link, Parcel, Position, Trips},
};

/// Enough that senders on all cores seldom meet.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[Mutex<Users>]>,
}

/// The names come from clients, so the map's hash is keyed: nobody can make all of them collide.
#[derive(Debug, Default)]
struct Users {
    map: HashMap<Box<str>, Entry>,
    /// Entries with [`Path::Link`].
    routes: usize,
    max_routes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The user's connections here, one for each device. One that is closed already counts as absent.
    here: Vec<Arc<Connection>>,
    /// While there are some: the links to the relays that others of the user's devices are connected to. What is for all
    /// devices goes there as a copy.
    elsewhere: Vec<Arc<Link>>,
    pub(crate) path: Path,
}

/// How messages of this relay's senders go to a user who has no open connection here.
#[derive(Debug, Default)]
pub(crate) enum Path {
    /// Nothing is known, and nothing is on its way.
    #[default]
    None,
    /// The cached route. `last` is the link's batch with the latest message to this user.
    Link { link: Arc<Link>, to: Bytes, last: u64 },
    /// Messages wait. Boxed, since few users have one and every user has an entry.
    Line(Box<Line>),
}

/// Messages that wait.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) wait: Wait,
    /// What they weigh; also counted in `waiting`.
    bytes: usize,
    waiting: Arc<Waiting>,
    /// Came back over the link that is waited for, in the order sent; they go first.
    bounced: Vec<(Position, Parcel)>,
    fresh: Vec<Parcel>,
}

/// All lines together.
#[derive(Debug)]
pub(crate) struct Waiting {
    bytes: AtomicUsize,
    /// What one line may hold, and what all of them may.
    line_bytes: usize,
    limit_bytes: usize,
}

/// What a line waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    /// For everything to this user on that link to be settled.
    Settled(Arc<Link>),
    /// For the answer to that look-up, the how-manieth in a row.
    Answer(u64, u8),
}

/// One shard, locked.
pub(crate) struct Shard<'a> {
    users: MutexGuard<'a, Users>,
}

impl Table {
    /// Remembers the relays of about `max_routes` users.
    pub(crate) fn new(max_routes: usize) -> Self {
        let users = || Users { max_routes: max_routes.div_ceil(SHARDS), ..Users::default() };
        Self { shards: (0..SHARDS).map(|_| Mutex::new(users())).collect() }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder is below the number of shards, which is not 0"
    )]
    pub(crate) fn shard(&self, user: &str) -> Shard<'_> {
        // The upper bits: the map inside uses another, keyed hash. A flood of names for one shard costs its lock's
        // queue, not more.
        let hash = FxBuildHasher.hash_one(user);
        let index = usize::try_from(hash >> 32).unwrap_or_default() % self.shards.len();
        Shard::of(&self.shards[index])
    }

    /// Everybody connected here, shard by shard, without holding more than one lock.
    pub(crate) fn connections(&self) -> impl Iterator<Item = Vec<Arc<Connection>>> + '_ {
        self.shards.iter().map(|shard| {
            let shard = Shard::of(shard);
            shard.users.map.values().flat_map(Entry::open).cloned().collect()
        })
    }

    /// Users elsewhere whose relay is remembered.
    pub(crate) fn routes(&self) -> usize {
        self.shards.iter().map(|shard| Shard::of(shard).users.routes).sum()
    }

    /// R25: forgets the routes over a link that is over.
    pub(crate) fn forget(&self, link: &Arc<Link>) {
        for shard in &self.shards {
            let mut shard = Shard::of(shard);
            shard.forget_routes(|over| Arc::ptr_eq(over, link));
            shard.users.map.values_mut().for_each(|entry| entry.not_at(link));
        }
    }
}

impl<'a> Shard<'a> {
    fn of(users: &'a Mutex<Users>) -> Self {
        Self { users: users.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    pub(crate) fn get_mut(&mut self, user: &str) -> Option<&mut Entry> {
        self.users.map.get_mut(user)
    }

    pub(crate) fn entry(&mut self, user: &str) -> &mut Entry {
        self.users.map.entry(user.into()).or_default()
    }

    /// Drops an entry that says nothing.
    pub(crate) fn tidy(&mut self, user: &str) {
        let says = |entry: &Entry| !entry.here.is_empty() || !matches!(entry.path, Path::None);
        if self.users.map.get(user).is_some_and(|entry| !says(entry)) {
            self.users.map.remove(user);
            if self.users.map.capacity() > 1024 && self.users.map.len() < self.users.map.capacity() / 8 {
                self.users.map.shrink_to_fit();
            }
        }
    }

    /// An entry has got a route: makes room if there are too many. Only settled ones may go, since a route that is
    /// forgotten is looked up again and may then be another.
    pub(crate) fn learned_route(&mut self) {
        self.users.routes += 1;
        if self.users.routes > self.users.max_routes {
            self.forget_routes(|_| true);
        }
    }

    /// An entry's route is gone.
    pub(crate) fn forgot_route(&mut self) {
        self.users.routes = self.users.routes.saturating_sub(1);
    }

    fn forget_routes(&mut self, which: impl Fn(&Arc<Link>) -> bool) {
        let users = &mut *self.users;
        users.map.retain(|_, entry| {
            let Path::Link { link, last, .. } = &entry.path else { return true };
            if !which(link) || !link.is_settled(*last) {
                return true;
            }
            entry.path = Path::None;
            users.routes = users.routes.saturating_sub(1);
            !entry.here.is_empty()
        });
    }
}

impl Path {
    pub(crate) fn line(line: Line) -> Self {
        Self::Line(Box::new(line))
    }
}

/// A message for all devices of a user, or for one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread<'a> {
    /// Case-mapped name of the receiver.
    pub(crate) to: &'a Bytes,
    pub(crate) device: Option<&'a str>,
    /// A canonical line with its LF.
    pub(crate) line: &'a Bytes,
}

impl Entry {
    /// The connection with this number, open or closed.
    pub(crate) fn held(&self, number: u64) -> Option<&Arc<Connection>> {
        self.here.iter().find(|here| here.number == number)
    }

    /// The open connections here.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.here.iter().filter(|here| !here.outbox.is_closed())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open().next().is_some()
    }

    /// The user's only connection, as far as is known here.
    pub(crate) fn only(&self) -> Option<&Arc<Connection>> {
        self.open().next().filter(|here| here.is_alone())
    }

    /// A device is connected here from now on. Returns the connection that it replaces.
    pub(crate) fn add(&mut self, connection: &Arc<Connection>) -> Option<Arc<Connection>> {
        let known = self.here.iter_mut().find(|known| known.resource == connection.resource);
        let replaced = known.map(|known| mem::replace(known, Arc::clone(connection)));
        if replaced.is_none() {
            // Most users have one device.
            self.here.reserve_exact(1);
            self.here.push(Arc::clone(connection));
        }
        self.note_alone();
        replaced
    }

    /// That connection is over. Returns who has to be told that none is left.
    pub(crate) fn remove(&mut self, connection: &Arc<Connection>) -> Vec<Arc<Link>> {
        self.here.retain(|known| !Arc::ptr_eq(known, connection));
        let told = if self.here.is_empty() { mem::take(&mut self.elsewhere) } else { Vec::new() };
        self.note_alone();
        told
    }

    /// The user is connected at that relay too. Nothing is kept of one who is not connected here.
    pub(crate) fn at(&mut self, link: &Arc<Link>) {
        if !self.here.is_empty() && !self.elsewhere.iter().any(|known| Arc::ptr_eq(known, link)) {
            self.elsewhere.push(Arc::clone(link));
            self.note_alone();
        }
    }

    pub(crate) fn not_at(&mut self, link: &Arc<Link>) {
        if !self.elsewhere.is_empty() {
            self.elsewhere.retain(|known| !Arc::ptr_eq(known, link));
            self.note_alone();
        }
    }

    fn note_alone(&self) {
        let alone = self.here.len() == 1 && self.elsewhere.is_empty();
        self.here.iter().for_each(|here| here.set_alone(alone));
    }

    /// Delivers a message here. None: to nobody.
    pub(crate) fn deliver(&self, message: Spread<'_>) -> Option<Fill> {
        let stanza = message.line.strip_suffix(b"\n").unwrap_or(message.line);
        let meant =
            |here: &&Arc<Connection>| message.device.is_none_or(|device| here.resource.as_str() == device);
        let mut fullest = None;
        for here in self.open().filter(meant) {
            if let Ok(fill) = here.deliver(stanza) {
                here.outbox.wake();
                fullest = Some(if fill == Fill::Heavy { fill } else { fullest.unwrap_or(fill) });
            }
        }
        fullest
    }

    /// Delivers a message here and, as a copy, wherever else the user is connected. None: to nobody.
    pub(crate) fn spread(&self, message: Spread<'_>) -> Option<Fill> {
        let fill = self.deliver(message);
        if message.device.is_some() && fill.is_some() {
            return fill;
        }
        let (mut passed_on, mut heavy) = (false, fill == Some(Fill::Heavy));
        for link in &self.elsewhere {
            let device = message.device.map(Into::into);
            let (to, line) = (message.to.clone(), message.line.clone());
            let copy = Parcel { from: None, to, line, device, trips: Trips::Bounced };
            // Nobody is told what a link that is down or full does not take: another device has it.
            passed_on |= link.push(copy).is_ok();
            heavy |= link.is_heavy();
            link.wake();
        }
        let reached = fill.is_some() || passed_on;
        reached.then_some(if heavy { Fill::Heavy } else { Fill::Light })
    }

    /// Takes the line if it is one that `which` means.
    pub(crate) fn take_line(&mut self, which: impl FnOnce(&Line) -> bool) -> Option<Line> {
        match mem::take(&mut self.path) {
            Path::Line(line) if which(&line) => Some(*line),
            other => {
                self.path = other;
                None
            }
        }
    }

    /// A delivery came back over `link`: ahead of the line, unless it has made its trips.
    pub(crate) fn bounced(&mut self, link: &Arc<Link>, position: Position, mut parcel: Parcel) {
        match &mut self.path {
            Path::Line(line) if line.waits_for(link) && parcel.trips == Trips::Fresh => {
                parcel.trips = Trips::Bounced;
                line.weigh(&parcel);
                line.bounced.push((position, parcel));
            }
            _ => parcel.not_delivered(),
        }
    }

    /// A message of `sender` was or may have been delivered over `link`: its earlier ones that came back can't follow it.
    pub(crate) fn overtaken(&mut self, link: &Arc<Link>, position: Position, sender: &Arc<Connection>) {
        let Path::Line(line) = &mut self.path else { return };
        if !line.waits_for(link) {
            return;
        }
        line.bounced.retain(|(earlier, parcel)| {
            let from = parcel.from.as_deref();
            let overtaken = *earlier < position && from.is_some_and(|from| Arc::ptr_eq(from, sender));
            if overtaken {
                parcel.not_delivered();
            }
            !overtaken
        });
    }
}

impl Line {
    pub(crate) fn new(wait: Wait, waiting: &Arc<Waiting>) -> Self {
        let waiting = Arc::clone(waiting);
        Self { wait, bytes: 0, waiting, bounced: Vec::new(), fresh: Vec::new() }
    }

    pub(crate) fn push(&mut self, parcel: Parcel) {
        self.weigh(&parcel);
        self.fresh.push(parcel);
    }

    /// Whether one more message would be too much.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.waiting.line_bytes || self.waiting.is_full()
    }

    fn weigh(&mut self, parcel: &Parcel) {
        self.bytes += parcel.bytes();
        self.waiting.bytes.fetch_add(parcel.bytes(), Ordering::Relaxed);
    }

    /// None: it is empty.
    pub(crate) fn first_sender(&self) -> Option<&Arc<Connection>> {
        let bounced = self.bounced.first().map(|(_, parcel)| parcel);
        bounced.or(self.fresh.first()).and_then(|parcel| parcel.from.as_deref())
    }

    /// The same messages, waiting for something else. What came back is in its place now.
    pub(crate) fn waiting_for(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self.fresh = self.take_parcels().collect();
        self
    }

    /// Everything to the user's connections.
    pub(crate) fn deliver(mut self, entry: &Entry) {
        for parcel in self.take_parcels() {
            let Parcel { to, line, device, .. } = &parcel;
            if entry.spread(Spread { to, device: device.as_deref(), line }).is_none() {
                parcel.not_delivered();
            }
        }
    }

    /// Everything onto a link. [`Path::None`] if it took nothing.
    pub(crate) fn forward(mut self, link: &Arc<Link>) -> Path {
        let mut path = Path::None;
        for parcel in self.take_parcels() {
            let to = parcel.to.clone();
            match link.push(parcel) {
                Ok(last) => path = Path::Link { link: Arc::clone(link), to, last },
                Err((_, parcel)) => parcel.not_delivered(),
            }
        }
        link.wake();
        path
    }

    /// Nobody is there.
    pub(crate) fn refuse(mut self) {
        self.take_parcels().for_each(|parcel| parcel.not_delivered());
    }

    fn take_parcels(&mut self) -> impl Iterator<Item = Parcel> + use<> {
        let (bounced, fresh) = (mem::take(&mut self.bounced), mem::take(&mut self.fresh));
        bounced.into_iter().map(|(_, parcel)| parcel).chain(fresh)
    }

    fn waits_for(&self, link: &Arc<Link>) -> bool {
        matches!(&self.wait, Wait::Settled(on) if Arc::ptr_eq(on, link))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Waiting {
    /// At most about `line_bytes` in one line, and `limit_bytes` in all.
    pub(crate) fn new(line_bytes: usize, limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), line_bytes, limit_bytes })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.limit_bytes
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}
