//! What became of a message: `kurir explain` for operators, and the iq `explain` for its sender.

use kurir_e2e::packets::{self, account_created, message, not_delivered, with};
use kurir_e2e::pattern::{NUMBER, TEXT};
use kurir_e2e::{PATIENCE, Plan, Raw, Speaks, System, Topology, until};
use serde_json::{Value, json};

kurir_e2e::shows! {
    a_message_is_explained_in_one_process: "";
    a_message_is_explained_on_separate_processes: "";
    a_message_that_was_refused_while_the_database_was_away_is_explained: "";
    a_trail_in_the_database_outlives_its_relays: "";
}

/// Everything before a device has to do with it.
const STORED: [&str; 5] = ["accepted", "committed", "announced", "stored", "confirmed"];

struct User {
    name: &'static str,
    manager: Raw,
    relay: Raw,
}

impl User {
    async fn registers(system: &System, name: &'static str, relay: u16) -> User {
        let mut manager = system.at_manager(name, 1).await;
        manager.sends(json!({"type": "auth", "username": name, "password": "12345", "register": true})).await;
        let token = manager.receives(account_created()).await["component"][0]["token"].clone();
        let relay = hello(system, name, relay, &token, None).await;
        User { name, manager, relay }
    }

    /// Another connection to a relay, that goes by places.
    async fn resumes(&mut self, system: &System, relay: u16, seq: u64) {
        self.manager.sends(json!({"type": "get_relay_less_connection"})).await;
        let offer = self.manager.receives(packets::relay_less_connection()).await;
        let token = &offer[0]["component"][0]["token"];
        self.relay = hello(system, self.name, relay, token, Some(seq)).await;
        self.relay
            .receives_in_the_end(
                json!({"stanza": "stream", "type": "ready", "seq": NUMBER, "log": TEXT}),
                PATIENCE,
            )
            .await;
    }

    /// Sends a tracked message and returns the stanza id of its acknowledgement.
    async fn writes(&mut self, id: &str, to: &str) -> String {
        self.relay.sends(with(message(self.name, to, id), "id", id)).await;
        let ack = json!({"stanza": "message", "type": "ack", "id": id, "stanza_id": TEXT, "level": "stored"});
        self.relay.receives(ack).await["stanza_id"].as_str().unwrap().to_owned()
    }

    /// Asks until it is this user's turn: there is one question a second.
    async fn is_answered(&mut self, query: Value) -> Value {
        let answered = async || {
            self.manager.sends(asking(&query)).await;
            let answer = self.manager.next_packet().await?;
            (answer["error"]["condition"] != "resource-constraint").then_some(answer)
        };
        until(PATIENCE, "it is this user's turn to ask", answered).await.0
    }

    async fn asks(&mut self, stanza_id: &str) -> Vec<Value> {
        let answer = self.is_answered(json!({"stanza_id": stanza_id})).await;
        let events = answer["query"]["events"].clone();
        assert_eq!(answer, explanation(self.name, &json!({"events": events})));
        events.as_array().unwrap().clone()
    }

    async fn is_refused(&mut self, query: Value, kind: &str, condition: &str) {
        assert_eq!(self.is_answered(query).await, refused(kind, condition, &json!(self.name)));
    }
}

async fn hello(system: &System, name: &str, relay: u16, token: &Value, resume: Option<u64>) -> Raw {
    let mut raw = system.at_relay(name, relay).await;
    let mut hello = json!({"username": name, "message": "hello!", "token": token});
    if let Some(seq) = resume {
        hello["resume"] = json!(seq);
    }
    raw.sends(hello).await;
    raw
}

fn asking(query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "explain", "type": "get", "id": "1", "query": query})
}

fn explanation(to: &str, query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "explain", "type": "result", "query": query, "to": to, "id": "1"})
}

fn refused(kind: &str, condition: &str, to: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "explain", "type": "error",
        "error": {"type": kind, "condition": condition}, "to": to, "id": "1"})
}

/// What happened to whose device, with what reason: `written fajar`, `heard fajar announcement`.
fn steps(events: &[Value]) -> Vec<String> {
    let step = |event: &Value| {
        let [step, user, reason] =
            ["step", "user", "reason"].map(|key| event[key].as_str().unwrap_or_default());
        format!("{step} {user} {reason}").trim_end().to_owned()
    };
    events.iter().map(step).collect()
}

/// As `kurir explain` prints them, once these steps are among them: what a socket has taken is noted a moment later.
async fn explained(system: &System, args: &[&str], expected: &[&str]) -> Vec<Value> {
    let what = format!("kurir explain {args:?} says {expected:?}");
    let look = async || {
        let (code, out, _) = system.runs(&[&["explain", "--json"], args].concat()).await;
        let answer: Value = serde_json::from_str(&out).ok()?;
        let events = answer["events"].as_array()?.clone();
        let all = steps(&events);
        let there = expected.iter().all(|step| all.iter().any(|known| known == step));
        (code == Some(0) && there).then_some(events)
    };
    let (events, _) = until(PATIENCE, &what, look).await;
    let times: Vec<_> = events.iter().map(|event| event["at_us"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    events
}

/// The components at which each of these steps happened.
fn places(events: &[Value], step: &str) -> Vec<String> {
    let these = events.iter().filter(|event| event["step"] == step);
    these.map(|event| event["component"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_message_is_explained_in_one_process() {
    run(&Plan::new(Topology::OneProcess).cheap_passwords().start().await).await;
}

#[tokio::test]
async fn a_message_is_explained_on_separate_processes() {
    run(&Plan::new(Topology::Separate).cheap_passwords().start().await).await;
}

async fn run(system: &System) {
    let mut esa = User::registers(system, "esa", 1).await;
    let mut fajar = User::registers(system, "fajar", 1).await;
    let to_fajar = |id: &str| with(message("esa", "fajar", id), "id", id);

    // Within one relay.
    let stanza_id = esa.writes("1", "fajar").await;
    fajar.relay.receives(to_fajar("1")).await;
    let events = explained(system, &[&stanza_id], &["written fajar"]).await;
    let steps_there = steps(&events);
    for step in STORED {
        let whose = if step == "announced" { "fajar" } else { "esa" };
        assert!(steps_there.contains(&format!("{step} {whose}")), "{steps_there:?}");
    }
    assert!(steps_there.contains(&"read fajar".to_owned()), "{steps_there:?}");
    let relay = &places(&events, "accepted")[0];
    assert_eq!(places(&events, "written"), std::slice::from_ref(relay));
    assert!(places(&events, "committed")[0].starts_with("manager-"));
    let at = |step: &str| events.iter().position(|event| event["step"] == step).unwrap();
    let order = ["accepted", "committed", "stored", "confirmed"].map(at);
    assert!(order.is_sorted(), "{steps_there:?}");
    assert!(at("committed") < at("read") && at("read") < at("written"), "{steps_there:?}");

    // To another relay, and to a device that goes by places and acknowledges.
    fajar.resumes(system, 2, 1).await;
    let stanza_id = esa.writes("2", "fajar").await;
    let delivered = json!({"seq": 2, "ts": NUMBER, "stanza_id": stanza_id, "stanza": "message",
        "from": "esa", "to": "fajar", "lang": "id", "body": "2", "id": "2"});
    fajar.relay.receives(delivered).await;
    fajar.relay.sends(json!({"stanza": "ack", "seq": 2})).await;
    let events = explained(system, &[&stanza_id], &["written fajar", "acked fajar"]).await;
    let (accepted, acked) = (places(&events, "accepted"), places(&events, "acked"));
    assert!(
        accepted[0].starts_with("relay-") && acked[0].starts_with("relay-") && accepted != acked,
        "{events:?}"
    );
    assert_eq!(places(&events, "written"), acked);
    // Its sender is told of the receiver's devices once it sees the receiver's presence, and then without their names.
    let has =
        |told: &[Value], step: &str| told.iter().any(|event| event["step"] == step && event["at"].is_i64());
    let told = esa.asks(&stanza_id).await;
    assert!(STORED.iter().all(|step| has(&told, step)), "{told:?}");
    assert!(!["heard", "read", "written", "acked"].iter().any(|step| has(&told, step)), "{told:?}");
    esa.manager.sends(packets::add_contact("esa", "fajar", "Fajar")).await;
    for _ in 0..3 {
        esa.manager.next_packet().await.expect("an answer");
    }
    let told = esa.asks(&stanza_id).await;
    assert!(STORED.iter().chain(&["read", "written", "acked"]).all(|step| has(&told, step)), "{told:?}");
    assert!(told.iter().all(|event| event["step"] != "written" || event.get("device").is_none()), "{told:?}");
    assert!(!told.iter().any(|event| event.get("user").is_some()), "{told:?}");

    // To nobody at first: the device that comes later is shown to come.
    let waiting = system.at_relay("fajar, soon", 2).await;
    std::mem::replace(&mut fajar.relay, waiting).cut();
    system.shows("relay-2", "kurir_relay_users", 0).await;
    let stanza_id = esa.writes("3", "fajar").await;
    let events = explained(system, &[&stanza_id], &["confirmed esa"]).await;
    assert!(places(&events, "written").is_empty(), "{events:?}");
    let (code, out, err) = system.runs(&["explain", &stanza_id]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.ends_with("no device of fajar is known to have been connected since: it waits in fajar's log\n"),
        "{out}"
    );
    fajar.resumes(system, 2, 2).await;
    explained(system, &[&stanza_id], &["connected fajar", "read fajar", "written fajar"]).await;

    strangers(system, &mut esa, &mut fajar, &stanza_id).await;

    // What has no stanza id is found by what its sender called it.
    esa.relay.sends(with(message("esa", "siapa", "4"), "id", "4")).await;
    esa.relay.receives(with(not_delivered("esa"), "id", "4")).await;
    explained(system, &["--from", "Esa", "--id", "4"], &["refused esa no-account"]).await;
    esa.relay.sends(with(message("esa", "fajar", "not 1"), "id", "1")).await;
    esa.relay
        .receives(json!({"stanza": "message", "type": "error", "from": "relay", "to": "esa",
        "id": "1", "error": {"type": "cancel", "condition": "conflict"}}))
        .await;
    explained(system, &["--from", "esa", "--id", "1"], &["refused esa conflict", "written fajar"]).await;
}

/// Whoever has not sent it is told nothing; and what nobody knows is said to be so.
async fn strangers(system: &System, esa: &mut User, fajar: &mut User, stanza_id: &str) {
    fajar.is_refused(json!({"stanza_id": stanza_id}), "cancel", "item-not-found").await;
    let unknown = "0192f0c1-7b5a-7d3e-8f00-000000000001";
    esa.is_refused(json!({"stanza_id": unknown}), "cancel", "item-not-found").await;
    for bad in [json!({"stanza_id": "3"}), json!({"stanza_id": 3}), json!({}), json!(null)] {
        esa.is_refused(bad, "modify", "bad-request").await;
    }
    let mut nobody = Raw::connect("nobody", system.manager(1), Speaks::Lines).await;
    nobody.sends(asking(&json!({"stanza_id": stanza_id}))).await;
    nobody.receives(refused("auth", "not-authorized", &Value::Null)).await;

    let (code, out, err) = system.runs(&["explain", unknown]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.starts_with(&format!("kurir: nobody knows message {unknown}: it is of 2024-11-")), "{err}");
    // For people.
    let (code, out, err) = system.runs(&["explain", stanza_id]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    println!("{out}");
    for line in ["accepted", "committed", "connected", "fajar's log at"] {
        assert!(out.contains(line), "{out}");
    }
}

/// Nothing of it is stored then; later it is, and both are told.
#[tokio::test]
async fn a_message_that_was_refused_while_the_database_was_away_is_explained() {
    let mut system = Plan::new(Topology::Separate).cheap_passwords().start().await;
    let mut esa = User::registers(&system, "esa", 1).await;
    let fajar = User::registers(&system, "fajar", 2).await;
    system.postgres().stop().await;
    esa.relay.sends(with(message("esa", "fajar", "1"), "id", "1")).await;
    let wait = json!({"type": "wait", "condition": "resource-constraint"});
    let refused =
        json!({"stanza": "message", "type": "error", "from": "relay", "to": "esa", "id": "1", "error": wait});
    esa.relay.receives(refused).await;
    let by_sender = ["--from", "esa", "--id", "1"];
    let events = explained(&system, &by_sender, &["refused esa no-answer"]).await;
    assert!(events.iter().all(|event| event["step"] == "refused" && event["count"] == 2), "{events:?}");
    system.postgres().start_again().await;
    let stored = async || {
        esa.relay.sends(with(message("esa", "fajar", "1"), "id", "1")).await;
        let answer = esa.relay.next_packet().await?;
        answer["stanza_id"].as_str().map(str::to_owned)
    };
    let (stanza_id, _) = until(PATIENCE, "the message is stored", stored).await;
    let events =
        explained(&system, &[&stanza_id], &["refused esa no-answer", "accepted esa", "written fajar"]).await;
    assert_eq!(steps(&events)[0], "refused esa no-answer");

    // A part that says nothing is named, and the rest is told.
    system.pause("relay-2");
    let answer = esa.is_answered(json!({"stanza_id": stanza_id})).await;
    let events = answer["query"]["events"].clone();
    assert_eq!(answer, explanation("esa", &json!({"events": events, "incomplete": true})));
    system.kill("relay-2");
    let (code, out, err) = system.runs(&["explain", &stanza_id]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.starts_with("kurir: what relay-2 knows is missing: "), "{err}");
    assert!(out.contains("committed") && !out.contains("written"), "{out}");
    drop(fajar);
}

#[tokio::test]
async fn a_trail_in_the_database_outlives_its_relays() {
    let plan = Plan::new(Topology::Separate).cheap_passwords().setting("manager.explain_sql_hours", 1);
    let mut system = plan.start().await;
    let mut esa = User::registers(&system, "esa", 1).await;
    let mut fajar = User::registers(&system, "fajar", 2).await;
    let stanza_id = esa.writes("1", "fajar").await;
    fajar.relay.receives(with(message("esa", "fajar", "1"), "id", "1")).await;
    let before = explained(&system, &[&stanza_id], &["written fajar"]).await;
    // Everything is in the database once the last one is.
    let kept = async || {
        let rows = system.postgres().query("SELECT step FROM trail ORDER BY at_us").await;
        rows.contains("written").then_some(rows)
    };
    until(PATIENCE, "the last step is in the database", kept).await;
    for part in ["relay-1", "relay-2", "manager-1"] {
        system.restarts(part).await;
    }
    let parts = system.components();
    system.lists(&parts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let after = explained(&system, &[&stanza_id], &["written fajar"]).await;
    assert_eq!(steps(&after), steps(&before));

    // Whose database does not answer has not forgotten. The other manager still remembers by itself.
    system.restarts("manager-2").await;
    system.postgres().stop().await;
    let (code, out, err) = system.runs(&["explain", &stanza_id]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    for said in [
        "knows is missing: its database gave no answer",
        "of those who answered: ask again when all of them do",
    ] {
        assert!(err.contains(said), "{err}");
    }
}
