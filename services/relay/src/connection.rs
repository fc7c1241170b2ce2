//! A client connection that has said hello, as the rest of the relay sees it.

use std::sync::{Arc, atomic::AtomicU32};

use kurir_protocol::{
    name::{LoginId, Resource},
    replies,
};
use kurir_socket::{Closed, Outbox, outbox::Fill};

/// One admitted device. Small: there is one for every user who is online.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Case-mapped.
    pub(crate) user: Box<str>,
    /// As registered: what receivers see as `from`.
    pub(crate) name: Box<str>,
    pub(crate) resource: Resource,
    pub(crate) login: LoginId,
    /// Its number in the routing table.
    pub(crate) number: u64,
    pub(crate) outbox: Arc<Outbox>,
    /// Questions of [`crate::lookup::LookUps`] that are open for its messages.
    pub(crate) lookups: AtomicU32,
}

impl Connection {
    /// Appends a stanza that has no LF, without waking the connection's task.
    pub(crate) fn push(&self, stanza: &[u8]) -> Result<Fill, Closed> {
        self.outbox.push_with(|out| {
            out.extend_from_slice(stanza);
            out.push(b'\n');
        })
    }

    /// A message of this connection found no receiver (R15).
    pub(crate) fn not_delivered(&self) {
        let mut line = Vec::new();
        replies::not_delivered(&mut line, &self.name);
        // A link that breaks answers all that was on it at once: a client that reads must not count as too slow for that.
        self.outbox.push_replies(&line);
        self.outbox.wake();
    }
}
