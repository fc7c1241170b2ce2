//! Discovery, registration, login.

use std::time::Duration;

use kurir_client::{ConnectError, Event, Failure, Refusal, Socket};
use serde_json::{Value, json};

use crate::fake::{Fake, Online, connect, logged_in, options, tracker, within};

/// U1, U2, U4, U5, U6; the packets and their order are asserted by the fake servers.
#[tokio::test]
async fn a_client_finds_its_way_from_tracker_to_manager_to_relay() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    let (client, mut events) = within(connecting).await.unwrap().unwrap();
    assert_eq!(client.username(), "fajar");
    let Some(Event::Roster(items)) = within(events.next()).await else { panic!("no roster") };
    assert_eq!((items[0].jid.as_str(), items[0].name.as_deref()), ("esa", Some("ini esa")));
    assert!(matches!(within(events.next()).await, Some(Event::Online)));
}

/// U3; only the first login registers.
#[tokio::test]
async fn a_new_user_registers_and_later_logs_in() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]).register());
    let mut at_manager = manager.accept().await;
    at_manager.reads().await;
    assert_eq!(
        at_manager.reads().await,
        json!({"type": "auth", "username": "fajar", "password": "12345", "register": true})
    );
    at_manager
        .writes(&json!({"error": false, "msg": "Account created", "code": 201,
                        "component": [relay.relay("ticket-1")]}))
        .await;
    at_manager.gives_roster().await;
    let _at_relay = relay.welcomes("ticket-1").await;
    let (_client, _events) = within(connecting).await.unwrap().unwrap();
    drop(at_manager);
    manager.logs_in(&relay, "ticket-2").await;
}

/// As a proxy does that has nobody behind it yet.
#[tokio::test]
async fn a_manager_that_accepts_and_says_nothing_is_tried_again_in_time() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let mut options = options(&[&tracker]);
    options.timing.connect = Duration::from_secs(8);
    let connecting = connect(options);
    let _silent = manager.accept().await;
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    within(connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_manager_that_says_nothing_is_named_when_time_runs_out() {
    // The system accepts, and nobody reads.
    let manager = Fake::start().await;
    let (tracker, _task) = tracker(&[&manager]).await;
    let mut options = options(&[&tracker]);
    options.timing.connect = Duration::from_secs(1);
    let error = within(connect(options)).await.unwrap().unwrap_err();
    let ConnectError::TimedOut(Failure::Silent { address }) = error else { panic!("{error:?}") };
    assert_eq!(address, manager.address());
}

/// What is looked at on the way in is shown as well, if packets are asked for.
#[tokio::test]
async fn every_packet_from_the_trackers_list_on_is_shown() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let mut options = options(&[&tracker]);
    options.packets = true;
    let connecting = connect(options);
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    let (_client, mut events) = within(connecting).await.unwrap().unwrap();
    let mut shown: Vec<(Socket, Value)> = Vec::new();
    loop {
        match within(events.next()).await.unwrap() {
            Event::Packet { socket, value } => shown.push((socket, serde_json::from_str(&value).unwrap())),
            Event::Online => break,
            _ => {}
        }
    }
    let reply = logged_in(&json!([relay.relay("ticket-1")]));
    let pong = json!({"stanza": "iq", "namespace": "ping", "type": "result", "id": "hello"});
    assert!(matches!(&shown[0], (Socket::Tracker, Value::Array(_))), "{shown:#?}");
    assert_eq!(shown[1], (Socket::Manager, reply));
    assert!(shown.contains(&(Socket::Relay, pong)), "{shown:#?}");
    assert_eq!(shown.len(), 4, "and the roster: {shown:#?}");
}

async fn refused(register: bool, code: u16, text: &str) -> Refusal {
    let manager = Fake::start().await;
    let (tracker, _task) = tracker(&[&manager]).await;
    let mut options = options(&[&tracker]);
    options.register = register;
    let connecting = connect(options);
    let mut at_manager = manager.accept().await;
    at_manager.reads().await;
    at_manager.reads().await;
    at_manager.writes(&json!({"error": true, "msg": text, "code": code})).await;
    match within(connecting).await.unwrap() {
        Err(ConnectError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// U3, U4 with bad input.
#[tokio::test]
async fn a_refusal_is_final_and_says_why() {
    assert_eq!(refused(true, 409, "Username used").await, Refusal::UsernameUsed);
    assert_eq!(refused(true, 400, "Bad request").await, Refusal::BadCredentials);
    assert_eq!(refused(false, 400, "Bad request").await, Refusal::BadCredentials);
    assert_eq!(refused(false, 404, "User not found").await, Refusal::UserNotFound);
    assert_eq!(refused(false, 409, "Already logged in").await, Refusal::AlreadyLoggedIn);
    let other = refused(false, 418, "Teapot").await;
    assert_eq!(other, Refusal::Other { code: 418, text: "Teapot".into() });
}

/// U1: any one of the trackers is enough.
#[tokio::test]
async fn trackers_that_do_not_answer_or_know_nobody_are_passed_over() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (_dead, dead_address) = Fake::dead();
    let (ignorant, _task) = tracker(&[]).await;
    let (knowing, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&dead_address, &ignorant, &knowing]));
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    within(connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_busy_manager_is_asked_again() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let mut busy = manager.accept().await;
    busy.reads().await;
    busy.reads().await;
    busy.writes(&json!({"error": true, "msg": "Temporary failure", "code": 503})).await;
    let _at_manager = manager.logs_in(&relay, "ticket-1").await;
    let _at_relay = relay.welcomes("ticket-1").await;
    within(connecting).await.unwrap().unwrap();
}

/// `Timing::login`: what hashes passwords answers no ping meanwhile.
#[tokio::test]
async fn a_manager_may_take_longer_over_a_login_than_over_a_ping() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let mut at_manager = manager.accept().await;
    at_manager.reads().await;
    at_manager.reads().await;
    tokio::time::pause();
    // 14 s: more than silence and ping, less than login.
    for seconds in [6, 4, 4] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }
    tokio::time::resume();
    at_manager.writes(&logged_in(&json!([relay.relay("ticket-1")]))).await;
    at_manager.gives_roster().await;
    let _at_relay = relay.welcomes("ticket-1").await;
    within(connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_relay_the_client_asks_again_until_there_is_one() {
    let (manager, relay) = (Fake::start().await, Fake::start().await);
    let (tracker, _task) = tracker(&[&manager]).await;
    let connecting = connect(options(&[&tracker]));
    let mut at_manager = manager.accept().await;
    at_manager.reads().await;
    at_manager.reads().await;
    at_manager.writes(&logged_in(&json!([]))).await;
    at_manager.gives_roster().await;
    for component in [json!([]), json!([relay.relay("ticket-2")])] {
        assert_eq!(at_manager.reads().await, json!({"type": "get_relay_less_connection"}));
        at_manager.writes(&relay_less(&component)).await;
    }
    let _at_relay = relay.welcomes("ticket-2").await;
    within(connecting).await.unwrap().unwrap();
}

pub(crate) fn relay_less(component: &Value) -> Value {
    json!([{"error": false, "msg": "Relay Less Connection", "code": 200, "component": component}])
}

#[tokio::test]
async fn what_failed_last_is_said_when_connecting_runs_out_of_time() {
    let (_dead, address) = Fake::dead();
    let mut options = options(&[&address]);
    options.timing.connect = Duration::from_secs(2);
    let error = within(connect(options)).await.unwrap().unwrap_err();
    let ConnectError::TimedOut(Failure::NoTracker(cause)) = error else { panic!("{error:?}") };
    assert!(matches!(*cause, Failure::Connection { address: at, .. } if at == address));
}

#[tokio::test]
async fn no_tracker_at_all_is_an_error_at_once() {
    assert!(matches!(within(connect(options(&[]))).await.unwrap(), Err(ConnectError::NoTrackers)));
}

#[tokio::test]
async fn dropping_the_client_closes_both_connections() {
    let Online { client, events, mut at_manager, mut at_relay, .. } = Online::start().await;
    drop((client, events));
    at_manager.is_closed().await;
    at_relay.is_closed().await;
}
