//! What a relay remembers of tracked messages.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure here is the test's failure"
)]

use kurir_rpc::v1::{ExplainRequest, ExplainResponse, SentAs, explain_client::ExplainClient};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{Client, Manager, PATIENCE, Relay, World};

/// What became of a message on this relay, as `step user reason`.
async fn explained(relay: &Relay, stanza_id: &str) -> Vec<String> {
    steps(&ask(relay, ExplainRequest { stanza_id: stanza_id.to_owned(), sent_as: None }).await)
}

async fn refusals(relay: &Relay, id: &str) -> Vec<String> {
    let sent_as = SentAs { user: "esa".to_owned(), device: String::new(), id: id.to_owned() };
    steps(&ask(relay, ExplainRequest { stanza_id: String::new(), sent_as: Some(sent_as) }).await)
}

async fn ask(relay: &Relay, request: ExplainRequest) -> ExplainResponse {
    let channel = kurir_rpc::connect(&relay.grpc).await.unwrap();
    ExplainClient::new(channel).explain(request).await.unwrap().into_inner()
}

fn steps(answer: &ExplainResponse) -> Vec<String> {
    let step = |event: &kurir_rpc::v1::TrailEvent| {
        format!("{} {} {}", event.step, event.user, event.reason).trim_end().to_owned()
    };
    answer.events.iter().map(step).collect()
}

/// Asks again until this is among the answers: what a socket has taken is noted a moment later.
async fn until(relay: &Relay, stanza_id: &str, expected: &str) -> Vec<String> {
    let asking = async {
        loop {
            let steps = explained(relay, stanza_id).await;
            if steps.iter().any(|step| step == expected) {
                return steps;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never {expected}"))
}

fn tracked(id: &str, to: &str) -> String {
    json!({"stanza": "message", "to": to, "id": id, "body": "halo"}).to_string()
}

fn to_fajar(body: &str) -> String {
    json!({"from": "esa", "stanza": "message", "to": "fajar", "id": "1", "body": body}).to_string()
}

/// A device that goes by places, and is up to date.
async fn resumes(relay: &Relay, manager: &Manager, user: &str) -> Client {
    let mut client = relay.connect().await;
    let token = manager.login(user).await;
    client
        .send(&json!({"username": user, "message": "hello!", "token": token, "resume": 0}).to_string())
        .await;
    assert_eq!(client.next().await["type"], "ready");
    client
}

#[tokio::test]
async fn a_message_that_is_refused_is_remembered_with_the_reason() {
    let world = World::new();
    let (manager, relay) = (world.manager("manager-1").await, world.relay("relay-1").await);
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    manager.logs.go_away(true);
    let wait = |packet: &Value, id: &str| {
        assert_eq!((&packet["id"], &packet["error"]["type"]), (&json!(id), &json!("wait")), "{packet}");
    };
    esa.send(&tracked("1", "fajar")).await;
    wait(&esa.next().await, "1");
    esa.send(&tracked("2", "fajar")).await;
    wait(&esa.next().await, "2");
    assert_eq!(refusals(&relay, "1").await, ["refused esa no-answer"]);
    assert_eq!(refusals(&relay, "2").await, ["refused esa out-of-turn"]);
    esa.send(&tracked("3", "no name")).await;
    assert_eq!(esa.next().await["id"], "3");
    assert_eq!(refusals(&relay, "3").await, ["refused esa no-account"]);

    // The attempt that was stored, and before it those that were not.
    manager.logs.go_away(false);
    esa.send(&tracked("1", "fajar")).await;
    let stanza_id = esa.next().await["stanza_id"].as_str().unwrap().to_owned();
    assert_eq!(explained(&relay, &stanza_id).await, ["accepted esa", "stored esa", "confirmed esa"]);
    assert_eq!(refusals(&relay, "1").await, ["refused esa no-answer", "accepted esa"]);

    // Without any manager.
    drop(manager);
    let no_manager = async {
        let mut number = 4;
        loop {
            let id = number.to_string();
            esa.send(&tracked(&id, "fajar")).await;
            // Stored once more before it has noticed.
            number += u32::from(esa.next().await["type"] == "ack");
            if refusals(&relay, &id).await.contains(&"refused esa no-manager".to_owned()) {
                return;
            }
        }
    };
    timeout(PATIENCE, no_manager).await.expect("never without a manager");
}

#[tokio::test]
async fn each_device_is_shown_what_it_is_sent_and_why_it_is_not_sent_the_rest() {
    let world = World::new();
    let (manager, relay) = (world.manager("manager-1").await, world.relay("relay-1").await);
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    let mut fajar = resumes(&relay, &manager, "fajar").await;
    esa.send(&tracked("1", "fajar")).await;
    let stanza_id = esa.next().await["stanza_id"].as_str().unwrap().to_owned();
    // Nobody has told the relay: it asks.
    assert_eq!(fajar.next().await["seq"], 1);
    fajar.send(r#"{"stanza":"ack","seq":1}"#).await;
    fajar.ping().await;
    let steps = until(&relay, &stanza_id, "written fajar").await;
    for step in ["heard fajar question", "read fajar", "acked fajar"] {
        assert!(steps.iter().any(|known| known == step), "{steps:?}");
    }
    // An acknowledgement that says nothing new is not remembered again.
    let noted = relay.noted();
    for _ in 0..100 {
        fajar.send(r#"{"stanza":"ack","seq":1}"#).await;
    }
    fajar.ping().await;
    assert_eq!(relay.noted(), noted);

    // Its own message, and one that another device of the account has sent.
    until(&relay, &stanza_id, "skipped esa own-message").await;
    let copy = manager.logs.put("esa", &to_fajar("from elsewhere"), Some("laptop"));
    until(&relay, &copy, "skipped esa copy-to-original-client").await;
}

#[tokio::test]
async fn what_a_device_did_not_read_is_lost_with_its_connection() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay_with("relay-1", |config| config.outbox_bytes = 300_000).await;
    let body = "x".repeat(50_000);
    let waiting: Vec<_> = (0..300).map(|_| manager.logs.put("fajar", &to_fajar(&body), None)).collect();
    let mut fajar = relay.connect_narrowly().await;
    let token = manager.login("fajar").await;
    fajar
        .send(&json!({"username": "fajar", "message": "hello!", "token": token, "resume": 0}).to_string())
        .await;
    until(&relay, &waiting[0], "read fajar").await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    // The log waits for the socket; what is sent live does not.
    let slow = async {
        loop {
            esa.message("fajar", &body).await;
            let steps = explained(&relay, &waiting[0]).await;
            if steps.iter().any(|step| step == "lost fajar slow-consumer") {
                return;
            }
        }
    };
    timeout(PATIENCE, slow).await.expect("never lost");
}

#[tokio::test]
async fn a_relay_hands_on_what_it_remembers_to_a_manager_that_keeps_it() {
    let world = World::new();
    let (manager, relay) = (world.manager_that_keeps_trails("manager-1").await, world.relay("relay-1").await);
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    let mut fajar = relay.hello("fajar", &manager.login("fajar").await).await;
    esa.send(&tracked("1", "fajar")).await;
    let stanza_id = esa.next().await["stanza_id"].as_str().unwrap().to_owned();
    assert_eq!(fajar.next().await["id"], "1");
    until(&relay, &stanza_id, "written fajar").await;
    let kept = async {
        loop {
            let kept = manager.logs.kept();
            if kept.iter().any(|event| event.step == "written") {
                return kept;
            }
            tokio::task::yield_now().await;
        }
    };
    let kept = timeout(PATIENCE, kept).await.expect("never kept");
    assert!(kept.iter().all(|event| event.component == "relay-1"));
    for step in ["accepted", "stored", "confirmed", "read"] {
        assert_eq!(kept.iter().filter(|event| event.step == step).count(), 1, "{step}: {kept:?}");
    }
}

#[tokio::test]
async fn nothing_is_remembered_of_messages_without_an_id_or_where_it_is_off() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let on = world.relay("relay-on").await;
    let off = world.relay_with("relay-off", |config| config.explain_events = 0).await;
    for relay in [&on, &off] {
        let mut esa = relay.hello("esa", &manager.login("esa").await).await;
        let mut fajar = relay.hello("fajar", &manager.login("fajar").await).await;
        for _ in 0..100 {
            esa.message("fajar", "halo").await;
            fajar.body("esa").await;
        }
        esa.message("siapa", "halo").await;
        esa.not_delivered("esa").await;
        assert_eq!(relay.noted(), 0);
    }
    let mut esa = off.hello("esa", &manager.login("esa").await).await;
    esa.send(&tracked("1", "esa")).await;
    let stanza_id = esa.next().await["stanza_id"].as_str().unwrap().to_owned();
    let answer = ask(&off, ExplainRequest { stanza_id, sent_as: None }).await;
    assert!(answer.off && answer.events.is_empty(), "{answer:?}");
    assert_eq!(off.noted(), 0);
}
