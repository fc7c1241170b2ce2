//! One message's way out of many events.
//!
//! What a socket has taken and what a device has acknowledged is noted once for all entries up to a place, so that it
//! costs nothing for each message. Which of these was the one for a message is found here, when somebody asks.

use uuid::{Timestamp, Uuid};

use crate::{Event, Step};

/// Which message is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// By what it was stored under.
    pub stanza_id: Option<Uuid>,
    /// By what its sender called it.
    pub sent_as: Option<SentAs>,
}

/// What a sender's device calls a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentAs {
    /// Case-mapped.
    pub user: String,
    /// None: any.
    pub device: Option<String>,
    /// As the client gave it.
    pub id: String,
}

impl Asked {
    pub(crate) fn is_about(&self, event: &Event) -> bool {
        if self.stanza_id.is_some() && event.stanza_id == self.stanza_id {
            return true;
        }
        self.sent_as.as_ref().is_some_and(|sent| {
            event.message_id.as_deref() == Some(&*sent.id)
                && *event.device.user == *sent.user
                && sent.device.as_deref().is_none_or(|device| *event.device.name == *device)
        })
    }
}

/// Of what can happen to one message any number of times (read by a device that begins again and again, refused) the last
/// so many are told: an answer has bounds, and so has the time that it takes.
const REPEATED: usize = 64;

/// What the events of one component say of a message, in order.
pub fn resolve<'e>(asked: &Asked, events: impl IntoIterator<Item = &'e Event> + Copy) -> Vec<Event> {
    let mut found: Vec<Event> = events.into_iter().filter(|event| asked.is_about(event)).cloned().collect();
    keep_last(&mut found);
    let read = found.iter().filter(|event| event.step == Step::Read);
    let mut ways: Vec<Way<'_>> = read.map(Way::of).collect();
    if !ways.is_empty() {
        for event in events.into_iter().filter(|event| event.is_progress()) {
            for way in &mut ways {
                way.meets(event);
            }
        }
    }
    let told: Vec<Event> = ways.into_iter().flat_map(Way::told).collect();
    found.extend(told);
    found.sort_by_key(Event::order);
    found
}

fn keep_last(found: &mut Vec<Event>) {
    let count = found.iter().filter(|event| event.step.repeats()).count();
    let mut surplus = count.saturating_sub(REPEATED);
    found.retain(|event| {
        let drop = surplus > 0 && event.step.repeats();
        surplus -= usize::from(drop);
        !drop
    });
}

/// How an entry that was read for a connection came there, and what became of it.
struct Way<'e> {
    read: Event,
    heard: Option<&'e Event>,
    written: Option<&'e Event>,
    acked: Option<&'e Event>,
    lost: Option<&'e Event>,
}

impl<'e> Way<'e> {
    fn of(read: &Event) -> Self {
        Self { read: read.clone(), heard: None, written: None, acked: None, lost: None }
    }

    /// Of each kind the first counts that reaches the entry.
    fn meets(&mut self, event: &'e Event) {
        let first = match event.step {
            // Later than it was read it was news of later entries.
            Step::Heard if event.at_us <= self.read.at_us => &mut self.heard,
            Step::Written => &mut self.written,
            Step::Acked => &mut self.acked,
            Step::Lost => &mut self.lost,
            _ => return,
        };
        // A connection that was lost has no place: it is all that was not written.
        let reaches = event.seq >= self.read.seq || event.step == Step::Lost;
        if reaches && event.device.is_connection_of(&self.read.device) {
            first.get_or_insert(event);
        }
    }

    fn told(self) -> impl Iterator<Item = Event> {
        let Self { read, heard, written, acked, lost } = self;
        let came = came_later(&read).then(|| Event::new(read.device.since_us, Step::Connected, &read.device));
        let lost = lost.filter(|_| written.is_none());
        let of_connection = [heard, written, acked, lost].into_iter().flatten().cloned();
        let told: Vec<Event> = came.into_iter().chain(of_connection).collect();
        let (stanza_id, seq) = (read.stanza_id, read.seq);
        told.into_iter().map(move |event| Event { stanza_id, seq, ..event })
    }
}

/// Whether the device came when the message was there already, as its stanza id says.
fn came_later(read: &Event) -> bool {
    let made = read.stanza_id.and_then(|id| id.get_timestamp());
    made.is_some_and(|made| read.device.since_us / 1000 > millis(made))
}

/// The time in an id, in milliseconds since the Unix epoch.
pub fn millis(made: Timestamp) -> i64 {
    let (seconds, nanos) = made.to_unix();
    let ms = seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000));
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Builder;

    use super::*;
    use crate::{Device, Reason};

    /// Made at the second 1000.
    fn stanza(number: u32) -> Uuid {
        Builder::from_unix_timestamp_millis(1_000_000 + u64::from(number), &[0; 10]).into_uuid()
    }

    /// The events of one connection.
    struct Events {
        events: Vec<Event>,
        device: Arc<Device>,
    }

    impl Events {
        fn of(since_us: i64) -> Events {
            Events { events: Vec::new(), device: Arc::new(Device::new("fajar", "phone", 9, since_us)) }
        }

        fn read(&mut self, at_us: i64, seq: u64, stanza_id: Uuid) {
            let event = Event::new(at_us, Step::Read, &self.device);
            self.events.push(Event { stanza_id: Some(stanza_id), seq, ..event });
        }

        fn comes(&mut self, at_us: i64, step: Step, seq: u64) {
            self.events.push(Event { seq, ..Event::new(at_us, step, &self.device) });
        }

        fn says(&self, stanza_id: Uuid) -> Vec<(i64, Step)> {
            let asked = Asked { stanza_id: Some(stanza_id), sent_as: None };
            let events = resolve(&asked, &self.events);
            assert!(events.iter().all(|event| event.stanza_id == Some(stanza_id)));
            events.iter().map(|event| (event.at_us, event.step)).collect()
        }
    }

    #[test]
    fn each_entry_has_the_first_progress_that_reaches_it() {
        use Step::{Acked, Heard, Read, Written};
        let mut way = Events::of(1);
        let [one, two, three] = [stanza(1), stanza(2), stanza(3)];
        way.comes(10, Step::Heard, 5);
        way.read(20, 4, one);
        way.read(21, 5, two);
        way.comes(30, Step::Written, 5);
        way.comes(35, Step::Heard, 6);
        way.comes(40, Step::Acked, 4);
        way.read(50, 6, three);
        way.comes(60, Step::Written, 6);
        way.comes(70, Step::Acked, 6);
        assert_eq!(way.says(one), [(10, Heard), (20, Read), (30, Written), (40, Acked)]);
        assert_eq!(way.says(two), [(10, Heard), (21, Read), (30, Written), (70, Acked)]);
        assert_eq!(way.says(three), [(35, Heard), (50, Read), (60, Written), (70, Acked)]);
        assert_eq!(way.says(stanza(4)), []);
    }

    #[test]
    fn news_of_later_entries_did_not_bring_this_one() {
        let mut way = Events::of(1);
        way.read(20, 4, stanza(1));
        way.comes(25, Step::Heard, 9);
        assert_eq!(way.says(stanza(1)), [(20, Step::Read)]);
    }

    #[test]
    fn what_was_not_written_went_with_its_connection() {
        let mut way = Events::of(1);
        way.read(20, 4, stanza(1));
        way.read(21, 5, stanza(2));
        way.comes(30, Step::Written, 4);
        way.comes(40, Step::Lost, 0);
        assert_eq!(way.says(stanza(1)), [(20, Step::Read), (30, Step::Written)]);
        assert_eq!(way.says(stanza(2)), [(21, Step::Read), (40, Step::Lost)]);
    }

    #[test]
    fn other_connections_say_nothing_of_it() {
        let mut way = Events::of(1);
        way.read(20, 4, stanza(1));
        way.device = Arc::new(Device::new("fajar", "phone", 9, 2));
        way.comes(30, Step::Written, 9);
        assert_eq!(way.says(stanza(1)), [(20, Step::Read)]);
    }

    #[test]
    fn a_device_that_was_away_is_shown_to_come() {
        let mut way = Events::of(2_000_000_000);
        way.read(2_000_000_020, 4, stanza(1));
        assert_eq!(way.says(stanza(1)), [(2_000_000_000, Step::Connected), (2_000_000_020, Step::Read)]);
    }

    #[test]
    fn of_what_happens_again_and_again_the_last_is_told() {
        let mut way = Events::of(1);
        way.comes(1, Step::Written, 1);
        for at_us in 0..1000 {
            way.read(at_us, 4, stanza(1));
        }
        way.comes(2000, Step::Written, 4);
        let said = way.says(stanza(1));
        let read: Vec<_> = said.iter().filter(|(_, step)| *step == Step::Read).map(|(at, _)| *at).collect();
        assert_eq!(read, (1000 - 64..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_refused_attempt_is_found_by_what_the_sender_called_it() {
        let (esa, other) =
            (Arc::new(Device::new("esa", "phone", 3, 1)), Arc::new(Device::new("esa", "tv", 4, 1)));
        let refused = |device: &Arc<Device>, at_us, id: &str| Event {
            reason: Reason::NoAnswer,
            message_id: Some(id.into()),
            ..Event::new(at_us, Step::Refused, device)
        };
        let events = [refused(&esa, 1, "a"), refused(&esa, 2, "b"), refused(&other, 3, "a")];
        let asked = |device: Option<&str>| Asked {
            stanza_id: None,
            sent_as: Some(SentAs { user: "esa".into(), device: device.map(Into::into), id: "a".into() }),
        };
        let found = |asked| resolve(&asked, &events).iter().map(|event| event.at_us).collect::<Vec<_>>();
        assert_eq!(found(asked(Some("phone"))), [1]);
        assert_eq!(found(asked(None)), [1, 3]);
        assert_eq!(found(Asked::default()), [0i64; 0]);
    }
}
