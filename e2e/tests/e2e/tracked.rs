//! PROTOCOL Part II: messages with an `id` are stored before they are acknowledged, and reach their receiver, online or
//! not, at whichever relay.

use std::time::Duration;

use kurir_e2e::disk::SmallDisk;
use kurir_e2e::packets::{self, account_created, message, not_delivered, with};
use kurir_e2e::pattern::{ANY, NUMBER, TEXT, includes};
use kurir_e2e::system::UP;
use kurir_e2e::{PATIENCE, Plan, Raw, Speaks, System, Topology, until};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long one answer is waited for before the client goes elsewhere.
const ONE_ANSWER: Duration = Duration::from_secs(3);

kurir_e2e::shows! {
    tracked_messages_in_one_process: "";
    tracked_messages_on_separate_processes: "";
    acknowledged_messages_outlive_every_part: "";
    a_full_disk_refuses_and_loses_nothing: "";
}

/// One device, with what it knows of its log.
pub(crate) struct Device {
    name: String,
    pub(crate) manager: Raw,
    pub(crate) relay: Raw,
}

impl Device {
    pub(crate) async fn registers(system: &System, name: &str, manager: u16, relay: u16) -> Device {
        let mut raw = system.at_manager(name, manager).await;
        raw.sends(json!({"type": "auth", "username": name, "password": "12345", "register": true})).await;
        let token = raw.receives(account_created()).await["component"][0]["token"].clone();
        let relay = hello(system, name, relay, &token, None).await;
        Device { name: name.into(), manager: raw, relay }
    }

    /// Another relay connection with a new ticket.
    pub(crate) async fn comes_back(&mut self, system: &System, relay: u16, resume: Option<Value>) {
        self.manager.sends(json!({"type": "get_relay_less_connection"})).await;
        let offer = self.manager.receives(packets::relay_less_connection()).await;
        self.relay = hello(system, &self.name, relay, &offer[0]["component"][0]["token"], resume).await;
    }

    pub(crate) fn tracked(&self, id: &str, to: &str, body: &str) -> Value {
        with(message(&self.name, to, body), "id", id)
    }

    pub(crate) async fn writes(&mut self, id: &str, to: &str, body: &str) {
        let message = self.tracked(id, to, body);
        self.relay.sends(message).await;
    }

    pub(crate) async fn is_acknowledged(&mut self, id: &str) -> Value {
        let ack = json!({"stanza": "message", "type": "ack", "id": id, "stanza_id": TEXT, "level": "stored"});
        self.relay.receives(ack).await["stanza_id"].clone()
    }
}

async fn hello(system: &System, name: &str, relay: u16, token: &Value, resume: Option<Value>) -> Raw {
    let mut raw = system.at_relay(name, relay).await;
    let mut hello = json!({"username": name, "message": "hello!", "token": token});
    if let Some(Value::Object(members)) = resume {
        hello.as_object_mut().unwrap().extend(members);
    }
    raw.sends(hello).await;
    raw
}

fn from_relay(to: &str, id: &Value, kind: &str, condition: &str) -> Value {
    json!({"stanza": "message", "type": "error", "from": "relay", "to": to, "id": id,
        "error": {"type": kind, "condition": condition}})
}

#[tokio::test]
async fn tracked_messages_in_one_process() {
    run(&Plan::new(Topology::OneProcess).cheap_passwords().start().await, 1).await;
}

#[tokio::test]
async fn tracked_messages_on_separate_processes() {
    run(&Plan::new(Topology::Separate).cheap_passwords().start().await, 2).await;
}

async fn run(system: &System, managers: u16) {
    let mut esa = Device::registers(system, "esa", 1, 1).await;
    let mut fajar = Device::registers(system, "fajar", managers, 2).await;

    // Stored, acknowledged, delivered as any message is; the same again is the same, other content is a conflict.
    esa.writes("1", "fajar", "halo").await;
    let first = esa.is_acknowledged("1").await;
    fajar.relay.receives(esa.tracked("1", "fajar", "halo")).await;
    esa.writes("1", "fajar", "halo").await;
    assert_eq!(esa.is_acknowledged("1").await, first);
    esa.writes("1", "fajar", "hai").await;
    esa.relay.receives(from_relay("esa", &json!("1"), "cancel", "conflict")).await;
    fajar.relay.hears_nothing_else().await;

    // Ids that are none, receivers that are none.
    for id in [json!(""), json!("x".repeat(256)), json!(7), json!({})] {
        esa.relay.sends(with(message("esa", "fajar", "halo"), "id", id.clone())).await;
        esa.relay.receives(from_relay("esa", &id, "modify", "bad-request")).await;
    }
    for to in ["siapa", "a b"] {
        esa.writes("2", to, "halo").await;
        esa.relay.receives(with(not_delivered("esa"), "id", "2")).await;
    }

    // Offline: kept, in order, and delivered once, before what comes later.
    let Device { manager, relay, .. } = fajar;
    relay.cut();
    manager.cut();
    for number in 3..8 {
        let id = number.to_string();
        esa.writes(&id, "fajar", &id).await;
        esa.is_acknowledged(&id).await;
    }
    let mut fajar = returns(system, "fajar", managers, 1, None).await;
    for number in 3..8 {
        let id = number.to_string();
        fajar.relay.receives(esa.tracked(&id, "fajar", &id)).await;
    }
    esa.writes("8", "fajar", "8").await;
    esa.is_acknowledged("8").await;
    fajar.relay.receives(esa.tracked("8", "fajar", "8")).await;

    // From a place in the log: everything after it, then what comes, with its place.
    let mut resumed = json!({"resume": 0});
    fajar.comes_back(system, 2, Some(resumed.clone())).await;
    let ready =
        fajar.relay.receives(json!({"stanza": "stream", "type": "ready", "seq": 7, "log": TEXT})).await;
    for (seq, id) in (1..).zip(["1", "3", "4", "5", "6", "7", "8"]) {
        let body = if id == "1" { "halo" } else { id };
        fajar.relay.receives(placed(esa.tracked(id, "fajar", body), seq)).await;
    }
    fajar.relay.sends(json!({"stanza": "ack", "seq": 7})).await;
    esa.writes("9", "fajar", "9").await;
    esa.is_acknowledged("9").await;
    fajar.relay.receives(placed(esa.tracked("9", "fajar", "9"), 8)).await;

    // What it sends itself is in its log and not shown to it.
    fajar.writes("1", "esa", "apa kabar").await;
    let ack = json!({"stanza": "message", "type": "ack", "id": "1", "stanza_id": TEXT, "seq": 9, "level": "stored"});
    fajar.relay.receives(ack).await;
    esa.relay.receives(fajar.tracked("1", "esa", "apa kabar")).await;
    fajar.relay.hears_nothing_else().await;

    // On from there, at another relay; another log, or beyond the end: all of it.
    resumed["resume"] = json!(8);
    resumed["log"] = ready["log"].clone();
    fajar.comes_back(system, 1, Some(resumed.clone())).await;
    let ready = json!({"stanza": "stream", "type": "ready", "seq": 9, "log": ready["log"]});
    fajar.relay.receives(ready.clone()).await;
    fajar.relay.receives(placed(fajar.tracked("1", "esa", "apa kabar"), 9)).await;
    for resume in [json!({"resume": 8, "log": "another"}), json!({"resume": 10}), json!({"resume": u64::MAX})]
    {
        fajar.comes_back(system, 2, Some(resume)).await;
        let not_there = json!({"type": "cancel", "condition": "item-not-found"});
        fajar.relay.receives(with(with(ready.clone(), "reset", true), "error", not_there)).await;
        for seq in 1..=9 {
            assert_eq!(fajar.relay.receives(ANY.into()).await["seq"], seq);
        }
        fajar.relay.hears_nothing_else().await;
    }
}

/// A login after a connection was cut: refused until the manager has noticed.
async fn returns(system: &System, name: &str, manager: u16, relay: u16, resume: Option<Value>) -> Device {
    let again = async || {
        let mut raw = Raw::try_connect(name, system.manager(manager), Speaks::Lines).await.ok()?;
        raw.try_send(&json!({"type": "auth", "username": name, "password": "12345"})).await.ok()?;
        let reply = timeout(ONE_ANSWER, raw.next_packet()).await.ok()??;
        let token = reply["component"][0]["token"].clone();
        (reply["code"] == 200 && token.is_string()).then_some((raw, token))
    };
    let ((manager, token), _) = until(PATIENCE * 2, "logged in again", again).await;
    let relay = hello(system, name, relay, &token, resume).await;
    Device { name: name.into(), manager, relay }
}

pub(crate) fn placed(message: Value, seq: u64) -> Value {
    with(with(with(message, "seq", seq), "stanza_id", TEXT), "ts", NUMBER)
}

/// The database cannot store: nothing is acknowledged, the sender keeps it, and nobody is sent anything that is not stored.
#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let mut system = Plan::new(Topology::OneProcess).cheap_passwords().start_nothing_but_stores().await;
    let disk = match SmallDisk::mount(&system.dir().join("data")) {
        Ok(disk) => disk,
        Err(why) => return println!("no disk is filled, none could be mounted: {why}"),
    };
    system.starts(UP).await;
    system.is_joined().await;
    let mut esa = Device::registers(&system, "esa", 1, 1).await;
    let mut fajar = Device::registers(&system, "fajar", 1, 2).await;
    esa.writes("1", "fajar", "halo").await;
    esa.is_acknowledged("1").await;
    fajar.relay.receives(esa.tracked("1", "fajar", "halo")).await;

    disk.fill();
    // What is left of a page that was there before may take a few.
    let large = "x".repeat(4000);
    let mut number = 2;
    let refused = loop {
        let id = number.to_string();
        esa.writes(&id, "fajar", &large).await;
        let answer = esa.relay.receives(ANY.into()).await;
        if answer["type"] == "error" {
            assert_eq!(answer, from_relay("esa", &json!(id), "wait", "resource-constraint"));
            break id;
        }
        assert_eq!(answer["type"], "ack", "{answer}");
        fajar.relay.receives(esa.tracked(&id, "fajar", &large)).await;
        number += 1;
        assert!(number < 10_000, "the disk is never full");
    };
    fajar.relay.hears_nothing_else().await;

    disk.free();
    let stored = async || {
        esa.writes(&refused, "fajar", &large).await;
        (esa.relay.receives(ANY.into()).await["type"] == "ack").then_some(())
    };
    until(PATIENCE, "the refused message is stored", stored).await;
    fajar.relay.receives(esa.tracked(&refused, "fajar", &large)).await;
    fajar.relay.hears_nothing_else().await;
    system.stops().await;
}

/// A sender that never gives up sends a hundred messages while one part after the other dies; the receiver, who was away
/// all the time, then reads each of them, once and in order.
#[tokio::test]
async fn acknowledged_messages_outlive_every_part() {
    const MESSAGES: usize = 120;
    let mut system = Plan::new(Topology::Separate).cheap_passwords().start().await;
    let fajar = Device::registers(&system, "fajar", 1, 1).await;
    fajar.manager.cut();
    fajar.relay.cut();
    let mut esa = Some(Device::registers(&system, "esa", 1, 1).await);
    let mut reconnected = 0;
    for number in 0..MESSAGES {
        match number {
            20 => system.kill("relay-1"),
            40 => system.kill("manager-1"),
            60 => {
                system.start_again("manager-1").await;
                system.redis().flush_all().await;
            }
            80 => {
                system.postgres().stop().await;
                system.postgres().start_again().await;
            }
            100 => system.kill("relay-2"),
            _ => {}
        }
        let id = number.to_string();
        while !is_stored(esa.as_mut(), &id).await {
            reconnected += 1;
            // Otherwise the old connection has the device.
            drop(esa.take());
            // At the second manager, and at any relay that is left.
            esa = Some(returns(&system, "esa", 2, if number < 100 { 2 } else { 3 }, None).await);
        }
    }
    println!("{MESSAGES} acknowledged, {reconnected} reconnections");
    system.start_again("relay-1").await;
    let mut fajar = returns(&system, "fajar", 2, 1, Some(json!({"resume": 0}))).await;
    fajar.relay.receives(json!({"stanza": "stream", "type": "ready", "seq": MESSAGES, "log": TEXT})).await;
    for number in 0..MESSAGES {
        let id = number.to_string();
        let expected = with(with(message("esa", "fajar", &id), "id", id), "seq", number + 1);
        let packet = fajar.relay.receives(ANY.into()).await;
        assert!(includes(&expected, &packet), "{expected} was to come, not {packet}");
    }
    fajar.relay.hears_nothing_else().await;
    system.stops().await;
}

/// Whether the ack has come; otherwise the connection is of no use any more.
async fn is_stored(sender: Option<&mut Device>, id: &str) -> bool {
    let Some(sender) = sender else { return false };
    let message = with(message("esa", "fajar", id), "id", id);
    let stored = async {
        sender.relay.try_send(&message).await.ok()?;
        loop {
            let packet = sender.relay.next_packet().await?;
            match (packet["type"].as_str(), packet["id"].as_str()) {
                (Some("ack"), Some(acked)) if acked == id => return Some(()),
                // Not now: the same message again.
                (Some("error"), Some(_)) => {
                    assert_eq!(packet["error"]["condition"], "resource-constraint", "{packet}");
                    return None;
                }
                _ => {}
            }
        }
    };
    matches!(timeout(ONE_ANSWER, stored).await, Ok(Some(())))
}
