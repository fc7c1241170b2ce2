//! The task of one connection, from its first byte to its close.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use kurir_protocol::{
    Malformed,
    framing::{Decoded, Decoder, Framing, Limits},
    replies,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::{
    io::poll_read_buf,
    sync::{CancellationToken, WaitForCancellationFuture},
};

use crate::{
    ended::Ended,
    outbox::{Closing, LAST_ANSWERS, Outbox},
    writer::Writer,
};

/// Read at once. Also the largest batch of values between two looks at the outbox.
const READ_BYTES: usize = 16 * 1024;

/// With more than this waiting to be written to a client, nothing more is read from it: replies to a client that
/// reads none of them stay bounded.
const REPLIES_HIGH_WATER_BYTES: usize = 64 * 1024;

/// How long a reply waits for the byte that decides the framing (PROTOCOL section 0).
const FRAMING_WAIT: Duration = Duration::from_millis(50);

/// How long a closing connection may take to accept its last bytes, and again to read to the end (PROTOCOL section 0).
const LINGER: Duration = Duration::from_secs(2);

/// How long answers that are under way are waited for: longer than Redis is (1 s), after which they are given all the same.
const DUE_ANSWERS: Duration = Duration::from_millis(1500);

/// A pause for a client that sends faster than its receivers read; short, since the others it writes to wait too.
const EASE: Duration = Duration::from_millis(2);

/// How one connection is treated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Of the values read.
    pub limits: Limits,
    /// The tracker's first array carries no delimiter in the original's framing (PROTOCOL section 1).
    pub first_reply_without_delimiter: bool,
}

/// What happens after a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Write the replies and close.
    Close,
}

/// What happens after a batch of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Read on.
    Go,
    /// A receiver's outbox is filling up: pause for a moment so that it can be written.
    Ease,
}

/// What a service does with the values of one connection.
pub trait Session: Send {
    /// Handles one JSON object. Replies, canonical stanzas each ended by LF, are appended to `replies`.
    ///
    /// Values are handled one after another; until this future is done the connection neither reads nor writes. An
    /// idle connection pays for the future's size, so large ones are boxed inside.
    fn received(
        &mut self,
        value: &str,
        replies: &mut Vec<u8>,
    ) -> impl Future<Output = Result<Flow, Malformed>> + Send;

    /// All values of one read have been handled: the place to wake the receivers of a batch.
    fn batch_end(&mut self) -> Pace {
        Pace::Go
    }

    /// When the connection is closed unless a later call says otherwise; asked after each batch.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether others may answer yet what the client has sent. If so, it is written to for a while when it has closed its side,
    /// parts, or the process stops.
    fn is_owed(&self) -> bool {
        false
    }

    /// The last words to a client that is here when the process stops: a canonical line without LF, or nothing.
    fn goodbye(&self) -> String {
        String::new()
    }

    /// Everything is written, and the client has not closed its side. It is told that no more comes when this is done, or after a
    /// while.
    fn said_all(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Serves one connection until it is over, and closes it as PROTOCOL section 0 says.
///
/// Not cancel-safe: a dropped future closes the socket at once.
pub async fn run<S: Session>(
    stream: TcpStream,
    session: &mut S,
    outbox: &Arc<Outbox>,
    options: &Options,
    shutdown: &CancellationToken,
) -> Ended {
    let mut connection = Connection {
        stream,
        session,
        outbox,
        decoder: Decoder::new(options.limits),
        input: BytesMut::new(),
        unread: Unread::Nothing,
        writer: Writer::new(options.first_reply_without_delimiter),
        framing_timer: None,
        closing: None,
        parting: None,
        client_closed: false,
    };
    let ended = connection.serve(shutdown).await;
    let last = if matches!(ended, Ended::Shutdown) { connection.session.goodbye() } else { String::new() };
    // From here on nobody's push can succeed, and what was pushed before is written below.
    outbox.close(&last);
    let ended = match ended {
        Ended::Failed(_) => ended,
        // Boxed: while the connection lives nobody pays for its end.
        ended => match Box::pin(connection.close()).await {
            Ok(()) => ended,
            Err(error) => Ended::Failed(error),
        },
    };
    // A client that reads no answers either is no trouble of the network.
    let ended = if connection.client_closed { Ended::ByClient } else { ended };
    // Whoever has written to this client may hold its outbox for long.
    outbox.clear();
    ended
}

struct Connection<'a, S> {
    stream: TcpStream,
    session: &'a mut S,
    outbox: &'a Arc<Outbox>,
    decoder: Decoder,
    /// Received and not yet consumed; without capacity while the connection is idle.
    input: BytesMut,
    unread: Unread,
    writer: Writer,
    /// Runs while a reply waits for the framing to be decided.
    framing_timer: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
    parting: Option<Box<Parting>>,
    /// The client sends no more.
    client_closed: bool,
}

/// Of a client that parts and is still served.
struct Parting {
    timer: Pin<Box<Sleep>>,
    /// How long that may be made longer for answers that are under way.
    until: Instant,
}

impl Parting {
    fn new(patience: Duration) -> Self {
        let now = Instant::now();
        let until = now + patience.max(DUE_ANSWERS);
        Self { timer: Box::pin(sleep_until(now + patience)), until }
    }
}

/// What `input` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Nothing, or the beginning of a value.
    Nothing,
    /// Values that were left because the client has to read its replies first.
    Values,
}

/// Handles a value; if the client closes its side meanwhile, the outbox knows.
async fn while_client_stays<T>(received: impl Future<Output = T>, stream: &TcpStream, outbox: &Outbox) -> T {
    let mut received = pin!(received);
    // Most values are handled at once, and an idle connection pays for the future's size.
    let mut leaves: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
    poll_fn(|context| {
        let handled = received.as_mut().poll(context);
        if handled.is_ready() || outbox.is_abandoned() {
            return handled;
        }
        let leaves = leaves.get_or_insert_with(|| Box::pin(client_leaves(stream)));
        if leaves.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        outbox.abandon();
        received.as_mut().poll(context)
    })
    .await
}

/// Of a client that has sent more than what is handled now it may not be seen.
async fn client_leaves(stream: &TcpStream) {
    if stream.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
        pending::<()>().await;
    }
}

enum Event {
    /// So many bytes were read, or the values left in `input` can be handled now. None: the client closed.
    Read(usize),
    /// The outbox's owner wants the connection closed.
    Closing,
    Deadline,
    Shutdown,
    Failed(io::Error),
}

impl<S: Session> Connection<'_, S> {
    async fn serve(&mut self, shutdown: &CancellationToken) -> Ended {
        let mut deadline = self.session.deadline().map(|at| Box::pin(sleep_until(at)));
        let mut cancelled = std::pin::pin!(shutdown.cancelled());
        loop {
            match self.closing {
                Some(Closing::TooSlow) => return Ended::TooSlow,
                Some(Closing::Asked) => return Ended::ByServer,
                Some(Closing::Shutdown) => return Ended::Shutdown,
                None => {}
            }
            match self.event(&mut deadline, cancelled.as_mut()).await {
                Event::Closing => {}
                Event::Read(0) => {
                    if !self.waits_for_answers() {
                        return Ended::ByClient;
                    }
                }
                Event::Read(count) => {
                    if let Some(ended) = self.handle_values().await {
                        return ended;
                    }
                    let at = self.session.deadline();
                    if at != deadline.as_ref().map(|timer| timer.deadline()) {
                        deadline = at.map(|at| Box::pin(sleep_until(at)));
                    }
                    // A client that always has more to read never gets as far as waiting for these.
                    if at.is_some_and(|at| at <= Instant::now()) {
                        return Ended::Deadline;
                    }
                    if shutdown.is_cancelled() && self.is_done() {
                        return Ended::Shutdown;
                    }
                    if count >= READ_BYTES {
                        // A client that sends all the time would otherwise keep its receivers from being written.
                        tokio::task::yield_now().await;
                    }
                }
                Event::Deadline => return Ended::Deadline,
                Event::Shutdown => {
                    if self.is_done() {
                        return Ended::Shutdown;
                    }
                }
                Event::Failed(error) => return Ended::Failed(error),
            }
        }
    }

    async fn event(
        &mut self,
        deadline: &mut Option<Pin<Box<Sleep>>>,
        mut shutdown: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Event {
        poll_fn(|context| {
            if let Poll::Ready(event) = self.poll_write(context) {
                return Poll::Ready(event);
            }
            if self.poll_parting(context).is_ready() {
                return Poll::Ready(Event::Closing);
            }
            if !self.owes_replies() {
                if self.unread == Unread::Values {
                    return Poll::Ready(Event::Read(self.input.len()));
                }
                if !self.client_closed
                    && let Poll::Ready(event) = self.poll_read(context)
                {
                    return Poll::Ready(event);
                }
            }
            if deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready()) {
                return Poll::Ready(Event::Deadline);
            }
            // Who parts has a time of its own, which is short.
            if self.parting.is_some() {
                return Poll::Pending;
            }
            shutdown.as_mut().poll(context).map(|()| Event::Shutdown)
        })
        .await
    }

    /// Writes what there is. Pending when all is written, or the socket takes no more, or the framing is undecided.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            if self.writer.is_empty() {
                match self.outbox.poll_take(context, &mut self.writer.taken) {
                    Poll::Pending => {
                        self.writer.release();
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(closing)) => {
                        self.closing = Some(closing);
                        return Poll::Ready(Event::Closing);
                    }
                    Poll::Ready(None) => {}
                }
            }
            let Poll::Ready(framing) = self.poll_framing(context) else { return Poll::Pending };
            let chunk = self.writer.chunk(framing);
            match Pin::new(&mut self.stream).poll_write(context, chunk) {
                Poll::Pending => {
                    // Nothing more is taken from the outbox, which is where a close is said otherwise.
                    return self.outbox.poll_closing(context).map(|closing| {
                        self.closing = Some(closing);
                        Event::Closing
                    });
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Ready(Ok(count)) => self.writer.advance(framing, count),
            }
        }
    }

    /// The process stops. False: the client parts, which has a time of its own, because it is owed an answer or was told to before.
    fn is_done(&mut self) -> bool {
        if self.session.is_owed() {
            self.outbox.send_away(self.session.goodbye());
        }
        !self.outbox.has_parted()
    }

    /// The client has closed its side. True: it parts, and is written to while others may answer it.
    fn waits_for_answers(&mut self) -> bool {
        self.client_closed = true;
        if !self.session.is_owed() {
            return false;
        }
        self.outbox.part(String::new(), LAST_ANSWERS);
        let parting = self.parting.get_or_insert_with(|| Box::new(Parting::new(LAST_ANSWERS)));
        let at = parting.timer.deadline().min(Instant::now() + LAST_ANSWERS);
        parting.timer.as_mut().reset(at);
        true
    }

    /// Ready when a client that parts has been served for long enough.
    fn poll_parting(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.parting.is_none() {
            let Some(patience) = self.outbox.parting() else { return Poll::Pending };
            self.parting = Some(Box::new(Parting::new(patience)));
        }
        let Some(Parting { timer, until }) = self.parting.as_deref_mut() else { return Poll::Pending };
        while timer.as_mut().poll(context).is_ready() {
            if !self.session.is_owed() || timer.deadline() >= *until {
                self.outbox.close("");
                if let Poll::Ready(closing) = self.outbox.poll_closing(context) {
                    self.closing = Some(closing);
                }
                return Poll::Ready(());
            }
            timer.as_mut().reset((Instant::now() + LAST_ANSWERS).min(*until));
        }
        Poll::Pending
    }

    fn poll_framing(&mut self, context: &mut Context<'_>) -> Poll<Framing> {
        if let Some(framing) = self.decoder.framing() {
            self.framing_timer = None;
            return Poll::Ready(framing);
        }
        let timer = self.framing_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(FRAMING_WAIT)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.framing_timer = None;
        self.decoder.assume_original();
        Poll::Ready(Framing::Original)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        match self.stream.poll_read_ready(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
            Poll::Ready(Ok(())) => {}
        }
        self.input.reserve(READ_BYTES);
        let read = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read.map(|read| match read {
            Ok(count) => Event::Read(count),
            Err(error) => Event::Failed(error),
        })
    }

    /// Whether the client has to read before it may send more. Answers that others give for it (R15) count too.
    fn owes_replies(&self) -> bool {
        self.writer.taken.len() + self.outbox.reply_bytes() > REPLIES_HIGH_WATER_BYTES
    }

    /// Handles the complete values in `input`, or as many as their replies allow.
    async fn handle_values(&mut self) -> Option<Ended> {
        let mut replies = Vec::new();
        let mut flow = Flow::Continue;
        self.unread = Unread::Nothing;
        loop {
            let (consumed, reply) = match self.decoder.decode(&self.input) {
                Decoded::Value { start, end } => {
                    // The decoder has checked that the value is UTF-8.
                    let value = self.input.get(start..end).and_then(|value| str::from_utf8(value).ok());
                    let received = self.session.received(value.unwrap_or_default(), &mut replies);
                    let handled = while_client_stays(received, &self.stream, self.outbox).await;
                    if let Ok(after) = handled {
                        flow = after;
                        (end, "")
                    } else {
                        if self.decoder.reject() {
                            flow = Flow::Close;
                        }
                        (end, replies::BAD_REQUEST)
                    }
                }
                Decoded::Malformed { consumed, fatal } => {
                    if fatal {
                        flow = Flow::Close;
                    }
                    (consumed, replies::BAD_REQUEST)
                }
                Decoded::TooLarge => {
                    flow = Flow::Close;
                    (self.input.len(), replies::TOO_LARGE)
                }
                Decoded::Incomplete { consumed } => {
                    self.input.advance(consumed);
                    break;
                }
            };
            self.input.advance(consumed);
            if !reply.is_empty() {
                replies.extend_from_slice(reply.as_bytes());
                replies.push(b'\n');
            }
            if !replies.is_empty() {
                self.outbox.push_replies(&replies);
                replies.clear();
                if self.owes_replies() {
                    if !self.input.is_empty() {
                        self.unread = Unread::Values;
                    }
                    break;
                }
            }
            if flow == Flow::Close {
                break;
            }
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let pace = self.session.batch_end();
        if flow == Flow::Close {
            return Some(Ended::ByServer);
        }
        if pace == Pace::Ease {
            tokio::time::sleep(EASE).await;
        }
        None
    }

    /// Writes everything, shuts down writing, reads to the end, each for [`LINGER`] at most: a close with unread
    /// input would reset the connection and destroy what was just written.
    async fn close(&mut self) -> io::Result<()> {
        let last = if self.closing == Some(Closing::TooSlow) { replies::TOO_SLOW } else { "" };
        let written = timeout(LINGER, self.write_rest(last)).await;
        if !matches!(written, Ok(Ok(()))) {
            return written.unwrap_or(Ok(()));
        }
        self.shut_down().await?;
        timeout(LINGER, self.read_rest()).await.unwrap_or(Ok(()))
    }

    /// Tells the client that no more comes, when the session is done with it or does not become so. One that has closed its side
    /// waits for nothing: the session's own end follows at once.
    async fn shut_down(&mut self) -> io::Result<()> {
        if self.client_closed {
            return self.stream.shutdown().await;
        }
        let mut said_all = pin!(self.session.said_all());
        let said = timeout(DUE_ANSWERS, said_all.as_mut()).await;
        let shut_down = self.stream.shutdown().await;
        if said.is_err() {
            said_all.await;
        }
        shut_down
    }

    /// Reads to the end. What a client that parts had sent before it could know is handled, though it cannot be answered.
    async fn read_rest(&mut self) -> io::Result<()> {
        let mut handles = self.outbox.has_parted();
        loop {
            if !handles {
                self.input.clear();
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
            handles = handles && self.handle_values().await.is_none();
        }
    }

    async fn write_rest(&mut self, last: &str) -> io::Result<()> {
        let framing = poll_fn(|context| self.poll_framing_to_close(context)).await;
        loop {
            let chunk = self.writer.chunk(framing);
            if chunk.is_empty() {
                break;
            }
            let count = self.stream.write(chunk).await?;
            self.writer.advance(framing, count);
        }
        // `run` has closed the outbox, so this is ready at once.
        let mut rest = Vec::new();
        poll_fn(|context| self.outbox.poll_take(context, &mut rest)).await;
        self.writer.taken = rest;
        if !last.is_empty() {
            self.writer.taken.extend_from_slice(last.as_bytes());
            self.writer.taken.push(b'\n');
        }
        while !self.writer.is_empty() {
            let chunk = self.writer.chunk(framing);
            let count = self.stream.write(chunk).await?;
            self.writer.advance(framing, count);
        }
        self.outbox.written();
        Ok(())
    }

    /// A closing connection still waits for the byte that decides the framing, and reads for it.
    fn poll_framing_to_close(&mut self, context: &mut Context<'_>) -> Poll<Framing> {
        while self.decoder.framing().is_none() {
            let Decoded::Incomplete { consumed } = self.decoder.decode(&self.input) else { break };
            self.input.advance(consumed);
            if self.decoder.framing().is_some() {
                break;
            }
            let Poll::Ready(Event::Read(1..)) = self.poll_read(context) else { break };
        }
        self.poll_framing(context)
    }
}
