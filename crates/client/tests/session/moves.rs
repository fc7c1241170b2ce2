//! PROTOCOL Part II `stream`: servers that say how to go on.

use std::time::{Duration, Instant};

use kurir_client::{Client, Ended, Event, Events, Failure, Options, Refusal, Socket};
use serde_json::{Value, json};

use crate::fake::{Fake, Online, Peer, connect, logged_in, options, until, within};
use crate::start::relay_less;

/// Somebody who is online, with sessions and a tracker that the test plays, too.
struct Person {
    client: Client,
    events: Events,
    tracker: Fake,
    manager: Fake,
    at_manager: Peer,
    relay: Fake,
    at_relay: Peer,
}

impl Person {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let (tracker, manager, relay) = (Fake::start().await, Fake::start().await, Fake::start().await);
        let mut options = options(&[&tracker.address()]);
        change(&mut options);
        let connecting = connect(options);
        knows(&tracker, &[&manager]).await;
        let password = json!({"type": "auth", "username": "fajar", "password": "12345"});
        let mut at_manager = is_asked(&manager, &password).await;
        answers(&mut at_manager, &relay, 1).await;
        let at_relay = relay.welcomes("ticket-1").await;
        let (client, mut events) = within(connecting).await.unwrap().unwrap();
        until(&mut events, |event| matches!(event, Event::Online)).await;
        Self { client, events, tracker, manager, at_manager, relay, at_relay }
    }

    fn peer(&mut self, socket: Socket) -> &mut Peer {
        if socket == Socket::Manager { &mut self.at_manager } else { &mut self.at_relay }
    }

    /// A packet with this in it has come.
    async fn hears(&mut self, part: &str) {
        let has = |event: &Event| matches!(event, Event::Packet { value, .. } if value.contains(part));
        until(&mut self.events, has).await;
    }

    /// A message comes, and nothing was lost before that.
    async fn reads(&mut self, body: &str) {
        let event = until(&mut self.events, |event| {
            assert!(!matches!(event, Event::Offline { .. } | Event::Online), "{event:?}");
            matches!(event, Event::Message(_))
        })
        .await;
        assert!(
            matches!(&event, Event::Message(message) if message.body.as_deref() == Some(body)),
            "{event:?}"
        );
    }

    /// The manager is asked for a relay, and names the same one.
    async fn asks_for_a_relay(&mut self, ticket: &str) {
        assert_eq!(self.at_manager.reads().await, json!({"type": "get_relay_less_connection"}));
        self.at_manager.writes(&relay_less(&json!([self.relay.relay(ticket)]))).await;
    }
}

/// The tracker is asked, and knows these managers.
async fn knows(tracker: &Fake, managers: &[&Fake]) {
    let mut peer = tracker.accept().await;
    peer.reads().await;
    let list = managers.iter().map(|manager| {
        json!({"ip_local": "127.0.0.1", "port": manager.port, "type": "manager", "is_private": "0"})
    });
    peer.writes(&list.collect()).await;
}

/// A login, not answered yet.
async fn is_asked(manager: &Fake, auth: &Value) -> Peer {
    let mut peer = manager.accept().await;
    peer.reads().await;
    assert_eq!(peer.reads().await, *auth);
    peer
}

/// It works, and gives session and ticket of this number.
async fn answers(peer: &mut Peer, relay: &Fake, number: u32) {
    let mut reply = logged_in(&json!([relay.relay(&format!("ticket-{number}"))]));
    reply["session"] = format!("s{number}").into();
    peer.writes(&reply).await;
    peer.gives_roster().await;
}

fn by_session(number: u32) -> Value {
    json!({"type": "auth", "username": "fajar", "session": format!("s{number}")})
}

fn moves(after_ms: u64) -> Value {
    json!({"stanza": "stream", "type": "move", "after_ms": after_ms})
}

fn message(body: &str) -> Value {
    json!({"stanza": "message", "from": "esa", "to": "fajar", "body": body})
}

async fn closes(peer: &mut Peer, condition: &str, retry_after_ms: Option<u64>) {
    let mut error = json!({"type": "wait", "condition": condition});
    if let Some(after) = retry_after_ms {
        error["retry_after_ms"] = after.into();
    }
    peer.writes(&json!({"stanza": "stream", "type": "error", "error": error})).await;
    peer.closes().await;
}

/// As the older connection of a device is closed.
async fn is_displaced(peer: &mut Peer) {
    peer.writes(&json!({"error": true, "msg": "Conflict", "code": 409})).await;
    closes(peer, "conflict", None).await;
}

/// Another connection has the device.
async fn is_over(events: &mut Events) {
    let ended = until(events, |event| matches!(event, Event::Ended(_))).await;
    assert!(matches!(ended, Event::Ended(Ended::Refused(Refusal::Displaced))), "{ended:?}");
}

#[tokio::test]
async fn a_relay_that_will_be_gone_is_used_until_another_has_accepted() {
    let mut person = Person::start(|_| {}).await;
    let next = Fake::start().await;
    person.at_relay.writes(&moves(20)).await;
    // The same one again would not help.
    person.asks_for_a_relay("ticket-1").await;
    assert_eq!(person.at_manager.reads().await, json!({"type": "get_relay_less_connection"}));
    person.at_manager.writes(&relay_less(&json!([next.relay("ticket-2")]))).await;
    let mut at_next = next.accept().await;
    assert_eq!(at_next.reads().await["token"], "ticket-2");
    person.client.send_untracked("esa", "one").await.unwrap();
    assert_eq!(person.at_relay.reads().await["body"], "one");
    person.at_relay.writes(&message("old")).await;
    person.reads("old").await;
    at_next.pongs().await;
    at_next.writes(&message("new")).await;
    person.reads("new").await;
    // What was on its way there comes, too, and that it was displaced is nothing to tell.
    person.at_relay.writes(&message("late")).await;
    is_displaced(&mut person.at_relay).await;
    person.reads("late").await;
    person.client.send_untracked("esa", "two").await.unwrap();
    assert_eq!(at_next.reads().await["body"], "two");
    at_next.writes(&message("last")).await;
    person.reads("last").await;
}

#[tokio::test]
async fn a_manager_that_will_be_gone_is_used_until_another_has_let_the_device_in() {
    let mut person = Person::start(|_| {}).await;
    let other = Fake::start().await;
    person.at_manager.writes(&moves(20)).await;
    knows(&person.tracker, &[]).await;
    // Another one first, whether or not a tracker knows by now that the one will be gone.
    knows(&person.tracker, &[&person.manager, &other]).await;
    let mut at_other = is_asked(&other, &by_session(1)).await;
    let client = person.client.clone();
    let asking = tokio::spawn(async move { client.roster().await });
    let get = person.at_manager.reads().await;
    let result = json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": "fajar", "id": get["id"],
                        "query": {"items": []}});
    person.at_manager.writes(&result).await;
    assert_eq!(within(asking).await.unwrap().unwrap(), []);
    // It may hear of the newer login before that is answered, and its relay, too.
    is_displaced(&mut person.at_manager).await;
    person.at_manager.is_closed().await;
    answers(&mut at_other, &person.relay, 2).await;
    let mut newer = person.relay.welcomes("ticket-2").await;
    newer.writes(&message("new")).await;
    person.reads("new").await;
    is_displaced(&mut person.at_relay).await;
    // The next login goes on from there.
    at_other.closes().await;
    knows(&person.tracker, &[&other]).await;
    is_asked(&other, &by_session(2)).await;
}

/// A tracker names no manager that will be gone: its address leads to another one, as that of a load balancer does.
#[tokio::test]
async fn managers_may_be_at_one_address() {
    let mut person = Person::start(|_| {}).await;
    person.at_manager.writes(&moves(20)).await;
    knows(&person.tracker, &[&person.manager]).await;
    let mut at_other = is_asked(&person.manager, &by_session(1)).await;
    is_displaced(&mut person.at_manager).await;
    answers(&mut at_other, &person.relay, 2).await;
    let mut newer = person.relay.welcomes("ticket-2").await;
    newer.writes(&message("new")).await;
    person.reads("new").await;
}

/// The older connection hears of it all the same.
#[tokio::test]
async fn a_move_whose_answer_is_lost_is_not_taken_for_somebody_else() {
    let mut person = Person::start(|_| {}).await;
    let other = Fake::start().await;
    person.at_manager.writes(&moves(0)).await;
    knows(&person.tracker, &[&other]).await;
    let mut unanswered = is_asked(&other, &by_session(1)).await;
    unanswered.closes().await;
    is_displaced(&mut person.at_manager).await;
    is_displaced(&mut person.at_relay).await;
    knows(&person.tracker, &[&other]).await;
    let mut at_other = is_asked(&other, &by_session(1)).await;
    answers(&mut at_other, &person.relay, 2).await;
    let _newer = person.relay.welcomes("ticket-2").await;
    until(&mut person.events, |event| matches!(event, Event::Online)).await;
}

/// Whether the manager answers "Temporary failure" before or after that is heard.
#[tokio::test]
async fn a_move_that_did_not_happen_hides_no_other_connection_of_the_device() {
    let busy = json!({"error": true, "msg": "Temporary failure", "code": 503});
    for displaced_first in [true, false] {
        let mut person = Person::start(|options| {
            options.packets = true;
            // The next login comes later than this test takes.
            options.timing.first_retry = Duration::from_secs(1);
        })
        .await;
        let other = Fake::start().await;
        person.at_manager.writes(&moves(0)).await;
        knows(&person.tracker, &[&other]).await;
        let mut at_other = is_asked(&other, &by_session(1)).await;
        if displaced_first {
            is_displaced(&mut person.at_manager).await;
            person.at_manager.is_closed().await;
        }
        at_other.writes(&busy).await;
        if !displaced_first {
            person.hears("503").await;
            is_displaced(&mut person.at_manager).await;
        }
        is_over(&mut person.events).await;
    }
}

/// Only for as long as that login may still be found done.
#[tokio::test]
async fn a_move_without_an_answer_does_not_hide_other_connections_of_the_device_for_ever() {
    for socket in [Socket::Manager, Socket::Relay] {
        let mut person = Person::start(|options| options.timing.already_logged_in = Duration::ZERO).await;
        let other = Fake::start().await;
        person.at_manager.writes(&moves(0)).await;
        knows(&person.tracker, &[&other]).await;
        is_asked(&other, &by_session(1)).await.closes().await;
        is_displaced(person.peer(socket)).await;
        is_over(&mut person.events).await;
    }
}

/// Two of a name would be refused: "Already logged in".
#[tokio::test]
async fn a_device_without_a_session_leaves_before_it_comes_again() {
    let mut online = Online::start().await;
    online.at_manager.writes(&moves(0)).await;
    online.at_manager.is_closed().await;
    let gone = until(&mut online.events, |event| matches!(event, Event::Offline { .. })).await;
    assert!(
        matches!(gone, Event::Offline { socket: Socket::Manager, reason: Failure::Moving { .. } }),
        "{gone:?}"
    );
    let _at_manager = online.manager.logs_in(&online.relay, "ticket-2").await;
    let _at_relay = online.relay.welcomes("ticket-2").await;
    until(&mut online.events, |event| matches!(event, Event::Online)).await;
}

#[tokio::test]
async fn a_device_that_another_has_taken_over_does_not_come_back() {
    for socket in [Socket::Manager, Socket::Relay] {
        let mut person = Person::start(|_| {}).await;
        closes(person.peer(socket), "conflict", None).await;
        is_over(&mut person.events).await;
    }
}

/// It was under way when another took the device.
#[tokio::test]
async fn a_device_whose_login_is_answered_conflict_does_not_come_back() {
    let mut person = Person::start(|_| {}).await;
    person.at_manager.closes().await;
    knows(&person.tracker, &[&person.manager]).await;
    let mut coming = is_asked(&person.manager, &by_session(1)).await;
    coming.writes(&json!({"error": true, "msg": "Conflict", "code": 409})).await;
    is_over(&mut person.events).await;
}

#[tokio::test]
async fn a_relay_where_the_login_is_over_is_followed_by_a_new_login() {
    let mut person = Person::start(|_| {}).await;
    closes(&mut person.at_relay, "not-authorized", None).await;
    let gone = until(&mut person.events, |event| matches!(event, Event::Offline { .. })).await;
    let Event::Offline { socket: Socket::Relay, reason: Failure::SentAway { condition, .. } } = gone else {
        panic!("{gone:?}")
    };
    assert_eq!(condition, "not-authorized");
    knows(&person.tracker, &[&person.manager]).await;
    let mut at_manager = is_asked(&person.manager, &by_session(1)).await;
    is_displaced(&mut person.at_manager).await;
    answers(&mut at_manager, &person.relay, 2).await;
    let _at_relay = person.relay.welcomes("ticket-2").await;
    until(&mut person.events, |event| matches!(event, Event::Online)).await;
}

/// The ticket is needed now; another manager would do, but there may be none.
#[tokio::test]
async fn a_login_that_is_over_at_the_relay_does_not_wait_for_the_managers_move() {
    for another in [true, false] {
        let mut person = Person::start(|options| options.packets = true).await;
        let other = Fake::start().await;
        person.at_manager.writes(&moves(3_600_000)).await;
        person.hears("after_ms").await;
        closes(&mut person.at_relay, "not-authorized", None).await;
        let next = if another { &other } else { &person.manager };
        let known = [&person.manager, &other];
        knows(&person.tracker, if another { &known } else { &known[..1] }).await;
        let mut at_next = is_asked(next, &by_session(1)).await;
        is_displaced(&mut person.at_manager).await;
        answers(&mut at_next, &person.relay, 2).await;
        let _at_relay = person.relay.welcomes("ticket-2").await;
        until(&mut person.events, |event| matches!(event, Event::Online)).await;
    }
}

#[tokio::test]
async fn a_relay_that_asks_for_it_is_left_alone_for_a_while() {
    let wish = Duration::from_millis(300);
    let table = [
        ("system-shutdown", Some(300)),
        ("resource-constraint", Some(300)),
        // This one is as long as retries get.
        ("policy-violation", None),
    ];
    for (condition, retry_after_ms) in table {
        let mut person = Person::start(|options| options.timing.longest_retry = wish).await;
        let start = Instant::now();
        closes(&mut person.at_relay, condition, retry_after_ms).await;
        person.asks_for_a_relay("ticket-2").await;
        assert!(start.elapsed() >= wish, "{condition}");
        // And where it does not even accept.
        let mut refusing = person.relay.accept().await;
        refusing.reads().await;
        let start = Instant::now();
        closes(&mut refusing, condition, retry_after_ms).await;
        person.asks_for_a_relay("ticket-3").await;
        assert!(start.elapsed() >= wish, "{condition}");
        person.relay.welcomes("ticket-3").await;
    }
}

#[tokio::test]
async fn a_manager_that_asks_for_it_is_left_alone_for_a_while() {
    let mut person = Person::start(|_| {}).await;
    let start = Instant::now();
    closes(&mut person.at_manager, "system-shutdown", Some(300)).await;
    knows(&person.tracker, &[&person.manager]).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    // Before it lets anybody in, too.
    let mut refusing = is_asked(&person.manager, &by_session(1)).await;
    let start = Instant::now();
    closes(&mut refusing, "resource-constraint", Some(300)).await;
    knows(&person.tracker, &[&person.manager]).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    is_asked(&person.manager, &by_session(1)).await;
}
