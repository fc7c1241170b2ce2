//! The sending half of the link to one life of another relay, as plain data: what waits, what is sent and not yet
//! acknowledged, and who waits for that. [`crate::streams`] moves its frames; [`crate::router`] decides what a bounce
//! means.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use kurir_directory::{ComponentId, Generation};
use kurir_protocol::relay::is_bounced;
use kurir_rpc::v1::{Batch, Bounces, Delivery, Displaced, Frame, Parted, Sibling, frame};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::connection::Author;

/// A batch is closed at this size: large enough that a frame's cost is spread over thousands of messages, and small enough
/// that several fit into a stream's window and the other side answers early.
const BATCH_BYTES: usize = 128 * 1024;

/// What a message on its way costs besides its bytes; counted, so that tiny messages are bounded too.
const PARCEL_BYTES: usize = 128;

/// News of users' devices waiting for one link. One more is dropped; the other relay's audit finds it.
const NEWS: usize = 1024;

/// A message whose fate is still open.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Its sender here; none of a copy, which nobody is told of.
    pub(crate) from: Option<Author>,
    /// Case-mapped name of the receiver.
    pub(crate) to: Bytes,
    /// What the receiver is to be sent: a canonical line with its LF.
    pub(crate) line: Bytes,
    /// Only to this device.
    pub(crate) device: Option<Box<str>>,
    pub(crate) trips: Trips,
}

/// How often a message may still be sent to another relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trips {
    /// A bounce leads to one more look-up.
    Fresh,
    /// It came back once.
    Bounced,
}

impl Parcel {
    pub(crate) fn bytes(&self) -> usize {
        self.line.len() + PARCEL_BYTES
    }

    /// Tells the sender (R15, R23).
    pub(crate) fn not_delivered(&self) {
        let bounced = || str::from_utf8(&self.line).is_ok_and(|line| is_bounced(line.trim_end()));
        if let Some(from) = self.from.as_ref().filter(|_| bounced()) {
            from.not_delivered();
        }
    }
}

/// Where a delivery was in the order of its link: batch and index in it.
pub(crate) type Position = (u64, usize);

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: ComponentId,
    pub(crate) generation: Generation,
    /// Cancelled when the link is closed for good: that life of the peer is over, or this relay is.
    pub(crate) over: CancellationToken,
    /// There are frames to take.
    pub(crate) ready: Notify,
    /// Held by the task of the link's current stream, so that the next stream's first frame is handled after the last one
    /// of this.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// The current stream's end, if a later one comes.
    stream: Mutex<CancellationToken>,
    standing: watch::Sender<Standing>,
    limit_bytes: usize,
    state: Mutex<State>,
}

/// Whether a link takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// New: its first stream is on its way, messages wait for it.
    Opening,
    Up,
    /// The stream broke, or the first one never came. Messages are refused until there is one.
    Down,
    /// That life of the peer is over.
    Dead,
}

/// Why a link refused a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As much as may be under way is under way.
    Full,
    /// There is no stream.
    Down,
}

/// What the end of a stream, or of a link, leaves to be settled.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Sent and not acknowledged, or not sent: the peer may have delivered them.
    pub(crate) parcels: Vec<(Position, Parcel)>,
    /// Receivers whose line waited for that.
    pub(crate) waiting: Vec<Bytes>,
}

/// What an acknowledgement settles.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Delivered there. Only while somebody waits for this link to settle: otherwise nobody has to know.
    pub(crate) delivered: Vec<(Position, Parcel)>,
    /// Receivers whose line waited for this.
    pub(crate) waiting: Vec<Bytes>,
}

/// The peer acknowledged or bounced what it was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the peer answered batch {0}, which it was not sent")]
pub(crate) struct UnknownBatch(u64);

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Open batches in order; those up to `sent` are under way. Numbers go on over all streams of the link; on the wire they
    /// count from `base`.
    batches: VecDeque<OpenBatch>,
    next: u64,
    sent: u64,
    settled: u64,
    base: u64,
    bytes: usize,
    waiting: Vec<(u64, Bytes)>,
    /// For the other direction: the peer's batches that are handled, and what of them has to go back.
    acknowledge: Option<u64>,
    bounces: Vec<Bounces>,
    /// News of users' devices, in order, each to go after the batches that there were before it: what they say must not be
    /// done to messages sent earlier.
    news: VecDeque<(u64, frame::Frame)>,
}

#[derive(Debug)]
struct OpenBatch {
    number: u64,
    bytes: usize,
    parcels: Vec<Option<Parcel>>,
}

impl Link {
    pub(crate) fn new(
        peer: ComponentId,
        generation: Generation,
        limit_bytes: usize,
        over: CancellationToken,
    ) -> Arc<Self> {
        let state = State {
            standing: Standing::Opening,
            batches: VecDeque::new(),
            next: 1,
            sent: 0,
            settled: 0,
            base: 0,
            bytes: 0,
            waiting: Vec::new(),
            acknowledge: None,
            bounces: Vec::new(),
            news: VecDeque::new(),
        };
        Arc::new(Self {
            peer,
            generation,
            ready: Notify::new(),
            turn: Arc::default(),
            stream: Mutex::new(over.child_token()),
            over,
            standing: watch::Sender::new(Standing::Opening),
            limit_bytes,
            state: Mutex::new(state),
        })
    }

    /// Puts a message on its way without waking the stream's task. The number is what
    /// [`Link::settles_later`] takes.
    pub(crate) fn push(&self, parcel: Parcel) -> Result<u64, (Refusal, Parcel)> {
        let mut state = self.lock();
        let state = &mut *state;
        if !matches!(state.standing, Standing::Opening | Standing::Up) {
            return Err((Refusal::Down, parcel));
        }
        let bytes = parcel.bytes();
        if state.bytes + bytes > self.limit_bytes {
            return Err((Refusal::Full, parcel));
        }
        state.bytes += bytes;
        let open =
            state.batches.back_mut().filter(|batch| batch.number > state.sent && batch.bytes < BATCH_BYTES);
        if let Some(batch) = open {
            batch.bytes += bytes;
            batch.parcels.push(Some(parcel));
            return Ok(batch.number);
        }
        let number = state.next;
        state.next += 1;
        state.batches.push_back(OpenBatch { number, bytes, parcels: vec![Some(parcel)] });
        Ok(number)
    }

    /// Has the stream's task take what was pushed.
    pub(crate) fn wake(&self) {
        self.ready.notify_one();
    }

    /// Whether so much is on its way that whoever sends this much should let it arrive first.
    pub(crate) fn is_heavy(&self) -> bool {
        self.lock().bytes > self.limit_bytes / 4
    }

    pub(crate) fn is_settled(&self, number: u64) -> bool {
        self.lock().settled >= number
    }

    /// Whether batch `number` is still open. If so, `to` is among the waiting of the answer that settles it.
    pub(crate) fn settles_later(&self, number: u64, to: &Bytes) -> bool {
        let mut state = self.lock();
        let later = state.settled < number;
        if later {
            state.waiting.push((number, to.clone()));
        }
        later
    }

    /// The next frames to send: answers before messages, so that the peer's window opens first. Empty when there is
    /// nothing.
    pub(crate) fn take(&self) -> Vec<Frame> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut frames: Vec<frame::Frame> = Vec::new();
        frames.extend(mem::take(&mut state.bounces).into_iter().map(frame::Frame::Bounces));
        frames.extend(state.acknowledge.take().map(frame::Frame::Acknowledged));
        let next = state.sent + 1;
        if let Some(batch) = state.batch(next) {
            let deliveries = batch.parcels.iter().flatten().map(Parcel::delivery).collect();
            frames.push(frame::Frame::Batch(Batch { number: next - state.base, deliveries }));
            state.sent = next;
        }
        while let Some((_, news)) = state.news.pop_front_if(|(after, _)| *after <= state.sent) {
            frames.push(news);
        }
        frames.into_iter().map(|frame| Frame { frame: Some(frame) }).collect()
    }

    /// The peer has no such receivers: takes those deliveries back (R20).
    pub(crate) fn bounced(&self, bounces: &Bounces) -> Result<Vec<(Position, Parcel)>, UnknownBatch> {
        let mut state = self.lock();
        let state = &mut *state;
        let number = bounces.number.saturating_add(state.base);
        let sent = number <= state.sent;
        let batch = state.batch(number).filter(|_| sent).ok_or(UnknownBatch(bounces.number))?;
        let mut back = Vec::new();
        for index in &bounces.indexes {
            let index = usize::try_from(*index).unwrap_or(usize::MAX);
            // A second bounce of the same delivery finds nothing.
            let Some(parcel) = batch.parcels.get_mut(index).and_then(Option::take) else { continue };
            back.push(((number, index), parcel));
        }
        state.bytes -= back.iter().map(|(_, parcel)| parcel.bytes()).sum::<usize>();
        Ok(back)
    }

    /// The peer has handled every batch up to `number`.
    pub(crate) fn acknowledged(&self, number: u64) -> Result<Settled, UnknownBatch> {
        let mut state = self.lock();
        let state = &mut *state;
        let up_to = number.saturating_add(state.base);
        if up_to > state.sent {
            return Err(UnknownBatch(number));
        }
        let mut settled = Settled::default();
        while let Some(batch) = state.batches.pop_front_if(|batch| batch.number <= up_to) {
            for (position, parcel) in batch.into_parcels() {
                state.bytes -= parcel.bytes();
                if !state.waiting.is_empty() {
                    settled.delivered.push((position, parcel));
                }
            }
        }
        state.settled = state.settled.max(up_to);
        settled.waiting = state.waiting.extract_if(.., |(at, _)| *at <= up_to).map(|(_, to)| to).collect();
        Ok(settled)
    }

    /// For the other direction: the peer's batch `number` is handled; `indexes` of it found nobody.
    pub(crate) fn handled(&self, number: u64, indexes: Vec<u32>) {
        let mut state = self.lock();
        if !indexes.is_empty() {
            state.bounces.push(Bounces { number, indexes });
        }
        state.acknowledge = Some(number);
        drop(state);
        self.wake();
    }

    /// Tells the peer that one of its connections has lost its device to one here, on this stream or the next: late does no
    /// harm, since that life of the peer gives the number to no other connection. `conflict`: to a newer login.
    pub(crate) fn displaced(&self, user: &str, connection: u64, conflict: bool) {
        self.tell(frame::Frame::Displaced(Displaced { user: user.to_owned(), connection, conflict }));
    }

    /// Tells the peer that a connection here that it has displaced is over.
    pub(crate) fn parted(&self, connection: u64) {
        self.tell(frame::Frame::Parted(Parted { connection }));
    }

    /// Tells the peer, where the user is connected too, whether the user is connected here.
    pub(crate) fn sibling(&self, user: &str, here: bool) {
        self.tell(frame::Frame::Sibling(Sibling { user: user.to_owned(), here }));
    }

    fn tell(&self, news: frame::Frame) {
        let mut state = self.lock();
        if state.standing != Standing::Dead && state.news.len() < NEWS {
            let after = state.next - 1;
            state.news.push_back((after, news));
        }
        drop(state);
        self.wake();
    }

    /// A stream begins. False if the link is closed for good.
    pub(crate) fn up(&self) -> bool {
        let mut state = self.lock();
        if state.standing == Standing::Dead {
            return false;
        }
        state.standing = Standing::Up;
        // What waited since the link was new is sent on this stream, counted from 1.
        state.base = state.sent;
        self.standing.send_replace(Standing::Up);
        drop(state);
        self.wake();
        true
    }

    /// The stream is over, or (`Dead`) the link is. Everything open is handed back to be settled.
    #[must_use]
    pub(crate) fn close(&self, standing: Standing) -> Rest {
        self.close_if(standing, |_| true)
    }

    /// The first stream has not come in time. Nothing happens if it comes at this moment.
    #[must_use]
    pub(crate) fn give_up(&self) -> Rest {
        self.close_if(Standing::Down, |standing| standing == Standing::Opening)
    }

    /// Decided and done under one lock: a stream may begin meanwhile.
    fn close_if(&self, standing: Standing, is: impl FnOnce(Standing) -> bool) -> Rest {
        let mut state = self.lock();
        let state = &mut *state;
        if !is(state.standing) {
            return Rest::default();
        }
        if state.standing != Standing::Dead {
            state.standing = standing;
        }
        state.acknowledge = None;
        state.bounces = Vec::new();
        state.bytes = 0;
        state.sent = state.next - 1;
        state.settled = state.sent;
        let batches = mem::take(&mut state.batches);
        let waiting = mem::take(&mut state.waiting);
        self.standing.send_replace(state.standing);
        if state.standing == Standing::Dead {
            state.news = VecDeque::new();
            self.over.cancel();
        }
        let parcels = batches.into_iter().flat_map(OpenBatch::into_parcels).collect();
        Rest { parcels, waiting: waiting.into_iter().map(|(_, to)| to).collect() }
    }

    /// Ends the current stream and names the next one's end.
    pub(crate) fn supersede(&self) -> CancellationToken {
        let next = self.over.child_token();
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut *stream, next.clone()).cancel();
        next
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether anything is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().bytes == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenBatch {
    /// What has not come back.
    fn into_parcels(self) -> impl Iterator<Item = (Position, Parcel)> {
        let number = self.number;
        let parcels = self.parcels.into_iter().enumerate();
        parcels.filter_map(move |(index, parcel)| Some(((number, index), parcel?)))
    }
}

impl State {
    /// Open batches are numbered without gaps.
    fn batch(&mut self, number: u64) -> Option<&mut OpenBatch> {
        let first = self.batches.front()?.number;
        self.batches.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

impl Parcel {
    fn delivery(&self) -> Delivery {
        // On the wire a stanza has no LF.
        let stanza = self.line.slice(..self.line.len().saturating_sub(1));
        let resource = self.device.as_deref().map(str::to_owned);
        Delivery { to: self.to.clone(), stanza, resource, copy: self.from.is_none() }
    }
}

#[cfg(test)]
mod tests;
