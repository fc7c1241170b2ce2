//! A scripted connection: bytes out, packets in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::{PATIENCE, within};
use crate::packets;
use crate::pattern::{includes, matches};

/// The original's delimiter: U+0080 U+0081 U+0082.
pub const DELIMITER: &[u8] = b"\xC2\x80\xC2\x81\xC2\x82";

/// Read bytes are thrown away in pieces of this size, not packet by packet.
const COMPACT_BYTES: usize = 64 * 1024;

/// Which of PROTOCOL's two framings a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The original's delimiter after every value.
    Original,
    /// LF after every value.
    Lines,
}

impl Speaks {
    /// What ends a value.
    pub fn end(self) -> &'static [u8] {
        match self {
            Speaks::Original => DELIMITER,
            Speaks::Lines => b"\n",
        }
    }
}

/// One connection of one person. Knows the framing and nothing of chat.
#[derive(Debug)]
pub struct Raw {
    who: String,
    speaks: Speaks,
    stream: TcpStream,
    read: Vec<u8>,
    /// Where in `read` the next packet begins.
    next: usize,
    /// How many pings it has sent, so that each has an id of its own.
    pings: u64,
}

impl Raw {
    /// Connects. `who` is named when the scenario fails.
    pub async fn connect(who: impl Into<String>, to: SocketAddr, speaks: Speaks) -> Raw {
        let who = who.into();
        Raw::try_connect(&who, to, speaks)
            .await
            .unwrap_or_else(|error| panic!("{who} can't connect to {to}: {error}"))
    }

    /// Connects, if somebody is there.
    pub async fn try_connect(who: &str, to: SocketAddr, speaks: Speaks) -> io::Result<Raw> {
        let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(to)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(Raw { who: who.to_string(), speaks, stream, read: Vec::new(), next: 0, pings: 0 })
    }

    /// Who it is.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Sends one packet in this connection's framing.
    #[allow(clippy::needless_pass_by_value, reason = "scenarios read as scripts: esa.sends(json!({…}))")]
    pub async fn sends(&mut self, packet: Value) {
        let mut bytes = packet.to_string().into_bytes();
        bytes.extend_from_slice(self.speaks.end());
        self.sends_bytes(&bytes).await;
    }

    /// Sends bytes as they are.
    pub async fn sends_bytes(&mut self, bytes: &[u8]) {
        let sent = within(PATIENCE, &format!("{} sends", self.who), self.stream.write_all(bytes)).await;
        sent.unwrap_or_else(|error| panic!("{} can't send: {error}", self.who));
    }

    /// The same where the other side may be gone.
    pub async fn try_send(&mut self, packet: &Value) -> io::Result<()> {
        let mut bytes = packet.to_string().into_bytes();
        bytes.extend_from_slice(self.speaks.end());
        self.stream.write_all(&bytes).await
    }

    /// The very next packet, which must be this one.
    #[allow(clippy::needless_pass_by_value, reason = "as `sends`")]
    pub async fn receives(&mut self, pattern: Value) -> Value {
        let what = format!("{} waits for {pattern}", self.who);
        let packet = within(PATIENCE, &what, self.next_packet()).await;
        let packet = packet.unwrap_or_else(|| panic!("{what}, but the connection was closed"));
        assert!(matches(&pattern, &packet), "{what}\nbut got {packet}");
        packet
    }

    /// The next packets, which must be these in any order: they come from different places.
    pub async fn receives_in_any_order(&mut self, patterns: &[Value]) {
        let mut expected = patterns.to_vec();
        while !expected.is_empty() {
            let what = format!("{} waits for each of {expected:?}", self.who);
            let packet = within(PATIENCE, &what, self.next_packet()).await;
            let packet = packet.unwrap_or_else(|| panic!("{what}, but the connection was closed"));
            let found = expected.iter().position(|pattern| matches(pattern, &packet));
            expected.remove(found.unwrap_or_else(|| panic!("{what}\nbut got {packet}")));
        }
    }

    /// The next packet that is this one, whatever comes before it.
    #[allow(clippy::needless_pass_by_value, reason = "as `sends`")]
    pub async fn receives_in_the_end(&mut self, pattern: Value, limit: Duration) -> Value {
        let what = format!("{} waits for {pattern} among others", self.who);
        let found = async {
            loop {
                let packet = self
                    .next_packet()
                    .await
                    .unwrap_or_else(|| panic!("{what}, but the connection was closed"));
                if matches(&pattern, &packet) {
                    return packet;
                }
            }
        };
        within(limit, &what, found).await
    }

    /// The tracker's first reply: one value with no delimiter after it.
    #[allow(clippy::needless_pass_by_value, reason = "as `sends`")]
    pub async fn receives_bare(&mut self, pattern: Value) -> Value {
        let what = format!("{} waits for {pattern}, bare", self.who);
        let whole = async {
            loop {
                if let Ok(packet) = serde_json::from_slice::<Value>(&self.read[self.next..]) {
                    return packet;
                }
                assert!(self.read_more().await, "{what}, but the connection was closed");
            }
        };
        let packet = within(PATIENCE, &what, whole).await;
        assert!(matches(&pattern, &packet), "{what}\nbut got {packet}");
        self.next = self.read.len();
        packet
    }

    /// The delimiter that the tracker writes before its second reply, in the original's framing.
    pub async fn receives_delimiter(&mut self) {
        let what = format!("{} waits for the delimiter after the bare packet", self.who);
        let whole = async {
            while self.read.len() - self.next < DELIMITER.len() {
                assert!(self.read_more().await, "{what}, but the connection was closed");
            }
        };
        within(PATIENCE, &what, whole).await;
        assert!(
            self.read[self.next..].starts_with(DELIMITER),
            "{what}, but got {:?}",
            &self.read[self.next..]
        );
        self.next += DELIMITER.len();
    }

    /// Nothing has come but what was received: a ping sent now is answered next. Since a connection's values are handled in
    /// order, this also waits until everything sent before has been handled.
    pub async fn hears_nothing_else(&mut self) {
        let (ping, pong) = self.next_ping();
        self.sends(ping).await;
        let what = format!("{} waits for the answer to its ping", self.who);
        let packet = within(PATIENCE, &what, self.next_packet()).await;
        let packet = packet.unwrap_or_else(|| panic!("{what}, but the connection was closed"));
        assert!(includes(&pong, &packet), "{} was to hear nothing, but got {packet}", self.who);
    }

    /// Waits until everything sent before has been handled, whatever came of it.
    pub async fn settles(&mut self) {
        assert!(self.answers_ping(PATIENCE).await, "{}: no answer to a ping", self.who);
    }

    /// Whether a ping is answered within `limit`. What else comes is thrown away.
    pub async fn answers_ping(&mut self, limit: Duration) -> bool {
        let (ping, pong) = self.next_ping();
        let answered = async {
            self.try_send(&ping).await.ok()?;
            loop {
                let packet = self.next_packet().await?;
                if includes(&pong, &packet) {
                    return Some(());
                }
            }
        };
        matches!(tokio::time::timeout(limit, answered).await, Ok(Some(())))
    }

    /// The server closes this connection, and nothing more comes before that.
    pub async fn is_closed(&mut self) {
        let what = format!("{} waits to be closed", self.who);
        if let Some(packet) = within(PATIENCE, &what, self.next_packet()).await {
            panic!("{} was to be closed, but got {packet}", self.who);
        }
    }

    /// The server closes this connection, whatever comes before that.
    pub async fn is_closed_in_the_end(&mut self, limit: Duration) {
        let what = format!("{} waits to be closed in the end", self.who);
        within(limit, &what, async { while self.next_packet().await.is_some() {} }).await;
    }

    /// The next packet; none when the connection is closed.
    pub async fn next_packet(&mut self) -> Option<Value> {
        loop {
            if let Some(packet) = self.take_packet() {
                return Some(packet);
            }
            if !self.read_more().await {
                let rest = String::from_utf8_lossy(&self.read[self.next..]).into_owned();
                assert!(rest.is_empty(), "{} was closed in the middle of a packet: {rest}", self.who);
                return None;
            }
        }
    }

    /// The next packet from a server that may die in the middle of one; none when the connection is over.
    pub async fn next_whole_packet(&mut self) -> Option<Value> {
        loop {
            if let Some(packet) = self.take_packet() {
                return Some(packet);
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// Goes away without a goodbye: the server's side sees a reset.
    pub fn cut(self) {
        self.stream.set_zero_linger().expect("a socket option");
    }

    /// The bare socket, for those who do not read.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn next_ping(&mut self) -> (Value, Value) {
        self.pings += 1;
        let id = format!("ping-{}", self.pings);
        let ping = packets::ping(&id);
        let pong = packets::with(ping.clone(), "type", "result");
        (ping, pong)
    }

    fn take_packet(&mut self) -> Option<Value> {
        let unread = &self.read[self.next..];
        let end = self.speaks.end();
        let length = unread.windows(end.len()).position(|window| window == end)?;
        let packet = &unread[..length];
        if self.speaks == Speaks::Original {
            assert!(packet.is_ascii(), "{}: the original decodes each read on its own: {packet:?}", self.who);
        }
        let value = serde_json::from_slice(packet)
            .unwrap_or_else(|error| panic!("{} got no JSON ({error}): {}", self.who, packet.escape_ascii()));
        self.next += length + end.len();
        if self.next >= COMPACT_BYTES || self.next == self.read.len() {
            self.read.drain(..self.next);
            self.next = 0;
        }
        Some(value)
    }

    /// Whether more came; not so when the connection is closed. A reset is a close too.
    async fn read_more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(1..))
    }
}
