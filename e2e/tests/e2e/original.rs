//! The original's client, byte for byte: its first packets, its delimiter, no ticket.

use kurir_e2e::packets::{not_delivered, relay};
use kurir_e2e::pattern::{ANY, NUMBER};
use kurir_e2e::raw::DELIMITER;
use kurir_e2e::{PATIENCE, Plan, Raw, Speaks, System, Topology};
use serde_json::json;

kurir_e2e::shows! {
    original_client_byte_for_byte_in_one_process: "T4 T5 M8 M11 M14 M15 M25 M29 R13 R14 R15 R16";
    original_client_byte_for_byte_on_separate_processes: "T4 T5 M8 M11 M14 M15 M25 M29 R13 R14 R15 R16";
}

#[tokio::test]
async fn original_client_byte_for_byte_in_one_process() {
    the_originals_client(Plan::new(Topology::OneProcess)).await;
}

/// Separate roles refuse a hello without a ticket unless they are told otherwise.
#[tokio::test]
async fn original_client_byte_for_byte_on_separate_processes() {
    the_originals_client(Plan::new(Topology::Separate).setting("relay.bare_hello", "same-address")).await;
}

/// A packet as the original writes it, with its delimiter.
fn wire(packet: &str) -> Vec<u8> {
    [packet.as_bytes(), DELIMITER].concat()
}

/// A user as the original's client makes one: at the tracker, the manager, and the relay that is named.
async fn user(system: &System, name: &str, register: bool) -> (Raw, Raw) {
    let mut tracker =
        Raw::connect(format!("{name} at the tracker"), system.tracker(), Speaks::Original).await;
    tracker
        .sends_bytes(&wire(
            r#"{"ip_local": "192.168.1.6", "port": 62998, "type": "client", "is_private": true}"#,
        ))
        .await;
    // The first reply has no delimiter after it; one comes before the next.
    let components = tracker.receives_bare(ANY.into()).await;
    tracker.sends_bytes(&wire(r#"{"message": "get components"}"#)).await;
    tracker.receives_delimiter().await;
    let again = tracker.receives(ANY.into()).await;
    assert_eq!(system.names(&components), system.names(&again));

    let mut manager =
        Raw::connect(format!("{name} at the manager"), system.manager(1), Speaks::Original).await;
    manager.sends_bytes(&wire(r#"{"ip_local": "192.168.1.6", "port": 62998, "type": "client"}"#)).await;
    let mut reply =
        json!({"error": false, "msg": "Login successfull", "code": 200, "component": [ANY], "session": ANY});
    if register {
        let auth =
            format!(r#"{{"type": "auth", "username": "{name}", "password": "12345", "register": true}}"#);
        manager.sends_bytes(&wire(&auth)).await;
        reply["msg"] = "Account created".into();
        reply["code"] = 201.into();
    } else {
        let auth = format!(r#"{{"type": "auth", "username": "{name}", "password": "12345"}}"#);
        manager.sends_bytes(&wire(&auth)).await;
    }
    let named = manager.receives(reply).await["component"][0].clone();
    assert!(kurir_e2e::pattern::includes(&relay(), &named), "{named}");

    let mut at_relay =
        Raw::connect(format!("{name} at a relay"), kurir_e2e::person::offered(&named), Speaks::Original)
            .await;
    at_relay.sends_bytes(&wire(&format!(r#"{{"username": "{name}", "message": "hello!"}}"#))).await;
    // It has no other way to know that the relay knows it than a message to itself.
    let to_itself =
        format!(r#"{{"stanza": "message", "from": "{name}", "to": "{name}", "lang": "id", "body": "tes"}}"#);
    at_relay.sends_bytes(&wire(&to_itself)).await;
    at_relay
        .receives(json!({"stanza": "message", "from": name, "to": name, "lang": "id", "body": "tes"}))
        .await;
    (manager, at_relay)
}

async fn the_originals_client(plan: Plan) {
    let system = plan.start().await;
    let (mut esa, mut esa_at_relay) = user(&system, "esa", true).await;
    let (mut fajar, mut fajar_at_relay) = user(&system, "fajar", true).await;

    // Two packets in one segment, then one cut inside the delimiter.
    let get = r#"{"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "get", "query": {"items": null}}"#;
    fajar.sends_bytes(&[wire(get), wire(r#"{"stanza": "presence"}"#)].concat()).await;
    let empty = json!({"stanza": "iq", "namespace": "roster", "type": "result", "query": {"items": []}, "to": "fajar"});
    fajar.receives(empty).await;
    let add = wire(
        r#"{"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set", "query": {"item": {"jid": "esa", "name": "ini esa", "subscription": "to"}}}"#,
    );
    let (head, tail) = add.split_at(add.len() - 3);
    fajar.sends_bytes(head).await;
    fajar.sends_bytes(tail).await;
    let item = json!({"jid": "esa", "name": "ini esa", "subscription": "to"});
    fajar
        .receives(
            json!({"stanza": "presence", "from": "esa", "to": "fajar", "type": "subscribed", "item": item}),
        )
        .await;
    let bio = "Feel happy using this application! ;D";
    fajar
        .receives(json!({"stanza": "presence", "from": "esa", "username": "esa", "bio": bio, "online": 1, "updated_at": NUMBER, "to": "fajar"}))
        .await;
    fajar.receives(json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": "fajar"})).await;

    // A bio with more than ASCII in it comes in ASCII.
    esa.sends_bytes(&wire(
        "{\"stanza\": \"presence\", \"from\": \"esa\", \"bio\": \"lagi makan kebab 🥙 é\"}",
    ))
    .await;
    fajar
        .receives(json!({"stanza": "presence", "from": "esa", "username": "esa", "bio": "lagi makan kebab 🥙 é", "online": 1, "updated_at": NUMBER}))
        .await;

    // Messages.
    esa_at_relay
        .sends_bytes(&wire(
            r#"{"stanza": "message", "from": "esa", "to": "fajar", "lang": "id", "body": "halo fajar"}"#,
        ))
        .await;
    fajar_at_relay
        .receives(
            json!({"stanza": "message", "from": "esa", "to": "fajar", "lang": "id", "body": "halo fajar"}),
        )
        .await;
    fajar_at_relay
        .sends_bytes(&wire("{\"stanza\": \"message\", \"from\": \"fajar\", \"to\": \"esa\", \"lang\": \"id\", \"body\": \"apa kabar 😀\"}"))
        .await;
    esa_at_relay
        .receives(
            json!({"stanza": "message", "from": "fajar", "to": "esa", "lang": "id", "body": "apa kabar 😀"}),
        )
        .await;
    esa_at_relay
        .sends_bytes(&wire(
            r#"{"stanza": "message", "from": "esa", "to": "siapa", "lang": "id", "body": "halo"}"#,
        ))
        .await;
    esa_at_relay.receives(not_delivered("esa")).await;

    // Another relay, if there is a need.
    esa.sends_bytes(&wire(r#"{"type": "get_relay_less_connection"}"#)).await;
    esa.receives(json!([{"error": false, "msg": "Relay Less Connection", "code": 200, "component": [ANY]}]))
        .await;

    // Logout, and a login.
    esa.sends_bytes(&wire(r#"{"stanza": "presence", "from": "esa", "type": "unavailable"}"#)).await;
    fajar.receives(json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    esa_at_relay.is_closed_in_the_end(PATIENCE).await;
    let (_esa, mut esa_at_relay) = user(&system, "esa", false).await;
    fajar_at_relay
        .sends_bytes(&wire(
            r#"{"stanza": "message", "from": "fajar", "to": "esa", "lang": "id", "body": "lagi"}"#,
        ))
        .await;
    esa_at_relay
        .receives(json!({"stanza": "message", "from": "fajar", "to": "esa", "lang": "id", "body": "lagi"}))
        .await;
    system.stops().await;
}
