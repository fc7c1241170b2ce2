//! Roster and presence with bad input, and the rules of subscription in every direction.

use kurir_e2e::packets::{
    FIRST_BIO, account_created, add_contact, bad_request, get_roster, item, presence, presence_to,
    remove_contact, roster, roster_error, roster_removed, roster_set, subscribed, unavailable,
};
use kurir_e2e::pattern::ANY;
use kurir_e2e::{PATIENCE, Person, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    adding_refuses_bad_input: "M16";
    removing_refuses_bad_input: "M21";
    presence_refuses_bad_input: "M28";
    subscriptions_change_by_the_rules_across_managers: "M15 M17 M18 M19 M20 M22 M23";
    two_simultaneous_adds_make_both: "M17";
    contacts_at_another_manager_are_told: "M24 M26 M27 M30 M31";
}

async fn says_and_hears(person: &mut Person, request: Value, kind: &str, condition: &str) {
    let name = person.name.clone();
    person.sends(request).await;
    person.receives(roster_error(kind, condition, name)).await;
}

fn set(query: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set", "query": query})
}

#[tokio::test]
async fn adding_refuses_bad_input() {
    let system = System::start(Topology::OneProcess).await;
    let mut stranger = system.at_manager("a stranger", 1).await;
    for request in [get_roster("esa"), add_contact("esa", "fajar", "f"), remove_contact("esa", "fajar")] {
        stranger.sends(request).await;
        stranger.receives(roster_error("auth", "not-authorized", Value::Null)).await;
    }

    let mut esa = system.person("esa").registers().await;
    let mut fajar = system.person("fajar").registers().await;
    for not_json in ["halo", "{\"stanza\": \"iq\",,}", "[1, 2]", "\"text\"", "{\"a\": \"\u{1}\"}", "{'a': 1}"]
    {
        fajar.manager.sends_bytes(format!("{not_json}\n").as_bytes()).await;
        fajar.receives(bad_request()).await;
        // A good one in between: three in a row would close the connection.
        fajar.hears_nothing_else().await;
    }
    let incomplete = [
        json!({"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set"}),
        json!({"stanza": "iq", "namespace": "roster", "type": "set", "query": {"item": {"jid": "esa"}}}),
        json!({"stanza": "iq", "namespace": "roster", "from": 7, "type": "set", "query": {"item": {"jid": "esa"}}}),
        set(&Value::Null),
        set(&json!("esa")),
        set(&json!({})),
        set(&json!({"item": null})),
        set(&json!({"item": "esa"})),
        set(&json!({"item": []})),
        set(&json!({"item": {}})),
        set(&json!({"item": {"name": "esa"}})),
        set(&json!({"item": {"jid": null}})),
        set(&json!({"item": {"jid": 7}})),
        set(&json!({"item": {"jid": "esa", "name": 7}})),
        kurir_e2e::packets::with(add_contact("fajar", "esa", "e"), "subscription", "to"),
        kurir_e2e::packets::with(add_contact("fajar", "esa", "e"), "subscription", 1),
    ];
    for request in incomplete {
        says_and_hears(&mut fajar, request, "modify", "bad-request").await;
    }
    says_and_hears(&mut fajar, add_contact("esa", "fajar", "f"), "auth", "forbidden").await;
    says_and_hears(&mut fajar, get_roster("esa"), "auth", "forbidden").await;
    says_and_hears(&mut fajar, add_contact("fajar", "fajar", "me"), "cancel", "not-allowed").await;
    says_and_hears(&mut fajar, add_contact("fajar", "siapa", "s"), "cancel", "item-not-found").await;

    // Nothing of all that has changed anything.
    esa.hears_nothing_else().await;
    for person in [&mut esa, &mut fajar] {
        let name = person.name.clone();
        person.sends(get_roster(&name)).await;
        person.receives(roster(&name, &[])).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn removing_refuses_bad_input() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = system.person("esa").registers().await;
    let mut fajar = system.person("fajar").registers().await;
    fajar.sends(add_contact("fajar", "esa", "e")).await;
    fajar.manager.receives_in_the_end(roster_set("fajar"), PATIENCE).await;

    fajar.manager.sends_bytes(b"{\"stanza\": \"iq\", \"subscription\": \"remove\",}\n").await;
    fajar.receives(bad_request()).await;
    let incomplete =
        [Value::Null, json!({}), json!({"item": null}), json!({"item": {}}), json!({"item": {"jid": 1}})];
    for query in incomplete {
        let request = kurir_e2e::packets::with(set(&query), "subscription", "remove");
        says_and_hears(&mut fajar, request, "modify", "bad-request").await;
    }
    says_and_hears(&mut fajar, remove_contact("esa", "fajar"), "auth", "forbidden").await;
    says_and_hears(&mut fajar, remove_contact("fajar", "fajar"), "cancel", "not-allowed").await;
    says_and_hears(&mut fajar, remove_contact("fajar", "siapa"), "cancel", "item-not-found").await;
    system.person("budi").registers().await.logs_out().await;
    says_and_hears(&mut fajar, remove_contact("fajar", "budi"), "cancel", "item-not-found").await;
    // What fajar made is in esa's roster as `from`: not hers to remove.
    says_and_hears(&mut esa, remove_contact("esa", "fajar"), "cancel", "not-allowed").await;
    fajar.sends(get_roster("fajar")).await;
    fajar.receives(roster("fajar", &[item("esa", "e", "to")])).await;
    system.stops().await;
}

#[tokio::test]
async fn presence_refuses_bad_input() {
    let system = System::start(Topology::OneProcess).await;
    let mut stranger = system.at_manager("a stranger", 1).await;
    for ignored in [json!({"stanza": "presence"}), json!({"stanza": "presence", "from": "esa", "bio": "x"})] {
        stranger.sends(ignored).await;
    }
    stranger.hears_nothing_else().await;

    let mut esa = system.person("esa").registers().await;
    esa.sends(json!({"stanza": "presence", "from": "fajar", "bio": "not mine"})).await;
    let error = json!({"type": "auth", "condition": "forbidden"});
    esa.receives(json!({"stanza": "presence", "type": "error", "error": error, "to": "esa"})).await;
    esa.sends(json!({"stanza": "presence", "to": "siapa"})).await;
    esa.receives(json!({"stanza": "presence", "type": "error", "to": "esa", "target": "siapa"})).await;
    esa.sends(json!({"stanza": "presence", "type": "error"})).await;
    esa.hears_nothing_else().await;
    system.stops().await;
}

#[tokio::test]
async fn subscriptions_change_by_the_rules_across_managers() {
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_manager(1).registers().await;
    let mut fajar = system.person("fajar").at_manager(2).registers().await;

    // to/from, and adding again only renames.
    for name in ["e", "E"] {
        fajar.sends(add_contact("fajar", "esa", name)).await;
        fajar.receives(subscribed("esa", "fajar", &item("esa", name, "to"))).await;
        fajar.receives(presence_to("esa", FIRST_BIO, 1, "fajar")).await;
        fajar.receives(roster_set("fajar")).await;
    }
    // A name may be null, or be left out.
    fajar.sends(json!({"stanza": "IQ", "namespace": "Roster", "from": "fajar", "type": "SET", "query": {"item": {"jid": "esa", "name": null}}})).await;
    fajar
        .receives(subscribed("esa", "fajar", &json!({"jid": "esa", "name": null, "subscription": "to"})))
        .await;
    fajar.receives(presence_to("esa", FIRST_BIO, 1, "fajar")).await;
    fajar.receives(roster_set("fajar")).await;

    // `from` becomes `both`, and the other one is told at her manager.
    esa.sends(add_contact("esa", "fajar", "f")).await;
    esa.receives(subscribed("fajar", "esa", &item("fajar", "f", "both"))).await;
    esa.receives(presence_to("fajar", FIRST_BIO, 1, "esa")).await;
    esa.receives(roster_set("esa")).await;
    fajar
        .receives(subscribed("esa", "fajar", &json!({"jid": "esa", "name": null, "subscription": "both"})))
        .await;

    // both → mine `from`, theirs `to`; and back by adding again.
    esa.sends(remove_contact("esa", "fajar")).await;
    esa.receives(json!({"stanza": "presence", "from": "fajar", "to": "esa", "type": "unsubscribed"})).await;
    esa.receives(roster_removed("esa")).await;
    esa.sends(get_roster("esa")).await;
    esa.receives(roster("esa", &[json!({"jid": "fajar", "name": ANY, "subscription": "from"})])).await;
    fajar.sends(get_roster("fajar")).await;
    fajar.receives(roster("fajar", &[json!({"jid": "esa", "name": null, "subscription": "to"})])).await;
    esa.sends(add_contact("esa", "fajar", "f")).await;
    esa.receives(subscribed("fajar", "esa", &item("fajar", "f", "both"))).await;
    esa.receives(presence_to("fajar", FIRST_BIO, 1, "esa")).await;
    esa.receives(roster_set("esa")).await;
    fajar
        .receives(subscribed("esa", "fajar", &json!({"jid": "esa", "name": null, "subscription": "both"})))
        .await;

    // both → from/to → nothing.
    esa.sends(remove_contact("esa", "fajar")).await;
    esa.manager.receives_in_the_end(roster_removed("esa"), PATIENCE).await;
    fajar.sends(remove_contact("fajar", "esa")).await;
    fajar.manager.receives_in_the_end(roster_removed("fajar"), PATIENCE).await;
    for person in [&mut esa, &mut fajar] {
        let name = person.name.clone();
        person.sends(get_roster(&name)).await;
        person.receives(roster(&name, &[])).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn two_simultaneous_adds_make_both() {
    let system = System::start(Topology::Separate).await;
    for round in 0..10 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let mut one = system.at_manager(&a, 1).await;
        let mut other = system.at_manager(&b, 2).await;
        for raw in [(&mut one, &a), (&mut other, &b)] {
            raw.0
                .sends(json!({"type": "auth", "username": raw.1, "password": "12345", "register": true}))
                .await;
            raw.0.receives(account_created()).await;
        }
        tokio::join!(one.sends(add_contact(&a, &b, "x")), other.sends(add_contact(&b, &a, "x")));
        tokio::join!(
            one.receives_in_the_end(roster_set(&a), PATIENCE),
            other.receives_in_the_end(roster_set(&b), PATIENCE)
        );
        one.sends(get_roster(&a)).await;
        one.receives_in_the_end(roster(&a, &[item(&b, "x", "both")]), PATIENCE).await;
        other.sends(get_roster(&b)).await;
        other.receives_in_the_end(roster(&b, &[item(&a, "x", "both")]), PATIENCE).await;
    }
    system.stops().await;
}

#[tokio::test]
async fn contacts_at_another_manager_are_told() {
    let system = System::start(Topology::Separate).await;
    let mut esa = system.person("esa").at_manager(1).registers().await;
    let mut fajar = system.person("fajar").at_manager(2).registers().await;
    let mut gita = system.person("gita").at_manager(2).registers().await;
    esa.befriends(&mut fajar).await;

    esa.sends(json!({"stanza": "presence"})).await;
    esa.receives(presence_to("fajar", FIRST_BIO, 1, "esa")).await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    esa.sends(json!({"stanza": "presence", "from": "esa", "bio": "lagi makan kebab"})).await;
    fajar.receives(presence("esa", "lagi makan kebab", 1)).await;
    gita.hears_nothing_else().await;

    // Directed presence needs no subscription.
    gita.sends(json!({"stanza": "presence", "to": "esa"})).await;
    gita.receives(kurir_e2e::packets::directed("esa", "lagi makan kebab", 1, "gita")).await;
    esa.receives(kurir_e2e::packets::directed("gita", FIRST_BIO, 1, "esa")).await;

    esa.logs_out().await;
    fajar.receives(unavailable("esa")).await;
    gita.sends(json!({"stanza": "presence", "to": "esa"})).await;
    gita.receives(kurir_e2e::packets::directed("esa", "lagi makan kebab", 0, "gita")).await;

    let mut esa = system.person("esa").at_manager(1).logs_in().await;
    esa.sends(json!({"stanza": "presence"})).await;
    esa.receives(presence_to("fajar", FIRST_BIO, 1, "esa")).await;
    fajar.receives(presence("esa", "lagi makan kebab", 1)).await;
    esa.loses_manager();
    fajar.receives(unavailable("esa")).await;
    gita.hears_nothing_else().await;
    system.stops().await;
}
