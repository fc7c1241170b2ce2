//! Registration and login with bad input.

use kurir_e2e::packets::{account_created, bad_request, logged_in, presence_to, refusal};
use kurir_e2e::pattern::ANY;
use kurir_e2e::{Plan, Raw, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    registration_refuses_every_bad_name_and_password: "M8 M9 M10";
    login_says_what_is_wrong: "M11 M12";
    names_compare_without_case_and_are_shown_as_registered: "M9 M11 M27";
    ten_failed_logins_close_the_connection: "M12";
    logging_in_twice_is_refused_until_the_first_one_is_gone: "M11 M12";
}

fn register(username: impl Into<Value>, password: impl Into<Value>) -> Value {
    json!({"type": "auth", "username": username.into(), "password": password.into(), "register": true})
}

fn login(username: impl Into<Value>, password: impl Into<Value>) -> Value {
    json!({"type": "auth", "username": username.into(), "password": password.into()})
}

/// Part of the acceptance run: registration's three and login's four.
pub(crate) async fn each_bad_input_once(system: &System) {
    let mut hana = system.at_manager("hana", 1).await;
    hana.sends(register("", "12345")).await;
    hana.receives(bad_request()).await;
    hana.sends(register("ha na", "12345")).await;
    hana.receives(bad_request()).await;
    hana.sends(register("hana", "12345")).await;
    hana.receives(account_created()).await;

    let mut other = system.at_manager("another hana", 1).await;
    other.sends(register("hana", "54321")).await;
    other.receives(refusal(409, "Username used")).await;
    other.sends(login("", "12345")).await;
    other.receives(bad_request()).await;
    other.sends(login("hana", "12 345")).await;
    other.receives(bad_request()).await;
    other.sends(login("siapa", "12345")).await;
    other.receives(refusal(404, "User not found")).await;
    other.sends(login("hana", "54321")).await;
    other.receives(bad_request()).await;
}

#[tokio::test]
async fn registration_refuses_every_bad_name_and_password() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = system.at_manager("esa", 1).await;
    esa.sends(register("esa", "12345")).await;
    esa.receives(account_created()).await;

    // A taken name comes before a bad password.
    let mut other = system.at_manager("another esa", 1).await;
    other.sends(register("esa", "")).await;
    other.receives(refusal(409, "Username used")).await;

    let names = [
        "",
        " ",
        "e sa",
        "e\u{a0}sa",
        "e\u{2003}sa",
        "e\tsa",
        "a@b",
        "a/b",
        "a:b",
        "a\"b",
        "a&b",
        "a'b",
        "a<b",
        "a>b",
    ];
    let reserved = ["relay", "manager", "tracker", "server", "Relay"];
    for name in names {
        refused(&system, register(name, "12345"), 400).await;
    }
    // Nobody may register these: they are taken.
    for name in reserved {
        refused(&system, register(name, "12345"), 409).await;
    }
    for name in [Value::Null, json!(7), json!(true), json!(["esa"]), json!({"name": "esa"})] {
        refused(&system, register(name, "12345"), 400).await;
    }
    for password in [Value::Null, json!(12345), json!(""), json!("12 345"), json!("12\u{3000}345"), json!([])]
    {
        refused(&system, register("budi", password), 400).await;
    }
    refused(&system, json!({"type": "auth", "register": true}), 400).await;
    refused(&system, json!({"type": "auth", "username": "budi", "register": true}), 400).await;

    // Nothing of all that has made an account; `register` counts when truthy.
    refused(&system, login("budi", "12345"), 404).await;
    refused(&system, json!({"type": "auth", "username": "budi", "password": "12345", "register": 0}), 404)
        .await;
    other.sends(json!({"type": "auth", "username": "budi", "password": "12345", "register": 1})).await;
    other.receives(account_created()).await;
    system.stops().await;
}

/// On a connection of its own, since ten failures close one.
async fn refused(system: &System, packet: Value, code: u16) {
    let mut raw = system.at_manager(&packet.to_string(), 1).await;
    raw.sends(packet).await;
    let msg = match code {
        404 => "User not found",
        409 => "Username used",
        _ => "Bad request",
    };
    raw.receives(refusal(code, msg)).await;
    raw.hears_nothing_else().await;
}

#[tokio::test]
async fn login_says_what_is_wrong() {
    let system = System::start(Topology::OneProcess).await;
    system.person("esa").registers().await.logs_out().await;
    for name in [json!(""), json!(" "), json!("e sa"), Value::Null, json!(7)] {
        refused(&system, login(name, "12345"), 400).await;
    }
    for password in [json!(""), json!("12 345"), Value::Null, json!(12345), json!("54321")] {
        refused(&system, login("esa", password), 400).await;
    }
    refused(&system, login("siapa", "12345"), 404).await;
    refused(&system, login("siapa", ""), 400).await;
    refused(&system, json!({"type": "auth"}), 400).await;

    // A failed one leaves the connection open for another try, and one that worked makes further ones void.
    let mut esa = system.at_manager("esa", 1).await;
    esa.sends(login("esa", "54321")).await;
    esa.receives(bad_request()).await;
    esa.sends(login("esa", "12345")).await;
    esa.receives(logged_in()).await;
    esa.sends(login("esa", "12345")).await;
    esa.sends(register("budi", "12345")).await;
    esa.hears_nothing_else().await;
    refused(&system, login("budi", "12345"), 404).await;
    system.stops().await;
}

#[tokio::test]
async fn names_compare_without_case_and_are_shown_as_registered() {
    let system = System::start(Topology::OneProcess).await;
    let mut tuti = system.person("Tuti").registers().await;
    refused(&system, register("tUTI", "12345"), 409).await;
    let mut esa = system.person("esa").registers().await;
    esa.sends(json!({"stanza": "presence", "to": "TUTI"})).await;
    let seen = kurir_e2e::packets::directed("Tuti", kurir_e2e::packets::FIRST_BIO, 1, "esa");
    esa.receives(seen).await;
    tuti.receives(kurir_e2e::packets::directed("esa", kurir_e2e::packets::FIRST_BIO, 1, "Tuti")).await;

    esa.writes("tuti", "whatever the case").await;
    tuti.relay().receives(kurir_e2e::packets::message("esa", "tuti", "whatever the case")).await;
    tuti.writes("ESA", "as registered").await;
    esa.relay().receives(kurir_e2e::packets::message("Tuti", "ESA", "as registered")).await;

    tuti.logs_out().await;
    let mut tuti = system.at_manager("tuti", 1).await;
    tuti.sends(login("TuTi", "12345")).await;
    tuti.receives(logged_in()).await;
    esa.sends(kurir_e2e::packets::add_contact("esa", "TUTI", "T")).await;
    esa.receives(json!({"stanza": "presence", "from": "Tuti", "to": "esa", "type": "subscribed", "item": {"jid": "Tuti", "name": "T", "subscription": "to"}}))
        .await;
    esa.receives(presence_to("Tuti", ANY, 1, "esa")).await;
    system.stops().await;
}

#[tokio::test]
async fn ten_failed_logins_close_the_connection() {
    let system = System::start(Topology::OneProcess).await;
    let mut mallory = system.at_manager("mallory", 1).await;
    for _ in 0..10 {
        mallory.sends(login("siapa", "12345")).await;
        mallory.receives(refusal(404, "User not found")).await;
    }
    mallory.is_closed().await;

    let system = restarted_with(system, "manager.max_auth_failures", 2).await;
    let mut mallory = system.at_manager("mallory", 1).await;
    mallory.sends(login("siapa", "12345")).await;
    mallory.receives(refusal(404, "User not found")).await;
    mallory.sends(login("siapa", "")).await;
    mallory.receives(bad_request()).await;
    mallory.is_closed().await;
    system.stops().await;
}

async fn restarted_with(system: System, key: &str, value: u32) -> System {
    system.stops().await;
    Plan::new(Topology::OneProcess).setting(key, value).start().await
}

#[tokio::test]
async fn logging_in_twice_is_refused_until_the_first_one_is_gone() {
    let system = System::start(Topology::Separate).await;
    let esa = system.person("esa").at_manager(1).registers().await;
    for manager in [1, 2] {
        let mut second: Raw = system.at_manager("a second esa", manager).await;
        second.sends(login("esa", "12345")).await;
        second.receives(refusal(409, "Already logged in")).await;
        second.sends(login("esa", "54321")).await;
        second.receives(bad_request()).await;
    }
    esa.logs_out().await;
    system.person("esa").at_manager(2).logs_in().await.logs_out().await;
    system.stops().await;
}
