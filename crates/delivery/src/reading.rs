//! How far a connection has been sent its account's log: plain data. A relay's tasks move it.
//!
//! Everything that a device is sent of the log is read from the log, in order, by one task at a time. What tells of
//! new entries (a manager, or this relay's own question) only says how far there is to read.

use std::collections::BTreeMap;

use kurir_protocol::relay::Resume;

/// So many acknowledgements are kept for a connection that is behind what it sends.
const ACKS: usize = 1024;

/// How a device reads.
#[derive(Debug)]
pub enum Device {
    /// As the original: plain messages, from where its stored cursor is. The cursor follows what its socket has taken.
    Plain,
    /// From where it says, with the places; the cursor follows what it acknowledges.
    Resuming(Resume),
}

/// One connection's place in the log.
#[derive(Debug)]
pub struct Reading {
    device: Device,
    /// Read up to here: it is in the outbox, or not to be shown.
    seq: u64,
    /// The log is known to reach so far.
    known: u64,
    /// The log's end when this connection began to read: what the device itself sends comes later.
    began_at: Option<u64>,
    /// A task is at it.
    busy: bool,
    /// Acknowledgements of its own messages, as lines, that have their place after what is still to be read.
    acks: BTreeMap<u64, Vec<u8>>,
    /// The cursor to be stored, and the one that is.
    cursor: u64,
    stored: u64,
}

/// Which entries are read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Those after this place.
    After(u64),
    /// Those after the device's stored cursor.
    Cursor,
}

/// What becomes of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The device has it.
    Known,
    /// It is the device's own, and not shown to it.
    Skip,
    /// The device's own: this tells it that it is stored.
    Acknowledge(Vec<u8>),
    /// The same, but no manager's answer was there to make the line from: this entry is faster.
    Tell,
    /// It goes into the outbox.
    Show,
}

/// What a page of the log begins with, once it is known where the device goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    /// This page is where the device goes on.
    Here,
    /// The device has been somewhere else: everything from the first on.
    Again,
}

impl Reading {
    /// Of a new connection, whose first page is on its way.
    pub fn new(device: Device) -> Self {
        let seq = match &device {
            Device::Plain => 0,
            Device::Resuming(resume) => resume.seq,
        };
        Self {
            device,
            seq,
            known: 0,
            began_at: None,
            busy: true,
            acks: BTreeMap::new(),
            cursor: 0,
            stored: 0,
        }
    }

    /// Whether the device reads as the original.
    pub fn is_plain(&self) -> bool {
        matches!(self.device, Device::Plain)
    }

    /// Read up to here. None before the first page.
    pub fn seq(&self) -> Option<u64> {
        self.began_at.map(|_| self.seq)
    }

    /// What the next page is read from.
    pub fn from(&self) -> From {
        match (self.seq(), &self.device) {
            (Some(seq), _) => From::After(seq),
            (None, Device::Plain) => From::Cursor,
            (None, Device::Resuming(resume)) => From::After(resume.seq),
        }
    }

    /// The log reaches to `seq`. True: somebody has to go and read.
    pub fn hear(&mut self, seq: u64) -> bool {
        self.known = self.known.max(seq);
        if self.busy || self.known <= self.seq {
            return false;
        }
        self.busy = true;
        true
    }

    /// The first page has come: where does the device go on?
    pub fn begin(&mut self, log: &str, after: u64, last: u64) -> Begin {
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

    /// What becomes of the entry at `seq`. `own`: this device has sent it, or must not be shown it for another reason.
    pub fn turn(&mut self, seq: u64, own: bool) -> Turn {
        if seq <= self.seq {
            return Turn::Known;
        }
        if !own {
            return Turn::Show;
        }
        if let Some(ack) = self.acks.remove(&seq) {
            return Turn::Acknowledge(ack);
        }
        if self.is_plain() {
            return Turn::Skip;
        }
        // Sent on an earlier connection it is shown. Otherwise the device is told here: later, with the answer, would be behind
        // what comes after it in the log, and a place that was passed is a place that was taken.
        let earlier = self.began_at.is_some_and(|end| seq <= end);
        if earlier { Turn::Show } else { Turn::Tell }
    }

    /// Where the entries that come next are gone, the log begins again at `first`: the place after which they are missing.
    pub(crate) fn gap(&self, first: u64) -> Option<u64> {
        (first > self.seq.saturating_add(1)).then_some(self.seq)
    }

    /// The entry at `seq` is in the outbox, or not to be shown.
    pub fn read(&mut self, seq: u64) {
        self.seq = self.seq.max(seq);
    }

    /// The acknowledgements whose place has been read.
    pub fn take_acks(&mut self) -> Vec<u8> {
        let later = self.acks.split_off(&(self.seq + 1));
        std::mem::replace(&mut self.acks, later).into_values().flatten().collect()
    }

    /// A page has been read. True: there is more.
    pub fn go_on(&mut self, last: u64, complete: bool) -> bool {
        if complete {
            self.seq = self.seq.max(last);
        }
        self.busy = self.known > self.seq;
        self.busy
    }

    /// Its own message is stored at `seq`: the line that says so, if it has its place now, or had it before. Otherwise it waits
    /// for what comes before it, and [`Reading::hear`] says whether somebody has to go and read.
    pub fn stored(&mut self, seq: u64, ack: Vec<u8>) -> Option<Vec<u8>> {
        if self.is_plain() {
            return Some(ack);
        }
        if !self.busy && seq == self.seq + 1 {
            self.seq = seq;
            self.known = self.known.max(seq);
        }
        if self.began_at.is_some() && seq <= self.seq {
            return Some(ack);
        }
        // Beyond that many the line is made from the entry, when it is read.
        if self.began_at.is_none() || self.acks.len() < ACKS {
            self.acks.insert(seq, ack);
        }
        None
    }

    /// The device has everything up to `seq`. False: it says so of what it was not sent.
    pub fn acknowledged(&mut self, seq: u64) -> bool {
        if self.is_plain() {
            return true;
        }
        let sent = self.began_at.is_some() && seq <= self.seq;
        if sent {
            self.cursor = self.cursor.max(seq);
        }
        sent
    }

    /// The socket has taken everything that was read up to `seq`.
    pub fn written(&mut self, seq: u64) {
        if self.is_plain() {
            self.cursor = self.cursor.max(seq);
        }
    }

    /// The cursor to store, if it has moved.
    pub fn cursor(&self) -> Option<u64> {
        (self.cursor > self.stored).then_some(self.cursor)
    }

    /// The cursor is stored, up to `seq`.
    pub fn cursor_is_stored(&mut self, seq: u64) {
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
        assert_eq!(reading.turn(1, true), Turn::Show, "sent before this connection");
        reading.read(1);
        assert_eq!(reading.turn(1, false), Turn::Known);
        assert_eq!(reading.turn(2, false), Turn::Show);
        assert_eq!(reading.turn(2, false), Turn::Show, "it did not get into the outbox");
        reading.read(2);
        assert_eq!(reading.turn(3, true), Turn::Tell, "sent on this connection");

        let mut plain = Reading::new(Device::Plain);
        plain.begin("a", 0, 2);
        assert_eq!(plain.turn(1, true), Turn::Skip, "the original is never shown what it sent");
        assert_eq!(plain.turn(2, false), Turn::Show);
    }

    #[test]
    fn what_is_gone_is_passed_over_once() {
        let mut reading = resuming(3, None);
        reading.begin("a", 3, 9);
        assert_eq!(reading.gap(4), None);
        assert_eq!(reading.gap(7), Some(3));
        reading.read(6);
        assert_eq!((reading.gap(7), reading.seq()), (None, Some(6)));
        assert!(reading.acknowledged(6), "the device knows of them");
    }

    #[test]
    fn one_task_reads_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let mut reading = Reading::new(Device::Plain);
        assert!(!reading.hear(1), "the first page is being read");
        reading.begin("a", 0, 0);
        assert!(reading.go_on(0, true), "heard of while it was read");
        reading.read(1);
        assert!(!reading.go_on(1, true));
        assert!(!reading.hear(1));
        assert!(reading.hear(2));
        assert!(!reading.hear(3));
        reading.read(2);
        assert!(reading.go_on(2, true));
    }

    #[test]
    fn an_acknowledgement_has_its_place_in_the_order_of_the_log() {
        let ack = |seq: u64| seq.to_string().into_bytes();
        let mut reading = resuming(0, None);
        assert_eq!(reading.stored(1, ack(1)), None, "`ready` comes first");
        reading.begin("a", 0, 1);
        assert_eq!(reading.turn(1, true), Turn::Acknowledge(ack(1)), "and not the entry");
        reading.read(1);
        assert!(!reading.go_on(1, true));
        assert_eq!(reading.stored(2, ack(2)), Some(ack(2)), "nothing to read for it");
        assert!(!reading.hear(2));
        assert_eq!(reading.stored(4, ack(4)), None, "3 is somebody else's");
        assert!(reading.hear(4));
        assert_eq!(reading.turn(3, false), Turn::Show);
        reading.read(3);
        assert_eq!(reading.take_acks(), b"");
        assert_eq!(reading.turn(4, true), Turn::Acknowledge(ack(4)));
        reading.read(4);
        assert_eq!(reading.stored(2, ack(2)), Some(ack(2)), "repeated");

        let mut resumed = resuming(5, None);
        assert_eq!(resumed.stored(5, ack(5)), None);
        resumed.begin("a", 5, 5);
        assert_eq!(resumed.take_acks(), ack(5), "its entry is not read again");

        let mut plain = Reading::new(Device::Plain);
        assert_eq!(plain.stored(1, ack(1)), Some(ack(1)));
    }

    #[test]
    fn cursors_follow_the_socket_or_the_device() {
        let mut plain = Reading::new(Device::Plain);
        plain.begin("a", 4, 6);
        assert_eq!(plain.cursor(), None);
        plain.read(5);
        assert!(plain.acknowledged(5), "which means nothing");
        assert_eq!(plain.cursor(), None);
        plain.written(5);
        assert_eq!(plain.cursor(), Some(5));
        plain.cursor_is_stored(5);
        assert_eq!(plain.cursor(), None);

        let mut resuming = resuming(4, None);
        assert!(!resuming.acknowledged(4), "of which log is not known yet");
        assert_eq!(resuming.cursor(), None);
        resuming.begin("a", 4, 6);
        resuming.read(5);
        resuming.written(5);
        assert_eq!(resuming.cursor(), None);
        assert!(!resuming.acknowledged(9), "what it was not sent it cannot have");
        assert_eq!(resuming.cursor(), None);
        assert!(resuming.acknowledged(5));
        assert_eq!(resuming.cursor(), Some(5));
    }
}
