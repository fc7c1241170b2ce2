//! No component falls over whatever packet comes, whoever it says it is from.

use kurir_e2e::packets::{bad_request, not_delivered};
use kurir_e2e::{Raw, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    tracker_takes_any_packet: "T2 T7";
    manager_takes_any_packet: "M32";
    relay_takes_any_packet: "R26";
}

/// Valid objects that fit no row: what the original's components say to each other, and things that are nearly right.
fn packets_of_no_row() -> Vec<Value> {
    vec![
        json!({}),
        json!({"type": null}),
        json!({"type": 7}),
        json!({"type": "manager"}),
        json!({"type": "relay", "ip_local": "1.2.3.4", "port": 1}),
        json!({"ip_local": 7, "port": "x", "type": "relay", "is_private": []}),
        json!({"message": ["get components"]}),
        json!({"message": {"a": 1}}),
        json!({"stanza": 1}),
        json!({"stanza": null, "namespace": null}),
        json!({"stanza": "unheard of"}),
        json!({"stanza": "iq"}),
        json!({"stanza": "iq", "namespace": "unheard of", "type": "result"}),
        json!({"stanza": "iq", "namespace": "roster", "type": "result", "query": {}}),
        json!({"stanza": "iq", "namespace": "ping", "type": "result"}),
        json!({"stanza": "presence", "type": "subscribed", "from": "relay"}),
        json!({"connection": 1, "users": ["esa"], "relay": "relay-1"}),
        json!({"error": true, "msg": "User not found", "code": 404}),
        json!({"component": [{"username": "x"}]}),
        json!({"": {"": {"": [null, true, false, -1.5e300, "\u{0}\u{7f}\u{80}\u{10ffff}"]}}}),
    ]
}

/// Malformed ones, each answered with 400.
const NOT_AN_OBJECT: [&[u8]; 9] = [
    b"[]",
    b"[{\"type\": \"client\"}]",
    b"\"type\"",
    b"7",
    b"null",
    b"{\"type\": \"client\",}",
    b"{\"a\": \"\xff\xfe\"}",
    b"{\"a\": \"\xed\xa0\x80\"}",
    b"GET / HTTP/1.1",
];

async fn takes_anything(raw: &mut Raw) {
    for bad in NOT_AN_OBJECT {
        raw.sends_bytes(bad).await;
        raw.sends_bytes(b"\n").await;
        raw.receives(bad_request()).await;
        // A good one in between: three malformed ones in a row would close the connection.
        raw.hears_nothing_else().await;
    }
    for bad in NOT_AN_OBJECT.iter().take(3) {
        raw.sends_bytes(bad).await;
        raw.sends_bytes(b"\n").await;
        raw.receives(bad_request()).await;
    }
    raw.is_closed().await;
}

#[tokio::test]
async fn tracker_takes_any_packet() {
    let system = System::start(Topology::OneProcess).await;
    // Whoever begins, and with whatever: the components are given, and nothing is registered.
    let first = [
        json!({"type": "manager", "ip_local": "6.6.6.6", "port": 666, "is_private": false}),
        json!({"type": "relay"}),
    ];
    for packet in first {
        let mut raw = system.at_tracker("a component of the original").await;
        raw.sends(packet).await;
        let listed = raw.next_packet().await.expect("an answer");
        assert_eq!(system.names(&listed), ["manager-1", "relay-1", "relay-2"]);
    }
    let mut raw = system.at_tracker("mallory").await;
    raw.sends(json!({"type": "client"})).await;
    raw.next_packet().await.expect("the components");
    for packet in packets_of_no_row() {
        raw.sends(packet).await;
    }
    raw.hears_nothing_else().await;
    takes_anything(&mut raw).await;
    system.lists(&["manager-1", "relay-1", "relay-2"]).await;
    system.stops().await;
}

#[tokio::test]
async fn manager_takes_any_packet() {
    let system = System::start(Topology::OneProcess).await;
    let mut stranger = system.at_manager("a stranger", 1).await;
    let mut esa = system.person("esa").registers().await;
    let mut fajar = system.person("fajar").registers().await;
    for raw in [&mut stranger, &mut esa.manager] {
        for packet in packets_of_no_row() {
            raw.sends(packet).await;
        }
        raw.settles().await;
        takes_anything(raw).await;
    }
    fajar.sends(json!({"stanza": "presence", "to": "fajar"})).await;
    fajar.manager.settles().await;
    system.stops().await;
}

#[tokio::test]
async fn relay_takes_any_packet() {
    let system = System::start(Topology::OneProcess).await;
    let mut stranger = system.at_relay("a stranger", 1).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    for packet in packets_of_no_row() {
        esa.relay().sends(packet).await;
    }
    esa.relay().settles().await;
    for to in [
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!(""),
        json!(" "),
        json!("a@b@c"),
        json!("x".repeat(10_000)),
    ] {
        esa.relay().sends(json!({"stanza": "message", "to": to, "body": 7})).await;
        esa.relay().receives(not_delivered("esa")).await;
    }
    esa.reaches(&mut fajar, "as if nothing had happened").await;
    takes_anything(esa.relay()).await;

    // Whoever has not said hello has no messages to send, and no answer to get.
    for packet in packets_of_no_row() {
        stranger.sends(packet).await;
    }
    stranger.settles().await;
    fajar.writes("fajar", "still here").await;
    fajar.reads("fajar", "still here").await;
    system.stops().await;
}
