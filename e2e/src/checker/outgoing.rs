//! What a device has sent and nobody has acknowledged: it is sent again, in order, until somebody does.
//!
//! On a new connection all of it is. After a refusal it is what was refused and everything behind it: the relay takes
//! nothing else of this connection before (PROTOCOL Part II, `id`).

use std::collections::VecDeque;

use super::history::{Device, Message};

/// A device's messages, none of them acknowledged.
#[derive(Debug)]
pub struct Outgoing {
    device: Device,
    /// In the order in which they were first sent, with the account that each is for.
    messages: VecDeque<(Message, usize)>,
    /// How many of them, from the front, are on this connection and wait for an answer.
    written: usize,
    /// After a refusal nothing is written before it is time to try again.
    held: bool,
    last: u64,
}

impl Outgoing {
    /// Nothing yet.
    pub fn of(device: Device) -> Outgoing {
        Outgoing { device, messages: VecDeque::new(), written: 0, held: false, last: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// A new message for this account.
    pub fn push(&mut self, to: usize) {
        self.last += 1;
        self.messages.push_back((Message { from: self.device, number: self.last }, to));
    }

    /// There is a new connection, on which nothing was written.
    pub fn connected(&mut self) {
        (self.written, self.held) = (0, false);
    }

    /// What is to be written now, which then counts as written.
    pub fn take(&mut self) -> Vec<(Message, usize)> {
        if self.held {
            return Vec::new();
        }
        let taken = self.messages.range(self.written..).copied().collect();
        self.written = self.messages.len();
        taken
    }

    /// Whether something on this connection waits for an answer.
    pub fn waits(&self) -> bool {
        self.written > 0
    }

    /// One is stored. False: it was so before.
    pub fn acked(&mut self, message: Message) -> bool {
        let Some(index) = self.index(message) else { return false };
        self.messages.remove(index);
        if index < self.written {
            self.written -= 1;
        }
        true
    }

    /// One is refused for now: it and what is behind it waits for [`Outgoing::retry`].
    pub fn refused(&mut self, message: Message) {
        if let Some(index) = self.index(message) {
            self.written = self.written.min(index);
            self.held = true;
        }
    }

    /// Whether a refusal waits to be answered with another try.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// It is time to try again.
    pub fn retry(&mut self) {
        self.held = false;
    }

    fn index(&self, message: Message) -> Option<usize> {
        self.messages.iter().position(|(known, _)| *known == message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(taken: &[(Message, usize)]) -> Vec<u64> {
        taken.iter().map(|(message, _)| message.number).collect()
    }

    fn message(number: u64) -> Message {
        Message { from: 3, number }
    }

    fn five() -> Outgoing {
        let mut outgoing = Outgoing::of(3);
        (0..5).for_each(|to| outgoing.push(to));
        assert_eq!(numbers(&outgoing.take()), [1, 2, 3, 4, 5]);
        assert_eq!(outgoing.take(), []);
        outgoing
    }

    #[test]
    fn what_is_not_acked_is_sent_again_on_another_connection_in_order() {
        let mut outgoing = five();
        assert!(outgoing.acked(message(2)) && outgoing.acked(message(1)));
        assert!(!outgoing.acked(message(1)), "acked before");
        outgoing.connected();
        assert!(!outgoing.waits());
        outgoing.push(9);
        assert_eq!(outgoing.take().last(), Some(&(message(6), 9)));
        outgoing.connected();
        assert_eq!(numbers(&outgoing.take()), [3, 4, 5, 6]);
        assert_eq!(outgoing.len(), 4);
    }

    #[test]
    fn after_a_refusal_the_refused_one_comes_first_and_then_all_behind_it() {
        let mut outgoing = five();
        outgoing.refused(message(3));
        outgoing.refused(message(4));
        outgoing.refused(message(2));
        outgoing.push(9);
        assert!(outgoing.is_held());
        assert_eq!(outgoing.take(), [], "not before it is time");
        // Those before it are still on their way.
        outgoing.acked(message(1));
        outgoing.retry();
        assert_eq!(numbers(&outgoing.take()), [2, 3, 4, 5, 6]);
        assert!(outgoing.waits());
        // A refusal of what was acked since says nothing.
        outgoing.acked(message(2));
        outgoing.refused(message(2));
        assert!(!outgoing.is_held());
    }
}
