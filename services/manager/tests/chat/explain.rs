//! Iq `explain`, and what relays hand in to be kept.

use std::time::{Duration, Instant};

use kurir_manager::Config;
use kurir_rpc::Channel;
use kurir_rpc::v1::{
    AppendRequest, ExplainRequest, KeepRequest, TrackedMessage, TrailEvent, explain_client::ExplainClient,
    log_client::LogClient, trail_client::TrailClient,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    client::{Client, PATIENCE},
    system::{Node, System, config},
};

async fn channel(manager: &Node) -> Channel {
    kurir_rpc::connect(&format!("http://{}", manager.grpc)).await.unwrap()
}

/// Stores a message as a relay does, and returns its stanza id.
async fn append(manager: &Node, from: &str, to: &str) -> String {
    let message = TrackedMessage {
        from: from.to_owned(),
        device: "default".to_owned(),
        id: "1".to_owned(),
        to: to.to_owned(),
        stanza: format!(r#"{{"from":"{from}","stanza":"message","to":"{to}","id":"1"}}"#),
    };
    let request = AppendRequest { messages: vec![message] };
    let answer = LogClient::new(channel(manager).await).append(request).await.unwrap().into_inner();
    answer.appended[0].stanza_id.clone()
}

fn asking(query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "explain", "type": "get", "id": "1", "query": query})
}

/// Asks until it is this user's turn: there is one question a second.
async fn asks(client: &mut Client, query: &Value) -> Value {
    let answered = async {
        loop {
            client.send(&asking(query)).await;
            let answer = client.receive().await;
            if answer["error"]["condition"] != "resource-constraint" {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, answered).await.expect("never this user's turn")
}

fn steps(answer: &Value) -> Vec<&str> {
    let events = answer["query"]["events"].as_array().unwrap();
    events.iter().map(|event| event["step"].as_str().unwrap()).collect()
}

fn refusal(kind: &str, condition: &str, to: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "explain", "type": "error",
        "error": {"type": kind, "condition": condition}, "to": to, "id": "1"})
}

#[tokio::test]
async fn a_sender_is_told_what_became_of_its_own_message_and_nobody_else() {
    let system = System::start();
    let (manager, other) = (system.manager().await, system.manager().await);
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    let stanza_id = append(&other, "esa", "fajar").await;
    let asked = json!({"stanza_id": stanza_id});
    // The other manager has it: this one asks.
    let answer = asks(&mut esa, &asked).await;
    assert_eq!(
        (&answer["type"], &answer["to"], &answer["id"]),
        (&json!("result"), &json!("esa"), &json!("1"))
    );
    let events = answer["query"]["events"].as_array().unwrap();
    let steps: Vec<_> = events.iter().map(|event| (&event["step"], &event["device"])).collect();
    assert_eq!(steps, [(&json!("committed"), &json!("default")), (&json!("announced"), &Value::Null)]);
    assert!(events.iter().all(|event| event["component"].as_str().unwrap().starts_with("manager-")));

    assert_eq!(asks(&mut fajar, &asked).await, refusal("cancel", "item-not-found", &json!("fajar")));
    let bad = asks(&mut esa, &json!({"stanza_id": "1"})).await;
    assert_eq!(bad, refusal("modify", "bad-request", &json!("esa")));
    let mut nobody = Client::connect(manager.address).await;
    assert_eq!(asks(&mut nobody, &asked).await, refusal("auth", "not-authorized", &Value::Null));

    // It is in the log still, though nobody remembers what became of it.
    other.stop().await;
    assert_eq!(asks(&mut esa, &asked).await["query"]["events"], json!([]));
}

/// The other manager does not answer any more, so that the first question takes its time.
#[tokio::test]
async fn a_user_who_asks_again_and_again_waits_and_a_silent_part_costs_only_its_own() {
    let system = System::start();
    let (manager, other) = (system.manager().await, system.manager().await);
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut tv = Client::connect(manager.address).await;
    tv.send(&json!({"type": "auth", "username": "esa", "password": "12345", "resource": "tv"})).await;
    assert_eq!(tv.receive().await["code"], 200);
    Client::registered(manager.address, "fajar").await;
    let asked = json!({"stanza_id": append(&manager, "esa", "fajar").await});
    let paused = other.pause();
    let began = Instant::now();
    for _ in 0..3 {
        esa.send(&asking(&asked)).await;
    }
    assert_eq!(steps(&esa.receive().await), ["committed", "announced"]);
    let wait = |to: &str| refusal("wait", "resource-constraint", &json!(to));
    esa.receives(wait("esa")).await;
    esa.receives(wait("esa")).await;
    esa.hears_nothing().await;
    assert!(began.elapsed() < Duration::from_secs(3), "a client waits for a pong: {:?}", began.elapsed());
    // Nor does another device help, or another message.
    tv.send(&asking(&json!({"stanza_id": "0192f0c1-7b5a-7d3e-8f00-000000000001"}))).await;
    tv.receives(wait("esa@localhost/tv")).await;
    drop(paused);
    assert_eq!(steps(&asks(&mut tv, &asked).await), ["committed", "announced"]);
}

/// What a relay hands in of fajar's phone.
fn at_phone(at_us: i64, step: &str, seq: u64, stanza_id: &str) -> TrailEvent {
    TrailEvent {
        at_us,
        component: "relay-1".to_owned(),
        step: step.to_owned(),
        stanza_id: stanza_id.to_owned(),
        user: "fajar".to_owned(),
        device: "phone".to_owned(),
        connection: 7,
        since_us: 1,
        seq,
        ..TrailEvent::default()
    }
}

/// That a device has read it says that its user is online.
#[tokio::test]
async fn what_happens_at_the_receiver_is_for_those_who_see_its_presence() {
    let system = System::start();
    let manager = system.manager_with(Config { explain_sql_hours: 1, ..config() }).await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    let stanza_id = append(&manager, "esa", "fajar").await;
    // After all that has been.
    let at_fajar = |step: &str, seq, stanza_id: &str| at_phone(i64::MAX / 2, step, seq, stanza_id);
    let events = vec![at_fajar("read", 1, &stanza_id), at_fajar("written", 1, ""), at_fajar("acked", 1, "")];
    TrailClient::new(channel(&manager).await).keep(KeepRequest { events }).await.unwrap();
    let asked = json!({"stanza_id": stanza_id});
    assert_eq!(steps(&asks(&mut esa, &asked).await), ["committed", "announced"]);
    // Now fajar sees esa.
    fajar.adds("fajar", "esa").await;
    assert_eq!(steps(&asks(&mut esa, &asked).await), ["committed", "announced"]);
    // And the other way round.
    esa.adds("esa", "fajar").await;
    assert_eq!(steps(&asks(&mut esa, &asked).await), ["committed", "announced", "read", "written", "acked"]);
}

#[tokio::test]
async fn what_relays_hand_in_is_kept_where_it_is_configured_and_told_by_every_manager() {
    let system = System::start();
    let keeping = Config { explain_sql_hours: 1, ..config() };
    let (off, manager) = (system.manager().await, system.manager_with(keeping.clone()).await);
    let stanza_id = "0192f0c1-7b5a-7d3e-8f00-000000000001".to_owned();
    let event = |step: &str, seq: u32, stanza_id: &str| at_phone(seq.into(), step, seq.into(), stanza_id);
    // Of a later version: left out.
    let events =
        vec![event("read", 5, &stanza_id), event("written", 6, ""), event("teleported", 7, &stanza_id)];
    let request = KeepRequest { events };
    let refused = TrailClient::new(channel(&off).await).keep(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    TrailClient::new(channel(&manager).await).keep(request).await.unwrap();
    manager.stop().await;
    let another = system.manager_with(Config { id: "manager-again".to_owned(), ..keeping }).await;
    let asked = ExplainRequest { stanza_id, sent_as: None };
    let answer = ExplainClient::new(channel(&another).await).explain(asked).await.unwrap().into_inner();
    let told: Vec<_> =
        answer.events.iter().map(|event| (&*event.component, &*event.step, event.seq)).collect();
    assert_eq!(told, [("relay-1", "read", 5), ("relay-1", "written", 5)]);
    let malformed = ExplainRequest { stanza_id: "7".to_owned(), sent_as: None };
    let refused = ExplainClient::new(channel(&another).await).explain(malformed).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
