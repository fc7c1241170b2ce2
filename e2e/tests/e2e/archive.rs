//! PROTOCOL Part II `archive`: an account reads its log back, and is told of what is gone.

use kurir_e2e::packets::{self, DOMAIN, with};
use kurir_e2e::pattern::{NUMBER, TEXT};
use kurir_e2e::{PATIENCE, Plan, System, Topology};
use serde_json::{Value, json};

use crate::tracked::{Device, placed};

kurir_e2e::shows! {
    the_archive_in_one_process: "";
    the_archive_on_separate_processes: "";
    what_is_gone_is_said: "";
}

#[tokio::test]
async fn the_archive_in_one_process() {
    run(&Plan::new(Topology::OneProcess).cheap_passwords().start().await, 1).await;
}

#[tokio::test]
async fn the_archive_on_separate_processes() {
    run(&Plan::new(Topology::Separate).cheap_passwords().start().await, 2).await;
}

fn asks(query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "archive", "type": "get", "id": "a", "query": query})
}

fn result(to: &str, query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "archive", "type": "result", "query": query, "to": to, "id": "a"})
}

fn found(messages: &[Value], complete: bool) -> Value {
    json!({"messages": messages, "complete": complete, "log": TEXT})
}

fn refused(to: &Value, kind: &str, condition: &str) -> Value {
    json!({"stanza": "iq", "namespace": "archive", "type": "error", "to": to, "id": "a",
        "error": {"type": kind, "condition": condition}})
}

async fn run(system: &System, managers: u16) {
    let mut esa = Device::registers(system, "esa", 1, 1).await;
    let mut fajar = Device::registers(system, "fajar", managers, 2).await;
    let mut gita = Device::registers(system, "gita", 1, 1).await;
    esa.manager.sends(asks(&json!({}))).await;
    esa.manager.receives(result("esa", &found(&[], true))).await;

    // Four between Esa and Fajar, one of Gita's between them.
    let (mut log, mut ids) = (Vec::new(), Vec::new());
    for (number, from) in [&mut esa, &mut fajar, &mut gita].into_iter().enumerate() {
        let to = if number == 0 { "fajar" } else { "esa" };
        let id = number.to_string();
        from.writes(&id, to, "halo").await;
        ids.push(is_stored(from, &id).await);
        log.push(placed(from.tracked(&id, to, "halo"), log.len() as u64 + 1));
    }
    for (from, to, id) in [(&mut fajar, "esa", "7"), (&mut esa, "fajar", "8")] {
        from.writes(id, to, "lagi").await;
        ids.push(is_stored(from, id).await);
        log.push(placed(from.tracked(id, to, "lagi"), log.len() as u64 + 1));
    }
    let with_fajar = [&log[0..2], &log[3..5]].concat();
    for (query, expected) in [
        (json!(null), found(&log, true)),
        (json!({"limit": 2}), found(&log[3..], false)),
        (json!({"before": 4, "limit": 2}), found(&log[1..3], false)),
        (json!({"before": 3}), found(&log[..2], true)),
        (json!({"after": 0, "limit": 2}), found(&log[..2], false)),
        (json!({"after": 3}), found(&log[3..], true)),
        (json!({"after": 1, "before": 4}), found(&log[1..3], true)),
        (json!({"with": "Fajar"}), found(&with_fajar, true)),
        (json!({"with": "fajar@localhost", "before": 4, "limit": 1}), found(&log[1..2], false)),
        (json!({"with": "siapa"}), found(&[], true)),
        (json!({"id": "8"}), found(&log[4..], true)),
        (json!({"id": "1"}), found(&[], true)),
    ] {
        esa.manager.sends(asks(&query)).await;
        esa.manager.receives(result("esa", &expected)).await;
    }
    for query in
        [json!([]), json!({"limit": "2"}), json!({"with": 7}), json!({"with": "a@elsewhere.example"})]
    {
        esa.manager.sends(asks(&query)).await;
        esa.manager.receives(refused(&json!("esa"), "modify", "bad-request")).await;
    }
    let mut stranger = system.at_manager("a stranger", 1).await;
    stranger.sends(asks(&json!({}))).await;
    stranger.receives(refused(&Value::Null, "auth", "not-authorized")).await;

    reads(&mut esa, &ids).await;
    as_a_named_device_reads_it(system, managers, &log).await;
}

/// After what others have sent meanwhile.
async fn is_stored(sender: &mut Device, id: &str) -> Value {
    let ack = json!({"stanza": "message", "type": "ack", "id": id, "stanza_id": TEXT, "level": "stored"});
    sender.relay.receives_in_the_end(ack, PATIENCE).await["stanza_id"].clone()
}

/// How far a conversation was read is known to every device.
async fn reads(esa: &mut Device, ids: &[Value]) {
    let marker = |id: &str, stanza_id: &Value| json!({"stanza": "message", "from": "esa", "to": "fajar", "id": id, "marker": {"displayed": stanza_id}});
    for (id, read) in [("m1", &ids[3]), ("m2", &ids[1])] {
        esa.relay.sends(marker(id, read)).await;
        is_stored(esa, id).await;
    }
    esa.manager.sends(asks(&json!({"displayed": null}))).await;
    let furthest = json!([{"with": "fajar", "stanza_id": ids[3], "ts": NUMBER}]);
    esa.manager.receives(result("esa", &json!({"displayed": furthest}))).await;
}

async fn as_a_named_device_reads_it(system: &System, manager: u16, log: &[Value]) {
    let mut phone = system.at_manager("esa's phone", manager).await;
    let auth = json!({"type": "auth", "username": "esa", "password": "12345", "resource": "phone"});
    phone.sends(auth).await;
    let jid = format!("esa@{DOMAIN}/phone");
    phone.receives(with(packets::logged_in(), "jid", jid.clone())).await;
    let addressed = |entry: &Value, from: &str, to: &str| {
        with(with(entry.clone(), "from", format!("{from}@{DOMAIN}/default")), "to", to)
    };
    let page = [addressed(&log[0], "esa", &format!("fajar@{DOMAIN}")), addressed(&log[1], "fajar", &jid)];
    phone.sends(asks(&json!({"before": 3}))).await;
    phone.receives(result(&jid, &found(&page, true))).await;
    phone.sends(asks(&json!({"displayed": null}))).await;
    let read = json!([{"with": format!("fajar@{DOMAIN}"), "stanza_id": TEXT, "ts": NUMBER}]);
    phone.receives(result(&jid, &json!({"displayed": read}))).await;
}

/// A device that comes back to a log of which a part was dropped.
#[tokio::test]
async fn what_is_gone_is_said() {
    let mut system = Plan::new(Topology::Separate).cheap_passwords().start().await;
    let mut esa = Device::registers(&system, "esa", 1, 1).await;
    let mut fajar = Device::registers(&system, "fajar", 2, 2).await;
    // Of two hellos that come at once either may be the one that stays.
    fajar.relay.settles().await;
    fajar.comes_back(&system, 2, Some(json!({"resume": 0}))).await;
    let ready =
        fajar.relay.receives(json!({"stanza": "stream", "type": "ready", "seq": 0, "log": TEXT})).await;
    for number in 1..=5 {
        let id = number.to_string();
        esa.writes(&id, "fajar", &id).await;
        esa.is_acknowledged(&id).await;
        fajar.relay.receives(placed(esa.tracked(&id, "fajar", &id), number)).await;
    }
    // As retention does it, which looks once an hour.
    let his = "account_id = (SELECT id FROM account WHERE username_key = 'fajar')";
    system.postgres().runs(&format!("DELETE FROM log_entry WHERE {his} AND seq <= 3"));
    system.postgres().runs(&format!("UPDATE log SET first_seq = 4 WHERE {his}"));

    let log = &ready["log"];
    let ready = json!({"stanza": "stream", "type": "ready", "seq": 5, "log": log, "first": 4});
    let gap = |after: u64| {
        json!({"stanza": "stream", "type": "gap", "after": after, "first": 4,
            "error": {"type": "cancel", "condition": "item-not-found"}})
    };
    for (resume, told) in [(0, true), (2, true), (3, false), (4, false)] {
        fajar.comes_back(&system, 1, Some(json!({"resume": resume, "log": log}))).await;
        fajar.relay.receives(ready.clone()).await;
        if told {
            fajar.relay.receives(gap(resume)).await;
        }
        for number in 4.max(resume + 1)..=5 {
            let id = number.to_string();
            fajar.relay.receives(placed(esa.tracked(&id, "fajar", &id), number)).await;
        }
        fajar.relay.hears_nothing_else().await;
    }
    fajar.manager.sends(asks(&json!({"before": 5}))).await;
    let fourth = [placed(esa.tracked("4", "fajar", "4"), 4)];
    fajar.manager.receives(result("fajar", &with(found(&fourth, true), "first", 4))).await;
    // The original never notices.
    fajar.comes_back(&system, 2, None).await;
    esa.writes("6", "fajar", "6").await;
    esa.is_acknowledged("6").await;
    fajar.relay.receives_in_the_end(esa.tracked("6", "fajar", "6"), PATIENCE).await;
    system.stops().await;
}
