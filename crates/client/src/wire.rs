//! One socket to a server: values in, lines out, pinged when silent.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kurir_protocol::client::{FromServer, ToServer};
use kurir_protocol::framing::{Decoded, Decoder, Limits};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::Failure;
use crate::liveness::{Liveness, Verdict};
use crate::options::Timing;

/// Echoed in the answers to pings that look for life.
const PING_ID: &str = "alive";

/// Read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// A connection to a tracker, manager or relay.
#[derive(Debug)]
pub(crate) struct Wire {
    address: String,
    stream: TcpStream,
    since: Instant,
    decoder: Decoder,
    /// Received; everything before `consumed` is done with.
    input: Vec<u8>,
    consumed: usize,
    /// To be written; everything before `flushed` has been.
    output: Vec<u8>,
    flushed: usize,
    /// Bytes handed to the system since the beginning.
    written: u64,
    /// Nothing more is written.
    ends: bool,
    liveness: Liveness,
    /// The reason, should the server close now: the last value said so.
    said: Option<Said>,
}

/// A server's last words.
#[derive(Debug, Clone)]
enum Said {
    Refused(String),
    Closing { condition: String, retry_after: Option<Duration> },
}

/// A value from a server.
#[derive(Debug)]
pub(crate) struct Received {
    /// As it came.
    pub(crate) value: String,
    /// What it means.
    pub(crate) packet: FromServer,
}

/// What happened on a [`Wire`].
#[derive(Debug)]
pub(crate) enum Next {
    /// One JSON value came.
    Value(Received),
    /// Some of what was queued was written.
    Written,
}

impl Wire {
    /// Connects, within [`Timing::dial`].
    pub(crate) async fn dial(address: &str, timing: &Timing) -> Result<Box<Self>, Failure> {
        let failed = |source| Failure::Connection { address: address.to_owned(), source: Arc::new(source) };
        let stream = timeout(timing.dial, TcpStream::connect(address))
            .await
            .map_err(|_| Failure::Silent { address: address.to_owned() })?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Box::new(Self {
            address: address.to_owned(),
            stream,
            since: Instant::now(),
            decoder: Decoder::for_client_library(Limits::FROM_SERVERS),
            input: Vec::new(),
            consumed: 0,
            output: Vec::new(),
            flushed: 0,
            written: 0,
            ends: false,
            liveness: Liveness::new(timing.silence, timing.ping, Instant::now()),
            said: None,
        }))
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// This end's address, which a hello tells.
    pub(crate) fn local(&self) -> (String, u16) {
        self.stream
            .local_addr()
            .map_or_else(|_| ("0.0.0.0".to_owned(), 0), |local| (local.ip().to_string(), local.port()))
    }

    /// When it was connected.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Queues one packet.
    pub(crate) fn queue(&mut self, packet: &ToServer<'_>) {
        packet.write(&mut self.output);
    }

    /// Queues one packet already written as a line. What [`Wire::written`] will be once the server can have all of the
    /// value, which ends before the line's LF.
    pub(crate) fn queue_line(&mut self, line: &[u8]) -> u64 {
        self.output.extend_from_slice(line);
        (self.written + self.unwritten() as u64).saturating_sub(1)
    }

    /// Forgets what is not written: this wire is only read to its end. The server is told that nothing more comes: it has what
    /// was written handled before it closes.
    pub(crate) fn stop_writing(&mut self) {
        self.output = Vec::new();
        self.flushed = 0;
        self.ends = true;
    }

    /// Bytes handed to the system since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes queued and not handed to the system yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.output.len() - self.flushed
    }

    /// What happens next. With `read` false the socket is only written to, and its silence is nobody's fault.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self, read: bool) -> Result<Next, Failure> {
        loop {
            if !read {
                self.liveness.heard(Instant::now());
            }
            let due = self.liveness.due();
            tokio::select! {
                // What came while this task could not run is a sign of life, however late it is looked at.
                biased;
                next = self.exchange(read) => return next,
                () = sleep_until(due), if read => self.look()?,
            }
        }
    }

    /// The next value, however long it takes: for the time before this wire is part of a session. Whoever waits has a
    /// deadline of its own, and a server that is busy with a login answers no ping before it.
    pub(crate) async fn value(&mut self) -> Result<Received, Failure> {
        loop {
            if let Next::Value(value) = self.exchange(true).await? {
                return Ok(value);
            }
        }
    }

    /// Like [`Wire::next`], with no eye on silence.
    async fn exchange(&mut self, read: bool) -> Result<Next, Failure> {
        if self.ends {
            // Done at once, and as good done twice. An error is the connection's end, which reading finds.
            let _ = self.stream.shutdown().await;
        }
        loop {
            if read && let Some(value) = self.decode()? {
                return Ok(Next::Value(value));
            }
            let interest = match (read, self.unwritten() > 0) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, true) => Interest::WRITABLE,
                (true, false) => Interest::READABLE,
                // Unread, an error or the end of the connection is noticed when reading goes on.
                (false, false) => return pending().await,
            };
            let ready = self.stream.ready(interest).await.map_err(|error| self.broken(error))?;
            if read && ready.is_readable() {
                self.read()?;
            }
            if ready.is_writable() && self.write()? {
                return Ok(Next::Written);
            }
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        match self.liveness.verdict(Instant::now()) {
            Verdict::Alive => {}
            Verdict::Ping if self.ends => {}
            Verdict::Ping => {
                self.queue(&ToServer::Ping { id: PING_ID });
            }
            Verdict::Dead => return Err(Failure::Silent { address: self.address.clone() }),
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<Option<Received>, Failure> {
        let rest = self.input.get(self.consumed..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        match self.decoder.decode(rest) {
            Decoded::Value { start, end } => {
                let bytes = rest.get(start..end).unwrap_or_default();
                let value = std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.garbage())?;
                self.consumed += end;
                let packet = FromServer::parse(&value).unwrap_or(FromServer::Unknown);
                self.said = match &packet {
                    FromServer::Refused { code, msg } => Some(Said::Refused(format!("{msg}, {code}"))),
                    FromServer::Closing { condition, retry_after_ms } => Some(Said::Closing {
                        condition: condition.clone(),
                        retry_after: retry_after_ms.map(Duration::from_millis),
                    }),
                    _ => None,
                };
                Ok(Some(Received { value, packet }))
            }
            Decoded::Incomplete { consumed } => {
                self.consumed += consumed;
                self.input.drain(..self.consumed);
                self.consumed = 0;
                Ok(None)
            }
            Decoded::Malformed { .. } | Decoded::TooLarge => Err(self.garbage()),
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        self.input.reserve(CHUNK_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Err(self.closed()),
            Ok(_) => {
                self.liveness.heard(Instant::now());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Whether anything was written.
    fn write(&mut self) -> Result<bool, Failure> {
        let rest = self.output.get(self.flushed..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        match self.stream.try_write(rest) {
            Ok(count) => {
                self.flushed += count;
                self.written += count as u64;
                if self.unwritten() == 0 {
                    self.output.clear();
                    self.flushed = 0;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, source: io::Error) -> Failure {
        match &self.said {
            Some(_) => self.closed(),
            None => Failure::Connection { address: self.address.clone(), source: Arc::new(source) },
        }
    }

    fn closed(&self) -> Failure {
        let address = self.address.clone();
        match self.said.clone() {
            None => Failure::Closed { address, said: None },
            Some(Said::Refused(said)) => Failure::Closed { address, said: Some(said) },
            Some(Said::Closing { condition, retry_after }) => {
                Failure::SentAway { address, condition, retry_after }
            }
        }
    }

    fn garbage(&self) -> Failure {
        Failure::Protocol { address: self.address.clone() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{advance, pause, resume};

    use super::*;

    #[tokio::test]
    async fn an_answer_that_came_during_a_stall_is_not_overlooked() {
        let timing = Timing::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Chance would have it right now and then.
        for _ in 0..20 {
            let mut wire = Wire::dial(&address, &timing).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            pause();
            advance(timing.silence).await;
            wire.look().unwrap();
            peer.write_all(b"{}\n").await.unwrap();
            wire.stream.readable().await.unwrap();
            advance(timing.ping * 2).await;
            resume();
            let next = wire.next(true).await;
            assert!(matches!(next, Ok(Next::Value(_) | Next::Written)), "{next:?}");
        }
    }
}
