//! Servers that die, fall silent, or do not know yet that a session is gone.

use std::time::Duration;

use kurir_client::{Ended, Event, Failure, Refusal, Socket};
use serde_json::json;

use crate::fake::{Fake, Online, connect, options, tracker, until, within};
use crate::start::relay_less;

#[tokio::test]
async fn a_lost_relay_is_replaced_with_a_new_ticket_and_waiting_messages_go_there() {
    let mut online = Online::start().await;
    let other = Fake::start().await;
    drop(online.at_relay);
    let gone = until(&mut online.events, |event| matches!(event, Event::Offline { .. })).await;
    let Event::Offline { socket: Socket::Relay, reason } = gone else { panic!("{gone:?}") };
    assert!(matches!(reason, Failure::Closed { .. } | Failure::Connection { .. }), "{reason:?}");
    let (sent, ()) = tokio::join!(online.client.send_untracked("esa", "still there?"), async {
        assert_eq!(online.at_manager.reads().await, json!({"type": "get_relay_less_connection"}));
        online.at_manager.writes(&relay_less(&json!([other.relay("ticket-2")]))).await;
        let mut at_other = other.welcomes("ticket-2").await;
        assert_eq!(at_other.reads().await["body"], "still there?");
    });
    sent.unwrap();
}

#[tokio::test]
async fn a_relay_that_refuses_the_ticket_is_asked_for_again_with_the_reason_known() {
    let mut online = Online::start().await;
    online.at_relay.writes(&json!({"error": true, "msg": "Too slow", "code": 408})).await;
    drop(online.at_relay);
    let gone = until(&mut online.events, |event| matches!(event, Event::Offline { .. })).await;
    let Event::Offline { reason, .. } = gone else { unreachable!() };
    assert!(
        matches!(&reason, Failure::Closed { said: Some(said), .. } if said == "Too slow, 408"),
        "{reason:?}"
    );
    for ticket in ["stale", "fresh"] {
        online.at_manager.reads().await;
        online.at_manager.writes(&relay_less(&json!([online.relay.relay(ticket)]))).await;
        if ticket == "stale" {
            let mut refusing = online.relay.accept().await;
            refusing.reads().await;
            refusing.writes(&json!({"error": true, "msg": "Unauthorized", "code": 401})).await;
        } else {
            online.relay.welcomes(ticket).await;
        }
    }
}

#[tokio::test]
async fn an_error_packet_is_the_reason_only_if_nothing_came_after_it() {
    let mut online = Online::start().await;
    online.at_relay.writes(&json!({"error": true, "msg": "Bad request", "code": 400})).await;
    online.at_relay.writes(&json!({"stanza": "message", "from": "esa", "to": "fajar", "body": "halo"})).await;
    drop(online.at_relay);
    let gone = until(&mut online.events, |event| matches!(event, Event::Offline { .. })).await;
    let Event::Offline { reason, .. } = gone else { unreachable!() };
    assert!(!matches!(&reason, Failure::Closed { said: Some(_), .. }), "{reason:?}");
}

/// Part II's ping: after silence, and no answer means failover.
#[tokio::test]
async fn a_silent_relay_is_pinged_and_left_when_it_does_not_answer() {
    let mut online = Online::start_with(|options| {
        options.timing.silence = Duration::from_millis(100);
        options.timing.ping = Duration::from_secs(3);
    })
    .await;
    // The manager answers its pings all the while.
    let mut at_manager = online.at_manager;
    let relay = online.relay.relay("ticket-2");
    let manager = tokio::spawn(async move {
        loop {
            let packet = at_manager.reads().await;
            if packet["type"] == "get_relay_less_connection" {
                at_manager.writes(&relay_less(&json!([relay]))).await;
            } else {
                let id = &packet["id"];
                at_manager
                    .writes(&json!({"stanza": "iq", "namespace": "ping", "type": "result", "id": id}))
                    .await;
            }
        }
    });
    online.at_relay.pongs().await;
    let unanswered = online.at_relay.reads().await;
    assert_eq!(unanswered["namespace"], "ping");
    let _at_relay = online.relay.welcomes("ticket-2").await;
    online.at_relay.is_closed().await;
    manager.abort();
}

#[tokio::test]
async fn a_silent_manager_is_left_for_another_one() {
    let (one, two, relay) = (Fake::start().await, Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&one, &two]).await;
    let mut options = options(&[&tracker]);
    options.timing.silence = Duration::from_millis(100);
    options.timing.ping = Duration::from_secs(3);
    let connecting = connect(options);
    let (mut first, second) = tokio::select! {
        at_one = one.logs_in(&relay, "ticket-1") => (at_one, &two),
        at_two = two.logs_in(&relay, "ticket-1") => (at_two, &one),
    };
    let mut at_relay = relay.welcomes("ticket-1").await;
    let keeping = tokio::spawn(async move {
        loop {
            at_relay.pongs().await;
        }
    });
    let (_client, _events) = within(connecting).await.unwrap().unwrap();
    assert_eq!(first.reads().await["namespace"], "ping");
    let mut other = second.logs_in(&relay, "ticket-2").await;
    first.is_closed().await;
    // The newer login's ticket makes the newer connection; the older one is kept until it is there.
    let mut newer = relay.welcomes("ticket-2").await;
    other.pongs().await;
    newer.pongs().await;
    keeping.abort();
}

/// Nothing is lost between two logins: the older connection is used until the newer is there, and read to its end.
#[tokio::test]
async fn a_lost_manager_takes_no_messages_with_it() {
    let mut online = Online::start().await;
    drop(online.at_manager);
    until(&mut online.events, |event| matches!(event, Event::Offline { socket: Socket::Manager, .. })).await;
    online.client.send_untracked("esa", "without a manager").await.unwrap();
    assert_eq!(online.at_relay.reads().await["body"], "without a manager");

    let at_manager = online.manager.logs_in(&online.relay, "ticket-2").await;
    let mut newer = online.relay.welcomes("ticket-2").await;
    // Written to the older one before the relay closed it.
    online.at_relay.writes(&json!({"stanza": "message", "from": "esa", "to": "fajar", "body": "late"})).await;
    drop(online.at_relay);
    newer.writes(&json!({"stanza": "message", "from": "esa", "to": "fajar", "body": "new"})).await;
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        match within(online.events.next()).await.unwrap() {
            Event::Message(message) => bodies.push(message.body.unwrap()),
            Event::Offline { socket, reason } => panic!("{socket}: {reason}"),
            _ => {}
        }
    }
    bodies.sort();
    assert_eq!(bodies, ["late", "new"]);
    online.client.send_untracked("esa", "again").await.unwrap();
    assert_eq!(newer.reads().await["body"], "again");
    drop(at_manager);
}

#[tokio::test]
async fn a_request_under_way_is_asked_again_at_the_next_manager() {
    let mut online = Online::start().await;
    let client = online.client.clone();
    let asking = tokio::spawn(async move { client.remove("esa").await });
    let first = online.at_manager.reads().await;
    drop(online.at_manager);
    let mut at_manager = online.manager.accept().await;
    at_manager.reads().await;
    at_manager.reads().await;
    at_manager.writes(&crate::fake::logged_in(&json!([online.relay.relay("ticket-2")]))).await;
    assert_eq!(at_manager.reads().await, json!({"stanza": "presence"}));
    let again = at_manager.reads().await;
    assert_eq!(again, first);
    // The first one had done it.
    at_manager
        .writes(
            &json!({"stanza": "iq", "namespace": "roster", "type": "error", "to": "fajar", "id": again["id"],
                        "error": {"type": "cancel", "condition": "item-not-found"}}),
        )
        .await;
    within(asking).await.unwrap().unwrap();
}

#[tokio::test]
async fn already_logged_in_after_a_lost_session_is_tried_again() {
    let mut online = Online::start().await;
    drop(online.at_manager);
    for _ in 0..3 {
        let mut refusing = online.manager.accept().await;
        refusing.reads().await;
        refusing.reads().await;
        refusing.writes(&json!({"error": true, "msg": "Already logged in", "code": 409})).await;
    }
    let _at_manager = online.manager.logs_in(&online.relay, "ticket-2").await;
    let _at_relay = online.relay.welcomes("ticket-2").await;
    until(&mut online.events, |event| matches!(event, Event::Online)).await;
}

#[tokio::test]
async fn already_logged_in_for_too_long_ends_the_session() {
    let mut online =
        Online::start_with(|options| options.timing.already_logged_in = Duration::from_millis(50)).await;
    drop(online.at_manager);
    let refusing = tokio::spawn(async move {
        loop {
            let mut peer = online.manager.accept().await;
            peer.reads().await;
            peer.reads().await;
            peer.writes(&json!({"error": true, "msg": "Already logged in", "code": 409})).await;
        }
    });
    let ended = until(&mut online.events, |event| matches!(event, Event::Ended(_))).await;
    assert!(matches!(ended, Event::Ended(Ended::Refused(Refusal::AlreadyLoggedIn))), "{ended:?}");
    online.at_relay.is_closed().await;
    refusing.abort();
}

/// A tracker is for newcomers: who was here before remembers the managers.
#[tokio::test]
async fn without_a_tracker_the_managers_known_from_before_are_tried() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    let (_client, _events) = within(connecting).await.unwrap().unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    drop(at_manager);
    manager.logs_in(&relay, "ticket-2").await;
}

/// A message between hello and the relay's answer is not lost.
#[tokio::test]
async fn messages_that_come_before_the_relays_answer_are_kept() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let mut at_relay = relay.accept().await;
    at_relay.reads().await;
    at_relay.writes(&json!({"stanza": "message", "from": "esa", "to": "fajar", "body": "early"})).await;
    at_relay.pongs().await;
    let (_client, mut events) = within(connecting).await.unwrap().unwrap();
    let early = until(&mut events, |event| matches!(event, Event::Message(_))).await;
    assert!(matches!(early, Event::Message(message) if message.body.as_deref() == Some("early")));
}
