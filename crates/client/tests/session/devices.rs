//! PROTOCOL Part II `resource` and `session`: a device that comes back, and one that may not.

use kurir_client::{ConnectError, Ended, Event, Options, Refusal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::{Fake, Peer, connect, logged_in, options, tracker, until, within};

struct Servers {
    manager: Fake,
    relay: Fake,
    tracker: String,
}

impl Servers {
    async fn start() -> Self {
        let (manager, relay) = (Fake::start().await, Fake::start().await);
        let (tracker, _task) = tracker(&[&manager]).await;
        Self { manager, relay, tracker }
    }

    fn options(&self, change: impl FnOnce(&mut Options)) -> Options {
        let mut options = options(&[&self.tracker]);
        change(&mut options);
        options
    }

    /// The phone, with its state in this directory.
    fn phone(&self, directory: &TempDir, password: &str) -> Options {
        self.options(|options| {
            options.resource = Some("phone".into());
            options.password = password.into();
            options.state = Some(directory.path().join("phone.jsonl"));
        })
    }

    /// A login, answered with this session.
    async fn logs_in(&self, auth: Value, session: &str) -> Peer {
        let mut peer = self.manager.accept().await;
        peer.reads().await;
        assert_eq!(peer.reads().await, auth);
        let mut reply = logged_in(&json!([self.relay.relay("ticket")]));
        reply["session"] = session.into();
        peer.writes(&reply).await;
        peer.gives_roster().await;
        peer
    }

    /// A login that is refused.
    async fn refuses(&self, auth: Value, code: u16) {
        let mut peer = self.manager.accept().await;
        peer.reads().await;
        assert_eq!(peer.reads().await, auth);
        peer.writes(&json!({"error": true, "msg": "no", "code": code})).await;
    }
}

fn by_password() -> Value {
    json!({"type": "auth", "username": "fajar", "password": "12345", "resource": "phone"})
}

fn by_session(session: &str) -> Value {
    json!({"type": "auth", "username": "fajar", "session": session})
}

#[tokio::test]
async fn a_device_comes_back_with_the_session_that_is_kept_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let connecting = connect(servers.phone(&directory, "12345"));
    let at_manager = servers.logs_in(by_password(), "s1").await;
    let _at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
    let (client, mut events) = within(connecting).await.unwrap().unwrap();
    // The manager is lost: no password.
    drop(at_manager);
    let at_manager = servers.logs_in(by_session("s1"), "s2").await;
    let _at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
    until(&mut events, |event| matches!(event, Event::Online)).await;
    drop((client, at_manager));
    while within(events.next()).await.is_some() {}
    // Nor after a restart, of which the answer is lost once.
    let connecting = connect(servers.phone(&directory, ""));
    let mut unanswered = servers.manager.accept().await;
    unanswered.reads().await;
    assert_eq!(unanswered.reads().await, by_session("s2"));
    drop(unanswered);
    let _at_manager = servers.logs_in(by_session("s2"), "s3").await;
    let _at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
    within(connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_is_over_is_followed_by_the_password_or_by_a_question_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    for (password, expected) in [("12345", None), ("", Some(Refusal::SessionOver))] {
        let kept = concat!(
            r#"{"kurir":{"version":1,"user":"fajar/phone"}}"#,
            "\n",
            r#"{"session":{"token":"s1"}}"#,
            "\n"
        );
        std::fs::write(directory.path().join("phone.jsonl"), kept).unwrap();
        let connecting = connect(servers.phone(&directory, password));
        servers.refuses(by_session("s1"), 401).await;
        let Some(expected) = expected else {
            let at_manager = servers.logs_in(by_password(), "s2").await;
            let _at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
            let (client, mut events) = within(connecting).await.unwrap().unwrap();
            drop((client, at_manager));
            while within(events.next()).await.is_some() {}
            continue;
        };
        let refused = within(connecting).await.unwrap();
        let Err(ConnectError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal, expected);
    }
}

#[tokio::test]
async fn a_logout_ends_the_session_and_then_the_password_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let connecting = connect(servers.phone(&directory, "12345"));
    let mut at_manager = servers.logs_in(by_password(), "s1").await;
    let mut at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
    let (client, mut events) = within(connecting).await.unwrap().unwrap();
    let leaving = tokio::spawn(async move { client.logout().await });
    at_relay.pongs().await;
    assert_eq!(at_manager.reads().await["type"], "unavailable");
    drop(at_manager);
    within(leaving).await.unwrap();
    while within(events.next()).await.is_some() {}
    let refused = within(connect(servers.phone(&directory, ""))).await.unwrap();
    assert!(matches!(refused, Err(ConnectError::Refused(Refusal::SessionOver))), "{refused:?}");
}

/// Otherwise two of the same name would take the device from each other for ever.
#[tokio::test]
async fn a_device_that_was_displaced_or_removed_does_not_come_back() {
    for (code, expected) in [(409, Refusal::Displaced), (401, Refusal::Removed)] {
        let servers = Servers::start().await;
        let connecting = connect(servers.options(|options| options.resource = Some("phone".into())));
        let mut at_manager = servers.logs_in(by_password(), "s1").await;
        let _at_relay = servers.relay.welcomes("ticket").await;
        let (_client, mut events) = within(connecting).await.unwrap().unwrap();
        at_manager.writes(&json!({"error": true, "msg": "over", "code": code})).await;
        at_manager.closes().await;
        let ended = until(&mut events, |event| matches!(event, Event::Ended(_))).await;
        let Event::Ended(Ended::Refused(refusal)) = ended else { panic!("{ended:?}") };
        assert_eq!(refusal, expected);
    }
}

/// It would come straight back, as a new device.
#[tokio::test]
async fn a_device_that_removes_itself_is_logged_out() {
    for (own, resource) in [(Some("phone"), "phone"), (None, "default")] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("own.jsonl");
        let servers = Servers::start().await;
        let connecting = connect(servers.options(|options| {
            options.resource = own.map(String::from);
            options.state = Some(state.clone());
        }));
        let mut auth = by_password();
        if own.is_none() {
            auth.as_object_mut().unwrap().remove("resource");
        }
        let mut at_manager = servers.logs_in(auth, "s1").await;
        let _at_relay = servers.relay.welcomes_at("ticket", &json!(0), &Value::Null).await;
        let (client, mut events) = within(connecting).await.unwrap().unwrap();
        let removing = tokio::spawn(async move {
            for device in ["tv", resource] {
                client.remove_device(device).await.unwrap();
            }
            client
        });
        for expected in ["tv", resource] {
            let asked = at_manager.reads().await;
            assert_eq!(asked["query"], json!({"remove": expected}));
            let answer = json!({"stanza": "iq", "namespace": "account", "type": "result", "id": asked["id"]});
            at_manager.writes(&answer).await;
        }
        // Not its going ends the session.
        let _client = within(removing).await.unwrap();
        let ended = until(&mut events, |event| matches!(event, Event::Ended(_))).await;
        assert!(matches!(ended, Event::Ended(Ended::LoggedOut)), "{ended:?}");
        assert!(within(events.next()).await.is_none());
        let kept = std::fs::read_to_string(&state).unwrap();
        assert!(kept.trim_end().ends_with(r#"{"session":{"token":null}}"#), "{kept}");
    }
}

/// Of a removal that it was not told: the connection was lost at that time. Nor does one whose session was too old.
#[tokio::test]
async fn a_device_that_was_removed_unheard_does_not_come_back_by_its_password() {
    let servers = Servers::start().await;
    let connecting = connect(servers.options(|options| options.resource = Some("phone".into())));
    let at_manager = servers.logs_in(by_password(), "s1").await;
    let _at_relay = servers.relay.welcomes("ticket").await;
    let (_client, mut events) = within(connecting).await.unwrap().unwrap();
    drop(at_manager);
    servers.refuses(by_session("s1"), 401).await;
    let ended = until(&mut events, |event| matches!(event, Event::Ended(_))).await;
    assert!(matches!(ended, Event::Ended(Ended::Refused(Refusal::SessionOver))), "{ended:?}");
}

/// A named device reads addresses; the application reads names.
#[tokio::test]
async fn addresses_are_names_to_the_application() {
    let servers = Servers::start().await;
    let connecting = connect(servers.options(|options| options.resource = Some("phone".into())));
    let mut at_manager = servers.logs_in(by_password(), "s1").await;
    let mut at_relay = servers.relay.welcomes("ticket").await;
    let (_client, mut events) = within(connecting).await.unwrap().unwrap();
    let gone = json!({"stanza": "presence", "from": "esa@a.example", "type": "unavailable"});
    at_manager.writes(&gone).await;
    let gone = until(&mut events, |event| matches!(event, Event::Unavailable { .. })).await;
    assert!(matches!(gone, Event::Unavailable { from } if from == "esa"));
    for (from, to, own) in [
        ("esa@a.example/tv", "fajar@a.example/phone", false),
        ("fajar@a.example/laptop", "esa@a.example", true),
    ] {
        at_relay.writes(&json!({"stanza": "message", "from": from, "to": to, "body": "halo"})).await;
        let event = until(&mut events, |event| matches!(event, Event::Message(_))).await;
        let Event::Message(message) = event else { unreachable!() };
        let names: Vec<&str> = [from, to].iter().map(|address| address.split('@').next().unwrap()).collect();
        assert_eq!((message.from.as_str(), message.to.as_deref()), (names[0], Some(names[1])));
        assert_eq!((message.own, message.device.as_deref()), (own, from.split('/').nth(1)));
    }
}
