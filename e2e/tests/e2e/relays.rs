//! Choosing relays, finding receivers, losing them.

use std::collections::BTreeMap;
use std::time::Duration;

use kurir_e2e::packets::{account_created, message, not_delivered, relay_less_connection};
use kurir_e2e::person::offered;
use kurir_e2e::{PATIENCE, Person, Plan, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    least_loaded_relay_is_named_at_login_and_when_asked: "M6 M13 M14 R7 R10";
    relay_waits_until_there_is_a_manager: "R1 R2 R3 M4 M5";
    receiver_who_left_meanwhile_is_reported_by_the_other_relay: "R9 R11 R12 R14 R19 R20 R22 R23";
    receiver_who_moved_is_found_at_once: "R8 R11 R14 R21 R22";
    second_hello_replaces_the_first: "R6";
    messages_arrive_in_the_order_sent: "R13 R16 R19";
    relay_that_comes_again_is_used_again: "T6 M1 M4 M5 M7 R4 R17 R18 R24 R25";
}

/// What a person is told of the relay they would be given.
async fn asks_for_a_relay(person: &mut Person) -> Value {
    person.sends(json!({"type": "get_relay_less_connection"})).await;
    person.receives(relay_less_connection()).await[0]["component"][0].clone()
}

#[tokio::test]
async fn least_loaded_relay_is_named_at_login_and_when_asked() {
    let system = Plan::new(Topology::Separate).managers(1).cheap_passwords().start().await;
    let mut people = Vec::new();
    for number in 0..9 {
        people.push(system.person(&format!("orang{number}")).registers().await);
    }
    let mut counts = BTreeMap::new();
    for person in &people {
        *counts.entry(person.at_relay()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    // Looking at a gauge changes nothing, where asking makes a promise that counts. It is set once a second: one that shows
    // nobody must have shown somebody before.
    let load = r#"kurir_manager_relay_load{relay="relay-1"}"#;
    system.shows("manager-1", load, 3).await;

    // Relay 1 loses all of its users: it is the one, at login and when asked, and says how few it has.
    let first = system.relay(1);
    let (leaving, mut staying): (Vec<_>, Vec<_>) =
        people.into_iter().partition(|person| person.at_relay() == first);
    for person in leaving {
        person.logs_out().await;
    }
    system.shows("manager-1", load, 0).await;
    let offer = asks_for_a_relay(&mut staying[0]).await;
    assert_eq!((offered(&offer), &offer["connection"]), (first, &json!(0)), "relay 1 is named when asked");
    let last = system.person("terakhir").registers().await;
    assert_eq!(last.at_relay(), first);
    system.stops().await;
}

#[tokio::test]
async fn relay_waits_until_there_is_a_manager() {
    let mut system = Plan::new(Topology::Separate).managers(2).relays(2).start_nothing_but_stores().await;
    system.starts("tracker").await;
    system.launch("relay-1");
    system.lists(&["relay-1"]).await;
    system.starts("manager-1").await;
    system.knows_relays(1, 1).await;
    let mut esa = system.person("esa").registers().await;
    assert_eq!(esa.at_relay(), system.relay(1));

    // A manager that comes later is found too, and the relay that comes last finds both.
    system.starts("manager-2").await;
    system.knows_relays(2, 1).await;
    let mut fajar = system.person("fajar").at_manager(2).registers().await;
    assert_eq!(fajar.at_relay(), system.relay(1));
    esa.reaches(&mut fajar, "one relay, two managers").await;
    system.starts("relay-2").await;
    system.is_joined().await;
    for manager in [1, 2] {
        let mut person = system.person(&format!("orang{manager}")).at_manager(manager).registers().await;
        let second = system.relay(2);
        if person.at_relay() != second {
            person.moves_to_another_relay(|relay| relay == second).await;
        }
        person.reaches(&mut esa, "from the new relay").await;
    }
    system.stops().await;
}

/// The first message makes esa's relay remember where fajar is; then that is wrong.
#[tokio::test]
async fn receiver_who_left_meanwhile_is_reported_by_the_other_relay() {
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    esa.reaches(&mut fajar, "halo").await;
    system.cuts_relay_connection(&mut fajar).await;
    esa.finds_nobody_at("fajar").await;
    fajar.moves_to_another_relay(|_| true).await;
    esa.reaches(&mut fajar, "found again").await;

    fajar.logs_out().await;
    esa.writes("fajar", "gone").await;
    esa.is_told_nobody_is_there().await;
    system.stops().await;
}

/// "Not found" is never remembered, and a remembered relay that is wrong is asked for again, not reported.
#[tokio::test]
async fn receiver_who_moved_is_found_at_once() {
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    esa.writes("fajar", "not yet").await;
    esa.is_told_nobody_is_there().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    esa.reaches(&mut fajar, "at relay 2").await;
    for relay in [3, 2, 1, 3, 1, 2] {
        let offer = asks_for_a_relay(&mut fajar).await;
        let to = system.relay(relay);
        let mut before = fajar.keeps_relay_aside();
        fajar.connects_to(to, &offer).await;
        before.is_closed().await;
        esa.reaches(&mut fajar, &format!("at relay {relay}")).await;
        fajar.reaches(&mut esa, &format!("from relay {relay}")).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn second_hello_replaces_the_first() {
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    for (first, second) in [(2, 2), (2, 3)] {
        let mut fajar = system.at_manager("fajar", 1).await;
        let name = format!("fajar{second}");
        fajar.sends(json!({"type": "auth", "username": name, "password": "12345", "register": true})).await;
        let offer = fajar.receives(account_created()).await["component"][0].clone();
        let hello = json!({"username": name, "message": "hello!", "token": offer["token"]});
        let mut one = system.at_relay("fajar's first", first).await;
        one.sends(hello.clone()).await;
        one.hears_nothing_else().await;
        esa.writes(&name, "to the first").await;
        one.receives(message("esa", &name, "to the first")).await;

        let mut other = system.at_relay("fajar's second", second).await;
        other.sends(hello).await;
        other.hears_nothing_else().await;
        one.is_closed_in_the_end(PATIENCE).await;
        esa.writes(&name, "to the second").await;
        other.receives(message("esa", &name, "to the second")).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn messages_arrive_in_the_order_sent() {
    const MESSAGES: usize = 2_000;
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    // To somebody far, somebody near and nobody, all mixed, in a few large segments.
    let mut gita = system.person("gita").at_relay(1).registers().await;
    let mut lines = String::new();
    for number in 0..MESSAGES {
        for to in ["fajar", "gita", "siapa"] {
            lines += &message("esa", to, &number.to_string()).to_string();
            lines.push('\n');
        }
    }
    let (sending, far, near, nobody) = (lines.as_bytes(), &mut fajar, &mut gita, not_delivered("esa"));
    let mut answers = 0;
    let readers = async {
        for number in 0..MESSAGES {
            far.reads("esa", &number.to_string()).await;
            near.reads("esa", &number.to_string()).await;
        }
    };
    let sender = async {
        for piece in sending.chunks(100_000) {
            esa.relay().sends_bytes(piece).await;
            while let Ok(packet) = tokio::time::timeout(Duration::ZERO, esa.relay().next_packet()).await {
                assert_eq!(packet.as_ref(), Some(&nobody));
                answers += 1;
            }
        }
        while answers < MESSAGES {
            esa.is_told_nobody_is_there().await;
            answers += 1;
        }
    };
    tokio::join!(readers, sender);
    esa.relay().hears_nothing_else().await;
    system.stops().await;
}

#[tokio::test]
async fn relay_that_comes_again_is_used_again() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(2).start().await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    esa.reaches(&mut fajar, "before").await;
    // What comes back says that relay 2 has acknowledged what went there: otherwise its loss would be answered too.
    fajar.reaches(&mut esa, "before, and back").await;
    system.kill("relay-2");
    system.lists(&["manager-1", "relay-1"]).await;
    // Login names the one that is left.
    system.knows_relays(1, 1).await;
    let gita = system.person("gita").registers().await;
    assert_eq!(gita.at_relay(), system.relay(1));
    esa.finds_nobody_at("fajar").await;

    system.start_again("relay-2").await;
    system.lists(&["manager-1", "relay-1", "relay-2"]).await;
    system.is_joined().await;
    let second = system.relay(2);
    fajar.moves_to_another_relay(|relay| relay == second).await;
    esa.reaches(&mut fajar, "after").await;
    fajar.reaches(&mut esa, "after, and back").await;
    system.stops().await;
}
