//! What waits for one socket: `kurir_socket::Outbox` and its task, in lines instead of bytes.

use std::collections::VecDeque;

use super::wire::ToDevice;

/// More than this closes the connection, if it were ever pushed.
const LIMIT: usize = 12;

/// How full an outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The device keeps up.
    Light,
    /// Let it catch up.
    Heavy,
}

/// Nothing is written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// An outbox.
#[derive(Debug, Default)]
pub struct Outbox {
    lines: VecDeque<ToDevice>,
    replies: usize,
    /// Taken, and not in the socket yet.
    writing: VecDeque<ToDevice>,
    closed: bool,
    dropped: bool,
    waiter: Waiter,
}

/// Who waits until what is in an outbox is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiter {
    #[default]
    Nobody,
    Waits,
    /// And it has happened.
    Wakes,
}

impl Outbox {
    /// Of what others have sent.
    pub fn push(&mut self, line: ToDevice) -> Result<Fill, Closed> {
        if self.closed {
            return Err(Closed);
        }
        self.lines.push_back(line);
        let waiting = self.lines.len() - self.replies;
        assert!(waiting <= LIMIT, "reading a log never fills an outbox");
        Ok(if waiting > LIMIT / 4 { Fill::Heavy } else { Fill::Light })
    }

    /// An answer to the device itself.
    pub fn reply(&mut self, line: ToDevice) {
        if !self.closed {
            self.lines.push_back(line);
            self.replies += 1;
        }
    }

    /// The next line for the socket.
    pub fn pop(&mut self) -> Option<ToDevice> {
        if self.writing.is_empty() && !self.lines.is_empty() {
            self.writing = std::mem::take(&mut self.lines);
            self.replies = 0;
            if self.waiter == Waiter::Waits {
                self.waiter = Waiter::Wakes;
            }
        }
        self.writing.pop_front()
    }

    /// Somebody waits until what is in it now is taken.
    pub fn wait_until_taken(&mut self) {
        self.waiter = Waiter::Waits;
    }

    /// Whether that has happened: true once.
    pub fn is_taken(&mut self) -> bool {
        let empty = self.lines.is_empty() || self.closed;
        let taken = self.waiter == Waiter::Wakes || self.waiter == Waiter::Waits && empty;
        if taken {
            self.waiter = Waiter::Nobody;
        }
        taken
    }

    /// Whether the socket has taken everything.
    pub fn is_written(&self) -> bool {
        self.lines.is_empty() && self.writing.is_empty() && !self.dropped
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is not in the socket is dropped.
    pub fn close(&mut self) {
        self.dropped |= !self.lines.is_empty() || !self.writing.is_empty();
        self.lines.clear();
        self.writing.clear();
        self.closed = true;
    }
}
