//! PROTOCOL Part II `resource`: one account on several devices, at several managers and relays.

use kurir_e2e::packets::{
    DOMAIN, FIRST_BIO, account_created, add_contact, bad_request, item, logged_in, message, not_delivered,
    presence_to, refusal, roster_set, subscribed, with,
};
use kurir_e2e::pattern::{NUMBER, TEXT};
use kurir_e2e::{PATIENCE, Plan, Raw, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    several_devices_in_one_process: "";
    several_devices_on_separate_processes: "";
}

struct Device {
    manager: Raw,
    relay: Raw,
}

/// Where a device connects, by number.
#[derive(Clone, Copy)]
struct At {
    manager: u16,
    relay: u16,
}

impl Device {
    /// Registers or logs in, and says hello.
    async fn comes(system: &System, at: At, auth: Value, expected: Value) -> Device {
        let user = auth["username"].as_str().unwrap().to_owned();
        let device = auth["resource"].as_str().unwrap_or("default").to_owned();
        let mut manager = system.at_manager(&format!("{user}'s {device}"), at.manager).await;
        manager.sends(auth).await;
        let reply = manager.receives(expected).await;
        let mut relay = system.at_relay(&format!("{user}'s {device} at a relay"), at.relay).await;
        let token = &reply["component"][0]["token"];
        relay.sends(json!({"username": user, "message": "hello!", "token": token})).await;
        relay.sends(kurir_e2e::packets::ping("hello")).await;
        relay.receives(json!({"stanza": "iq", "namespace": "ping", "type": "result", "id": "hello"})).await;
        Device { manager, relay }
    }

    async fn hears_nothing_else(&mut self) {
        self.manager.hears_nothing_else().await;
        self.relay.hears_nothing_else().await;
    }
}

fn auth(user: &str, device: Option<&str>) -> Value {
    let auth = json!({"type": "auth", "username": user, "password": "12345"});
    match device {
        Some(device) => with(auth, "resource", device),
        None => auth,
    }
}

fn jid(user: &str, device: &str) -> String {
    format!("{user}@{DOMAIN}/{device}")
}

#[tokio::test]
async fn several_devices_in_one_process() {
    let near = At { manager: 1, relay: 1 };
    run(&Plan::new(Topology::OneProcess).cheap_passwords().start().await, near, At { relay: 2, ..near })
        .await;
}

#[tokio::test]
async fn several_devices_on_separate_processes() {
    let system = Plan::new(Topology::Separate).cheap_passwords().start().await;
    run(&system, At { manager: 1, relay: 1 }, At { manager: 2, relay: 2 }).await;
}

async fn run(system: &System, near: At, far: At) {
    let mut esa =
        Device::comes(system, near, with(auth("esa", None), "register", true), account_created()).await;
    let mut refused = system.at_manager("fajar", near.manager).await;
    refused.sends(with(auth("fajar", Some("default")), "register", true)).await;
    refused.receives(bad_request()).await;
    let register = with(auth("fajar", Some("phone")), "register", true);
    let created = with(account_created(), "jid", jid("fajar", "phone"));
    let mut phone = Device::comes(system, near, register, created).await;
    let laptop_is_here = with(logged_in(), "jid", jid("fajar", "laptop"));
    let mut laptop = Device::comes(system, far, auth("fajar", Some("laptop")), laptop_is_here).await;

    // The original adds a contact as ever, and is shown one presence; a named device reads addresses.
    esa.manager.sends(add_contact("esa", "fajar", "teman")).await;
    esa.manager.receives(subscribed("fajar", "esa", &item("fajar", "teman", "to"))).await;
    esa.manager.receives(presence_to("fajar", FIRST_BIO, 1, "esa")).await;
    esa.manager.receives(roster_set("esa")).await;
    phone.manager.sends(add_contact("fajar@localhost", "esa", "kawan")).await;
    let (from, to) = ("esa@localhost", jid("fajar", "phone"));
    phone.manager.receives(subscribed(from, &to, &item("esa", "kawan", "both"))).await;
    phone.manager.receives(with(presence_to("esa", FIRST_BIO, 1, &to), "from", from)).await;
    phone.manager.receives(roster_set(&to)).await;
    esa.manager.receives(subscribed("fajar", "esa", &item("fajar", "teman", "both"))).await;

    messages(&mut esa, &mut phone, &mut laptop).await;
    presence(system, far, &mut esa, &mut phone, laptop).await;
    let laptop_is_here = with(logged_in(), "jid", jid("fajar", "laptop"));
    let laptop = Device::comes(system, far, auth("fajar", Some("laptop")), laptop_is_here).await;
    conflict_and_removal(system, near, phone, laptop).await;
}

/// As `fajar`'s device reads what `from` has written to him.
fn addressed(written: Value, from: &str, device: &str) -> Value {
    with(with(written, "from", from), "to", jid("fajar", device))
}

async fn messages(esa: &mut Device, phone: &mut Device, laptop: &mut Device) {
    let from_esa = jid("esa", "default");
    // To a name or the account's address: every device. To a full address: that one.
    for to in ["fajar", "Fajar@LocalHost"] {
        let halo = message("esa", to, "halo");
        esa.relay.sends(halo.clone()).await;
        phone.relay.receives(addressed(halo.clone(), &from_esa, "phone")).await;
        laptop.relay.receives(addressed(halo, &from_esa, "laptop")).await;
    }
    for (device, name) in [(&mut *phone, "phone"), (&mut *laptop, "laptop")] {
        let halo = message("esa", &jid("fajar", name), "halo kamu");
        esa.relay.sends(halo.clone()).await;
        device.relay.receives(addressed(halo, &from_esa, name)).await;
    }
    for nobody in ["fajar@elsewhere.example", "siapa@localhost"] {
        esa.relay.sends(message("esa", nobody, "halo?")).await;
        esa.relay.receives(not_delivered("esa")).await;
    }
    // No device of that name: nobody else gets it (RFC 6121 section 8.5.3.2.1).
    esa.relay.sends(message("esa", "fajar@localhost/watch", "halo?")).await;
    phone.hears_nothing_else().await;
    laptop.hears_nothing_else().await;
    // And nobody is deaf after it.
    let halo = message("esa", "fajar", "halo lagi");
    esa.relay.sends(halo.clone()).await;
    phone.relay.receives(addressed(halo.clone(), &from_esa, "phone")).await;
    laptop.relay.receives(addressed(halo, &from_esa, "laptop")).await;

    // To the original everything looks as it always did.
    for (device, name) in [(&mut *phone, "phone"), (&mut *laptop, "laptop")] {
        device.relay.sends(message("whoever", "esa@localhost", name)).await;
        esa.relay.receives(message("fajar", "esa", name)).await;
        device.relay.sends(message("whoever", "siapa", name)).await;
        device.relay.receives(not_delivered(&jid("fajar", name))).await;
    }

    // Tracked: every device, and of what one has sent the others too.
    let stored = with(message("esa", "fajar", "simpan"), "id", "1");
    esa.relay.sends(stored.clone()).await;
    let ack = |id: &str| json!({"stanza": "message", "type": "ack", "id": id, "stanza_id": TEXT, "level": "stored"});
    esa.relay.receives(ack("1")).await;
    phone.relay.receives(addressed(stored.clone(), &from_esa, "phone")).await;
    laptop.relay.receives(addressed(stored, &from_esa, "laptop")).await;
    let answer = with(message("fajar", "esa", "sudah"), "id", "1");
    phone.relay.sends(answer.clone()).await;
    phone.relay.receives(ack("1")).await;
    esa.relay.receives(answer.clone()).await;
    let copy = with(with(answer, "from", jid("fajar", "phone")), "to", "esa@localhost");
    laptop.relay.receives(copy).await;
    esa.hears_nothing_else().await;
    phone.hears_nothing_else().await;
    laptop.hears_nothing_else().await;
}

/// Contacts see offline when the last device goes.
async fn presence(system: &System, far: At, esa: &mut Device, phone: &mut Device, laptop: Device) {
    let Device { manager, relay } = laptop;
    manager.cut();
    relay.cut();
    until_offline(phone, "laptop").await;
    esa.manager.hears_nothing_else().await;
    phone.manager.sends(json!({"stanza": "presence", "from": "fajar", "bio": "masih di sini"})).await;
    let masih = json!({"stanza": "presence", "from": "fajar", "username": "fajar", "bio": "masih di sini",
        "online": 1, "updated_at": NUMBER});
    esa.manager.receives(masih).await;
    // The only one left, for a moment: gone, and then back.
    let tablet_is_here = with(logged_in(), "jid", jid("esa", "tablet"));
    let mut tablet = Device::comes(system, far, auth("esa", Some("tablet")), tablet_is_here).await;
    tablet.manager.sends(json!({"stanza": "presence", "to": "fajar@localhost"})).await;
    let directed = json!({"stanza": "presence", "from": "fajar@localhost", "username": "fajar",
        "bio": "masih di sini", "online": 1, "updated_at": NUMBER, "to": jid("esa", "tablet"), "directed_entity": true});
    tablet.manager.receives(directed).await;
    let directed = json!({"stanza": "presence", "from": "esa@localhost", "username": "esa", "bio": FIRST_BIO,
        "online": 1, "updated_at": NUMBER, "to": jid("fajar", "phone"), "directed_entity": true});
    phone.manager.receives(directed).await;
    tablet.manager.sends(json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    tablet.manager.is_closed().await;
    tablet.relay.receives(not_authorized()).await;
    tablet.relay.is_closed().await;
    phone.manager.hears_nothing_else().await;
}

async fn until_offline(asker: &mut Device, device: &str) {
    let devices = async {
        loop {
            asker.manager.sends(list()).await;
            let answer = asker.manager.receives(listed("phone")).await;
            let known = answer["query"]["devices"].as_array().unwrap();
            if known.iter().any(|known| known["resource"] == device && known["online"] == 0) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, devices).await.expect("the device goes offline");
}

fn list() -> Value {
    json!({"stanza": "iq", "namespace": "account", "type": "get", "id": "list"})
}

fn listed(asker: &str) -> Value {
    let query = json!({"devices": kurir_e2e::pattern::ANY});
    json!({"stanza": "iq", "namespace": "account", "type": "result", "query": query, "to": jid("fajar", asker), "id": "list"})
}

fn not_authorized() -> Value {
    let error = json!({"type": "auth", "condition": "not-authorized"});
    json!({"stanza": "stream", "type": "error", "error": error})
}

async fn conflict_and_removal(system: &System, near: At, mut phone: Device, mut laptop: Device) {
    // The same device again: the newer one has it.
    let here = with(logged_in(), "jid", jid("fajar", "phone"));
    let mut newer = Device::comes(system, near, auth("fajar", Some("phone")), here).await;
    let gone =
        json!({"stanza": "stream", "type": "error", "error": {"type": "cancel", "condition": "conflict"}});
    for socket in [&mut phone.manager, &mut phone.relay] {
        socket.receives(refusal(409, "Conflict")).await;
        socket.receives(gone.clone()).await;
        socket.is_closed().await;
    }

    newer.manager.sends(list()).await;
    let answer = newer.manager.receives(listed("phone")).await;
    let devices: Vec<_> = answer["query"]["devices"].as_array().unwrap().clone();
    let names: Vec<_> = devices.iter().map(|device| device["resource"].as_str().unwrap()).collect();
    assert_eq!(names, ["laptop", "phone"]);
    assert!(devices.iter().all(|device| device["online"] == 1), "{devices:?}");

    let remove = |device: &str| json!({"stanza": "iq", "namespace": "account", "type": "set", "id": device, "query": {"remove": device}});
    let answer = |kind: &str, id: &str| json!({"stanza": "iq", "namespace": "account", "type": kind, "to": jid("fajar", "phone"), "id": id});
    newer.manager.sends(remove("watch")).await;
    let not_found = json!({"type": "cancel", "condition": "item-not-found"});
    newer.manager.receives(with(answer("error", "watch"), "error", not_found)).await;
    newer.manager.sends(remove("laptop")).await;
    newer.manager.receives(answer("result", "laptop")).await;
    laptop.manager.receives(refusal(401, "Unauthorized")).await;
    laptop.manager.receives(not_authorized()).await;
    laptop.manager.is_closed().await;
    laptop.relay.receives(not_authorized()).await;
    laptop.relay.is_closed().await;

    // Its own end.
    newer.manager.sends(remove("phone")).await;
    newer.manager.receives(answer("result", "phone")).await;
    newer.manager.is_closed().await;
    newer.relay.receives(not_authorized()).await;
    newer.relay.is_closed().await;
}
