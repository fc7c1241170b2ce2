//! Who may say hello at a relay: the bearer of a ticket, and by `relay.bare_hello` the original's clients.

use kurir_e2e::packets::{account_created, message, ping, refusal};
use kurir_e2e::{Plan, Raw, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    ticket_admits_its_bearer_at_any_relay_and_nobody_else: "R5 R6";
    bare_hello_is_refused_by_separate_roles: "R5";
    bare_hello_in_one_process_admits_who_is_online_only: "R5 R6";
    ticket_is_void_after_logout: "R9 M29";
}

async fn registers(system: &System, name: &str) -> (Raw, Value) {
    let mut raw = system.at_manager(name, 1).await;
    raw.sends(json!({"type": "auth", "username": name, "password": "12345", "register": true})).await;
    let ticket = raw.receives(account_created()).await["component"][0]["token"].clone();
    (raw, ticket)
}

async fn is_refused(system: &System, relay: u16, hello: Value) {
    let mut raw = system.at_relay(&hello.to_string(), relay).await;
    raw.sends(hello).await;
    raw.receives(refusal(401, "Unauthorized")).await;
    raw.is_closed().await;
}

#[tokio::test]
async fn ticket_admits_its_bearer_at_any_relay_and_nobody_else() {
    let system = System::start(Topology::Separate).await;
    let (_esa, ticket) = registers(&system, "esa").await;
    let (_fajar, _) = registers(&system, "fajar").await;
    let text = ticket.as_str().expect("a ticket is a string").to_string();
    is_refused(&system, 1, json!({"username": "fajar", "message": "hello!", "token": ticket})).await;
    is_refused(&system, 1, json!({"username": "siapa", "message": "hello!", "token": ticket})).await;
    let mut broken = text.clone().into_bytes();
    let middle = broken.len() / 2;
    broken[middle] = if broken[middle] == b'A' { b'B' } else { b'A' };
    for token in [
        json!(String::from_utf8(broken).unwrap()),
        json!(text[..text.len() - 2]),
        json!(""),
        json!(7),
        json!({}),
    ] {
        is_refused(&system, 1, json!({"username": "esa", "message": "hello!", "token": token})).await;
    }
    for relay in 1..=3 {
        let mut raw = system.at_relay("esa", relay).await;
        raw.sends(json!({"username": "ESA", "message": "hello!", "token": ticket})).await;
        raw.sends(message("esa", "esa", "here")).await;
        raw.receives(message("esa", "esa", "here")).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn bare_hello_is_refused_by_separate_roles() {
    let system = System::start(Topology::Separate).await;
    let (_esa, _) = registers(&system, "esa").await;
    is_refused(&system, 1, json!({"username": "esa", "message": "hello!"})).await;
    system.stops().await;

    let system = Plan::new(Topology::Separate).setting("relay.bare_hello", "online").start().await;
    let (_esa, _) = registers(&system, "esa").await;
    let mut raw = system.at_relay("esa", 1).await;
    raw.sends(json!({"username": "esa", "message": "hello!"})).await;
    raw.hears_nothing_else().await;
    is_refused(&system, 1, json!({"username": "siapa", "message": "hello!"})).await;
    system.stops().await;
}

#[tokio::test]
async fn bare_hello_in_one_process_admits_who_is_online_only() {
    let system = System::start(Topology::OneProcess).await;
    is_refused(&system, 1, json!({"username": "siapa", "message": "hello!"})).await;
    for name in [json!(""), json!(null), json!(7), json!("e sa")] {
        // What is no hello is ignored, what is one of nobody is refused: either way nothing gets through.
        let mut raw = system.at_relay("mallory", 1).await;
        raw.sends(json!({"username": name, "message": "hello!"})).await;
        raw.sends(ping("after it")).await;
        let answer = raw.next_packet().await.expect("an answer");
        assert!(answer == refusal(401, "Unauthorized") || answer["id"] == "after it", "{answer}");
    }
    let esa = system.person("esa").as_the_original().registers().await;
    esa.logs_out().await;
    is_refused(&system, 1, json!({"username": "esa", "message": "hello!"})).await;
    system.stops().await;
}

#[tokio::test]
async fn ticket_is_void_after_logout() {
    let system = System::start(Topology::Separate).await;
    let (mut esa, ticket) = registers(&system, "esa").await;
    esa.sends(json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    for relay in 1..=3 {
        is_refused(&system, relay, json!({"username": "esa", "message": "hello!", "token": ticket})).await;
    }
    // A newer login works, and the older ticket still does not.
    let mut fajar = system.person("esa").at_manager(2).at_relay(2).logs_in().await;
    is_refused(&system, 1, json!({"username": "esa", "message": "hello!", "token": ticket})).await;
    fajar.relay().hears_nothing_else().await;
    system.stops().await;
}
