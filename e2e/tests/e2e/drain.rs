//! Parts that are replaced while users write: who is told to go goes, and nothing is lost.

mod traffic;

use std::time::{Duration, Instant};

use kurir_client::Socket;
use kurir_e2e::deadline::until;
use kurir_e2e::packets::{message, not_delivered, ping};
use kurir_e2e::person::PASSWORD;
use kurir_e2e::raw::DELIMITER;
use kurir_e2e::system::{STOPS_WITHIN, UP};
use kurir_e2e::{PATIENCE, Person, Plan, Raw, Speaks, System, Topology, within};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::traffic::Traffic;

kurir_e2e::shows! {
    relays_are_replaced_one_after_the_other_under_load: "";
    managers_are_replaced_one_after_the_other_under_load: "";
    clients_of_the_original_are_closed_in_turn_and_what_they_wrote_arrives: "";
    the_last_client_is_answered_though_redis_is_slow: "";
    a_relay_is_drained_by_hand: "";
    who_stays_is_closed_at_the_deadline_while_two_relays_drain: "";
    what_cannot_be_drained_is_named: "";
}

/// Turns over three seconds.
fn plan() -> Plan {
    let plan = Plan::new(Topology::Separate).cheap_passwords();
    plan.setting("shutdown.spread_seconds", 3).setting("shutdown.grace_seconds", 14)
}

/// Each of them in turn is told to stop, ends by itself, and is started again.
async fn are_replaced(system: &mut System, names: &[&str]) {
    for name in names {
        let told = Instant::now();
        system.part(name).signal(Signal::TERM);
        let status = system.part(name).end(STOPS_WITHIN).await;
        assert!(status.success(), "{name} stopped with {status}");
        println!("{name} stopped after {:.1} s", told.elapsed().as_secs_f64());
        system.start_again(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_are_replaced_one_after_the_other_under_load() {
    let mut system = plan().start().await;
    let traffic = Traffic::begins(&system, 12, 500).await;
    traffic.flows().await;
    are_replaced(&mut system, &["relay-1", "relay-2", "relay-3"]).await;
    traffic.ends(Socket::Relay).await;
    system.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_are_replaced_one_after_the_other_under_load() {
    let mut system = plan().start().await;
    let traffic = Traffic::begins(&system, 12, 500).await;
    traffic.flows().await;
    are_replaced(&mut system, &["manager-1", "manager-2"]).await;
    traffic.ends(Socket::Manager).await;
    system.stops().await;
}

/// A client of the original at the first relay: it never says anything that the original does not. Its manager connection, and
/// its relay connection.
async fn enters_as_the_original(system: &System, name: &str) -> (Raw, Raw) {
    let mut manager = Raw::connect(name, system.manager(1), Speaks::Original).await;
    manager.sends(json!({"type": "auth", "username": name, "password": PASSWORD, "register": true})).await;
    let reply = within(PATIENCE, "registration", manager.next_packet()).await.expect("an answer");
    assert_eq!(reply["code"], 201, "{name} got {reply}");
    let mut relay = Raw::connect(name, system.relay(1), Speaks::Original).await;
    relay.sends(json!({"username": name, "message": "hello!"})).await;
    (manager, relay)
}

/// Writes to `to` until the relay closes, as a client does that only then looks: how many, and when it was closed.
async fn writes_until_closed(raw: Raw, to: &str) -> (String, usize, Instant) {
    let name = raw.who().to_string();
    let mut stream = raw.into_stream();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let (mut byte, mut count) = ([0], 0);
    loop {
        tokio::select! {
            biased;
            read = stream.read(&mut byte) => match read {
                Ok(0) => return (name, count, Instant::now()),
                Ok(_) => panic!("{name} was told something"),
                Err(error) => panic!("{name} was not closed in order: {error}"),
            },
            _ = pace.tick() => {}
        }
        let mut bytes = message(&name, to, &count.to_string()).to_string().into_bytes();
        bytes.extend_from_slice(DELIMITER);
        // The relay may have closed already; it takes what is written then, too.
        stream.write_all(&bytes).await.unwrap_or_else(|error| panic!("{name} can't write: {error}"));
        count += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_original_are_closed_in_turn_and_what_they_wrote_arrives() {
    const CLIENTS: usize = 12;
    let mut system = plan().setting("relay.bare_hello", "same-address").start().await;
    let mut ibu = system.person("ibu").at_relay(2).registers().await;
    let (mut managers, mut relays) = (Vec::new(), Vec::new());
    for number in 0..CLIENTS {
        let (manager, relay) = enters_as_the_original(&system, &format!("anak{number}")).await;
        managers.push(manager);
        relays.push(relay);
    }
    system.shows("relay-1", "kurir_relay_users", CLIENTS.try_into().expect("few")).await;
    let mut writing = JoinSet::new();
    for relay in relays {
        writing.spawn(writes_until_closed(relay, "ibu"));
    }
    let told = Instant::now();
    system.part("relay-1").signal(Signal::TERM);
    let mut wrote: Vec<_> = within(STOPS_WITHIN, "all are closed", writing.join_all()).await;
    wrote.sort_by_key(|(_, _, at)| *at);
    let closed: Vec<_> = wrote.iter().map(|(_, _, at)| (*at - told).as_secs_f64()).collect();
    println!("closed after {closed:.2?} s");
    // Twelve turns over three seconds, and nobody is closed before its own.
    for (turn, at) in (0_u32..).zip(&closed) {
        assert!(*at >= f64::from(turn) * 0.25, "{closed:?}");
    }
    system.part("relay-1").end(STOPS_WITHIN).await;

    // Everything arrives that was written before the close was seen, and in order.
    let mut missing: Vec<_> = wrote.iter().map(|(name, count, _)| (name.clone(), 0, *count)).collect();
    while missing.iter().any(|(_, next, count)| next < count) {
        let packet = within(PATIENCE, "what was written", ibu.relay().next_packet()).await.expect("open");
        let sender = missing.iter_mut().find(|(name, ..)| packet["from"] == name.as_str()).expect("a child");
        assert_eq!(packet["body"], sender.1.to_string(), "of {}", sender.0);
        sender.1 += 1;
    }
    ibu.relay().hears_nothing_else().await;
    system.start_again("relay-1").await;
    system.stops().await;
}

/// Users are being looked up when its turn comes, and nobody else is there for whom the relay would stay.
#[tokio::test]
async fn the_last_client_is_answered_though_redis_is_slow() {
    let plan = plan().setting("shutdown.spread_seconds", 1).setting("relay.bare_hello", "same-address");
    let mut system = plan.start().await;
    let (_manager, mut relay) = enters_as_the_original(&system, "esa").await;
    system.shows("relay-1", "kurir_relay_users", 1).await;
    system.redis().pause();
    for number in 0..10 {
        relay.sends(message("esa", &format!("siapa{number}"), "halo")).await;
    }
    system.part("relay-1").signal(Signal::TERM);
    let at = system.relay(1);
    until(PATIENCE, "the beginning of the drain", async || TcpStream::connect(at).await.err()).await;
    system.redis().resume();
    for _ in 0..10 {
        relay.receives(not_delivered("esa")).await;
    }
    relay.is_closed().await;
    system.part("relay-1").end(STOPS_WITHIN).await;
    system.start_again("relay-1").await;
    system.stops().await;
}

/// A client that knows Part II, and has shown it.
async fn knows_part_two(system: &System, name: &str, relay: u16) -> Person {
    let mut person = system.person(name).at_relay(relay).registers().await;
    person.relay().sends(ping("I am here")).await;
    person
        .relay()
        .receives_in_the_end(
            json!({"stanza": "iq", "namespace": "ping", "type": "result", "id": "I am here"}),
            PATIENCE,
        )
        .await;
    person
}

async fn is_asked_to_move(raw: &mut Raw) -> u64 {
    let packet = within(PATIENCE, "a word", raw.next_packet()).await.expect("an open connection");
    assert!(packet["stanza"] == "stream" && packet["type"] == "move", "{packet}");
    packet["after_ms"].as_u64().expect("a time")
}

fn shutting_down() -> Value {
    let error = json!({"type": "wait", "condition": "system-shutdown"});
    json!({"stanza": "stream", "type": "error", "error": error})
}

#[tokio::test]
async fn a_relay_is_drained_by_hand() {
    let mut system = plan().start().await;
    let mut esa = knows_part_two(&system, "esa", 2).await;
    let mut fajar = system.person("fajar").at_relay(1).registers().await;
    let meanwhile = async {
        let after = is_asked_to_move(esa.relay()).await;
        assert!(after <= 3000, "{after}");
        assert_eq!(system.gauge("relay-2", "kurir_draining").await, Some(1));
        assert_eq!(system.gauge("relay-1", "kurir_draining").await, Some(0));
        let (status, parts) = system.admin_says("relay-2", "/readyz").await.expect("an answer");
        assert_eq!(status, 503, "{parts}");
        let (_, shown, _) = system.runs(&["status"]).await;
        let line = shown.lines().find(|line| line.contains("relay-2")).expect("a line");
        assert!(line.contains("draining"), "{shown}");
        // Trackers and managers send nobody there any more, and whoever is there is reached.
        system.lists(&["manager-1", "manager-2", "relay-1", "relay-3"]).await;
        // A supervisor that stops it meanwhile is the first to send a signal.
        let relay = system.parts().find(|part| part.name() == "relay-2").expect("it runs");
        relay.signal(Signal::TERM);
        system.knows_relays(1, 2).await;
        for number in 0..4 {
            let newcomer = system.person(&format!("baru{number}")).registers().await;
            assert_ne!(newcomer.at_relay(), system.relay(2), "a newcomer is sent to a relay that drains");
        }
        fajar.reaches(&mut esa, "still there?").await;
        esa.reaches(&mut fajar, "still there").await;
        let draining = system.relay(2);
        let mut left = esa.keeps_relay_aside();
        esa.moves_to_another_relay(|relay| relay != draining).await;
        left.is_closed_in_the_end(PATIENCE).await;
        fajar.reaches(&mut esa, "and now?").await;
    };
    let ((code, out, err), ()) = tokio::join!(system.runs(&["drain", "relay-2"]), meanwhile);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("relay-2: 1 of 1 user is here"), "{out}");
    assert!(out.ends_with("relay-2: 0 of 1 user is here\nrelay-2: stopped\n"), "{out}");
    let status = system.part("relay-2").end(STOPS_WITHIN).await;
    assert!(status.success(), "{status}");
    system.start_again("relay-2").await;
    system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    system.stops().await;
}

#[tokio::test]
async fn who_stays_is_closed_at_the_deadline_while_two_relays_drain() {
    let plan = plan().setting("shutdown.spread_seconds", 1).setting("shutdown.grace_seconds", 6);
    let mut system = plan.start().await;
    let mut esa = knows_part_two(&system, "esa", 1).await;
    let mut fajar = knows_part_two(&system, "fajar", 2).await;
    let began = Instant::now();
    let stubborn = async {
        let stays = async |person: &mut Person| {
            assert!(is_asked_to_move(person.relay()).await <= 1000);
            person.relay().receives_in_the_end(shutting_down(), PATIENCE).await;
            person.relay().is_closed().await;
            began.elapsed()
        };
        let esa_stayed = stays(&mut esa).await;
        let fajar_stayed = stays(&mut fajar).await;
        esa_stayed.max(fajar_stayed)
    };
    let (one, two, stayed) =
        tokio::join!(system.runs(&["drain", "relay-1"]), system.runs(&["drain", "relay-2"]), stubborn);
    for ((code, out, err), name) in [(one, "relay-1"), (two, "relay-2")] {
        assert_eq!(code, Some(1), "{out}{err}");
        let end = format!("{name} has stopped; 1 of 1 user had not left in time and were closed\n");
        assert!(err.ends_with(&end), "{out}{err}");
        assert!(system.part(name).end(STOPS_WITHIN).await.success());
    }
    // Half of the grace, since that is shorter than 6 s.
    assert!(stayed >= Duration::from_secs(3), "{stayed:?}");
    for person in [&mut esa, &mut fajar] {
        let left = system.relay(3);
        person.moves_to_another_relay(|relay| relay == left).await;
    }
    esa.reaches(&mut fajar, "both at the third").await;
    for name in ["relay-1", "relay-2"] {
        system.start_again(name).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn what_cannot_be_drained_is_named() {
    let mut system = System::start(Topology::OneProcess).await;
    let (code, _, err) = system.runs(&["drain", "relay-0"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("no component relay-0 is active; the tracker knows manager-"), "{err}");
    let relay = format!("relay-{}", system.relay(1).port());
    let (code, _, err) = system.runs(&["drain", &relay]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("shares its process"), "{err}");
    assert_eq!(system.part(UP).ended(), None);
    system.stops().await;
}
