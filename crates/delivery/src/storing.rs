//! A relay's tracked messages on their way into the log.
//!
//! All of them go in one order, a batch at a time: nothing later is handed to a manager before it is known, or given up, what
//! became of the batch before. So of each sender a prefix of what it sent is stored. Where no manager is known to have stored
//! a batch its messages are refused, and with them every later one of those senders, until the refused one comes again.

use std::{collections::VecDeque, ops::DerefMut, sync::Arc, time::Duration};

use crate::order::Order;

/// A batch is closed at either: well below what one call may carry.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

/// Without an answer by then a batch may be stored or not, and goes to the next manager.
pub const ANSWER: Duration = Duration::from_secs(2);

/// What a message on its way costs besides its stanza.
const PENDING_BYTES: usize = 256;

/// A connection that messages come from.
pub trait Sender {
    /// Its order, locked where several tasks use it.
    fn order(&self) -> impl DerefMut<Target = Order>;
}

/// Why a message is refused on the spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Another one of its sender has to come first.
    OutOfTurn,
    /// Too much waits.
    Full,
}

/// A message to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Case-mapped name of the sender.
    pub from: String,
    /// The sender's device.
    pub device: String,
    /// As the client gave it, unescaped.
    pub id: String,
    /// Case-mapped name of the receiver.
    pub to: String,
    /// One canonical line without LF.
    pub stanza: String,
    /// When it came, in microseconds since the Unix epoch: for whoever wants to know, nothing depends on it.
    pub accepted_us: i64,
}

/// A message on its way.
#[derive(Debug)]
pub struct Pending<S> {
    /// Whom to tell what became of it.
    pub from: Arc<S>,
    /// Which of the sender's turns it belongs to.
    turn: u32,
    /// What is to be stored.
    pub message: Message,
}

/// The messages that wait for the batch under way, and their bytes with those of that.
#[derive(Debug)]
pub struct Waiting<S> {
    limit_bytes: usize,
    pending: VecDeque<Pending<S>>,
    bytes: usize,
}

/// Messages that are handed to a manager together.
#[derive(Debug)]
pub struct Batch<S> {
    pending: Vec<Pending<S>>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It is stored, now or before: to be acknowledged with this.
    Stored(A),
    /// There is no such receiver.
    NoAccount,
    /// The device has used its id for other content.
    Conflict,
    /// It may be stored or not: refused, to come again before any later one of its sender.
    Unknown,
}

impl<S: Sender> Waiting<S> {
    /// Nothing yet, and never more than so much.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, pending: VecDeque::new(), bytes: 0 }
    }

    /// Puts a message on its way; what becomes of it the sender is told. Otherwise it is refused here and now.
    pub fn send(&mut self, from: &Arc<S>, message: Message) -> Result<(), Held> {
        let mut order = from.order();
        let Some(turn) = order.admit(&message.id) else { return Err(Held::OutOfTurn) };
        let bytes = message.bytes();
        if self.bytes + bytes > self.limit_bytes {
            order.hold(turn, &message.id);
            return Err(Held::Full);
        }
        drop(order);
        self.bytes += bytes;
        self.pending.push_back(Pending { from: Arc::clone(from), turn, message });
        Ok(())
    }

    /// Whether so much waits that senders should let it be stored first.
    pub fn is_heavy(&self) -> bool {
        self.bytes > self.limit_bytes / 4
    }

    /// The next batch. None: nothing waits. Only when the one before it is [`Waiting::done`].
    pub fn take(&mut self) -> Option<Batch<S>> {
        let mut bytes = 0;
        let mut pending = Vec::new();
        while pending.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(next) = self.pending.pop_front() else { break };
            bytes += next.message.bytes();
            pending.push(next);
        }
        (!pending.is_empty()).then_some(Batch { pending })
    }

    /// A batch of so many bytes is not on its way any more.
    pub fn done(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }
}

impl<S: Sender> Batch<S> {
    /// What it counts for.
    pub fn bytes(&self) -> usize {
        self.pending.iter().map(|pending| pending.message.bytes()).sum()
    }

    /// Takes those out that are refused, because an earlier one of their sender was while they waited. First of all: no manager
    /// gets to see them.
    pub fn take_refused(&mut self) -> Vec<Pending<S>> {
        let waiting = std::mem::take(&mut self.pending);
        let refused;
        (refused, self.pending) = waiting.into_iter().partition(Pending::is_refused);
        refused
    }

    /// What is to be stored, in order.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.pending.iter().map(|pending| &pending.message)
    }

    /// What became of each, in order. None: no manager has said so; an answer for another number of messages says nothing.
    pub fn settle<A>(
        self,
        outcomes: Option<Vec<Outcome<A>>>,
    ) -> impl Iterator<Item = (Pending<S>, Outcome<A>)> {
        let known = outcomes.filter(|outcomes| outcomes.len() == self.pending.len()).unwrap_or_default();
        let outcomes = known.into_iter().chain(std::iter::repeat_with(|| Outcome::Unknown));
        self.pending.into_iter().zip(outcomes).inspect(|(pending, outcome)| {
            if matches!(outcome, Outcome::Unknown) {
                pending.refuse();
            }
        })
    }
}

impl<S: Sender> Pending<S> {
    /// Whether an earlier one of its sender was refused meanwhile, and with it this one.
    fn is_refused(&self) -> bool {
        self.from.order().is_over(self.turn)
    }

    fn refuse(&self) {
        self.from.order().refuse(self.turn, &self.message.id);
    }
}

impl Message {
    fn bytes(&self) -> usize {
        self.stanza.len() + PENDING_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Debug, Default)]
    struct Connection(Mutex<Order>);

    impl Sender for Connection {
        fn order(&self) -> impl DerefMut<Target = Order> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    fn message(id: &str) -> Message {
        let text = String::from;
        Message {
            from: text("esa"),
            device: text("default"),
            id: id.into(),
            to: text("fajar"),
            stanza: text("{}"),
            accepted_us: 0,
        }
    }

    fn sends(waiting: &mut Waiting<Connection>, from: &Arc<Connection>, id: &str) -> bool {
        waiting.send(from, message(id)).is_ok()
    }

    fn ids(pending: &[Pending<Connection>]) -> Vec<&str> {
        pending.iter().map(|pending| &*pending.message.id).collect()
    }

    #[test]
    fn what_came_after_a_refused_message_is_handed_to_nobody() {
        let mut waiting = Waiting::new(1 << 20);
        let [esa, other] = [(); 2].map(|()| Arc::new(Connection::default()));
        assert!(sends(&mut waiting, &esa, "1") && sends(&mut waiting, &other, "a"));
        let batch = waiting.take().unwrap();
        assert!(sends(&mut waiting, &esa, "2") && sends(&mut waiting, &other, "b"));
        let outcomes = vec![Outcome::Unknown, Outcome::Stored(7)];
        let settled: Vec<_> = batch.settle(Some(outcomes)).map(|(_, outcome)| outcome).collect();
        assert_eq!(settled, [Outcome::Unknown, Outcome::Stored(7)]);
        let mut batch = waiting.take().unwrap();
        assert_eq!(ids(&batch.take_refused()), ["2"]);
        assert_eq!(ids(&batch.pending), ["b"]);
        assert!(!sends(&mut waiting, &esa, "3"), "1 comes first");
        assert!(sends(&mut waiting, &esa, "1") && sends(&mut waiting, &esa, "2"));
        assert!(waiting.take().unwrap().take_refused().is_empty());
    }

    #[test]
    fn without_an_outcome_for_each_all_are_refused() {
        for outcomes in [None, Some(vec![Outcome::Stored(())])] {
            let mut waiting = Waiting::new(1 << 20);
            let esa = Arc::new(Connection::default());
            assert!(sends(&mut waiting, &esa, "1") && sends(&mut waiting, &esa, "2"));
            let settled: Vec<_> =
                waiting.take().unwrap().settle(outcomes).map(|(_, outcome)| outcome).collect();
            assert_eq!(settled, [Outcome::Unknown, Outcome::Unknown]);
            assert!(!sends(&mut waiting, &esa, "2"));
            assert!(sends(&mut waiting, &esa, "1"));
        }
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_done() {
        let mut waiting = Waiting::new(2 * message("1").bytes());
        let esa = Arc::new(Connection::default());
        assert!(sends(&mut waiting, &esa, "1") && waiting.is_heavy());
        let batch = waiting.take().unwrap();
        assert!(sends(&mut waiting, &esa, "2"));
        assert!(!sends(&mut waiting, &esa, "3"), "full");
        waiting.done(batch.bytes());
        assert!(!sends(&mut waiting, &esa, "4"), "3 comes first");
        assert!(sends(&mut waiting, &esa, "3"));
    }
}
