//! Virtual time: what happens next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::checker::Dice;

/// Microseconds since the beginning.
pub type Time = u64;

/// A millisecond.
pub const MS: Time = 1000;

/// A second.
pub const S: Time = 1000 * MS;

/// Things that are to happen. Of those due at the same moment any may be first.
#[derive(Debug)]
pub struct Schedule<E> {
    now: Time,
    dice: Dice,
    due: BinaryHeap<Due<E>>,
    happened: usize,
}

#[derive(Debug)]
struct Due<E> {
    at: Time,
    tie: usize,
    event: E,
}

impl<E> Schedule<E> {
    /// Nothing, at the beginning of time.
    pub fn new(dice: Dice) -> Self {
        Self { now: 0, dice, due: BinaryHeap::new(), happened: 0 }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How much has happened.
    pub fn happened(&self) -> usize {
        self.happened
    }

    /// This happens then, or now if that is over.
    pub fn at(&mut self, at: Time, event: E) {
        let (at, tie) = (at.max(self.now), self.dice.below(usize::MAX));
        self.due.push(Due { at, tie, event });
    }

    /// What happens next: it is that time then.
    pub fn pop(&mut self) -> Option<E> {
        let Due { at, event, .. } = self.due.pop()?;
        (self.now, self.happened) = (at, self.happened + 1);
        Some(event)
    }
}

impl<E> Ord for Due<E> {
    /// The greatest is the first due.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.tie).cmp(&(self.at, self.tie))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}
