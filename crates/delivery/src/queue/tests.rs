use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn message(number: u128) -> Queued<u128> {
    Queued { id: number, since_ms: 0, stanza: number.to_string() }
}

fn id(number: u128) -> u128 {
    number
}

/// A queue with so many messages, connected.
fn queue(count: u128) -> Queue<u128> {
    let mut queue = Queue::load((1..=count).map(message));
    queue.connected();
    queue
}

/// What goes out now.
fn sent(queue: &mut Queue<u128>) -> Vec<u128> {
    let mut sent = Vec::new();
    while let Next::Send { queued, .. } = queue.next(0) {
        sent.push(queued.id);
    }
    sent
}

#[test]
fn nothing_is_sent_before_it_is_on_disk_and_nothing_overtakes_it() {
    let mut queue = queue(0);
    queue.push(message(1)).unwrap();
    queue.push(message(2)).unwrap();
    queue.saved(id(2));
    assert_eq!(sent(&mut queue), []);
    queue.saved(id(1));
    assert_eq!(sent(&mut queue), [id(1), id(2)]);
}

#[test]
fn a_window_of_messages_is_on_its_way() {
    let mut queue = queue(100);
    assert_eq!(sent(&mut queue).len(), WINDOW);
    assert!(queue.settle(id(1)) && !queue.settle(id(1)));
    assert_eq!(sent(&mut queue), [id(65)]);
}

#[test]
fn what_is_unanswered_is_sent_again_on_the_next_connection_in_order() {
    let mut queue = queue(4);
    sent(&mut queue);
    queue.settle(id(2));
    queue.disconnected();
    assert_eq!(sent(&mut queue), []);
    queue.connected();
    assert_eq!(sent(&mut queue), [id(1), id(3), id(4)]);
}

#[test]
fn after_a_refusal_it_goes_on_from_the_refused_one_when_every_answer_has_come() {
    let mut queue = queue(5);
    sent(&mut queue);
    queue.settle(id(1));
    queue.wait(id(2));
    assert!(!queue.can_go_on());
    for number in [3, 4, 5] {
        queue.wait(id(number));
    }
    queue.push(message(6)).unwrap();
    queue.saved(id(6));
    assert_eq!(sent(&mut queue), []);
    assert!(queue.can_go_on());
    queue.go_on();
    assert!(!queue.can_go_on());
    assert_eq!(sent(&mut queue), [id(2), id(3), id(4), id(5), id(6)]);
}

/// Item 2 of the log's contract: after a day servers need not know the id again. Nothing goes before it meanwhile.
#[test]
fn after_a_day_the_archive_is_asked_first() {
    for answer in ["stored", "not there", "nobody knows"] {
        let mut queue = queue(1);
        queue.push(Queued { since_ms: HOUR_MS, ..message(2) }).unwrap();
        queue.saved(id(2));
        let now_ms = KNOWN_AGAIN_MS + 1;
        let next = |queue: &mut Queue<u128>| match queue.next(now_ms) {
            Next::Send { queued, .. } => Some(("send", queued.id)),
            Next::Ask(queued) => Some(("ask", queued.id)),
            Next::Reconnect | Next::Nothing => None,
        };
        assert_eq!(next(&mut queue), Some(("ask", 1)));
        assert_eq!(next(&mut queue), None, "not before the answer");
        queue.disconnected();
        queue.connected();
        assert_eq!(next(&mut queue), None, "nor on another connection");
        match answer {
            "stored" => assert!(queue.settle(id(1))),
            "not there" => {
                assert_eq!(queue.renew(id(1), now_ms).unwrap().since_ms, now_ms);
                assert_eq!(next(&mut queue), Some(("send", 1)));
            }
            _ => assert_eq!(queue.expire(id(1)), Some(&message(1))),
        }
        assert_eq!(next(&mut queue), Some(("send", 2)), "{answer}");
        assert_eq!(queue.take_expired(id(2)), None);
        let left = queue.take_expired(id(1));
        assert_eq!(left, (answer == "nobody knows").then(|| message(1)), "kept for the application");
        queue.settle(id(1));
        queue.settle(id(2));
        assert!(queue.is_idle());
    }
}

/// A clock that was set back makes messages of the future: how old they are nobody knows.
#[test]
fn what_is_of_the_future_is_asked_for() {
    let mut queue = Queue::load([Queued { since_ms: 1, ..message(1) }]);
    queue.connected();
    assert!(matches!(queue.next(0), Next::Ask(_)));
}

#[test]
fn a_relay_that_waits_for_what_has_expired_is_left() {
    let mut queue = queue(2);
    sent(&mut queue);
    queue.wait(id(1));
    queue.wait(id(2));
    queue.go_on();
    assert!(matches!(queue.next(KNOWN_AGAIN_MS + 1), Next::Ask(_)));
    queue.expire(id(1));
    assert!(matches!(queue.next(KNOWN_AGAIN_MS + 1), Next::Ask(_)));
    queue.expire(id(2));
    assert_eq!(queue.next(KNOWN_AGAIN_MS + 1), Next::Reconnect);
    queue.connected();
    assert_eq!(queue.next(KNOWN_AGAIN_MS + 1), Next::Nothing);
}

/// The relay has a message of an earlier connection stored, shows it in the log, and then refuses it, because no manager said
/// so in time.
#[test]
fn a_relay_that_waits_for_what_the_log_has_shown_is_left() {
    let mut queue = queue(3);
    sent(&mut queue);
    assert!(queue.settle(id(1)));
    for number in [1, 2, 3] {
        queue.wait(id(number));
    }
    assert_eq!(queue.next(0), Next::Reconnect);
    queue.connected();
    assert_eq!(sent(&mut queue), [id(2), id(3)]);
}

#[test]
fn a_full_queue_says_so() {
    let mut queue = queue(MAX_MESSAGES as u128);
    assert_eq!(queue.push(message(0)), Err(Full));
    queue.settle(id(1));
    assert_eq!(queue.push(message(0)), Ok(()));
}

/// A relay as the queue sees it: what it does with the order of one connection, and the log behind all of them.
#[derive(Default)]
struct World {
    log: Vec<u128>,
    known: BTreeSet<u128>,
    refused: Option<u128>,
    /// Sent and not handled, in order.
    coming: VecDeque<u128>,
    /// Answers on their way to the client.
    answers: VecDeque<(u128, bool)>,
    acknowledged: BTreeSet<u128>,
}

#[derive(Debug, Clone)]
enum Move {
    Push,
    Save,
    Send,
    /// The relay handles one: stores it, or cannot; with or without having stored it all the same.
    Handle {
        stores: bool,
        says: bool,
    },
    Answer,
    GoOn,
    Cut,
    Connect,
    Crash,
}

fn step() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => Just(Move::Push),
        4 => Just(Move::Save),
        6 => Just(Move::Send),
        6 => (any::<bool>(), any::<bool>()).prop_map(|(stores, says)| Move::Handle { stores, says }),
        6 => Just(Move::Answer),
        3 => Just(Move::GoOn),
        1 => Just(Move::Cut),
        3 => Just(Move::Connect),
        1 => Just(Move::Crash),
    ]
}

struct Run {
    queue: Queue<u128>,
    world: World,
    given: u128,
    saved: u128,
}

impl Run {
    fn cut(&mut self) {
        self.world.coming.clear();
        self.world.answers.clear();
        self.world.refused = None;
    }

    fn does(&mut self, step: &Move) {
        match step {
            Move::Push => {
                self.given += 1;
                self.queue.push(message(self.given)).unwrap();
            }
            Move::Save => {
                if self.saved < self.given {
                    self.saved += 1;
                    self.queue.saved(id(self.saved));
                }
            }
            Move::Send => {
                if let Next::Send { queued, .. } = self.queue.next(0) {
                    assert!(queued.id <= id(self.saved), "sent before it was on disk");
                    self.world.coming.push_back(queued.id);
                }
            }
            Move::Handle { stores, says } => self.world.handles(*stores, *says),
            Move::Answer => match self.world.answers.pop_front() {
                Some((id, true)) => {
                    assert!(self.queue.settle(id), "an answer to nothing");
                    self.world.acknowledged.insert(id);
                }
                Some((id, false)) => self.queue.wait(id),
                None => {}
            },
            Move::GoOn => {
                if self.queue.can_go_on() {
                    self.queue.go_on();
                }
            }
            Move::Cut => {
                self.cut();
                self.queue.disconnected();
            }
            Move::Connect => {
                self.cut();
                self.queue.connected();
            }
            // What is on disk is there again, and nobody was promised the rest.
            Move::Crash => {
                self.cut();
                let saved = id(self.saved);
                self.queue = Queue::load(self.queue.iter().filter(|queued| queued.id <= saved).cloned());
                self.given = self.saved;
            }
        }
    }
}

impl World {
    fn handles(&mut self, stores: bool, says: bool) {
        let Some(id) = self.coming.pop_front() else { return };
        let may = self.refused.is_none_or(|refused| refused == id);
        // Stored and not said so: an outcome that the relay does not know. What comes after is refused as well.
        if may && (stores || !says) && self.known.insert(id) {
            self.log.push(id);
        }
        let acknowledged = may && stores && says;
        if may {
            self.refused = (!acknowledged).then_some(id);
        }
        self.answers.push_back((id, acknowledged));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(steps in prop::collection::vec(step(), 0..400)) {
        let mut run = Run { queue: queue(0), world: World::default(), given: 0, saved: 0 };
        for step in &steps {
            run.does(step);
            prop_assert!(run.world.acknowledged.iter().all(|id| run.world.known.contains(id)));
        }
        // In the end everything works.
        run.does(&Move::Connect);
        while run.saved < run.given {
            run.does(&Move::Save);
        }
        while !run.queue.is_idle() {
            for step in [Move::GoOn, Move::Send, Move::Handle { stores: true, says: true }, Move::Answer] {
                run.does(&step);
            }
        }
        let all: Vec<_> = (1..=run.given).map(id).collect();
        prop_assert_eq!(run.world.log, all);
    }
}
