//! Relays, links, users and a directory in random interleavings. Whatever happens in between: one sender's messages reach
//! one connection in order, each once, and every message is delivered or answered R15.

use std::collections::{HashMap, VecDeque};

use kurir_directory::Generation;
use kurir_protocol::name::{LoginId, Resource};
use kurir_rpc::v1::{Frame, frame};
use kurir_socket::Outbox;
use proptest::{collection::vec, prelude::*};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::link::Standing;

const RELAYS: usize = 3;
const RECEIVERS: usize = 3;
const SENDERS: usize = 4;

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
    broken: bool,
}

fn connection(user: &str, number: u64) -> Arc<Connection> {
    Arc::new(Connection {
        user: user.into(),
        name: user.into(),
        resource: Resource::default_device(),
        login: LoginId(number),
        number,
        outbox: Outbox::new(1 << 20),
    })
}

/// What waits in an open outbox, taken as its connection's task would.
fn drain(outbox: &Outbox) -> String {
    let mut taken = Vec::new();
    let _ = outbox.push_with(|out| taken = mem::take(out));
    String::from_utf8(taken).unwrap()
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..RELAYS).flat_map(|one| (0..RELAYS).filter(move |other| *other != one).map(move |other| (one, other)))
}

impl World {
    fn new() -> Self {
        let router = || Router::new(Table::new(1), LookUps::new(1000), Waiting::new(1 << 20, 1 << 20));
        let link = |(from, to): (usize, usize)| {
            let peer = format!("relay-{to}").parse().unwrap();
            let link = Link::new(peer, Generation::new(), 1 << 20, CancellationToken::new());
            assert!(link.up());
            ((from, to), link)
        };
        let sender = |number: usize| {
            let user = format!("sender-{number}");
            let connection = connection(&user, 0);
            Sender { connection, relay: number % RELAYS, sent: 0, not_delivered: 0, cached: None }
        };
        Self {
            relays: (0..RELAYS).map(|_| Relay { router: router(), answers: Vec::new() }).collect(),
            links: pairs().map(link).collect(),
            wires: pairs().map(|pair| (pair, VecDeque::new())).collect(),
            directory: vec![None; RECEIVERS],
            receivers: (0..RECEIVERS).map(|_| Vec::new()).collect(),
            senders: (0..SENDERS).map(sender).collect(),
            next_connection: 1,
            broken: false,
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
            Step::Connect { receiver, relay } => self.connect(receiver, relay),
            Step::Disconnect { receiver } => self.disconnect(receiver),
            Step::Read { relay } => self.read(relay),
            Step::Answer { relay, which } => self.answer(relay, which),
            Step::Take { from, to } if from != to => self.take(from, to),
            Step::Arrive { from, to } if from != to => self.arrive(from, to),
            Step::Break { one, other } if one != other => {
                self.down(one, other);
                self.mend(one, other);
            }
            Step::Down { one, other } if one != other => self.down(one, other),
            Step::Mend { one, other } if one != other => self.mend(one, other),
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
        match router.route(&format!("receiver-{receiver}"), &sender.connection, write) {
            Routed::Here(here) => {
                here.outbox.push_quietly(line.as_bytes()).unwrap();
                sender.cached = Some((receiver, here));
            }
            Routed::Linked(_) | Routed::Waiting => {}
            Routed::NotDelivered => sender.not_delivered += 1,
        }
    }

    fn connect(&mut self, receiver: usize, relay: usize) {
        let number = self.next_connection;
        self.next_connection += 1;
        let before = self.directory[receiver].replace((relay, number));
        let connection = connection(&format!("receiver-{receiver}"), number);
        self.relays[relay].router.connect(&connection);
        if let Some((there, number)) = before.filter(|(there, _)| *there != relay) {
            self.links[&(relay, there)].displaced(&connection.user, number);
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
        let frames = self.links[&(from, to)].take();
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
                if let Some(here) = here.filter(|here| here.number == displaced.connection) {
                    here.outbox.close("");
                    router.disconnect(&here);
                }
            }
            frame::Frame::Hello(_) => unreachable!(),
        }
    }

    fn down(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.wires.get_mut(&(from, to)).unwrap().clear();
            let link = &self.links[&(from, to)];
            let rest = link.close(Standing::Down);
            self.broken |= !rest.parcels.is_empty();
            self.relays[from].router.lost(link, &rest);
        }
    }

    fn mend(&mut self, one: usize, other: usize) {
        for pair in [(one, other), (other, one)] {
            if *self.links[&pair].standing().borrow() == Standing::Down {
                assert!(self.links[&pair].up());
            }
        }
    }

    fn collect(&mut self) {
        for receiver in self.receivers.iter_mut().flatten() {
            for line in drain(&receiver.connection.outbox).lines() {
                let (sender, number) = line.split_once(' ').unwrap();
                receiver.received.push((sender.parse().unwrap(), number.parse().unwrap()));
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

    fn check_fates(&self) {
        for (index, sender) in self.senders.iter().enumerate() {
            let mut delivered: Vec<u64> =
                self.received().filter(|(from, _)| *from == index).map(|(_, number)| *number).collect();
            let count = delivered.len();
            delivered.sort_unstable();
            delivered.dedup();
            assert_eq!(delivered.len(), count, "delivered twice");
            let lost = sender.sent - delivered.len() as u64;
            // What a broken link did not acknowledge may be reported although it arrived.
            if self.broken {
                assert!(sender.not_delivered >= lost, "{} lost, {} reported", lost, sender.not_delivered);
            } else {
                assert_eq!(sender.not_delivered, lost);
            }
        }
    }
}

fn step(links_break: bool) -> impl Strategy<Value = Step> {
    let relay = 0..RELAYS;
    let receiver = 0..RECEIVERS;
    let breaks = u32::from(links_break);
    let pair = (relay.clone(), relay.clone());
    prop_oneof![
        12 => (0..SENDERS, receiver.clone()).prop_map(|(sender, receiver)| Step::Send { sender, receiver }),
        3 => (receiver.clone(), relay.clone()).prop_map(|(receiver, relay)| Step::Connect { receiver, relay }),
        1 => receiver.prop_map(|receiver| Step::Disconnect { receiver }),
        5 => relay.clone().prop_map(|relay| Step::Read { relay }),
        5 => (relay, 0..4_usize).prop_map(|(relay, which)| Step::Answer { relay, which }),
        8 => pair.clone().prop_map(|(from, to)| Step::Take { from, to }),
        16 => pair.clone().prop_map(|(from, to)| Step::Arrive { from, to }),
        breaks => pair.clone().prop_map(|(one, other)| Step::Break { one, other }),
        breaks => pair.clone().prop_map(|(one, other)| Step::Down { one, other }),
        breaks => pair.prop_map(|(one, other)| Step::Mend { one, other }),
    ]
}

/// R20: what comes back finds a receiver who has come to the sender's own relay, and nothing later overtakes it there.
#[test]
fn what_comes_back_goes_ahead_of_what_was_sent_meanwhile() {
    let (here, there) = (0, 1);
    let world = World::run(&[
        Step::Connect { receiver: 0, relay: there },
        Step::Send { sender: here, receiver: 0 },
        Step::Read { relay: here },
        Step::Answer { relay: here, which: 0 },
        Step::Disconnect { receiver: 0 },
        Step::Connect { receiver: 0, relay: here },
        Step::Send { sender: here, receiver: 0 },
    ]);
    assert_eq!(world.receivers[0][1].received, [(here, 0), (here, 1)]);
}

/// ARCHITECTURE: a full line and too many look-ups are answered at once; other receivers are not concerned.
#[test]
fn what_may_not_wait_is_answered_at_once() {
    let router = Router::new(Table::new(1), LookUps::new(2), Waiting::new(1, 1000));
    let sender = connection("sender-0", 0);
    let route = |to: &str| router.route(to, &sender, |out| out.extend_from_slice(b"line\n"));
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

#[test]
fn all_lines_together_are_bounded() {
    let router = Router::new(Table::new(1), LookUps::new(100), Waiting::new(1000, 1));
    let sender = connection("sender-0", 0);
    let route = |to: &str| router.route(to, &sender, |out| out.extend_from_slice(b"line\n"));
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
        router.route("receiver-0", &sender, |out| out.extend_from_slice(b"line\n"));
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
        steps in vec(step(false), 1..400),
    ) {
        let world = World::run(&steps);
        world.check_order();
        world.check_fates();
    }

    /// R24, R25: streams break as well.
    #[test]
    fn broken_links_lose_nothing_silently_and_keep_the_order(steps in vec(step(true), 1..400)) {
        let world = World::run(&steps);
        world.check_order();
        world.check_fates();
    }

    /// PROTOCOL section 5: none is dropped, and none reported, while both stay connected.
    #[test]
    fn to_users_who_stay_everything_arrives(
        places in vec(0..RELAYS, RECEIVERS),
        steps in vec(step(false), 1..400),
    ) {
        let connects = places.iter().enumerate().map(|(receiver, relay)| Step::Connect { receiver, relay: *relay });
        let stays = |step: &&Step| !matches!(step, Step::Connect { .. } | Step::Disconnect { .. });
        let steps: Vec<Step> = connects.chain(steps.iter().filter(stays).cloned()).collect();
        let world = World::run(&steps);
        world.check_order();
        prop_assert!(world.senders.iter().all(|sender| sender.not_delivered == 0));
        let sent: u64 = world.senders.iter().map(|sender| sender.sent).sum();
        prop_assert_eq!(world.received().count() as u64, sent);
    }
}
