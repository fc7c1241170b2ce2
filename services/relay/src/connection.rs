//! A client connection that has said hello, as the rest of the relay sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32};

use kurir_protocol::{
    name::{LoginId, Resource},
    replies,
};
use kurir_socket::{Closed, Outbox, outbox::Fill};

use crate::{reading::Reading, tracked::Order};

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
    /// How far it has been sent its account's log. Never locked while the outbox is.
    pub(crate) reading: Mutex<Reading>,
    /// In which order its own tracked messages are stored.
    pub(crate) order: Mutex<Order>,
}

impl Connection {
    /// Appends a stanza that has no LF, without waking the connection's task.
    pub(crate) fn push(&self, stanza: &[u8]) -> Result<Fill, Closed> {
        self.outbox.push_with(|out| {
            out.extend_from_slice(stanza);
            out.push(b'\n');
        })
    }

    /// Of a user's default device at its first login, without a socket.
    #[cfg(test)]
    pub(crate) fn alone(user: &str, number: u64, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self {
            user: user.into(),
            name: user.into(),
            resource: Resource::default_device(),
            login: LoginId(number),
            number,
            outbox,
            lookups: 0.into(),
            reading: Mutex::new(Reading::new(crate::reading::Device::Plain)),
            order: Mutex::default(),
        })
    }

    pub(crate) fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
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
