//! A component's memory: the last events, so many at most and for so long at most.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{Asked, Event, Step, resolve};

/// Events that are looked at with one lock, some ten microseconds: whoever notes something meanwhile waits for so long.
const PIECE: usize = 1024;

/// Questions that are looked up at once in one component, a few milliseconds of a core each. More wait, as long as their
/// askers do.
const LOOK_UPS: usize = 1;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events; 0: none, and nothing is noted.
    pub events: usize,
    /// How long.
    pub age: Duration,
}

/// What is counted of a trail. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events noted.
    pub noted: Counter,
    /// Events forgotten before their time since newer ones needed the room: more than none says that
    /// `explain_events` is what bounds the trail.
    pub pushed_out: Counter,
    /// Events forgotten since they were old.
    pub expired: Counter,
    /// Events that were forgotten before they were put down in SQL.
    pub not_kept: Counter,
    /// Events remembered now.
    pub kept: Gauge,
}

/// The trail of one component.
#[derive(Debug)]
pub struct Trail {
    bounds: Bounds,
    age_us: i64,
    counts: Counts,
    looking: Arc<Semaphore>,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    /// The number of the first one: each event has one, from 0 on.
    first: u64,
    /// What happened later is in `events`.
    since_us: i64,
}

impl Trail {
    /// An empty one, that begins at `now_us`.
    pub fn new(bounds: Bounds, counts: Counts, now_us: i64) -> Self {
        let age_us = i64::try_from(bounds.age.as_micros()).unwrap_or(i64::MAX);
        let ring = Ring { events: VecDeque::new(), first: 0, since_us: now_us };
        let looking = Arc::new(Semaphore::new(LOOK_UPS));
        Self { bounds, age_us, counts, looking, ring: Mutex::new(ring) }
    }

    /// Whether anything is noted at all: whoever asks before saves the making of events.
    pub fn is_on(&self) -> bool {
        self.bounds.events > 0
    }

    /// Notes an event.
    pub fn note(&self, event: Event) {
        self.note_all([event]);
    }

    /// Notes events, with one lock for all of them. They are to be made before: everybody else waits for the iterator.
    pub fn note_all(&self, events: impl IntoIterator<Item = Event>) {
        if !self.is_on() {
            return;
        }
        let mut ring = self.lock();
        let (mut noted, mut pushed_out) = (0, 0);
        for event in events {
            noted += 1;
            if ring.events.len() == self.bounds.events {
                ring.forget_first();
                pushed_out += 1;
            }
            ring.events.push_back(event);
        }
        let newest = ring.events.back().map_or(i64::MIN, |event| event.at_us);
        self.expire(&mut ring, newest);
        drop(ring);
        self.counts.noted.inc_by(noted);
        self.counts.pushed_out.inc_by(pushed_out);
    }

    /// Forgets what is too old. Noting does it too; this is for a component where nothing happens any more.
    pub fn forget_old(&self, now_us: i64) {
        self.expire(&mut self.lock(), now_us);
    }

    /// What is known of a message, in order. Looked up beside the tasks that note events, one question after the other; one
    /// that is given up (dropped) while it waits costs nothing.
    pub async fn explain(self: &Arc<Self>, asked: Asked, now_us: i64) -> Vec<Event> {
        let Ok(turn) = Arc::clone(&self.looking).acquire_owned().await else { return Vec::new() };
        let trail = Arc::clone(self);
        let looked_up = spawn_blocking(move || {
            // Held until it is done, also when nobody waits for it any more.
            let _turn = turn;
            trail.look_up(&asked, now_us)
        });
        // Not run only where the process stops.
        looked_up.await.unwrap_or_default()
    }

    /// What has to do with the message is copied out, and put together without the lock.
    fn look_up(&self, asked: &Asked, now_us: i64) -> Vec<Event> {
        self.forget_old(now_us);
        let mut events = self.those(|event| asked.is_about(event));
        let connection = |event: &Event| (event.device.connection, event.device.since_us);
        let read = events.iter().filter(|event| event.step == Step::Read);
        let connections: HashSet<_> = read.map(connection).collect();
        if !connections.is_empty() {
            events
                .extend(self.those(|event| event.is_progress() && connections.contains(&connection(event))));
        }
        resolve(asked, &events)
    }

    /// The events of now that are wanted, in order.
    fn those(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let (mut next, end) = self.numbers();
        let mut those = Vec::new();
        while next < end {
            let piece;
            (next, piece) = self.piece(next, end, &wanted);
            those.extend(piece);
        }
        those
    }

    /// The numbers of the first event, and of the one that comes next.
    fn numbers(&self) -> (u64, u64) {
        let ring = self.lock();
        (ring.first, ring.first + ring.events.len() as u64)
    }

    /// What is wanted of the next events from number `from` on and before `end`, and the number to go on from.
    fn piece(&self, from: u64, end: u64, wanted: impl Fn(&Event) -> bool) -> (u64, Vec<Event>) {
        let ring = self.lock();
        // Some may have been forgotten since the last piece.
        let from = Ord::max(from, ring.first);
        let index = |number: u64| usize::try_from(number - ring.first).unwrap_or(usize::MAX);
        let begin = Ord::min(index(from), ring.events.len());
        let after = begin.saturating_add(PIECE).min(index(Ord::max(end, from))).min(ring.events.len());
        let those = ring.events.range(begin..after).filter(|event| wanted(event)).cloned().collect();
        (ring.first + after as u64, those)
    }

    /// What happened later is known here.
    pub fn since_us(&self) -> i64 {
        self.lock().since_us
    }

    /// At most `most` events from number `from` on, and the number of the first of them: a greater one than `from` says
    /// that some are forgotten.
    pub fn from(&self, from: u64, most: usize) -> (u64, Vec<Event>) {
        let ring = self.lock();
        let first = Ord::max(from, ring.first);
        let skipped = usize::try_from(first - ring.first).unwrap_or(usize::MAX);
        (first, ring.events.iter().skip(skipped).take(most).cloned().collect())
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn expire(&self, ring: &mut Ring, now_us: i64) {
        let before = now_us.saturating_sub(self.age_us);
        let mut expired = 0;
        while ring.events.front().is_some_and(|event| event.at_us < before) {
            ring.forget_first();
            expired += 1;
        }
        self.counts.expired.inc_by(expired);
        self.counts.kept.set(i64::try_from(ring.events.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn forget_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.first += 1;
            self.since_us = self.since_us.max(event.at_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Device;

    const MINUTE: i64 = 60_000_000;

    fn trail(events: usize) -> Trail {
        Trail::new(Bounds { events, age: Duration::from_mins(10) }, Counts::default(), 5)
    }

    fn accepted(at_us: i64, stanza: u128) -> Event {
        let device = Arc::new(Device::elsewhere("esa", "phone"));
        Event { stanza_id: Some(Uuid::from_u128(stanza)), ..Event::new(at_us, Step::Accepted, &device) }
    }

    fn knows(trail: &Trail, stanza: u128, now_us: i64) -> bool {
        let asked = Asked { stanza_id: Some(Uuid::from_u128(stanza)), sent_as: None };
        !trail.look_up(&asked, now_us).is_empty()
    }

    #[test]
    fn the_oldest_give_way_when_there_are_too_many() {
        let trail = trail(3);
        trail.note_all((1..=5_u8).map(|number| accepted(number.into(), number.into())));
        let known: Vec<u8> = (1..=5).filter(|number| knows(&trail, (*number).into(), 5)).collect();
        assert_eq!(known, [3, 4, 5]);
        let counts = trail.counts();
        assert_eq!((counts.noted.get(), counts.pushed_out.get(), counts.kept.get()), (5, 2, 3));
        assert_eq!(trail.since_us(), 5, "what came before its start it never knew");
    }

    #[test]
    fn what_is_too_old_is_forgotten_though_nothing_new_comes() {
        let trail = trail(10);
        trail.note(accepted(MINUTE, 1));
        trail.note(accepted(8 * MINUTE, 2));
        assert!(knows(&trail, 1, 11 * MINUTE));
        assert!(!knows(&trail, 1, 11 * MINUTE + 1));
        assert!(knows(&trail, 2, 11 * MINUTE + 1));
        assert_eq!(trail.since_us(), MINUTE);
        trail.forget_old(60 * MINUTE);
        assert_eq!((trail.counts().expired.get(), trail.counts().kept.get()), (2, 0));
    }

    #[test]
    fn events_are_handed_on_by_number_and_a_gap_shows() {
        let trail = trail(3);
        let times = |from, most| {
            let (first, events) = trail.from(from, most);
            (first, events.iter().map(|event| event.at_us).collect::<Vec<_>>())
        };
        assert_eq!(times(0, 2), (0, vec![]));
        trail.note_all((0..3).map(|number| accepted(number, 1)));
        assert_eq!(times(0, 2), (0, vec![0, 1]));
        assert_eq!(times(2, 2), (2, vec![2]));
        trail.note_all((3..5).map(|number| accepted(number, 1)));
        assert_eq!(times(1, 9), (2, vec![2, 3, 4]));
        assert_eq!(times(5, 9), (5, vec![]));
    }

    /// Its events and the progress of its connection are in different pieces.
    #[tokio::test]
    async fn a_message_is_found_in_a_ring_of_many_pieces() {
        let trail = Arc::new(trail(4 * PIECE));
        let fajar = Arc::new(Device::new("fajar", "phone", 7, 1));
        let stanza_id = Some(Uuid::from_u128(9));
        let others = |count: usize| (0..count).map(|_| accepted(3, 1)).collect::<Vec<_>>();
        let progress = |at_us, step, seq| Event { seq, ..Event::new(at_us, step, &fajar) };
        trail.note(progress(2, Step::Heard, 4));
        // The last of its piece.
        trail.note_all(others(PIECE - 2));
        trail.note(Event { stanza_id, ..progress(3, Step::Read, 4) });
        // The first of another.
        trail.note_all(others(PIECE));
        trail.note(progress(4, Step::Written, 5));
        trail.note_all(others(PIECE));
        trail.note(progress(5, Step::Acked, 4));
        let known = trail.explain(Asked { stanza_id, sent_as: None }, 5).await;
        let known: Vec<_> = known.iter().map(|event| (event.at_us, event.step)).collect();
        assert_eq!(known, [(2, Step::Heard), (3, Step::Read), (4, Step::Written), (5, Step::Acked)]);
        let all = Asked { stanza_id: Some(Uuid::from_u128(1)), sent_as: None };
        assert_eq!(trail.explain(all, 5).await.len(), 3 * PIECE - 2);
    }

    /// Others note between two pieces.
    #[test]
    fn what_is_noted_and_forgotten_between_two_pieces_is_neither_told_twice_nor_mistaken() {
        let trail = trail(2 * PIECE);
        let numbers = |count: i64| (0..count).map(|number| accepted(number, 1)).collect::<Vec<_>>();
        let piece = i64::try_from(PIECE).unwrap();
        trail.note_all(numbers(2 * piece));
        let (from, end) = trail.numbers();
        let (next, first) = trail.piece(from, end, |_| true);
        assert_eq!((next, first.len()), (1024, PIECE));
        // Ten more than the first piece are forgotten.
        trail.note_all(numbers(piece + 10));
        let (next, second) = trail.piece(next, end, |event| event.at_us % 2 == 0);
        let times: Vec<_> = second.iter().map(|event| event.at_us).collect();
        assert_eq!(times, (piece + 10..2 * piece).filter(|at_us| at_us % 2 == 0).collect::<Vec<_>>());
        assert_eq!(next, end);
        // All of them.
        trail.note_all(numbers(3 * piece));
        let (next, nothing) = trail.piece(1024, end, |_| true);
        assert!(next >= end && nothing.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_after_the_other_is_looked_up() {
        let trail = Arc::new(trail(10));
        trail.note(accepted(1, 1));
        let asked = || Asked { stanza_id: Some(Uuid::from_u128(1)), sent_as: None };
        let turn = Arc::clone(&trail.looking).acquire_owned().await.unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(1), trail.explain(asked(), 1)).await;
        assert!(waits.is_err());
        drop(turn);
        assert_eq!(trail.explain(asked(), 1).await.len(), 1);
        assert_eq!(trail.looking.available_permits(), LOOK_UPS);
    }

    #[test]
    fn one_that_is_off_notes_nothing() {
        let trail = trail(0);
        trail.note(accepted(1, 1));
        assert!(!trail.is_on() && !knows(&trail, 1, 1));
        assert_eq!(trail.counts().noted.get(), 0);
    }
}
