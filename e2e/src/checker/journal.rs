//! The history as it grows, shared by all devices.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::history::{Device, Disturbance, Event, History, Message, Place, Record};

/// Clones write to the same history.
#[derive(Clone, Debug)]
pub struct Journal {
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    online: HashSet<Device>,
    /// Not online because they do not want to be.
    away: HashSet<Device>,
    sent: HashSet<Message>,
    unacked: HashSet<Message>,
    /// What each device is still to get.
    undelivered: HashSet<(Device, Message)>,
}

impl Journal {
    /// Of these devices, by their accounts, of which some do not go by places.
    pub fn of(devices: Vec<usize>, plain: BTreeSet<Device>) -> Journal {
        let history = History { devices, plain, ..History::default() };
        let state = Arc::new(Mutex::new(State { history, ..State::default() }));
        Journal { began: Instant::now(), state }
    }

    /// Something happened, now.
    pub fn record(&self, event: Event) {
        let mut state = self.lock();
        // With the lock held, or times would not grow.
        let at = self.began.elapsed();
        state.notes(&event);
        state.history.records.push(Record { at, event });
    }

    /// A disturbance began then, ends now, and is forgiven for so much longer.
    pub fn disturbed(&self, since: Instant, grace: Duration, place: Place) {
        let (from, until) = (since - self.began, self.began.elapsed() + grace);
        self.lock().history.disturbances.push(Disturbance { from, until, place });
    }

    /// A device that is not online stays so for a while, and nobody is to wait for it.
    pub fn stays_away(&self, device: Device) {
        self.lock().away.insert(device);
    }

    /// It wants to be online again.
    pub fn comes_back(&self, device: Device) {
        self.lock().away.remove(&device);
    }

    /// How many devices are not online and want to be.
    pub fn offline(&self) -> usize {
        let state = self.lock();
        state.history.devices.len() - state.online.len() - state.away.len()
    }

    /// How many messages are not acked, and how many deliveries are missing.
    pub fn pending(&self) -> (usize, usize) {
        let state = self.lock();
        (state.unacked.len(), state.undelivered.len())
    }

    /// The history so far.
    pub fn history(&self) -> History {
        let end = self.began.elapsed();
        History { end, ..self.lock().history.clone() }
    }

    /// Writes all of it to a file, for whoever looks for the cause of what is wrong. Its first line says when the history began,
    /// as logs write times.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        let history = self.history();
        let began = SystemTime::now() - self.began.elapsed();
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = began.as_secs() % (24 * 60 * 60);
        let (hours, minutes, seconds) = (day / 3600, day / 60 % 60, day % 60);
        let mut text =
            format!("0.000 is {hours:02}:{minutes:02}:{seconds:02}.{:03} UTC\n", began.subsec_millis());
        for Record { at, event } in &history.records {
            let _ = writeln!(text, "{:10.3} {event:?}", at.as_secs_f64());
        }
        for disturbance in &history.disturbances {
            let _ = writeln!(text, "{disturbance:?}");
        }
        std::fs::write(file, text)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no device panics while it writes")
    }
}

impl State {
    fn notes(&mut self, event: &Event) {
        match event {
            Event::Online { device, .. } => {
                self.online.insert(*device);
            }
            Event::Offline { device } => {
                self.online.remove(device);
                if self.history.plain.contains(device) {
                    // What was on its way to its socket may be lost with it, and is not waited for.
                    self.undelivered.retain(|(receiver, _)| receiver != device);
                }
            }
            Event::Sent { message, to } if self.sent.insert(*message) => {
                self.unacked.insert(*message);
                let receivers = self.history.receivers(*message, *to);
                self.undelivered.extend(receivers.map(|receiver| (receiver, *message)));
            }
            Event::Acked { message, .. } | Event::Stored { message, .. } => {
                self.unacked.remove(message);
            }
            Event::Delivered { device, message, .. } | Event::Read { device, message } => {
                self.undelivered.remove(&(*device, *message));
            }
            Event::LoggedIn { .. }
            | Event::Unauthorized { .. }
            | Event::Sent { .. }
            | Event::Refused { .. }
            | Event::Strange { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_knows_what_is_missing() {
        let journal = Journal::of(vec![0, 1, 1], BTreeSet::new());
        let message = Message { from: 0, number: 1 };
        assert_eq!((journal.offline(), journal.pending()), (3, (0, 0)));
        journal.record(Event::Online { device: 1, relay: 1 });
        for _ in 0..2 {
            journal.record(Event::Sent { message, to: 1 });
        }
        assert_eq!((journal.offline(), journal.pending()), (2, (1, 2)));
        let stanza_id = String::from("name");
        let delivered = |device| Event::Delivered { device, message, stanza_id: stanza_id.clone(), seq: 1 };
        journal.record(delivered(2));
        journal.record(Event::Acked { message, stanza_id: stanza_id.clone(), seq: 1 });
        journal.record(Event::Offline { device: 1 });
        assert_eq!((journal.offline(), journal.pending()), (3, (0, 1)));
        journal.stays_away(1);
        assert_eq!(journal.offline(), 2);
        journal.comes_back(1);
        assert_eq!(journal.offline(), 3);
        journal.record(delivered(1));
        assert_eq!(journal.pending(), (0, 0));
        assert_eq!(journal.history().records.len(), 7);
    }

    #[test]
    fn what_may_be_lost_with_a_socket_is_not_waited_for() {
        let journal = Journal::of(vec![0, 1, 1], BTreeSet::from([2]));
        let sent = |number| Event::Sent { message: Message { from: 0, number }, to: 1 };
        journal.record(sent(1));
        journal.record(sent(2));
        journal.record(Event::Read { device: 2, message: Message { from: 0, number: 1 } });
        assert_eq!(journal.pending(), (2, 3));
        journal.record(Event::Offline { device: 1 });
        journal.record(Event::Offline { device: 2 });
        assert_eq!(journal.pending(), (2, 2));
        journal.record(sent(3));
        let (message, stanza_id) = (Message { from: 0, number: 3 }, String::from("name"));
        journal.record(Event::Stored { message, stanza_id });
        assert_eq!(journal.pending(), (2, 4));
    }
}
