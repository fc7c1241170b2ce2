//! Roster, presence, messages, logout.

use kurir_client::{Ended, Event, PresenceError, RequestError, SendError, Socket, Subscription};
use serde_json::{Value, json};

use crate::fake::{Online, Peer, within};

/// U7
#[tokio::test]
async fn the_roster_is_asked_for() {
    let mut online = Online::start().await;
    let (items, ()) = tokio::join!(online.client.roster(), async {
        let get = online.at_manager.reads().await;
        assert_eq!(get["query"], json!({"items": null}));
        online
            .at_manager
            .writes(&json!({"stanza": "iq", "namespace": "roster", "type": "result", "id": get["id"], "to": "fajar",
                            "query": {"items": [{"jid": "esa", "name": null, "subscription": "from"}]}}))
            .await;
    });
    let items = items.unwrap();
    assert_eq!((items[0].name.as_deref(), items[0].subscription), (None, Subscription::From));
}

/// U8, U9: the item comes before the result.
#[tokio::test]
async fn adding_and_renaming_return_the_item_as_it_is_then() {
    let mut online = Online::start().await;
    for (name, subscription) in [("ini esa", "to"), ("author", "both")] {
        let (item, ()) = tokio::join!(
            async {
                match name {
                    "author" => online.client.rename("Esa", Some(name)).await,
                    _ => online.client.add("Esa", Some(name)).await,
                }
            },
            async {
                let set = online.at_manager.reads().await;
                assert_eq!((&set["type"], &set["from"]), (&json!("set"), &json!("fajar")));
                assert_eq!(
                    (&set["query"]["item"]["jid"], &set["query"]["item"]["name"]),
                    (&json!("Esa"), &json!(name))
                );
                let item = json!({"jid": "esa", "name": name, "subscription": subscription});
                for packet in [
                    json!({"stanza": "presence", "from": "esa", "to": "fajar", "type": "subscribed", "item": item}),
                    json!({"stanza": "presence", "from": "esa", "username": "esa", "bio": "…", "online": 1,
                           "updated_at": 1_726_223_542_222_u64, "to": "fajar"}),
                    json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": "fajar", "id": set["id"]}),
                ] {
                    online.at_manager.writes(&packet).await;
                }
            }
        );
        let item = item.unwrap();
        assert_eq!((item.jid.as_str(), item.name.as_deref()), ("esa", Some(name)));
        assert_eq!(item.subscription.to_string(), subscription);
        let Event::Subscribed(told) = online.until(|event| matches!(event, Event::Subscribed(_))).await
        else {
            unreachable!()
        };
        assert_eq!(told, item);
        let Event::Presence(presence) = online.until(|event| matches!(event, Event::Presence(_))).await
        else {
            unreachable!()
        };
        assert!(presence.online && !presence.directed);
    }
}

/// U10
#[tokio::test]
async fn removing_is_told_as_an_event_too() {
    let mut online = Online::start().await;
    let (removed, ()) = tokio::join!(online.client.remove("esa"), async {
        let set = online.at_manager.reads().await;
        assert_eq!((&set["subscription"], &set["query"]["item"]["jid"]), (&json!("remove"), &json!("esa")));
        online
            .at_manager
            .writes(&json!({"stanza": "presence", "from": "esa", "to": "fajar", "type": "unsubscribed"}))
            .await;
        online
            .at_manager
            .writes(
                &json!({"stanza": "iq", "namespace": "roster", "type": "result", "subscription": "remove",
                            "to": "fajar", "id": set["id"]}),
            )
            .await;
    });
    removed.unwrap();
    online.until(|event| matches!(event, Event::Unsubscribed { from } if from == "esa")).await;
}

fn iq_error(kind: &str, condition: &str, id: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "type": "error", "to": "fajar", "id": id,
           "error": {"type": kind, "condition": condition}})
}

/// Part II `account` and `explain`.
#[tokio::test]
async fn devices_and_what_became_of_a_message_are_asked_for() {
    async fn asked(manager: &mut Peer, namespace: &str, kind: &str, query: Value, answer: Option<Value>) {
        let get = manager.reads().await;
        assert_eq!((&get["namespace"], &get["type"]), (&json!(namespace), &json!(kind)), "{get}");
        assert_eq!(get["query"], query);
        let mut result =
            json!({"stanza": "iq", "namespace": namespace, "type": "result", "to": "fajar", "id": get["id"]});
        if let Some(answer) = answer {
            result["query"] = answer;
        }
        manager.writes(&result).await;
    }
    let mut online = Online::start().await;
    let (client, manager) = (online.client.clone(), &mut online.at_manager);
    let list = json!({"devices": [{"resource": "phone", "online": 1, "seen_at": 7}]});
    let (devices, ()) =
        tokio::join!(client.devices(), asked(manager, "account", "get", Value::Null, Some(list)));
    let devices = devices.unwrap();
    assert_eq!((devices[0].resource.as_str(), devices[0].online, devices[0].seen_at_ms), ("phone", true, 7));

    let query = json!({"remove": "phone"});
    let (removed, ()) =
        tokio::join!(client.remove_device("phone"), asked(manager, "account", "set", query, None));
    removed.unwrap();

    let events =
        json!({"events": [{"at": 7, "component": "relay-1", "step": "accepted", "device": "phone"}]});
    let query = json!({"stanza_id": "s1"});
    let (explained, ()) =
        tokio::join!(client.explain("s1"), asked(manager, "explain", "get", query, Some(events)));
    let steps = explained.unwrap().steps;
    assert_eq!((steps[0].at_ms, steps[0].step.as_str(), steps[0].reason.as_str()), (7, "accepted", ""));
}

#[tokio::test]
async fn a_refused_request_carries_the_condition() {
    let mut online = Online::start().await;
    let (refused, ()) = tokio::join!(online.client.add("nobody", None), async {
        let set = online.at_manager.reads().await;
        online.at_manager.writes(&iq_error("cancel", "item-not-found", &set["id"])).await;
    });
    let expected = RequestError::Refused { kind: "cancel".into(), condition: "item-not-found".into() };
    assert_eq!(refused.unwrap_err(), expected);
}

#[tokio::test]
async fn a_request_that_can_only_wait_is_asked_again() {
    let mut online = Online::start().await;
    let (removed, ()) = tokio::join!(online.client.remove("esa"), async {
        let set = online.at_manager.reads().await;
        online.at_manager.writes(&iq_error("wait", "resource-constraint", &set["id"])).await;
        let set = online.at_manager.reads().await;
        online
            .at_manager
            .writes(
                &json!({"stanza": "iq", "namespace": "roster", "type": "result", "subscription": "remove",
                            "to": "fajar", "id": set["id"]}),
            )
            .await;
    });
    removed.unwrap();
}

/// U12: a bio has no answer, the ping behind it has.
#[tokio::test]
async fn a_bio_is_done_when_the_manager_has_handled_it() {
    let mut online = Online::start().await;
    let (done, ()) = tokio::join!(online.client.bio("lagi makan kebab"), async {
        assert_eq!(
            online.at_manager.reads().await,
            json!({"stanza": "presence", "from": "fajar", "bio": "lagi makan kebab"})
        );
        online.at_manager.pongs().await;
    });
    done.unwrap();
    let (refused, ()) = tokio::join!(online.client.bio("x"), async {
        online.at_manager.reads().await;
        online
            .at_manager
            .writes(&json!({"stanza": "presence", "type": "error", "to": "fajar",
                            "error": {"type": "auth", "condition": "forbidden"}}))
            .await;
        online.at_manager.pongs().await;
    });
    assert!(matches!(refused, Err(RequestError::Refused { .. })));
}

/// PROTOCOL section 4: a presence with an empty `bio` would be an initial one.
#[tokio::test]
async fn an_empty_bio_is_refused_and_not_sent() {
    let mut online = Online::start().await;
    let expected = RequestError::Refused { kind: "modify".into(), condition: "bad-request".into() };
    assert_eq!(online.client.bio("").await, Err(expected));
    drop((online.client, online.events));
    online.at_manager.is_closed().await;
}

/// U11
#[tokio::test]
async fn a_directed_presence_is_answered_or_finds_nobody() {
    let mut online = Online::start().await;
    let (presence, ()) = tokio::join!(online.client.presence("ESA"), async {
        assert_eq!(online.at_manager.reads().await, json!({"stanza": "presence", "to": "ESA"}));
        online
            .at_manager
            .writes(&json!({"stanza": "presence", "from": "esa", "username": "esa", "bio": "b", "online": 0,
                            "updated_at": 5, "to": "fajar", "directed_entity": true}))
            .await;
    });
    let presence = presence.unwrap();
    assert_eq!((presence.bio.as_str(), presence.online, presence.updated_at_ms), ("b", false, 5));
    let (unknown, ()) = tokio::join!(online.client.presence("nobody"), async {
        online.at_manager.reads().await;
        online
            .at_manager
            .writes(&json!({"stanza": "presence", "type": "error", "to": "fajar", "target": "nobody"}))
            .await;
    });
    assert_eq!(unknown.unwrap_err(), PresenceError::UserNotFound);
}

/// U14, R15, and what others send.
#[tokio::test]
async fn messages_go_out_and_come_in() {
    let mut online = Online::start().await;
    online.client.send_untracked("esa", "halo\nesa €").await.unwrap();
    let sent = online.at_relay.reads().await;
    assert_eq!(
        (&sent["stanza"], &sent["from"], &sent["to"]),
        (&json!("message"), &json!("fajar"), &json!("esa"))
    );
    assert_eq!(sent["body"], "halo\nesa €");

    let stanza =
        json!({"stanza": "message", "from": "esa", "to": "fajar", "lang": "id", "body": "halo", "x": [1]});
    online.at_relay.writes(&stanza).await;
    let Event::Message(message) = online.until(|event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!((message.from.as_str(), message.body.as_deref()), ("esa", Some("halo")));
    assert_eq!(serde_json::from_str::<Value>(&message.stanza).unwrap(), stanza);

    online
        .at_relay
        .writes(&json!({"stanza": "message", "from": "relay", "to": "fajar", "error": true,
                        "body": "User not found or User not online"}))
        .await;
    online.until(|event| matches!(event, Event::MessageFailed)).await;
}

#[tokio::test]
async fn what_no_server_would_read_is_not_sent() {
    let online = Online::start().await;
    let large = "x".repeat(70_000);
    assert_eq!(online.client.send_untracked("esa", &large).await, Err(SendError::TooLarge { limit: 65_536 }));
    assert_eq!(online.client.bio(&large).await, Err(RequestError::TooLarge { limit: 65_536 }));
}

#[tokio::test]
async fn contacts_come_and_go() {
    let mut online = Online::start().await;
    online.at_manager.writes(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    online.until(|event| matches!(event, Event::Unavailable { from } if from == "esa")).await;
}

/// U15: on both sockets, in any framing.
#[tokio::test]
async fn packets_that_mean_nothing_are_passed_over() {
    let mut online = Online::start_with(|options| options.packets = true).await;
    for peer in [&mut online.at_manager, &mut online.at_relay] {
        peer.writes_raw("[]{}[[1]]{\"stanza\":\"bishop\"}\r\n{\"stanza\":7,\"type\":null}\u{80}\u{81}\u{82}")
            .await;
        peer.writes_raw("{\"error\":true,\"msg\":\"Bad request\",\"code\":400}\n").await;
    }
    let mut shown = 0;
    online.at_manager.writes(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    while shown < 13 {
        match within(online.events.next()).await.unwrap() {
            Event::Packet { .. } => shown += 1,
            Event::Unavailable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The queue of events holds 4096: more than that waits in the sockets.
#[tokio::test]
async fn an_application_that_reads_late_gets_every_message_in_order() {
    let mut online = Online::start().await;
    let count = 20_000;
    let mut at_relay = online.at_relay;
    let writing = tokio::spawn(async move {
        for number in 0..count {
            let body = number.to_string();
            at_relay.writes(&json!({"stanza": "message", "from": "esa", "to": "fajar", "body": body})).await;
        }
        at_relay
    });
    // Requests are not held up by that, as long as their answers have not to pass the full queue.
    online.client.send_untracked("esa", "x").await.unwrap();
    for number in 0..count {
        let Some(Event::Message(message)) = within(online.events.next()).await else { panic!("no message") };
        assert_eq!(message.body, Some(number.to_string()));
    }
    writing.await.unwrap();
}

/// U13: the relay has handled the last message before the manager is told.
#[tokio::test]
async fn logout_leaves_the_relay_time_for_the_last_message() {
    let mut online = Online::start().await;
    online.client.send_untracked("esa", "bye").await.unwrap();
    let client = online.client.clone();
    let leaving = tokio::spawn(async move { client.logout().await });
    assert_eq!(online.at_relay.reads().await["body"], "bye");
    online.at_relay.pongs().await;
    assert_eq!(
        online.at_manager.reads().await,
        json!({"stanza": "presence", "from": "fajar", "type": "unavailable"})
    );
    drop(online.at_relay);
    drop(online.at_manager);
    within(leaving).await.unwrap();
    assert!(matches!(within(online.events.next()).await, Some(Event::Ended(Ended::LoggedOut))));
    assert!(within(online.events.next()).await.is_none());
    assert_eq!(online.client.send_untracked("esa", "x").await, Err(SendError::Ended(Ended::LoggedOut)));
    assert_eq!(online.client.roster().await, Err(RequestError::Ended(Ended::LoggedOut)));
}

#[tokio::test]
async fn raw_packets_come_before_what_they_mean() {
    let mut online = Online::start_with(|options| options.packets = true).await;
    let stanza = json!({"stanza": "message", "from": "esa", "to": "fajar", "body": "halo"});
    online.at_relay.writes(&stanza).await;
    let Some(Event::Packet { socket: Socket::Relay, value }) = within(online.events.next()).await else {
        panic!("no packet")
    };
    assert_eq!(serde_json::from_str::<Value>(&value).unwrap(), stanza);
    assert!(matches!(within(online.events.next()).await, Some(Event::Message(_))));
}
