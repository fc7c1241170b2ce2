use serde_json::{Value, json};

use crate::{
    client::{Client, FIRST_BIO, add, presence_to, remove},
    system::{Node, System},
};

async fn fajar_and_esa() -> (System, Node, Client, Client) {
    let system = System::start();
    let manager = system.manager().await;
    let fajar = Client::registered(manager.address, "fajar").await;
    let esa = Client::registered(manager.address, "esa").await;
    (system, manager, fajar, esa)
}

fn result(to: &str) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": to})
}

fn subscribed(from: &str, to: &str, name: &Value, subscription: &str) -> Value {
    json!({"stanza": "presence", "from": from, "to": to, "type": "subscribed",
        "item": {"jid": from, "name": name, "subscription": subscription}})
}

fn error(to: &Value, kind: &str, condition: &str) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "type": "error",
        "error": {"type": kind, "condition": condition}, "to": to})
}

/// M15, M17, M18, M19 and the order of the answers.
#[tokio::test]
async fn adding_gives_to_and_mutual_adding_both_in_the_order_of_the_protocol() {
    let (_system, _manager, mut fajar, mut esa) = fajar_and_esa().await;
    fajar.send(&add("fajar", "esa", &json!("author"))).await;
    fajar.receives(subscribed("esa", "fajar", &json!("author"), "to")).await;
    fajar.receives(presence_to("fajar", "esa", FIRST_BIO, 1)).await;
    fajar.receives(result("fajar")).await;
    esa.hears_nothing().await;
    assert_eq!(esa.gets_roster("esa").await, json!([{"jid": "fajar", "name": null, "subscription": "from"}]));

    esa.send(&add("esa", "fajar", &json!(null))).await;
    esa.receives(subscribed("fajar", "esa", &json!(null), "both")).await;
    esa.receives(presence_to("esa", "fajar", FIRST_BIO, 1)).await;
    esa.receives(result("esa")).await;
    fajar.receives(subscribed("esa", "fajar", &json!("author"), "both")).await;

    // Renaming tells the other side her own item again, as it is both.
    fajar.send(&add("fajar", "esa", &json!("the author"))).await;
    fajar.receives(subscribed("esa", "fajar", &json!("the author"), "both")).await;
    fajar.receives(presence_to("fajar", "esa", FIRST_BIO, 1)).await;
    fajar.receives(result("fajar")).await;
    esa.receives(subscribed("fajar", "esa", &json!(null), "both")).await;
    assert_eq!(
        fajar.gets_roster("fajar").await,
        json!([{"jid": "esa", "name": "the author", "subscription": "both"}])
    );
}

/// M20, M22, M23.
#[tokio::test]
async fn removing_from_both_leaves_from_and_removing_to_takes_both_rows() {
    let (_system, _manager, mut fajar, mut esa) = fajar_and_esa().await;
    fajar.adds("fajar", "esa").await;
    esa.adds("esa", "fajar").await;
    fajar.receive().await;
    let unsubscribed =
        |from: &str, to: &str| json!({"stanza": "presence", "from": from, "to": to, "type": "unsubscribed"});
    let removed = |to: &str| json!({"stanza": "iq", "namespace": "roster", "type": "result", "subscription": "remove", "to": to});

    fajar.send(&remove("fajar", "esa")).await;
    fajar.receives(unsubscribed("esa", "fajar")).await;
    fajar.receives(removed("fajar")).await;
    esa.hears_nothing().await;
    assert_eq!(fajar.gets_roster("fajar").await[0]["subscription"], "from");
    assert_eq!(esa.gets_roster("esa").await[0]["subscription"], "to");

    esa.send(&remove("esa", "fajar")).await;
    esa.receives(unsubscribed("fajar", "esa")).await;
    esa.receives(removed("esa")).await;
    assert_eq!(fajar.gets_roster("fajar").await, json!([]));
    assert_eq!(esa.gets_roster("esa").await, json!([]));
}

/// M16, M21: the table of invalid requests, in its order.
#[tokio::test]
async fn an_invalid_request_is_refused_with_the_first_condition_that_applies() {
    let (_system, manager, mut fajar, mut esa) = fajar_and_esa().await;
    esa.adds("esa", "fajar").await;
    let mut nobody = Client::connect(manager.address).await;
    nobody
        .asks(
            json!({"stanza": "iq", "namespace": "roster", "type": "get"}),
            error(&json!(null), "auth", "not-authorized"),
        )
        .await;

    let me = || json!("fajar");
    for (packet, kind, condition) in [
        (
            json!({"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set"}),
            "modify",
            "bad-request",
        ),
        (
            json!({"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set",
                "query": {"item": {"jid": 7}}}),
            "modify",
            "bad-request",
        ),
        (
            json!({"stanza": "iq", "namespace": "roster", "from": "fajar", "type": "set", "subscription": "to",
                "query": {"item": {"jid": "esa"}}}),
            "modify",
            "bad-request",
        ),
        // The malformed comes before the forbidden.
        (
            json!({"stanza": "iq", "namespace": "roster", "from": "esa", "type": "set"}),
            "modify",
            "bad-request",
        ),
        (add("esa", "nobody", &json!(null)), "auth", "forbidden"),
        (remove("esa", "fajar"), "auth", "forbidden"),
        (add("fajar", "Fajar", &json!(null)), "cancel", "not-allowed"),
        (remove("fajar", "fajar"), "cancel", "not-allowed"),
        (add("fajar", "nobody", &json!(null)), "cancel", "item-not-found"),
        (add("fajar", "no body", &json!(null)), "cancel", "item-not-found"),
        (remove("fajar", "nobody"), "cancel", "item-not-found"),
        (remove("fajar", "esa"), "cancel", "not-allowed"),
    ] {
        fajar.asks(packet, error(&me(), kind, condition)).await;
    }
    let mut with_id = add("fajar", "nobody", &json!(null));
    with_id["id"] = json!("a\u{20AC}");
    let mut answer = error(&me(), "cancel", "item-not-found");
    answer["id"] = json!("a\u{20AC}");
    fajar.asks(with_id, answer).await;
}

/// M19: `name` is not required, and a set without it leaves the name as it is.
#[tokio::test]
async fn a_set_without_a_name_keeps_the_one_that_is_there_m19() {
    let (_system, _manager, mut fajar, _esa) = fajar_and_esa().await;
    fajar.adds("fajar", "esa").await;
    fajar
        .send(&json!({"stanza": "iq", "namespace": "roster", "from": "Fajar", "type": "set",
            "query": {"item": {"jid": "ESA"}}}))
        .await;
    fajar.receives(subscribed("esa", "fajar", &json!("my esa"), "to")).await;
}

/// M18: a contact that is offline is shown so.
#[tokio::test]
async fn an_offline_contact_is_shown_offline_m18() {
    let (_system, _manager, mut fajar, mut esa) = fajar_and_esa().await;
    esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    let [_, shown, _] = fajar.adds("fajar", "esa").await;
    assert_eq!(shown["online"], 0);
}
