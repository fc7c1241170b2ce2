use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::timeout;

use crate::{
    client::{Client, FIRST_BIO, PATIENCE, presence, presence_to, unavailable},
    system::{Node, System},
};

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Esa and fajar see each other, and gina sees esa.
async fn three() -> (System, Node, Client, Client, Client) {
    let system = System::start();
    let manager = system.manager().await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    let mut gina = Client::registered(manager.address, "Gina").await;
    esa.adds("esa", "fajar").await;
    fajar.adds("fajar", "esa").await;
    esa.receive().await;
    gina.adds("gina", "esa").await;
    (system, manager, esa, fajar, gina)
}

/// M24, both ways, and nobody who does not see her.
#[tokio::test]
async fn initial_presence_goes_to_those_who_see_me_and_theirs_comes_to_me_m24() {
    let (_system, _manager, mut esa, mut fajar, mut gina) = three().await;
    esa.send(&json!({"stanza": "presence"})).await;
    esa.receives(presence_to("esa", "fajar", FIRST_BIO, 1)).await;
    esa.hears_nothing().await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
    gina.receives(presence("esa", FIRST_BIO, 1)).await;
    gina.send(&json!({"stanza": "presence"})).await;
    gina.receives(presence_to("Gina", "esa", FIRST_BIO, 1)).await;
    esa.hears_nothing().await;
}

/// M25, M26.
#[tokio::test]
async fn a_bio_is_stored_and_told_to_those_who_see_me() {
    let (_system, _manager, mut esa, mut fajar, mut gina) = three().await;
    // A bio comes before everything else that the packet could be.
    esa.send(&json!({"stanza": "presence", "from": "Esa", "bio": "lagi makan kebab", "to": "fajar", "type": "unavailable"}))
        .await;
    fajar.receives(presence("esa", "lagi makan kebab", 1)).await;
    gina.receives(presence("esa", "lagi makan kebab", 1)).await;
    esa.asks(
        json!({"stanza": "presence", "from": "fajar", "bio": "forged"}),
        json!({"stanza": "presence", "type": "error", "error": {"type": "auth", "condition": "forbidden"}, "to": "esa"}),
    )
    .await;
    fajar.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence_to("fajar", "esa", "lagi makan kebab", 1)).await;
}

/// M27, M28.
#[tokio::test]
async fn directed_presence_is_exchanged_with_anybody_who_has_an_account() {
    let (_system, _manager, _esa, mut fajar, mut gina) = three().await;
    fajar.send(&json!({"stanza": "presence", "to": "gina"})).await;
    let mut to_fajar = presence_to("fajar", "Gina", FIRST_BIO, 1);
    to_fajar["directed_entity"] = json!(true);
    fajar.receives(to_fajar).await;
    let mut to_gina = presence_to("Gina", "fajar", FIRST_BIO, 1);
    to_gina["directed_entity"] = json!(true);
    gina.receives(to_gina).await;
    for target in ["nobody", "no body"] {
        fajar
            .asks(
                json!({"stanza": "presence", "to": target}),
                json!({"stanza": "presence", "type": "error", "to": "fajar", "target": target}),
            )
            .await;
    }
}

/// M29, M30.
#[tokio::test]
async fn logout_closes_the_connection_and_tells_those_who_see_me() {
    let (_system, manager, mut esa, mut fajar, mut gina) = three().await;
    esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    esa.is_closed().await;
    fajar.receives(unavailable("esa")).await;
    gina.receives(unavailable("esa")).await;
    fajar.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence_to("fajar", "esa", FIRST_BIO, 0)).await;
    // Offline at once, also for a new login.
    Client::logged_in(manager.address, "esa").await;
}

/// M31.
#[tokio::test]
async fn a_lost_connection_counts_as_logout_m31() {
    let (_system, _manager, esa, mut fajar, mut gina) = three().await;
    let mut asked = fajar.gets_roster("fajar").await;
    assert_eq!(asked.as_array_mut().unwrap().len(), 1);
    drop(esa);
    fajar.receives(unavailable("esa")).await;
    gina.receives(unavailable("esa")).await;
}

/// `updated_at` is set by registration, login, initial presence, bio and going offline.
#[tokio::test]
async fn updated_at_grows_with_everything_that_sets_it() {
    let system = System::start();
    let manager = system.manager().await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    let mut last = 0;
    let mut later = async |fajar: &mut Client, why: &str| {
        let seen = async {
            loop {
                fajar.send(&json!({"stanza": "presence", "to": "esa"})).await;
                let now = fajar.receive().await["updated_at"].as_i64().unwrap();
                assert!(now >= last, "{why}");
                if now > last {
                    return now;
                }
            }
        };
        last = timeout(PATIENCE, seen).await.expect(why);
        // The next change has another date.
        while now_ms() <= last {
            fajar.hears_nothing().await;
        }
    };
    later(&mut fajar, "registration").await;
    esa.receive().await;
    for packet in [json!({"stanza": "presence"}), json!({"stanza": "presence", "bio": "new"})] {
        esa.send(&packet).await;
        later(&mut fajar, "initial presence, bio").await;
    }
    esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
    later(&mut fajar, "logout").await;
    let _esa = Client::logged_in(manager.address, "esa").await;
    later(&mut fajar, "login").await;
}
