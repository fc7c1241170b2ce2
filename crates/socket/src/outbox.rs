//! What waits to be written to one client, bounded in bytes.

use std::{
    fmt,
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

/// The connection is closing: nothing more is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closing")]
pub struct Closed;

/// In this time the answers to what a client has sent usually come.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_millis(40);

/// How full an outbox is after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// The client keeps up.
    Light,
    /// More than a quarter of the limit waits: whoever sends this much should let the client catch up.
    Heavy,
}

/// Canonical stanzas, each ended by LF, waiting for the connection's task to write them.
///
/// Any task may push; only the connection's task takes. When `limit_bytes` would be passed the client is too slow: what
/// waits is dropped and the connection is closed with PROTOCOL section 5's 408. Answers to the client itself do not
/// count: while many of them wait, nothing more is read from it.
pub struct Outbox {
    limit_bytes: usize,
    closed: AtomicBool,
    parted: AtomicBool,
    abandoned: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// How many bytes of `lines` answer the client itself.
    reply_bytes: usize,
    closing: Option<Closing>,
    parting: Option<Box<Parting>>,
    waker: Option<Waker>,
    /// Of a task whose socket takes nothing: it is only to know of the close.
    close_waker: Option<Waker>,
    /// What was taken last is not written yet.
    writing: bool,
    /// Something was thrown away.
    dropped: bool,
    /// How often lines were taken.
    takes: u64,
    /// Of who waits until everything is taken.
    taken_waker: Option<Waker>,
    /// Of who waits until everything is written.
    flushed_waker: Option<Waker>,
    /// Nobody takes any more.
    over: bool,
    written_at: WrittenAt,
}

/// How a connection ends that is served to its client's last word: see [`Outbox::part`].
struct Parting {
    /// As [`Outbox::close`] has it.
    last: String,
    patience: Duration,
    closing: Closing,
}

/// When everything was written, for whoever wants to know. Nobody else pays for a clock.
#[derive(Debug, Clone, Copy, Default)]
enum WrittenAt {
    #[default]
    Nobody,
    /// To be noted.
    Wanted,
    Noted(SystemTime),
}

/// Why the connection's task is to write what is left and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// By [`Outbox::close`] or [`Outbox::part`].
    Asked,
    /// By [`Outbox::send_away`].
    Shutdown,
    /// The limit was passed.
    TooSlow,
}

impl Outbox {
    /// An empty outbox that holds at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Arc<Outbox> {
        let [closed, parted, abandoned] = [(); 3].map(|()| AtomicBool::new(false));
        Arc::new(Outbox { limit_bytes, closed, parted, abandoned, state: Mutex::default() })
    }

    /// Appends canonical stanzas (each ended by LF) and wakes the connection's task.
    pub fn push(&self, lines: &[u8]) -> Result<(), Closed> {
        let pushed = self.push_quietly(lines);
        self.wake();
        pushed.map(|_| ())
    }

    /// Like [`Outbox::push`] without waking: a sender with many messages pushes them all and then calls
    /// [`Outbox::wake`] once, so that they leave with one system call.
    pub fn push_quietly(&self, lines: &[u8]) -> Result<Fill, Closed> {
        self.push_with(|out| out.extend_from_slice(lines))
    }

    /// Like [`Outbox::push_quietly`], written in place by `write`, which may only append.
    pub fn push_with(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Fill, Closed> {
        let mut state = self.lock();
        if state.closing.is_some() || state.parting.is_some() {
            return Err(Closed);
        }
        let is_first = state.lines.len() == state.reply_bytes;
        write(&mut state.lines);
        let waiting = state.lines.len() - state.reply_bytes;
        // Where nothing waits nobody is too slow, however large a stanza has become by its `from`.
        if waiting <= self.limit_bytes || is_first {
            let heavy = waiting > self.limit_bytes / 4;
            return Ok(if heavy { Fill::Heavy } else { Fill::Light });
        }
        state.lines = Vec::new();
        state.dropped = true;
        state.reply_bytes = 0;
        state.closing = Some(Closing::TooSlow);
        drop(state);
        self.closed.store(true, Ordering::Release);
        self.wake_to_close();
        Err(Closed)
    }

    /// Appends answers to what the client itself has sent, past the limit too: what it may have under way bounds them,
    /// since its connection reads nothing more while too many wait. False: it is closing, and is told nothing more.
    pub fn push_replies(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        let is_open = state.closing.is_none();
        if is_open {
            state.lines.extend_from_slice(lines);
            state.reply_bytes += lines.len();
        }
        is_open
    }

    /// How many bytes wait to be taken by the connection's task.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().lines.len()
    }

    /// How many bytes of [`Outbox::push_replies`] wait to be taken.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.lock().reply_bytes
    }

    /// Lets the connection's task write what was pushed quietly.
    pub fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake_to_close(&self) {
        let wakers = {
            let mut state = self.lock();
            [state.waker.take(), state.close_waker.take(), state.taken_waker.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Has the connection's task write what waits and then `last` (canonical lines, the last without LF, or nothing), and
    /// close. A second call changes nothing.
    pub fn close(&self, last: &str) {
        let mut state = self.lock();
        if state.closing.is_none() {
            let parting = state.parting.take();
            state.closing = Some(parting.as_ref().map_or(Closing::Asked, |parting| parting.closing));
            let last = parting.as_ref().map_or(last, |parting| parting.last.as_str());
            if !last.is_empty() {
                state.lines.extend_from_slice(last.as_bytes());
                state.lines.push(b'\n');
            }
        }
        drop(state);
        self.closed.store(true, Ordering::Release);
        self.wake_to_close();
    }

    /// Like [`Outbox::close`] for a client that has done nothing wrong: pushes are refused at once, but what it has sent, and
    /// sends within `patience`, is handled and answered before `last`. It ends that itself by closing its side.
    pub fn part(&self, last: String, patience: Duration) {
        self.leave(Parting { last, patience, closing: Closing::Asked });
    }

    /// Like [`Outbox::part`], as the process stops: what has been sent by now is handled, and answered if that takes no
    /// longer than 40 ms, or 1.5 s where some are under way.
    pub fn send_away(&self, last: String) {
        self.leave(Parting { last, patience: LAST_ANSWERS, closing: Closing::Shutdown });
    }

    fn leave(&self, parting: Parting) {
        let mut state = self.lock();
        if state.closing.is_none() && state.parting.is_none() {
            state.parting = Some(Box::new(parting));
            self.parted.store(true, Ordering::Release);
        }
        drop(state);
        self.closed.store(true, Ordering::Release);
        self.wake_to_close();
    }

    /// Whether the connection ends by [`Outbox::part`]. Takes no lock.
    pub fn has_parted(&self) -> bool {
        self.parted.load(Ordering::Acquire)
    }

    /// How long the client is still served. None: it is not parting, or no more.
    pub(crate) fn parting(&self) -> Option<Duration> {
        if !self.has_parted() {
            return None;
        }
        self.lock().parting.as_ref().map(|parting| parting.patience)
    }

    /// Whether pushes are refused. Takes no lock.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the client has closed its side while the value was handled that is handled now, as far as is known: nobody reads the
    /// answer. Takes no lock.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Resolves when [`Outbox::is_abandoned`]. Only in [`Session::received`](crate::Session::received) of this connection, which is
    /// polled then.
    pub async fn abandoned(&self) {
        poll_fn(|_| if self.is_abandoned() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Ready when there is something to write or the connection is to be closed. What waits is moved into `into`,
    /// which has to be empty and lends its capacity to what is pushed next. Only the connection's task takes.
    pub fn poll_take(&self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Option<Closing>> {
        let mut state = self.lock();
        if state.lines.is_empty() && state.closing.is_none() {
            // The writer's own buffer of an earlier take: the connection is idle now.
            state.lines = Vec::new();
            state.is_written();
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            wake_flushed(state);
            return Poll::Pending;
        }
        mem::swap(&mut state.lines, into);
        state.reply_bytes = 0;
        state.writing = !into.is_empty();
        state.takes += 1;
        let (closing, waker) = (state.closing, state.taken_waker.take());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(closing)
    }

    /// Whether everything that was pushed has been accepted by the socket.
    pub fn is_written(&self) -> bool {
        let state = self.lock();
        state.lines.is_empty() && !state.writing && !state.dropped
    }

    /// Resolves when the connection's task has taken what waits now, or the connection is closing. Of several who wait only
    /// the last one is woken. Cancel-safe.
    pub async fn taken(&self) {
        let before = self.lock().takes;
        poll_fn(|context| {
            let mut state = self.lock();
            if state.lines.is_empty() || state.takes != before || state.closing.is_some() {
                return Poll::Ready(());
            }
            match &mut state.taken_waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }

    /// Resolves when the socket has accepted everything that was pushed, or the connection is over. Of several who wait only the
    /// last one is woken. Cancel-safe.
    pub async fn flushed(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.over || (state.lines.is_empty() && !state.writing) {
                return Poll::Ready(());
            }
            match &mut state.flushed_waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }

    /// Ready when the connection is to be closed, whatever waits to be written.
    pub(crate) fn poll_closing(&self, context: &mut Context<'_>) -> Poll<Closing> {
        let mut state = self.lock();
        if let Some(closing) = state.closing {
            return Poll::Ready(closing);
        }
        match &mut state.close_waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Notes when the socket has accepted all that was pushed before: see [`Outbox::written_at`].
    pub fn note_when_written(&self) {
        self.lock().written_at = WrittenAt::Wanted;
    }

    /// When the socket had accepted all that was pushed before [`Outbox::note_when_written`] was last called. None: not yet,
    /// as far as is known, or it was never called.
    pub fn written_at(&self) -> Option<SystemTime> {
        match self.lock().written_at {
            WrittenAt::Noted(at) => Some(at),
            WrittenAt::Nobody | WrittenAt::Wanted => None,
        }
    }

    /// What was taken last is written, though nobody will take more.
    pub(crate) fn written(&self) {
        let mut state = self.lock();
        state.is_written();
        wake_flushed(state);
    }

    /// The connection is over: what was not written is dropped.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.dropped |= !state.lines.is_empty();
        state.lines = Vec::new();
        state.over = true;
        wake_flushed(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst half a stanza's bytes of a connection whose task is gone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_written(&mut self) {
        self.writing = false;
        if matches!(self.written_at, WrittenAt::Wanted) {
            self.written_at = WrittenAt::Noted(SystemTime::now());
        }
    }
}

/// Wakes who waits in [`Outbox::flushed`], with the lock given back.
fn wake_flushed(mut state: MutexGuard<'_, State>) {
    let flushed = state.flushed_waker.take();
    drop(state);
    flushed.into_iter().for_each(Waker::wake);
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Outbox")
            .field("waiting_bytes", &state.lines.len())
            .field("limit_bytes", &self.limit_bytes)
            .field("closing", &state.closing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn take(outbox: &Outbox) -> Option<(Vec<u8>, Option<Closing>)> {
        let mut into = Vec::new();
        match outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut into) {
            Poll::Ready(closing) => Some((into, closing)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_pushed_is_taken_once_and_in_order() {
        let outbox = Outbox::new(100);
        assert_eq!(take(&outbox), None);
        outbox.push(b"one\n").unwrap();
        outbox.push_quietly(b"two\n").unwrap();
        assert_eq!(outbox.waiting_bytes(), 8);
        assert_eq!(take(&outbox), Some((b"one\ntwo\n".to_vec(), None)));
        assert_eq!(take(&outbox), None);
    }

    #[test]
    fn one_byte_over_the_limit_closes_as_too_slow_and_frees_what_waited() {
        let outbox = Outbox::new(8);
        outbox.push(b"1234567\n").unwrap();
        assert!(!outbox.is_closed());
        assert_eq!(outbox.push(b"\n"), Err(Closed));
        assert!(outbox.is_closed());
        assert_eq!(take(&outbox), Some((Vec::new(), Some(Closing::TooSlow))));
    }

    #[test]
    fn answers_to_the_client_itself_do_not_make_it_too_slow() {
        let outbox = Outbox::new(8);
        outbox.push_replies(b"123456789\n");
        assert_eq!(outbox.reply_bytes(), 10);
        outbox.push(b"1234567\n").unwrap();
        assert_eq!(take(&outbox), Some((b"123456789\n1234567\n".to_vec(), None)));
        assert_eq!(outbox.reply_bytes(), 0);
    }

    #[test]
    fn one_stanza_over_the_limit_is_delivered_to_whom_nothing_is_owed() {
        let outbox = Outbox::new(8);
        outbox.push(b"123456789\n").unwrap();
        assert_eq!(outbox.push(b"\n"), Err(Closed));
    }

    #[test]
    fn what_was_thrown_away_is_not_written() {
        let outbox = Outbox::new(8);
        assert!(outbox.is_written());
        outbox.push(b"1234567\n").unwrap();
        assert!(!outbox.is_written());
        outbox.push(b"1234567\n").unwrap_err();
        take(&outbox);
        outbox.written();
        assert!(!outbox.is_written());
    }

    #[test]
    fn flushed_is_what_is_written_or_over() {
        let flushed =
            |outbox: &Outbox| pin!(outbox.flushed()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let outbox = Outbox::new(100);
        assert!(flushed(&outbox));
        outbox.push(b"{}\n").unwrap();
        outbox.part(String::new(), Duration::ZERO);
        assert!(!flushed(&outbox));
        take(&outbox);
        assert!(!flushed(&outbox), "taken and not written");
        take(&outbox);
        assert!(flushed(&outbox));
        let outbox = Outbox::new(100);
        outbox.push(b"{}\n").unwrap();
        take(&outbox);
        outbox.clear();
        assert!(flushed(&outbox), "nobody writes it any more");
    }

    #[test]
    fn the_time_of_writing_is_noted_only_for_who_wants_it() {
        let outbox = Outbox::new(100);
        outbox.push(b"{}\n").unwrap();
        take(&outbox);
        take(&outbox);
        assert_eq!(outbox.written_at(), None);
        outbox.push(b"{}\n").unwrap();
        outbox.note_when_written();
        take(&outbox);
        assert_eq!(outbox.written_at(), None, "taken and not written");
        let before = SystemTime::now();
        take(&outbox);
        let at = outbox.written_at().unwrap();
        assert!(at >= before);
        outbox.push(b"{}\n").unwrap();
        take(&outbox);
        take(&outbox);
        assert_eq!(outbox.written_at(), Some(at), "asked for once, noted once");
    }

    #[test]
    fn close_keeps_what_waited_and_appends_the_last_stanza_once() {
        let outbox = Outbox::new(100);
        outbox.push(b"{}\n").unwrap();
        outbox.close("{\"a\":1}");
        outbox.close("{\"b\":1}");
        assert_eq!(outbox.push(b"{}\n"), Err(Closed));
        assert_eq!(take(&outbox), Some((b"{}\n{\"a\":1}\n".to_vec(), Some(Closing::Asked))));
    }
}
