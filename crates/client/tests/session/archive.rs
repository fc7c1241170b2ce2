//! PROTOCOL Part II `archive`: the log read back, and what it says of messages that are too old to be sent again.

use std::path::Path;

use kurir_client::{Event, NewMessage, Search};
use serde_json::{Value, json};

use crate::fake::{Online, Peer};

impl Peer {
    /// Answers a question to the archive.
    async fn is_asked(&mut self, query: Value, answer: Value) {
        let asked = self.reads().await;
        assert_eq!((&asked["namespace"], &asked["type"]), (&json!("archive"), &json!("get")), "{asked}");
        assert_eq!(asked["query"], query);
        let result = json!({"stanza": "iq", "namespace": "archive", "type": "result", "query": answer,
                            "to": "fajar", "id": asked["id"]});
        self.writes(&result).await;
    }
}

fn entry(seq: u64, from: &str, to: &str, body: &str) -> Value {
    json!({"seq": seq, "ts": 7, "stanza_id": format!("s{seq}"), "stanza": "message", "from": from, "to": to,
           "id": "1", "body": body})
}

#[tokio::test]
async fn the_log_is_read_a_page_at_a_time() {
    let mut online = Online::start().await;
    let client = online.client.clone();
    let search = Search { before: Some(9), limit: 2, ..Search::with("esa") };
    let answer = json!({"messages": [entry(3, "esa", "fajar", "halo"), entry(7, "fajar", "esa", "hai")],
                        "complete": false, "log": "l", "first": 2});
    let query = json!({"with": "esa", "limit": 2, "before": 9});
    let (page, ()) = tokio::join!(client.archive(&search), online.at_manager.is_asked(query, answer));
    let page = page.unwrap();
    assert_eq!((page.complete, page.first), (false, Some(2)));
    let seen: Vec<_> =
        page.messages.iter().map(|message| (message.from.as_str(), message.own, &message.body)).collect();
    assert_eq!(seen, [("esa", false, &Some("halo".into())), ("fajar", true, &Some("hai".into()))]);

    let read = json!({"displayed": [{"with": "esa", "stanza_id": "s3", "ts": 9}]});
    let query = json!({"displayed": null});
    let (read, ()) = tokio::join!(client.read_up_to(), online.at_manager.is_asked(query, read));
    let read = read.unwrap();
    assert_eq!((read[0].with.as_str(), read[0].stanza_id.as_str(), read[0].ts_ms), ("esa", "s3", 9));
}

/// A state file with one message of long ago.
fn of_yesterday(path: &Path) {
    let text = concat!(
        r#"{"kurir":{"version":1,"user":"fajar"}}"#,
        "\n",
        r#"{"queued":{"id":"ID","since_ms":7,"stanza":"{\"stanza\":\"message\",\"from\":\"fajar\",\"to\":\"esa\",\"id\":\"ID\",\"body\":\"halo\"}"}}"#,
        "\n"
    );
    std::fs::write(path, text.replace("ID", ID)).unwrap();
}

const ID: &str = "00000000-0000-0000-0000-000000000001";

#[tokio::test]
async fn what_is_too_old_to_be_sent_again_is_asked_for_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fajar.jsonl");
    let none = |first: Option<u64>| json!({"messages": [], "complete": true, "log": "l", "first": first});
    for (answer, expected) in [
        (json!({"messages": [entry(3, "fajar", "esa", "halo")], "complete": true, "log": "l"}), "stored"),
        (none(None), "sent"),
        (none(Some(2)), "expired"),
    ] {
        of_yesterday(&path);
        let state = path.clone();
        let mut online =
            Online::start_at(|options| options.state = Some(state), &json!(0), &Value::Null).await;
        online.at_manager.is_asked(json!({"id": ID}), answer).await;
        match expected {
            "stored" => {
                let stored = online.until(|event| matches!(event, Event::Stored { .. })).await;
                assert!(matches!(stored, Event::Stored { stanza_id, .. } if stanza_id == "s3"));
                assert_eq!(online.client.waiting().await, []);
            }
            "sent" => assert_eq!(online.at_relay.reads().await["id"], ID),
            _ => {
                online.until(|event| matches!(event, Event::Expired(_))).await;
                assert!(online.client.waiting().await[0].expired);
            }
        }
        online.goes().await;
    }
}

/// Nobody decides on a message because the database was away for a moment; and nothing is sent before it meanwhile.
#[tokio::test]
async fn an_archive_that_cannot_be_read_now_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fajar.jsonl");
    of_yesterday(&path);
    let mut online = Online::start_at(|options| options.state = Some(path), &json!(0), &Value::Null).await;
    online.client.send(NewMessage::text("esa", "today")).await.unwrap();
    let asked = online.at_manager.reads().await;
    let wait = json!({"stanza": "iq", "namespace": "archive", "type": "error", "to": "fajar", "id": asked["id"],
                      "error": {"type": "wait", "condition": "resource-constraint"}});
    online.at_manager.writes(&wait).await;
    let none = json!({"messages": [], "complete": true, "log": "l"});
    online.at_manager.is_asked(json!({"id": ID}), none).await;
    assert_eq!(online.at_relay.reads().await["id"], ID);
    assert_eq!(online.at_relay.reads().await["body"], "today");
}

/// In another life of the log, a restored backup for example, its silence says nothing.
#[tokio::test]
async fn an_archive_of_another_log_does_not_say_that_a_message_is_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fajar.jsonl");
    of_yesterday(&path);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"place\":{\"seq\":3,\"log\":\"l\"}}\n");
    std::fs::write(&path, text).unwrap();
    let mut online = Online::start_at(|options| options.state = Some(path), &json!(3), &json!("l")).await;
    let none = json!({"messages": [], "complete": true, "log": "another"});
    online.at_manager.is_asked(json!({"id": ID}), none).await;
    online.until(|event| matches!(event, Event::Expired(_))).await;
}

/// Asked again, if the manager is lost before it has answered.
#[tokio::test]
async fn a_question_to_the_archive_survives_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fajar.jsonl");
    of_yesterday(&path);
    let mut online = Online::start_at(|options| options.state = Some(path), &json!(0), &Value::Null).await;
    assert_eq!(online.at_manager.reads().await["query"], json!({"id": ID}));
    drop(online.at_manager);
    online.at_manager = online.manager.logs_in(&online.relay, "ticket-2").await;
    let none = json!({"messages": [], "complete": true, "log": "l"});
    online.at_manager.is_asked(json!({"id": ID}), none).await;
    let mut at_relay = online.relay.welcomes_at("ticket-2", &json!(0), &Value::Null).await;
    assert_eq!(at_relay.reads().await["id"], ID);
}

#[tokio::test]
async fn a_gap_is_told_once_and_passed_over() {
    let mut online =
        Online::start_at(|options| options.resume = Some(place(3)), &json!(3), &json!("l")).await;
    online
        .at_relay
        .writes(&json!({"stanza": "stream", "type": "ready", "seq": 9, "log": "l", "first": 8}))
        .await;
    online.at_relay.writes(&json!({"stanza": "stream", "type": "gap", "after": 3, "first": 8})).await;
    for seq in [8, 9] {
        online.at_relay.writes(&entry(seq, "esa", "fajar", "halo")).await;
    }
    let gap = online.until(|event| matches!(event, Event::Gap { .. })).await;
    assert!(matches!(gap, Event::Gap { after: 3, first: 8 }), "{gap:?}");
    online.until(|event| matches!(event, Event::UpToDate)).await;
    online.changes_relay("ticket-2", &json!(9), &json!("l")).await;
}

fn place(seq: u64) -> kurir_client::Place {
    kurir_client::Place { seq, log: Some("l".into()) }
}
