//! One user with several devices at several relays: each gets each message once, from whichever relay it was sent.

use std::task::{Context, Waker};

use kurir_directory::Generation;
use kurir_protocol::name::Resource;
use kurir_rpc::v1::frame::Frame;
use kurir_socket::Outbox;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::link::Standing;

struct Relay {
    router: Router,
    /// To the other relay.
    link: Arc<Link>,
}

/// Two relays, and the links between them.
struct World {
    relays: [Relay; 2],
    next: u64,
}

impl World {
    fn new() -> Self {
        let relay = |to: &str| {
            let link = Link::new(to.parse().unwrap(), Generation::new(), 1 << 20, CancellationToken::new());
            assert!(link.up());
            let router = Router::new(Table::new(10), LookUps::new(10), Waiting::new(1 << 20, 1 << 20));
            Relay { router, link }
        };
        Self { relays: [relay("relay-1"), relay("relay-0")], next: 1 }
    }

    /// As admission does it, with what the directory says of the user's other devices.
    fn connects(&mut self, relay: usize, device: &str, elsewhere: bool) -> Arc<Connection> {
        let resource = Resource::try_from(device).unwrap();
        let connection = Connection::of_device("fajar", resource, self.next, Outbox::new(1 << 20));
        self.next += 1;
        let Relay { router, link } = &self.relays[relay];
        router.connect(&connection);
        if elsewhere {
            link.sibling("fajar", true);
            router.sibling("fajar", link, true);
        }
        self.carry();
        connection
    }

    fn disconnects(&mut self, relay: usize, connection: &Arc<Connection>) {
        connection.outbox.close("");
        for link in self.relays[relay].router.disconnect(connection) {
            link.sibling("fajar", false);
        }
        self.carry();
    }

    fn sends(&mut self, relay: usize, device: Option<&str>, body: &str) -> Arc<Connection> {
        let sender = Connection::alone("esa", 0, Outbox::new(1 << 20));
        let line = format!("{body}\n");
        let Relay { router, link } = &self.relays[relay];
        let routed = router.route(("fajar", device), &sender, |out| out.extend_from_slice(line.as_bytes()));
        match routed {
            Routed::Here(here) => drop(here.outbox.push(line.as_bytes())),
            Routed::NotDelivered => sender.not_delivered(),
            Routed::Linked(_) | Routed::Spread(_) | Routed::Waiting => {}
        }
        for question in router.lookups.take(10) {
            router.found(&question, &Answer::Link(Arc::clone(link)));
        }
        self.carry();
        sender
    }

    /// Moves frames until there are none.
    fn carry(&self) {
        loop {
            let mut moved = false;
            for (from, to) in [(0, 1), (1, 0)] {
                let Relay { router, link } = &self.relays[to];
                for frame in self.relays[from].link.take() {
                    moved = true;
                    match frame.frame.unwrap() {
                        Frame::Batch(batch) => link.handled(batch.number, router.arrived(&batch).back),
                        Frame::Acknowledged(number) => {
                            router.settled(link, &link.acknowledged(number).unwrap());
                        }
                        Frame::Bounces(bounces) => router.bounced(link, link.bounced(&bounces).unwrap()),
                        Frame::Sibling(sibling) => router.sibling(&sibling.user, link, sibling.here),
                        Frame::Displaced(_) | Frame::Parted(_) | Frame::Hello(_) => unreachable!(),
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }
}

fn received(connection: &Connection) -> Vec<String> {
    let mut taken = Vec::new();
    let _ = connection.outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut taken);
    String::from_utf8(taken).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn each_device_gets_each_message_once() {
    let mut world = World::new();
    let phone = world.connects(0, "phone", false);
    world.sends(0, None, "alone");
    assert_eq!(received(&phone), ["alone"]);
    let laptop = world.connects(1, "laptop", true);
    let tablet = world.connects(0, "tablet", true);
    for relay in [0, 1] {
        world.sends(relay, None, "to all");
        for device in [&phone, &laptop, &tablet] {
            assert_eq!(received(device), ["to all"], "{} from relay {relay}", device.resource);
        }
    }
    // By way of the other relay, as from one that has no device of the user.
    world.disconnects(1, &laptop);
    world.sends(1, None, "from elsewhere");
    assert_eq!(received(&phone), ["from elsewhere"]);
    assert_eq!(received(&tablet), ["from elsewhere"]);
    assert!(!phone.is_alone());
    world.disconnects(0, &tablet);
    assert!(phone.is_alone());
}

#[test]
fn one_device_is_addressed_wherever_it_is() {
    let mut world = World::new();
    let phone = world.connects(0, "phone", false);
    let laptop = world.connects(1, "laptop", true);
    for relay in [0, 1] {
        world.sends(relay, Some("laptop"), "to one");
        assert_eq!(received(&laptop), ["to one"]);
        assert!(received(&phone).is_empty());
    }
    world.disconnects(1, &laptop);
    let sender = world.sends(0, Some("laptop"), "too late");
    assert_eq!(received(&sender).len(), 1, "R15");
}

#[test]
fn a_device_that_is_nowhere_makes_nobody_deaf() {
    let mut world = World::new();
    let phone = world.connects(0, "phone", false);
    let laptop = world.connects(1, "laptop", true);
    world.sends(0, Some("watch"), "to nobody");
    world.sends(0, None, "to all");
    assert_eq!(received(&phone), ["to all"]);
    assert_eq!(received(&laptop), ["to all"]);
}

/// The word of it may be lost with the link.
#[test]
fn a_copy_that_finds_nobody_ends_the_copies() {
    let mut world = World::new();
    let phone = world.connects(0, "phone", false);
    let laptop = world.connects(1, "laptop", true);
    laptop.outbox.close("");
    world.relays[1].router.disconnect(&laptop);
    assert!(!phone.is_alone());
    let sender = world.sends(0, None, "one left");
    assert_eq!(received(&phone), ["one left"]);
    assert!(received(&sender).is_empty(), "it has arrived somewhere");
    assert!(phone.is_alone());
}

#[test]
fn a_dead_relays_devices_get_no_copies() {
    let mut world = World::new();
    let phone = world.connects(0, "phone", false);
    world.connects(1, "laptop", true);
    let _ = world.relays[0].link.close(Standing::Dead);
    world.relays[0].router.table.forget(&world.relays[0].link);
    assert!(phone.is_alone());
}
