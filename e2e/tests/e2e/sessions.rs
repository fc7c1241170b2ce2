//! PROTOCOL Part II `session`: a device logs in again without its password, at any manager.

use kurir_e2e::packets::{DOMAIN, account_created, logged_in, refusal, with};
use kurir_e2e::{Plan, Raw, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    sessions_in_one_process: "";
    sessions_on_separate_processes: "";
    a_manager_and_a_relay_die_and_nobody_is_asked_for_a_password: "";
}

fn by_password(user: &str) -> Value {
    json!({"type": "auth", "username": user, "password": "12345"})
}

fn by_session(user: &str, session: &Value) -> Value {
    json!({"type": "auth", "username": user, "session": session})
}

fn unauthorized() -> Value {
    refusal(401, "Unauthorized")
}

/// A connection that is answered to `auth`, and the session that the answer brings.
async fn auth(system: &System, manager: u16, auth: Value, expected: Value) -> (Raw, Value) {
    let user = auth["username"].as_str().unwrap().to_owned();
    let mut raw = system.at_manager(&user, manager).await;
    raw.sends(auth).await;
    let reply = raw.receives(expected).await;
    (raw, reply["session"].clone())
}

/// Who has logged in with a session knows Part II.
async fn is_told_why_it_is_closed(raw: &mut Raw, kind: &str, condition: &str) {
    let error = json!({"type": kind, "condition": condition});
    raw.receives(json!({"stanza": "stream", "type": "error", "error": error})).await;
    raw.is_closed().await;
}

#[tokio::test]
async fn sessions_in_one_process() {
    run(&Plan::new(Topology::OneProcess).cheap_passwords().start().await, 1).await;
}

#[tokio::test]
async fn sessions_on_separate_processes() {
    run(&Plan::new(Topology::Separate).cheap_passwords().start().await, 2).await;
}

async fn run(system: &System, other: u16) {
    let register = with(by_password("esa"), "register", true);
    let (mut first, one) = auth(system, 1, register, account_created()).await;

    // Its older connection gives way, and the token is used up by its use.
    let (mut second, two) = auth(system, other, by_session("esa", &one), logged_in()).await;
    assert_ne!(one, two);
    first.receives(refusal(409, "Conflict")).await;
    first.is_closed().await;

    // The answer was lost, it seems: the one before is good until the next is used.
    let (mut third, three) = auth(system, 1, by_session("esa", &one), logged_in()).await;
    second.receives(refusal(409, "Conflict")).await;
    is_told_why_it_is_closed(&mut second, "cancel", "conflict").await;
    let (mut fourth, four) = auth(system, other, by_session("esa", &three), logged_in()).await;
    third.receives(refusal(409, "Conflict")).await;
    is_told_why_it_is_closed(&mut third, "cancel", "conflict").await;

    // An older one has been stolen, or is: nobody has the device any more.
    auth(system, 1, by_session("esa", &two), unauthorized()).await;
    fourth.receives(unauthorized()).await;
    is_told_why_it_is_closed(&mut fourth, "auth", "not-authorized").await;
    auth(system, other, by_session("esa", &four), unauthorized()).await;

    // With the password again; a logout ends it.
    let (mut esa, five) = auth(system, 1, by_password("esa"), logged_in()).await;
    esa.sends(json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    auth(system, other, by_session("esa", &five), unauthorized()).await;

    // Somebody else's, another device's, nobody's.
    let phone = with(with(by_password("fajar"), "register", true), "resource", "phone");
    let jid = format!("fajar@{DOMAIN}/phone");
    let (_fajar, session) = auth(system, 1, phone, with(account_created(), "jid", jid.as_str())).await;
    for (auth_by, reply) in [
        (by_session("esa", &session), unauthorized()),
        (with(by_session("fajar", &session), "resource", "laptop"), unauthorized()),
        (by_session("fajar", &json!("")), unauthorized()),
        (by_session("fajar", &json!("0".repeat(96))), unauthorized()),
        (by_session("fajar", &json!(7)), unauthorized()),
        (by_session("siapa", &session), refusal(404, "User not found")),
        (with(by_session("fajar", &session), "resource", "phone"), with(logged_in(), "jid", jid.as_str())),
    ] {
        auth(system, other, auth_by, reply).await;
    }
}

#[tokio::test]
async fn a_manager_and_a_relay_die_and_nobody_is_asked_for_a_password() {
    let mut system = Plan::new(Topology::Separate).cheap_passwords().start().await;
    let register = with(by_password("esa"), "register", true);
    let (esa, session) = auth(&system, 1, register, account_created()).await;
    system.kill("manager-1");
    system.kill("relay-1");
    // Its session is still on record, and by the password it would be refused until that is dead.
    let (mut back, _) = auth(&system, 2, by_session("esa", &session), logged_in()).await;
    assert!(back.answers_ping(kurir_e2e::PATIENCE).await);
    drop(esa);
}
