//! Where this device is in its account's log: what has come, what the application has taken, and which receipts that
//! calls for. No IO, no clock.
//!
//! The place that is kept never passes a message that the application has not taken, nor one whose receipt is still
//! owed: after a crash these come again. Receipts for what was stored before this connection wait until all of that has
//! come, because in it there may be the receipt that another device, or this one in an earlier life, has sent.

use std::collections::{BTreeMap, VecDeque};

use kurir_protocol::relay::Resume;

/// More receipts than this do not wait.
const MAX_OWED: usize = 4096;

/// A receipt to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Who is told.
    pub to: String,
    /// Of what.
    pub stanza_id: String,
}

/// One device's place in the log.
#[derive(Debug)]
pub struct Inbox {
    log: Option<String>,
    /// There was a connection before this one, in whatever life of the application.
    known: bool,
    /// Everything up to here was put before the application.
    came: u64,
    /// Everything up to here it has taken.
    taken: u64,
    /// What has come and is not taken: taken when so many events are.
    under_way: VecDeque<(u64, u64)>,
    /// The log's end when this connection began.
    end: u64,
    /// All of that has come, and it was said so.
    up_to_date: bool,
    /// By place.
    owed: BTreeMap<u64, Owed>,
}

impl Inbox {
    /// Of a device that has everything up to `place`, and nothing else.
    pub fn new(place: Resume) -> Self {
        let Resume { seq, log } = place;
        Self {
            known: log.is_some(),
            log,
            came: seq,
            taken: seq,
            under_way: VecDeque::new(),
            end: u64::MAX,
            up_to_date: false,
            owed: BTreeMap::new(),
        }
    }

    /// Where a new connection goes on.
    pub fn resume(&self) -> Resume {
        Resume { seq: self.came, log: self.log.clone() }
    }

    /// A new connection has begun. With `reset` everything comes again, or for the first time.
    pub fn ready(&mut self, end: u64, log: String, reset: bool) {
        if reset {
            *self = Self::new(Resume { seq: 0, log: None });
        }
        self.known = self.log.replace(log).is_some();
        (self.end, self.up_to_date) = (end, false);
    }

    /// Whether this device had a place in this log before this connection: one that had none misses nothing of it.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether everything has come that was there before this connection: true once.
    pub fn becomes_up_to_date(&mut self) -> bool {
        self.came >= self.end && !std::mem::replace(&mut self.up_to_date, true)
    }

    /// Whether the entry at this place has not come before.
    pub fn is_new(&self, seq: u64) -> bool {
        seq > self.came
    }

    /// Whether this place was there before this connection.
    pub fn is_past(&self, seq: u64) -> bool {
        seq <= self.end
    }

    /// The entry has come; it is taken as soon as `events` events are.
    pub fn came(&mut self, seq: u64, events: u64) {
        self.came = self.came.max(seq);
        self.under_way.push_back((events, seq));
    }

    /// The message at this place, which is new, asks for a receipt.
    pub fn owe(&mut self, seq: u64, owed: Owed) {
        self.owed.insert(seq, owed);
    }

    /// There is a receipt from this account for the message.
    pub fn is_answered(&mut self, stanza_id: &str) {
        self.owed.retain(|_, owed| owed.stanza_id != stanza_id);
    }

    /// The application has taken so many events.
    pub fn took(&mut self, events: u64) {
        while let Some((_, seq)) = self.under_way.pop_front_if(|(needed, _)| *needed <= events) {
            self.taken = self.taken.max(seq);
        }
    }

    /// A receipt to be sent now. `hurry`: there is no waiting for what else may come.
    pub fn receipt(&mut self, hurry: bool) -> Option<Owed> {
        let waits = !hurry && self.came < self.end && self.owed.len() < MAX_OWED;
        let first = self.owed.first_entry().filter(|first| !waits && *first.key() <= self.taken)?;
        Some(first.remove())
    }

    /// The place to be kept.
    pub fn place(&self) -> Resume {
        let owed = self.owed.first_key_value().map(|(seq, _)| seq - 1);
        Resume { seq: owed.map_or(self.taken, |before| before.min(self.taken)), log: self.log.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(seq: u64) -> Resume {
        Resume { seq, log: Some("l".into()) }
    }

    fn owed(number: u64) -> Owed {
        Owed { to: "esa".into(), stanza_id: number.to_string() }
    }

    #[test]
    fn the_place_follows_what_the_application_has_taken() {
        let mut inbox = Inbox::new(place(3));
        inbox.ready(5, "l".into(), false);
        inbox.came(4, 1);
        assert!(!inbox.becomes_up_to_date());
        inbox.came(5, 2);
        assert!(inbox.becomes_up_to_date() && !inbox.becomes_up_to_date());
        assert!(!inbox.is_new(5) && inbox.is_new(6) && inbox.is_past(5) && !inbox.is_past(6));
        assert_eq!((inbox.resume(), inbox.place()), (place(5), place(3)));
        inbox.took(1);
        assert_eq!(inbox.place(), place(4));
        // One that made no event is taken with what came before it.
        inbox.came(6, 2);
        inbox.took(2);
        assert_eq!(inbox.place(), place(6));
    }

    #[test]
    fn a_reset_starts_over_in_the_other_log() {
        let mut inbox = Inbox::new(place(3));
        inbox.owe(3, owed(3));
        inbox.ready(9, "m".into(), true);
        assert_eq!(inbox.resume(), Resume { seq: 0, log: Some("m".into()) });
        assert_eq!(inbox.place(), inbox.resume());
        assert!(inbox.is_new(1));
    }

    #[test]
    fn receipts_for_the_past_wait_for_those_in_it() {
        let mut inbox = Inbox::new(place(0));
        inbox.ready(3, "l".into(), false);
        for seq in [1, 2] {
            inbox.owe(seq, owed(seq));
            inbox.came(seq, seq);
        }
        inbox.took(2);
        assert_eq!((inbox.receipt(false), inbox.place()), (None, place(0)));
        inbox.is_answered("1");
        inbox.came(3, 2);
        inbox.took(2);
        assert_eq!(inbox.place(), place(1), "not past a receipt that is owed");
        assert_eq!((inbox.receipt(false), inbox.receipt(false)), (Some(owed(2)), None));
        assert_eq!(inbox.place(), place(3));
    }

    #[test]
    fn a_receipt_is_for_what_the_application_has_taken() {
        let mut inbox = Inbox::new(place(0));
        inbox.ready(0, "l".into(), false);
        inbox.owe(1, owed(1));
        inbox.came(1, 1);
        assert_eq!(inbox.receipt(false), None);
        assert_eq!(inbox.receipt(true), None);
        inbox.took(1);
        assert_eq!(inbox.receipt(false), Some(owed(1)));
    }

    proptest! {
        /// Cuts and crashes at any time: what the application takes is the log, in order; each entry once, but for
        /// what a crash brings again; and each is answered.
        #[test]
        fn every_entry_is_taken_in_order_and_answered(steps in prop::collection::vec(0..5_u8, 0..200)) {
            const END: u64 = 20;
            let (mut kept, mut inbox) = (Resume { seq: 0, log: None }, Inbox::new(Resume { seq: 0, log: None }));
            let mut next = None::<u64>;
            // The entries of the events, in order, and how many of them are taken.
            let (mut shown, mut took) = (Vec::<u64>::new(), 0);
            let (mut highest, mut answered) = (0, std::collections::BTreeSet::new());
            let finish = (0..3 * END).flat_map(|_| [1, 2, 3]);
            for step in steps.into_iter().chain([0]).chain(finish) {
                match step {
                    // Connects.
                    0 => {
                        next = Some(inbox.resume().seq + 1);
                        inbox.ready(END / 2, "l".into(), false);
                    }
                    // An entry comes.
                    1 => if let Some(seq) = next.filter(|seq| *seq <= END) {
                        next = Some(seq + 1);
                        prop_assert!(inbox.is_new(seq));
                        inbox.owe(seq, owed(seq));
                        shown.push(seq);
                        inbox.came(seq, shown.len() as u64);
                    },
                    // The application takes one.
                    2 => if let Some(&seq) = shown.get(took) {
                        took += 1;
                        prop_assert!(seq <= highest + 1, "{} was passed over", highest + 1);
                        highest = highest.max(seq);
                        inbox.took(took as u64);
                    },
                    // The place is kept, with the receipts.
                    3 => {
                        while let Some(owed) = inbox.receipt(false) {
                            answered.insert(owed.stanza_id);
                        }
                        prop_assert!(inbox.place().seq >= kept.seq);
                        kept = inbox.place();
                    }
                    // A crash.
                    _ => {
                        inbox = Inbox::new(kept.clone());
                        (next, took) = (None, 0);
                        shown.clear();
                    }
                }
            }
            prop_assert_eq!(highest, END);
            prop_assert_eq!(answered.len() as u64, END);
            prop_assert_eq!(kept.seq, END);
        }
    }
}
