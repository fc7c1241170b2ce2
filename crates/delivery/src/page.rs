//! A page of a log on its way into the outbox of a device.

use crate::reading::{Begin, Reading, Turn};

/// An entry of a page, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it is in the log.
    pub seq: u64,
    /// This device has sent it, or must not be shown it for another reason.
    pub hidden: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The device is told where its log ends: before anything else. With `reset` everything comes again, and nothing of this
    /// page: another one is to be read.
    Ready {
        /// The device has been somewhere else.
        reset: bool,
    },
    /// Acknowledgements whose place is before this page.
    Acks(Vec<u8>),
    /// The device is told that the entries after `after` and before `first`, which it has not had, are gone; not a plain one,
    /// which was never promised anything.
    Gap {
        /// The last place that it had.
        after: u64,
        /// Where the log begins now.
        first: u64,
    },
    /// The entry is the device's own, and this says that it is stored. Once it is in the outbox: [`Writing::pushed`].
    Acknowledge(Vec<u8>),
    /// The entry with this index is the device's own, and says itself that it is stored. Once that is in the outbox:
    /// [`Writing::pushed`].
    Tell(usize),
    /// The entry with this index is not shown. Then [`Writing::pushed`].
    Skip(usize),
    /// The entry with this index is shown. Once it is in the outbox: [`Writing::pushed`].
    Show(usize),
    /// That was the page.
    Done {
        /// There is more to read.
        more: bool,
    },
}

/// A page that is being written. One step after the other, each done before the next; between them the device may acknowledge
/// and be acknowledged to.
#[derive(Debug)]
pub struct Writing {
    log: String,
    after: u64,
    first: u64,
    last: u64,
    places: Vec<Place>,
    /// How many of them are done.
    done: usize,
    begun: bool,
}

impl Writing {
    /// Of a page with the entries after `after` of `log`, which begins at `first` and ends at `last`.
    pub fn new(log: &str, after: u64, (first, last): (u64, u64), places: Vec<Place>) -> Self {
        Self { log: log.to_owned(), after, first, last, places, done: 0, begun: false }
    }

    /// What to do now.
    pub fn next(&mut self, reading: &mut Reading) -> Step {
        if !self.begun && reading.seq().is_none() {
            let reset = reading.begin(&self.log, self.after, self.last) == Begin::Again;
            if !reading.is_plain() {
                return Step::Ready { reset };
            }
        }
        if let Some(after) = reading.gap(self.first) {
            reading.read(self.first - 1);
            return Step::Gap { after, first: self.first };
        }
        if !std::mem::replace(&mut self.begun, true) {
            let acks = reading.take_acks();
            if !acks.is_empty() {
                return Step::Acks(acks);
            }
        }
        while let Some(place) = self.places.get(self.done) {
            match reading.turn(place.seq, place.hidden) {
                Turn::Known => self.done += 1,
                Turn::Skip => return Step::Skip(self.done),
                Turn::Acknowledge(ack) => return Step::Acknowledge(ack),
                Turn::Tell => return Step::Tell(self.done),
                Turn::Show => return Step::Show(self.done),
            }
        }
        let end = self.places.last().map_or(self.after, |place| place.seq);
        Step::Done { more: reading.go_on(self.last, end >= self.last) }
    }

    /// The index of the entry that the last step is about.
    pub fn index(&self) -> usize {
        self.done
    }

    /// The entry of the last step is in the outbox. Only now, because what is read counts as written once the outbox is empty.
    pub fn pushed(&mut self, reading: &mut Reading) {
        if let Some(place) = self.places.get(self.done) {
            reading.read(place.seq);
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use kurir_protocol::relay::Resume;

    use super::*;
    use crate::reading::Device;

    fn resuming(seq: u64, log: &str) -> Reading {
        Reading::new(Device::Resuming(Resume { seq, log: Some(log.to_owned()) }))
    }

    fn page(after: u64, last: u64, places: &[(u64, bool)]) -> Writing {
        let places = places.iter().map(|&(seq, hidden)| Place { seq, hidden }).collect();
        Writing::new("a", after, (1, last), places)
    }

    /// All steps but those that show nothing, each pushed.
    fn steps(mut writing: Writing, reading: &mut Reading) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = writing.next(reading);
            if matches!(step, Step::Skip(_)) {
                writing.pushed(reading);
                continue;
            }
            if matches!(step, Step::Acknowledge(_) | Step::Tell(_) | Step::Show(_)) {
                writing.pushed(reading);
            }
            let last = matches!(step, Step::Done { .. } | Step::Ready { reset: true });
            steps.push(step);
            if last {
                return steps;
            }
        }
    }

    #[test]
    fn a_device_is_told_where_its_log_ends_and_then_what_it_has_not_had() {
        let mut reading = resuming(2, "a");
        assert_eq!(reading.stored(2, b"2".into()), None);
        assert_eq!(reading.stored(4, b"4".into()), None);
        let first = page(2, 6, &[(3, false), (4, true)]);
        let [ready, shown] = [Step::Ready { reset: false }, Step::Show(0)];
        let acks = [Step::Acks(b"2".into()), Step::Acknowledge(b"4".into())];
        let [before, own] = acks;
        assert_eq!(steps(first, &mut reading), [ready, before, shown, own, Step::Done { more: true }]);
        let second = page(4, 6, &[(5, false), (6, false)]);
        assert_eq!(steps(second, &mut reading), [Step::Show(0), Step::Show(1), Step::Done { more: false }]);
    }

    #[test]
    fn in_another_log_nothing_is_shown_of_a_page_from_the_old_place() {
        let mut reading = resuming(2, "b");
        assert_eq!(steps(page(2, 3, &[(3, false)]), &mut reading), [Step::Ready { reset: true }]);
        let again = page(0, 3, &[(1, false), (2, false), (3, false)]);
        let shown = [Step::Show(0), Step::Show(1), Step::Show(2), Step::Done { more: false }];
        assert_eq!(steps(again, &mut reading), shown);
    }

    #[test]
    fn what_is_gone_is_passed_over_with_the_acknowledgements_that_have_their_place_in_it() {
        let gone = |reading: &mut Reading| {
            let place = Place { seq: 5, hidden: false };
            steps(Writing::new("a", 2, (5, 5), vec![place]), reading)
        };
        let mut resumed = resuming(2, "a");
        let [ready, gap] = [Step::Ready { reset: false }, Step::Gap { after: 2, first: 5 }];
        assert_eq!(gone(&mut resumed), [ready, gap, Step::Show(0), Step::Done { more: false }]);
        let mut plain = Reading::new(Device::Plain);
        let gap = Step::Gap { after: 2, first: 5 };
        assert_eq!(gone(&mut plain), [gap, Step::Show(0), Step::Done { more: false }]);
        let mut sender = resuming(2, "a");
        assert_eq!(sender.stored(4, b"4".into()), None);
        let [ready, gap] = [Step::Ready { reset: false }, Step::Gap { after: 2, first: 5 }];
        let acks = Step::Acks(b"4".into());
        assert_eq!(gone(&mut sender), [ready, gap, acks, Step::Show(0), Step::Done { more: false }]);
        // All of it.
        let mut resumed = resuming(2, "a");
        let everything = steps(Writing::new("a", 2, (6, 5), Vec::new()), &mut resumed);
        let [ready, gap] = [Step::Ready { reset: false }, Step::Gap { after: 2, first: 6 }];
        assert_eq!(everything, [ready, gap, Step::Done { more: false }]);
    }

    /// The log is read before the answer comes to what it holds.
    #[test]
    fn an_entry_that_is_faster_than_its_answer_has_its_place_all_the_same() {
        let mut reading = resuming(2, "a");
        assert_eq!(steps(page(2, 2, &[]), &mut reading).len(), 2);
        assert!(reading.hear(4));
        let told = [Step::Tell(0), Step::Show(1), Step::Done { more: false }];
        assert_eq!(steps(page(2, 4, &[(3, true), (4, false)]), &mut reading), told);
        assert_eq!(reading.stored(3, b"3".into()), Some(b"3".into()), "repeated");
    }

    #[test]
    fn what_did_not_get_into_the_outbox_is_not_read() {
        let mut plain = Reading::new(Device::Plain);
        let mut writing = page(0, 3, &[(1, true), (2, false), (3, false)]);
        assert_eq!((writing.next(&mut plain), writing.index()), (Step::Skip(0), 0));
        writing.pushed(&mut plain);
        assert_eq!((writing.next(&mut plain), writing.index()), (Step::Show(1), 1));
        assert_eq!((plain.seq(), writing.next(&mut plain)), (Some(1), Step::Show(1)));
        writing.pushed(&mut plain);
        assert_eq!((plain.seq(), writing.next(&mut plain)), (Some(2), Step::Show(2)));
    }
}
