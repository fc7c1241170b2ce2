//! Users at different managers: ARCHITECTURE "Presence across managers".

use serde_json::json;
use tokio::time::timeout;

use crate::{
    client::{Client, FIRST_BIO, PATIENCE, presence, presence_to, unavailable},
    system::{Node, System, config},
};

/// Esa at the first manager and fajar at the second see each other.
async fn apart() -> (System, Node, Node, Client, Client) {
    apart_with(config()).await
}

async fn apart_with(first: kurir_manager::Config) -> (System, Node, Node, Client, Client) {
    let system = System::start();
    let (first, second) = (system.manager_with(first).await, system.manager().await);
    let mut esa = Client::registered(first.address, "esa").await;
    let mut fajar = Client::registered(second.address, "fajar").await;
    esa.adds("esa", "fajar").await;
    let [subscribed, shown, _] = fajar.adds("fajar", "esa").await;
    assert_eq!((&subscribed["item"]["subscription"], &shown["online"]), (&json!("both"), &json!(1)));
    // M18 across managers.
    esa.receives(json!({"stanza": "presence", "from": "fajar", "to": "esa", "type": "subscribed",
        "item": {"jid": "fajar", "name": "my fajar", "subscription": "both"}}))
        .await;
    (system, first, second, esa, fajar)
}

/// M24, M26, M27 and M30.
#[tokio::test]
async fn presence_is_told_across_managers() {
    let (_system, _first, _second, mut esa, mut fajar) = apart().await;
    esa.send(&json!({"stanza": "presence"})).await;
    esa.receives(presence_to("esa", "fajar", FIRST_BIO, 1)).await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    esa.send(&json!({"stanza": "presence", "bio": "lagi makan kebab"})).await;
    fajar.receives(presence("esa", "lagi makan kebab", 1)).await;
    fajar.send(&json!({"stanza": "presence", "to": "esa"})).await;
    let mut directed = presence_to("fajar", "esa", "lagi makan kebab", 1);
    directed["directed_entity"] = json!(true);
    fajar.receives(directed).await;
    assert_eq!(esa.receive().await["directed_entity"], true);
    esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    fajar.receives(unavailable("esa")).await;
}

/// M12 and M31: one device, wherever it asks.
#[tokio::test]
async fn a_user_is_online_at_one_manager_only() {
    let (_system, first, second, esa, mut fajar) = apart().await;
    let mut other = Client::connect(second.address).await;
    other
        .asks(
            json!({"type": "auth", "username": "esa", "password": "12345"}),
            json!({"error": true, "msg": "Already logged in", "code": 409}),
        )
        .await;
    drop(esa);
    fajar.receives(unavailable("esa")).await;
    let mut esa = Client::logged_in(second.address, "esa").await;
    esa.send(&json!({"stanza": "presence"})).await;
    esa.receives(presence_to("esa", "fajar", FIRST_BIO, 1)).await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    drop(first);
}

#[tokio::test]
async fn the_users_of_a_manager_that_stops_are_shown_unavailable() {
    let (_system, first, _second, mut esa, mut fajar) = apart().await;
    first.stop().await;
    esa.is_closed().await;
    fajar.receives(unavailable("esa")).await;
}

#[tokio::test]
async fn the_users_of_a_dead_manager_are_shown_unavailable_unless_they_are_elsewhere_by_then() {
    let (system, first, second, esa, mut fajar) = apart().await;
    let third = system.manager().await;
    let mut gina = Client::registered(first.address, "gina").await;
    fajar.adds("fajar", "gina").await;
    gina.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence("gina", FIRST_BIO, 1)).await;
    first.kill();
    drop(esa);
    fajar.receives_in_any_order(&[unavailable("esa"), unavailable("gina")]).await;
    // The dead one's entry keeps nobody out.
    let mut esa = Client::logged_in(third.address, "esa").await;
    esa.send(&json!({"stanza": "presence"})).await;
    esa.receives(presence_to("esa", "fajar", FIRST_BIO, 1)).await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    drop(second);
}

/// A manager that was paused past its lease was dead to the others. It claims its sessions again, and says so.
#[tokio::test]
async fn a_paused_manager_claims_its_users_again_and_closes_those_who_logged_in_elsewhere() {
    let (_system, first, second, mut esa, mut fajar) = apart().await;
    let mut gina = Client::registered(first.address, "gina").await;
    fajar.adds("fajar", "gina").await;
    let paused = first.pause();
    // Both are told of while the first manager stands still, and gina logs in again.
    fajar.receives_in_any_order(&[unavailable("esa"), unavailable("gina")]).await;
    let _gina_elsewhere = Client::logged_in(second.address, "gina").await;
    drop(paused);
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    gina.receives(json!({"error": true, "msg": "Conflict", "code": 409})).await;
    gina.is_closed().await;
    // The one who was kept is served as before.
    esa.send(&json!({"stanza": "presence", "bio": "back"})).await;
    fajar.receives(presence("esa", "back", 1)).await;
}

#[tokio::test]
async fn a_manager_that_missed_presence_reads_it_again() {
    let short = kurir_manager::Config { peer_queue_bytes: 1000, ..config() };
    let (_system, _first, second, mut esa, mut fajar) = apart_with(short).await;
    let paused = second.pause();
    // The queue is full at the third or fourth of them, and nothing is told for the last.
    for number in 0..=9 {
        esa.send(&json!({"stanza": "presence", "bio": format!("bio {number}")})).await;
        esa.hears_nothing().await;
    }
    drop(paused);
    let last_seen = async { while fajar.receive().await["bio"] != "bio 9" {} };
    timeout(PATIENCE, last_seen).await.expect("the last is not told");
}
