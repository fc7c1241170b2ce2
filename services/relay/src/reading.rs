//! How far a connection has been sent its account's log: plain data. Tasks of [`crate::readers`] move it.
//!
//! Everything that a device is sent of the log is read from the log, in order, by one task at a time. What tells of
//! new entries (a manager, or this relay's own question) only says how far there is to read.

use kurir_protocol::relay::Resume;

/// How a device reads.
#[derive(Debug)]
pub(crate) enum Device {
    /// As the original: plain messages, from where its stored cursor is. The cursor follows what its socket has taken.
    Plain,
    /// From where it says, with the places; the cursor follows what it acknowledges.
    Resuming(Resume),
}

/// One connection's place in the log.
#[derive(Debug)]
pub(crate) struct Reading {
    device: Device,
    /// Read up to here, into the outbox.
    seq: u64,
    /// The log is known to reach so far.
    known: u64,
    /// The log's end when this connection began to read: what the device itself sends comes later.
    began_at: Option<u64>,
    /// A task is at it.
    busy: bool,
    /// The cursor to be stored, and the one that is.
    cursor: u64,
    stored: u64,
}

/// What a page of the log begins with, once it is known where the device goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// This page is where the device goes on.
    Here,
    /// The device has been somewhere else: everything from the first on.
    Again,
}

impl Reading {
    pub(crate) fn new(device: Device) -> Self {
        let seq = match &device {
            Device::Plain => 0,
            Device::Resuming(resume) => resume.seq,
        };
        Self { device, seq, known: 0, began_at: None, busy: true, cursor: 0, stored: 0 }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.device, Device::Plain)
    }

    /// None before the first page.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.began_at.map(|_| self.seq)
    }

    /// The log reaches to `seq`. True: somebody has to go and read.
    pub(crate) fn hear(&mut self, seq: u64) -> bool {
        self.known = self.known.max(seq);
        if self.busy || self.known <= self.seq {
            return false;
        }
        self.busy = true;
        true
    }

    /// The first page has come: where does the device go on?
    pub(crate) fn begin(&mut self, log: &str, after: u64, last: u64) -> Begin {
        self.began_at = Some(last);
        self.known = self.known.max(last);
        let Device::Resuming(resume) = &self.device else {
            (self.seq, self.cursor, self.stored) = (after, after, after);
            return Begin::Here;
        };
        if resume.seq > last || resume.log.as_deref().is_some_and(|known| known != log) {
            self.seq = 0;
            return Begin::Again;
        }
        Begin::Here
    }

    /// Whether this device is shown an entry, which is then read. `sent_by_it`: it is its own.
    pub(crate) fn show(&mut self, seq: u64, sent_by_it: bool) -> bool {
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        let before = self.began_at.is_some_and(|end| seq <= end);
        !sent_by_it || (before && !self.is_plain())
    }

    /// A page has been read. True: there is more.
    pub(crate) fn go_on(&mut self, last: u64, complete: bool) -> bool {
        if complete {
            self.seq = self.seq.max(last);
        }
        self.busy = self.known > self.seq;
        self.busy
    }

    /// Its own message is stored at `seq`. What the sender is told of that.
    pub(crate) fn stored(&mut self, seq: u64) -> Option<u64> {
        // Nothing to read for it, if it comes next.
        if !self.busy && seq == self.seq + 1 {
            self.seq = seq;
            self.known = self.known.max(seq);
        }
        (!self.is_plain()).then_some(seq)
    }

    /// The device has everything up to `seq`.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        if !self.is_plain() && seq <= self.seq {
            self.cursor = self.cursor.max(seq);
        }
    }

    /// The socket has taken everything that was read up to `seq`.
    pub(crate) fn written(&mut self, seq: u64) {
        if self.is_plain() {
            self.cursor = self.cursor.max(seq);
        }
    }

    /// The cursor to store, if it has moved.
    pub(crate) fn cursor(&self) -> Option<u64> {
        (self.cursor > self.stored).then_some(self.cursor)
    }

    pub(crate) fn cursor_is_stored(&mut self, seq: u64) {
        self.stored = self.stored.max(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resuming(seq: u64, log: Option<&str>) -> Reading {
        Reading::new(Device::Resuming(Resume { seq, log: log.map(str::to_owned) }))
    }

    #[test]
    fn a_device_goes_on_where_it_was_in_the_same_log_only() {
        for (seq, log, expected) in [
            (3, Some("a"), Begin::Here),
            (3, None, Begin::Here),
            (9, Some("a"), Begin::Here),
            (10, Some("a"), Begin::Again),
            (3, Some("b"), Begin::Again),
            (0, None, Begin::Here),
        ] {
            let mut reading = resuming(seq, log);
            assert_eq!(reading.begin("a", seq, 9), expected, "{seq} of {log:?}");
            assert_eq!(reading.seq(), Some(if expected == Begin::Here { seq } else { 0 }));
        }
    }

    #[test]
    fn each_entry_is_shown_once_and_ones_own_not_while_connected() {
        let mut reading = resuming(0, None);
        reading.begin("a", 0, 2);
        assert!(reading.show(1, true), "sent before this connection");
        assert!(!reading.show(1, false));
        assert!(reading.show(2, false));
        assert!(!reading.show(3, true), "sent on this connection");
        assert!(reading.show(4, false));

        let mut plain = Reading::new(Device::Plain);
        plain.begin("a", 0, 2);
        assert!(!plain.show(1, true), "the original is never shown what it sent");
        assert!(plain.show(2, false));
    }

    #[test]
    fn one_task_reads_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let mut reading = Reading::new(Device::Plain);
        assert!(!reading.hear(1), "the first page is being read");
        reading.begin("a", 0, 0);
        assert!(reading.go_on(0, true), "heard of while it was read");
        reading.show(1, false);
        assert!(!reading.go_on(1, true));
        assert!(!reading.hear(1));
        assert!(reading.hear(2));
        assert!(!reading.hear(3));
        // A head that was announced and is not there yet ends the reading at the log's end.
        reading.show(2, false);
        assert!(reading.go_on(2, true));
    }

    #[test]
    fn ones_own_messages_in_a_row_need_no_reading() {
        let mut reading = resuming(0, None);
        reading.begin("a", 0, 0);
        reading.go_on(0, true);
        assert_eq!(reading.stored(1), Some(1));
        assert!(!reading.hear(1));
        assert_eq!(reading.stored(3), Some(3), "2 is somebody else's");
        assert!(reading.hear(3));
        let mut plain = Reading::new(Device::Plain);
        plain.begin("a", 0, 0);
        assert_eq!(plain.stored(1), None);
    }

    #[test]
    fn cursors_follow_the_socket_or_the_device() {
        let mut plain = Reading::new(Device::Plain);
        plain.begin("a", 4, 6);
        assert_eq!(plain.cursor(), None);
        plain.show(5, false);
        plain.acknowledged(5);
        assert_eq!(plain.cursor(), None);
        plain.written(5);
        assert_eq!(plain.cursor(), Some(5));
        plain.cursor_is_stored(5);
        assert_eq!(plain.cursor(), None);

        let mut resuming = resuming(4, None);
        resuming.begin("a", 4, 6);
        resuming.show(5, false);
        resuming.written(5);
        assert_eq!(resuming.cursor(), None);
        resuming.acknowledged(9);
        assert_eq!(resuming.cursor(), None, "what it was not sent it cannot have");
        resuming.acknowledged(5);
        assert_eq!(resuming.cursor(), Some(5));
    }
}
