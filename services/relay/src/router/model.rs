//! Relays, links, users and a directory in random interleavings. Whatever happens in between: one sender's messages reach
//! one connection in order, each once, and every message is delivered or answered R15.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    task::{Context, Waker},
};

use kurir_directory::Generation;
use kurir_rpc::v1::{Frame, frame};
use kurir_socket::Outbox;
use proptest::{collection::vec, prelude::*};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::link::Standing;

const RELAYS: usize = 3;
const RECEIVERS: usize = 3;
const SENDERS: usize = 4;

/// Outboxes of which one never fills up here, and one does.
const WIDE: usize = 1 << 20;
const NARROW: usize = 12;

/// Of the shortest lines, `0 0`.
const LINES_IN_NARROW: u64 = NARROW as u64 / 4;

#[derive(Debug, Clone)]
enum Step {
    Send {
        sender: usize,
        receiver: usize,
    },
    /// The receiver says hello at a relay, and is closed wherever it was: there at once, elsewhere by the link.
    Connect {
        receiver: usize,
        relay: usize,
        outbox_bytes: usize,
    },
    /// The receiver's connection is cut.
    Disconnect {
        receiver: usize,
    },
    /// A look-up reads the directory.
    Read {
        relay: usize,
    },
    /// The answer arrives; others may arrive before it.
    Answer {
        relay: usize,
        which: usize,
    },
    /// One relay's stream takes its frames.
    Take {
        from: usize,
        to: usize,
    },
    /// One frame arrives.
    Arrive {
        from: usize,
        to: usize,
    },
    /// The first stream of a link is late.
    GiveUp {
        from: usize,
        to: usize,
    },
    /// The stream of a pair breaks, and is there again.
    Break {
        one: usize,
        other: usize,
    },
    /// The stream of a pair is away until it is mended.
    Down {
        one: usize,
        other: usize,
    },
    Mend {
        one: usize,
        other: usize,
    },
    /// A relay was paused past its lease: its links begin again, its users stay.
    Renew {
        relay: usize,
    },
    /// To the others a relay is dead, with the receivers at it. It begins again at once.
    Die {
        relay: usize,
    },
}

struct Relay {
    router: Router,
    answers: Vec<(Question, Answer)>,
}

struct Receiver {
    connection: Arc<Connection>,
    relay: usize,
    received: Vec<(usize, u64)>,
}

struct Sender {
    connection: Arc<Connection>,
    relay: usize,
    sent: u64,
    not_delivered: u64,
    /// What ends of streams handed back: it is reported though it may have arrived.
    doubtful: HashSet<u64>,
    cached: Option<(usize, Arc<Connection>)>,
}

struct World {
    relays: Vec<Relay>,
    /// What relay `from` has under way to relay `to`.
    links: HashMap<(usize, usize), Arc<Link>>,
    wires: HashMap<(usize, usize), VecDeque<Frame>>,
    /// Where each receiver is, as the directory knows.
    directory: Vec<Option<(usize, u64)>>,
    /// All connections that receivers have ever had, the last of each being its current one.
    receivers: Vec<Vec<Receiver>>,
    senders: Vec<Sender>,
    next_connection: u64,
}

fn connection(user: &str, number: u64) -> Arc<Connection> {
    narrow_connection(user, number, WIDE)
}

fn narrow_connection(user: &str, number: u64, outbox_bytes: usize) -> Arc<Connection> {
    Connection::alone(user, number, Outbox::new(outbox_bytes))
}

fn link(to: usize) -> Arc<Link> {
    let peer = format!("relay-{to}").parse().unwrap();
    Link::new(peer, Generation::new(), 1 << 20, CancellationToken::new())
}

/// What waits in an open outbox, taken as its connection's task would.
fn drain(outbox: &Outbox) -> String {
    let mut taken = Vec::new();
    if !outbox.is_closed() {
        let _ = outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut taken);
    }
    String::from_utf8(taken).unwrap()
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..RELAYS).flat_map(|one| (0..RELAYS).filter(move |other| *other != one).map(move |other| (one, other)))
}

impl World {
    fn new() -> Self {
        let router = || Router::new(Table::new(1), LookUps::new(1000), Waiting::new(1 << 20, 1 << 20));
        let sender = |number: usize| {
            let user = format!("sender-{number}");
            let connection = connection(&user, 0);
            let (relay, doubtful) = (number % RELAYS, HashSet::new());
            Sender { connection, relay, sent: 0, not_delivered: 0, doubtful, cached: None }
        };
        Self {
            relays: (0..RELAYS).map(|_| Relay { router: router(), answers: Vec::new() }).collect(),
            links: pairs().map(|(from, to)| ((from, to), link(to))).collect(),
            wires: pairs().map(|pair| (pair, VecDeque::new())).collect(),
            directory: vec![None; RECEIVERS],
            receivers: (0..RECEIVERS).map(|_| Vec::new()).collect(),
            senders: (0..SENDERS).map(sender).collect(),
            next_connection: 1,
        }
    }

    fn run(steps: &[Step]) -> Self {
        let mut world = Self::new();
        for step in steps {
            world.step(step);
            world.collect();
        }
        world.finish();
        world
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { sender, receiver } => self.send(sender, receiver),
            Step::Connect { receiver, relay, outbox_bytes } => self.connect(receiver, relay, outbox_bytes),
            Step::Disconnect { receiver } => self.disconnect(receiver),
            Step::Read { relay } => self.read(relay),
            Step::Answer { relay, which } => self.answer(relay, which),
            Step::Take { from, to } if from != to => self.take(from, to),
            Step::Arrive { from, to } if from != to => self.arrive(from, to),
            Step::GiveUp { from, to } if from != to => {
                let rest = self.links[&(from, to)].give_up();
                self.lose(from, to, &rest);
            }
            Step::Break { one, other } if one != other => {
                self.close(one, other, Standing::Down);
                self.mend(one, other);
            }
            Step::Down { one, other } if one != other => self.close(one, other, Standing::Down),
            Step::Mend { one, other } if one != other => self.mend(one, other),
            Step::Renew { relay } => self.renew(relay),
            Step::Die { relay } => self.die(relay),
            _ => {}
        }
    }

    /// What a session does with a message.
    fn send(&mut self, number: usize, receiver: usize) {
        let sender = &mut self.senders[number];
        let line = format!("{number} {}\n", sender.sent);
        sender.sent += 1;
        if let Some((_, cached)) = sender.cached.as_ref().filter(|(to, _)| *to == receiver)
            && cached.outbox.push_quietly(line.as_bytes()).is_ok()
        {
            return;
        }
        let router = &self.relays[sender.relay].router;
        let write = |out: &mut Vec<u8>| out.extend_from_slice(line.as_bytes());
        for _ in 0..3 {
            match router.route((&format!("receiver-{receiver}"), None), &sender.connection, write) {
                Routed::Here(here) => {
                    if here.outbox.push_quietly(line.as_bytes()).is_ok() {
                        sender.cached = Some((receiver, here));
                        return;
                    }
                }
                Routed::Linked(_) | Routed::Spread(_) | Routed::Waiting => return,
                Routed::NotDelivered => break,
            }
        }
        sender.not_delivered += 1;
    }

    fn connect(&mut self, receiver: usize, relay: usize, outbox_bytes: usize) {
        let number = self.next_connection;
        self.next_connection += 1;
        let before = self.directory[receiver].replace((relay, number));
        let connection = narrow_connection(&format!("receiver-{receiver}"), number, outbox_bytes);
        self.relays[relay].router.connect(&connection);
        if let Some((there, number)) = before.filter(|(there, _)| *there != relay) {
            self.links[&(relay, there)].displaced(&connection.user, number, false);
        }
        self.receivers[receiver].push(Receiver { connection, relay, received: Vec::new() });
    }

    fn disconnect(&mut self, receiver: usize) {
        let Some(Receiver { connection, relay, .. }) = self.receivers[receiver].last() else { return };
        connection.outbox.close("");
        self.relays[*relay].router.disconnect(connection);
        let released = self.directory[receiver].filter(|(_, number)| *number != connection.number);
        self.directory[receiver] = released;
    }

    fn read(&mut self, relay: usize) {
        for question in self.relays[relay].router.lookups.take(1) {
            let receiver: usize = question.user.rsplit('-').next().unwrap().parse().unwrap();
            let answer = match self.directory[receiver] {
                None => Answer::Nobody,
                Some((there, _)) if there == relay => Answer::Here,
                Some((there, _)) => Answer::Link(Arc::clone(&self.links[&(relay, there)])),
            };
            self.relays[relay].answers.push((question, answer));
        }
    }

    fn answer(&mut self, relay: usize, which: usize) {
        let Relay { router, answers } = &mut self.relays[relay];
        if answers.is_empty() {
            return;
        }
        let (question, answer) = answers.remove(which % answers.len());
        router.found(&question, &answer);
    }

    fn take(&mut self, from: usize, to: usize) {
        let link = &self.links[&(from, to)];
        if *link.standing().borrow() != Standing::Up {
            return;
        }
        let frames = link.take();
        self.wires.get_mut(&(from, to)).unwrap().extend(frames);
    }

    fn arrive(&mut self, from: usize, to: usize) {
        let Some(frame) = self.wires.get_mut(&(from, to)).unwrap().pop_front() else { return };
        let router = &self.relays[to].router;
        let link = &self.links[&(to, from)];
        match frame.frame.unwrap() {
            frame::Frame::Batch(batch) => link.handled(batch.number, router.arrived(&batch).back),
            frame::Frame::Acknowledged(number) => router.settled(link, &link.acknowledged(number).unwrap()),
            frame::Frame::Bounces(bounces) => router.bounced(link, link.bounced(&bounces).unwrap()),
            frame::Frame::Displaced(displaced) => {
                let here = router.here(&displaced.user);
                if let Some(here) = here.iter().find(|here| here.number == displaced.connection) {
                    here.displaced(displaced.conflict);
                    router.disconnect(here);
                }
            }
            frame::Frame::Hello(_) | frame::Frame::Sibling(_) | frame::Frame::Parted(_) => unreachable!(),
        }
    }

    fn close(&mut self, one: usize, other: usize, standing: Standing) {
        for (from, to) in [(one, other), (other, one)] {
            self.wires.get_mut(&(from, to)).unwrap().clear();
            let rest = self.links[&(from, to)].close(standing);
            self.lose(from, to, &rest);
        }
    }

    fn lose(&mut self, from: usize, to: usize, rest: &Rest) {
        for (_, parcel) in &rest.parcels {
            let (sender, number) = read_line(str::from_utf8(&parcel.line).unwrap());
            self.senders[sender].doubtful.insert(number);
        }
        self.relays[from].router.lost(&self.links[&(from, to)], rest);
    }

    fn mend(&mut self, one: usize, other: usize) {
        for pair in [(one, other), (other, one)] {
            if *self.links[&pair].standing().borrow() != Standing::Up {
                assert!(self.links[&pair].up());
            }
        }
    }

    fn renew(&mut self, relay: usize) {
        for other in (0..RELAYS).filter(|other| *other != relay) {
            self.close(relay, other, Standing::Dead);
            for (from, to) in [(relay, other), (other, relay)] {
                let dead = self.links.insert((from, to), link(to)).unwrap();
                self.relays[from].router.table.forget(&dead);
            }
        }
    }

    fn die(&mut self, relay: usize) {
        for Receiver { connection, relay: at, .. } in self.receivers.iter().flatten() {
            if *at == relay {
                connection.outbox.close("");
                self.relays[relay].router.disconnect(connection);
            }
        }
        for entry in &mut self.directory {
            *entry = entry.filter(|(there, _)| *there != relay);
        }
        self.renew(relay);
    }

    fn collect(&mut self) {
        for receiver in self.receivers.iter_mut().flatten() {
            for line in drain(&receiver.connection.outbox).lines() {
                receiver.received.push(read_line(line));
            }
        }
        for sender in &mut self.senders {
            sender.not_delivered += drain(&sender.connection.outbox).lines().count() as u64;
        }
    }

    /// Lets everything that is under way arrive.
    fn finish(&mut self) {
        for (one, other) in pairs() {
            self.mend(one, other);
        }
        for _ in 0..200 {
            for relay in 0..RELAYS {
                self.read(relay);
                self.answer(relay, 0);
                self.collect();
            }
            for (from, to) in pairs() {
                self.take(from, to);
                self.arrive(from, to);
                self.collect();
            }
        }
        assert!(self.links.values().all(|link| link.is_idle()));
        assert!(self.relays.iter().all(|relay| relay.router.waiting.is_empty()));
    }

    fn received(&self) -> impl Iterator<Item = &(usize, u64)> {
        self.receivers.iter().flatten().flat_map(|receiver| &receiver.received)
    }

    fn check_order(&self) {
        for receiver in self.receivers.iter().flatten() {
            let mut last = HashMap::new();
            for (sender, number) in &receiver.received {
                let before = last.insert(sender, number);
                assert!(before.is_none_or(|before| before < number), "{:?}", receiver.received);
            }
        }
    }

    /// Each message is delivered once or reported once; both, if its stream ended before that was acknowledged.
    fn check_fates(&self) {
        // What waited in the outbox of a receiver that was too slow is lost with it.
        let too_slow = |receiver: &&Receiver| format!("{:?}", receiver.connection.outbox).contains("TooSlow");
        let dropped = self.receivers.iter().flatten().filter(too_slow).count() as u64 * LINES_IN_NARROW;
        for (index, sender) in self.senders.iter().enumerate() {
            let mut delivered = HashSet::new();
            for (_, number) in self.received().filter(|(from, _)| *from == index) {
                assert!(delivered.insert(*number), "{number} delivered twice");
            }
            let lost = sender.sent - delivered.len() as u64;
            let both = sender.doubtful.intersection(&delivered).count() as u64;
            let reports = lost.saturating_sub(dropped) + both..=lost + both;
            assert!(reports.contains(&sender.not_delivered), "{} not in {reports:?}", sender.not_delivered);
        }
    }
}

fn read_line(line: &str) -> (usize, u64) {
    let (sender, number) = line.trim_end().split_once(' ').unwrap();
    (sender.parse().unwrap(), number.parse().unwrap())
}

/// What happens while nothing fails.
fn step(outbox_bytes: impl Strategy<Value = usize>) -> impl Strategy<Value = Step> {
    let (relay, receiver, pair) = (0..RELAYS, 0..RECEIVERS, (0..RELAYS, 0..RELAYS));
    let connect = |(receiver, relay, outbox_bytes)| Step::Connect { receiver, relay, outbox_bytes };
    prop_oneof![
        12 => (0..SENDERS, receiver.clone()).prop_map(|(sender, receiver)| Step::Send { sender, receiver }),
        3 => (receiver.clone(), relay.clone(), outbox_bytes).prop_map(connect),
        1 => receiver.prop_map(|receiver| Step::Disconnect { receiver }),
        5 => relay.clone().prop_map(|relay| Step::Read { relay }),
        5 => (relay, 0..4_usize).prop_map(|(relay, which)| Step::Answer { relay, which }),
        8 => pair.clone().prop_map(|(from, to)| Step::Take { from, to }),
        16 => pair.clone().prop_map(|(from, to)| Step::Arrive { from, to }),
        3 => pair.prop_map(|(one, other)| Step::Mend { one, other }),
    ]
}

fn calm() -> impl Strategy<Value = Step> {
    step(Just(WIDE))
}

fn faulty() -> impl Strategy<Value = Step> {
    let (relay, pair) = (0..RELAYS, (0..RELAYS, 0..RELAYS));
    prop_oneof![
        50 => step(prop_oneof![Just(WIDE), Just(NARROW)]),
        1 => pair.clone().prop_map(|(from, to)| Step::GiveUp { from, to }),
        1 => pair.clone().prop_map(|(one, other)| Step::Break { one, other }),
        1 => pair.prop_map(|(one, other)| Step::Down { one, other }),
        1 => relay.clone().prop_map(|relay| Step::Renew { relay }),
        1 => relay.prop_map(|relay| Step::Die { relay }),
    ]
}

/// R20: what comes back finds a receiver who has come to the sender's own relay, and nothing later overtakes it there.
#[test]
fn what_comes_back_goes_ahead_of_what_was_sent_meanwhile() {
    let (here, there) = (0, 1);
    let world = World::run(&[
        Step::Mend { one: here, other: there },
        Step::Connect { receiver: 0, relay: there, outbox_bytes: WIDE },
        Step::Send { sender: here, receiver: 0 },
        Step::Read { relay: here },
        Step::Answer { relay: here, which: 0 },
        Step::Disconnect { receiver: 0 },
        Step::Connect { receiver: 0, relay: here, outbox_bytes: WIDE },
        Step::Send { sender: here, receiver: 0 },
    ]);
    assert_eq!(world.receivers[0][1].received, [(here, 0), (here, 1)]);
}

/// ARCHITECTURE: a full line and too many look-ups are answered at once; other receivers are not concerned.
#[test]
fn what_may_not_wait_is_answered_at_once() {
    let router = Router::new(Table::new(1), LookUps::new(2), Waiting::new(1, 1000));
    let sender = connection("sender-0", 0);
    let route = |to: &str| router.route((to, None), &sender, |out| out.extend_from_slice(b"line\n"));
    assert!(matches!(route("receiver-0"), Routed::Waiting));
    assert!(matches!(route("receiver-0"), Routed::NotDelivered), "the line is full");
    assert!(matches!(route("receiver-1"), Routed::Waiting));
    assert!(matches!(route("receiver-2"), Routed::NotDelivered), "two look-ups are open");
    for question in router.lookups.take(2) {
        router.found(&question, &Answer::Failed);
    }
    assert_eq!(drain(&sender.outbox).lines().count(), 2, "those that waited are answered too");
    assert!(matches!(route("receiver-2"), Routed::Waiting));
}

/// A few senders with ever new names do not use up everybody's look-ups.
#[test]
fn who_has_many_look_ups_open_leaves_the_rest_to_others() {
    let router = Router::new(Table::new(1), LookUps::new(400), Waiting::new(1000, 1_000_000));
    let (greedy, modest) = (connection("sender-0", 0), connection("sender-1", 0));
    let route =
        |to: usize, from| router.route((&format!("receiver-{to}"), None), from, |out| out.push(b'\n'));
    let waits = |to, from| matches!(route(to, from), Routed::Waiting);
    assert!((0..=100).all(|to| waits(to, &greedy)), "few are open");
    assert!(!waits(101, &greedy));
    assert!((200..264).all(|to| waits(to, &modest)));
    assert!(!waits(264, &modest));
    for question in router.lookups.take(100) {
        router.found(&question, &Answer::Nobody);
    }
    assert!(waits(101, &greedy));
}

#[test]
fn all_lines_together_are_bounded() {
    let router = Router::new(Table::new(1), LookUps::new(100), Waiting::new(1000, 1));
    let sender = connection("sender-0", 0);
    let route = |to: &str| router.route((to, None), &sender, |out| out.extend_from_slice(b"line\n"));
    assert!(matches!(route("receiver-0"), Routed::Waiting));
    assert!(matches!(route("receiver-0"), Routed::NotDelivered));
    assert!(matches!(route("receiver-1"), Routed::NotDelivered));
    for question in router.lookups.take(2) {
        router.found(&question, &Answer::Nobody);
    }
    assert!(matches!(route("receiver-1"), Routed::Waiting));
}

/// Nothing is remembered of users who were not found, so a flood of names costs no memory.
#[test]
fn not_found_is_not_cached() {
    let router = Router::new(Table::new(1), LookUps::new(2), Waiting::new(1000, 1000));
    let sender = connection("sender-0", 0);
    for _ in 0..2 {
        router.route(("receiver-0", None), &sender, |out| out.extend_from_slice(b"line\n"));
        let question = router.lookups.take(1).pop().unwrap();
        router.found(&question, &Answer::Nobody);
        assert!(router.table.shard("receiver-0").get_mut("receiver-0").is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// R13 to R16, R19, R20, R23: users come, go and move; nothing else fails.
    #[test]
    fn each_message_arrives_once_and_in_order_or_is_answered_once(
        steps in vec(calm(), 1..400),
    ) {
        let world = World::run(&steps);
        world.check_order();
        world.check_fates();
    }

    /// R24, R25: streams are late and break, relays die and begin again, receivers don't read.
    #[test]
    fn broken_links_lose_nothing_silently_and_keep_the_order(steps in vec(faulty(), 1..400)) {
        let world = World::run(&steps);
        world.check_order();
        world.check_fates();
    }

    /// PROTOCOL section 5: none is dropped, and none reported, while both stay connected.
    #[test]
    fn to_users_who_stay_everything_arrives(
        places in vec(0..RELAYS, RECEIVERS),
        steps in vec(calm(), 1..400),
    ) {
        let connect = |(receiver, relay)| Step::Connect { receiver, relay, outbox_bytes: WIDE };
        let connects = places.into_iter().enumerate().map(connect);
        let stays = |step: &&Step| !matches!(step, Step::Connect { .. } | Step::Disconnect { .. });
        let steps: Vec<Step> = connects.chain(steps.iter().filter(stays).cloned()).collect();
        let world = World::run(&steps);
        world.check_order();
        prop_assert!(world.senders.iter().all(|sender| sender.not_delivered == 0));
        let sent: u64 = world.senders.iter().map(|sender| sender.sent).sum();
        prop_assert_eq!(world.received().count() as u64, sent);
    }
}
