//! Tracked messages, places in the log, receipts, and the state file (PROTOCOL Part II).

use std::path::Path;

use kurir_client::{
    ChatState, Client, ConnectError, Event, Marker, MessageId, MessageRefusal, NewMessage, Place, Receipt,
    SendError, StateError,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::{Online, Peer, connect, options, within};

/// Where a state file may be.
fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Online with a state file, going on from this place.
async fn with_file(path: &Path, resume: u64, log: &Value) -> Online {
    Online::start_at(|options| options.state = Some(path.to_owned()), &json!(resume), log).await
}

fn ack(message: &Value) -> Value {
    json!({"stanza": "message", "type": "ack", "id": message["id"], "stanza_id": "s", "level": "stored"})
}

fn not_now(message: &Value) -> Value {
    json!({"stanza": "message", "type": "error", "from": "relay", "to": "fajar", "id": message["id"],
           "error": {"type": "wait", "condition": "resource-constraint"}})
}

fn ready(seq: u64) -> Value {
    json!({"stanza": "stream", "type": "ready", "seq": seq, "log": "l"})
}

fn entry(seq: u64, more: &Value) -> Value {
    let mut entry = json!({"seq": seq, "ts": 7, "stanza_id": format!("s{seq}"), "stanza": "message",
                           "from": "esa", "to": "fajar"});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

impl Peer {
    async fn reads_text(&mut self, body: &str) -> Value {
        let message = self.reads().await;
        assert_eq!((&message["stanza"], &message["body"]), (&json!("message"), &json!(body)), "{message}");
        assert!(message["id"].is_string(), "{message}");
        message
    }
}

impl Online {
    async fn sends(&self, body: &str) -> MessageId {
        self.client.send(NewMessage::text("esa", body)).await.unwrap()
    }

    async fn is_stored(&mut self, id: MessageId) {
        self.until(|event| matches!(event, Event::Stored { id: stored, .. } if *stored == id)).await;
    }

    /// The next message, with its place.
    async fn hears(&mut self, body: &str) -> Option<u64> {
        let Event::Message(message) = self.until(|event| matches!(event, Event::Message(_))).await else {
            unreachable!()
        };
        assert_eq!(message.body.as_deref(), Some(body));
        message.entry.map(|entry| entry.seq)
    }
}

#[tokio::test]
async fn a_message_is_sent_until_it_is_acknowledged_with_the_same_id() {
    let mut online = Online::start().await;
    let id = online.sends("halo").await;
    let first = online.at_relay.reads_text("halo").await;
    assert_eq!(first["id"], id.to_string());
    online.until(|event| matches!(event, Event::Sent { id: sent } if *sent == id)).await;
    online.changes_relay("ticket-2", &Value::Null, &Value::Null).await;
    let second = online.at_relay.reads_text("halo").await;
    assert_eq!(second, first);
    online.at_relay.writes(&ack(&second)).await;
    online.is_stored(id).await;
    assert_eq!(online.client.waiting().await, []);
    online.changes_relay("ticket-3", &Value::Null, &Value::Null).await;
    let next = online.sends("next").await;
    let message = online.at_relay.reads_text("next").await;
    online.at_relay.writes(&ack(&message)).await;
    online.is_stored(next).await;
}

#[tokio::test]
async fn after_not_now_everything_from_there_on_comes_again_in_order() {
    let mut online = Online::start().await;
    for body in ["1", "2", "3"] {
        online.sends(body).await;
    }
    let first = online.at_relay.reads_text("1").await;
    online.at_relay.writes(&ack(&first)).await;
    // The relay cannot store one of them, and takes nothing else before it comes again.
    for body in ["2", "3"] {
        let refused = online.at_relay.reads_text(body).await;
        online.at_relay.writes(&not_now(&refused)).await;
    }
    let last = online.sends("4").await;
    let mut expected = ["2", "3", "4"].as_slice();
    while let [next, later @ ..] = expected {
        let message = online.at_relay.reads().await;
        if message["body"] == *next {
            online.at_relay.writes(&ack(&message)).await;
            expected = later;
        } else {
            assert_eq!((*next, &message["body"]), ("2", &json!("4")), "on its way before the client knew");
            online.at_relay.writes(&not_now(&message)).await;
        }
    }
    online.is_stored(last).await;
}

#[tokio::test]
async fn a_refusal_for_good_is_told_and_holds_nothing_up() {
    let mut online = Online::start().await;
    let (nobody, conflict) = (online.sends("1").await, online.sends("2").await);
    let first = online.at_relay.reads_text("1").await;
    let r15 = json!({"stanza": "message", "from": "relay", "to": "fajar", "error": true, "id": first["id"],
                     "body": "User not found or User not online"});
    online.at_relay.writes(&r15).await;
    let mut second = not_now(&online.at_relay.reads_text("2").await);
    second["error"] = json!({"type": "cancel", "condition": "conflict"});
    online.at_relay.writes(&second).await;
    for (refused, expected) in [
        (nobody, MessageRefusal::NoSuchUser),
        (conflict, MessageRefusal::Refused { kind: "cancel".into(), condition: "conflict".into() }),
    ] {
        let event = online.until(|event| matches!(event, Event::Refused { .. })).await;
        let Event::Refused { id, refusal } = event else { unreachable!() };
        assert_eq!((id, refusal), (refused, expected));
    }
    assert_eq!(online.client.waiting().await, []);
    assert_eq!(online.client.discard(nobody).await, Err(SendError::NotExpired));
}

/// The queue survives the process, in order and with the same ids.
#[tokio::test]
async fn what_is_not_acknowledged_is_sent_by_the_next_process() {
    let directory = directory();
    let path = directory.path().join("state/fajar.jsonl");
    let mut online = with_file(&path, 0, &Value::Null).await;
    for body in ["1", "2", "3"] {
        online.sends(body).await;
    }
    let first = online.at_relay.reads_text("1").await;
    let second = online.at_relay.reads_text("2").await;
    online.at_relay.writes(&ack(&first)).await;
    online.until(|event| matches!(event, Event::Stored { .. })).await;
    online.goes().await;

    let mut online = with_file(&path, 0, &Value::Null).await;
    let waiting = online.client.waiting().await;
    let bodies: Vec<_> = waiting.iter().map(|waiting| waiting.message.body.as_deref().unwrap()).collect();
    assert_eq!(bodies, ["2", "3"]);
    assert_eq!(online.waiting, waiting, "told first");
    assert_eq!(online.at_relay.reads_text("2").await, second);
    online.at_relay.reads_text("3").await;
}

#[tokio::test]
async fn one_state_file_is_for_one_client_and_a_damaged_one_is_refused() {
    let directory = directory();
    let path = directory.path().join("fajar.jsonl");
    let online = with_file(&path, 0, &Value::Null).await;
    let refused = async || {
        let mut options = options(&["127.0.0.1:1"]);
        options.state = Some(path.clone());
        match within(connect(options)).await.unwrap() {
            Err(ConnectError::State(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused().await, StateError::InUse { .. }));
    online.goes().await;
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("?\n");
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(refused().await, StateError::Damaged { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "left as it is");
}

/// Messages come once and in order over reconnections, and the servers are told how far the application is.
#[tokio::test]
async fn deliveries_go_on_where_they_were() {
    let directory = directory();
    let path = directory.path().join("fajar.jsonl");
    let mut online = with_file(&path, 0, &Value::Null).await;
    online.at_relay.writes(&ready(2)).await;
    for seq in 1..=3 {
        online.at_relay.writes(&entry(seq, &json!({"body": seq.to_string()}))).await;
    }
    assert_eq!(online.hears("1").await, Some(1));
    // What has been asked for after it, has been taken.
    assert_eq!(online.hears("2").await, Some(2));
    assert_eq!(online.at_relay.reads().await, json!({"stanza": "ack", "seq": 1}));
    online.until(|event| matches!(event, Event::UpToDate)).await;
    assert_eq!(online.hears("3").await, Some(3));
    online.changes_relay("ticket-2", &json!(3), &json!("l")).await;
    online.at_relay.writes(&ready(4)).await;
    // One twice, and one of its own that another device has sent.
    online.at_relay.writes(&entry(3, &json!({"body": "3"}))).await;
    online.at_relay.writes(&entry(4, &json!({"from": "Fajar", "to": "esa", "body": "4"}))).await;
    let Event::Message(message) = online.until(|event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert!(message.own && message.waited && message.body.as_deref() == Some("4"), "{message:?}");
    online.goes().await;

    let mut online = with_file(&path, 4, &json!("l")).await;
    online.at_relay.writes(&ready(4)).await;
    assert_eq!(online.at_relay.reads().await, json!({"stanza": "ack", "seq": 4}));
    online
        .at_relay
        .writes(&json!({"stanza": "stream", "type": "ready", "seq": 1, "log": "m", "reset": true}))
        .await;
    online.at_relay.writes(&entry(1, &json!({"body": "of another log"}))).await;
    online.until(|event| matches!(event, Event::Reset)).await;
    assert_eq!(online.hears("of another log").await, Some(1));
    online.changes_relay("ticket-2", &json!(1), &json!("m")).await;
}

/// An application that stores the place with what it makes of the messages.
#[tokio::test]
async fn an_application_may_know_the_place_better() {
    let place = Place { seq: 7, log: Some("l".into()) };
    let mut online = Online::start_at(|options| options.resume = Some(place), &json!(7), &json!("l")).await;
    online.at_relay.writes(&ready(8)).await;
    online.at_relay.writes(&entry(8, &json!({"body": "halo"}))).await;
    assert_eq!(online.hears("halo").await, Some(8));
}

/// Its acknowledgement was lost: its entry in the log is one.
#[tokio::test]
async fn an_own_message_found_in_the_log_is_stored() {
    let directory = directory();
    let mut online = with_file(&directory.path().join("fajar.jsonl"), 0, &Value::Null).await;
    let id = online.sends("halo").await;
    online.at_relay.reads_text("halo").await;
    online.changes_relay("ticket-2", &json!(0), &Value::Null).await;
    online.at_relay.reads_text("halo").await;
    online.at_relay.writes(&ready(1)).await;
    let own = entry(1, &json!({"from": "fajar", "to": "esa", "body": "halo", "id": id.to_string()}));
    online.at_relay.writes(&own).await;
    let event = online.until(|event| matches!(event, Event::Stored { .. } | Event::Message(_))).await;
    assert!(
        matches!(&event, Event::Stored { stanza_id, seq: Some(1), .. } if stanza_id == "s1"),
        "{event:?}"
    );
}

#[tokio::test]
async fn receipts_are_given_to_who_asks_once_the_application_has_the_message() {
    let directory = directory();
    let mut online = with_file(&directory.path().join("fajar.jsonl"), 0, &Value::Null).await;
    online.at_relay.writes(&ready(3)).await;
    // The first was answered by another device; the second did not ask; a receipt is no reason for one.
    let asks = json!({"body": "?", "receipt": "request", "marker": "markable"});
    online.at_relay.writes(&entry(1, &asks)).await;
    online.at_relay.writes(&entry(2, &json!({"body": "."}))).await;
    online.at_relay.writes(&entry(3, &json!({"from": "fajar", "receipt": {"received": "s1"}}))).await;
    online.at_relay.writes(&entry(4, &json!({"receipt": {"received": "x"}}))).await;
    online.at_relay.writes(&entry(5, &asks)).await;
    let delivered = online.until(|event| matches!(event, Event::Delivered { .. })).await;
    let Event::Delivered { by, stanza_id, .. } = delivered else { unreachable!() };
    assert_eq!((by.as_str(), stanza_id.as_str()), ("esa", "x"));
    let Event::Message(message) = online.until(|event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!((message.receipt, message.marker), (Some(Receipt::Request), Some(Marker::Markable)));
    let client = online.client.clone();
    let displayed = async move { client.displayed("esa", "s5").await.unwrap() };
    let (marker, _) = tokio::join!(displayed, online.events.next());
    let mut told = Vec::new();
    while told.len() < 2 {
        let packet = online.at_relay.reads().await;
        if packet["stanza"] == "message" {
            online.at_relay.writes(&ack(&packet)).await;
            told.push(packet);
        }
    }
    told.sort_by_key(|packet| packet.get("receipt").is_none());
    assert_eq!((&told[0]["to"], &told[0]["receipt"]), (&json!("esa"), &json!({"received": "s5"})));
    assert_eq!(
        (&told[1]["id"], &told[1]["marker"]),
        (&json!(marker.to_string()), &json!({"displayed": "s5"}))
    );
    assert!(told.iter().all(|packet| packet.get("body").is_none()), "{told:?}");
}

#[tokio::test]
async fn markers_and_states_are_told() {
    let mut online = Online::start().await;
    let from_esa = |more: Value| {
        let mut packet = json!({"stanza": "message", "from": "esa", "to": "fajar"});
        packet.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        packet
    };
    online.at_relay.writes(&from_esa(json!({"state": "composing"}))).await;
    let state = online.until(|event| matches!(event, Event::ChatState { .. })).await;
    assert!(matches!(state, Event::ChatState { from, state: ChatState::Composing } if from == "esa"));
    online.at_relay.writes(&from_esa(json!({"marker": {"displayed": "s"}, "id": "1"}))).await;
    let read = online.until(|event| matches!(event, Event::Read { .. })).await;
    assert!(matches!(read, Event::Read { by, stanza_id, entry: None } if by == "esa" && stanza_id == "s"));
    online.client.chat_state("esa", ChatState::Paused).await.unwrap();
    let expected = json!({"stanza": "message", "from": "fajar", "to": "esa", "state": "paused"});
    assert_eq!(online.at_relay.reads().await, expected);
}

/// After a day servers may not know an id again: sent as it is, the message could be delivered twice.
#[tokio::test]
async fn a_message_of_yesterday_is_the_applications_to_decide() {
    const LINE: &str = r#"{"queued":{"id":"ID","since_ms":7,"stanza":"{\"stanza\":\"message\",\"from\":\"fajar\",\"to\":\"esa\",\"id\":\"ID\",\"body\":\"BODY\"}"}}"#;
    let directory = directory();
    let path = directory.path().join("fajar.jsonl");
    let mut text = String::from("{\"kurir\":{\"version\":1,\"user\":\"fajar\"}}\n");
    for number in ["1", "2"] {
        let id = format!("00000000-0000-0000-0000-00000000000{number}");
        text.push_str(&LINE.replace("ID", &id).replace("BODY", number));
        text.push('\n');
    }
    std::fs::write(&path, text).unwrap();
    let mut options = options(&["127.0.0.1:1"]);
    options.state = Some(path.clone());
    let mut online = with_file(&path, 0, &Value::Null).await;
    for _ in 0..2 {
        // Some of the archive was dropped.
        let answer = json!({"messages": [], "complete": true, "log": "l", "first": 2});
        let asked = online.at_manager.reads().await;
        let result = json!({"stanza": "iq", "namespace": "archive", "type": "result", "query": answer, "id": asked["id"]});
        online.at_manager.writes(&result).await;
    }
    let id = online.sends("today").await;
    let today = online.at_relay.reads_text("today").await;
    online.at_relay.writes(&ack(&today)).await;
    online.is_stored(id).await;
    let waiting = online.client.waiting().await;
    assert!(waiting.iter().all(|waiting| waiting.expired), "{waiting:?}");
    let [first, second] = waiting.try_into().unwrap();
    let new = online.client.send_again(first.id).await.unwrap();
    let again = online.at_relay.reads_text("1").await;
    assert_eq!(again["id"], new.to_string());
    assert_ne!(new, first.id);
    online.client.discard(second.id).await.unwrap();
    online.at_relay.writes(&ack(&again)).await;
    online.is_stored(new).await;
    online.goes().await;
    let online = with_file(&path, 0, &Value::Null).await;
    assert_eq!(online.client.waiting().await, []);
}

/// A logout waits for what has not been acknowledged yet.
#[tokio::test]
async fn logout_leaves_time_for_acknowledgements() {
    let mut online = Online::start().await;
    online.sends("bye").await;
    let client: Client = online.client.clone();
    let leaving = tokio::spawn(async move { client.logout().await });
    let message = online.at_relay.reads_text("bye").await;
    online.at_relay.pongs().await;
    online.at_relay.writes(&ack(&message)).await;
    online.until(|event| matches!(event, Event::Stored { .. })).await;
    assert_eq!(online.at_manager.reads().await["type"], "unavailable");
    drop(online.at_manager);
    within(leaving).await.unwrap();
}
