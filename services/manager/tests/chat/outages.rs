//! The directory is away, or loses everything, under what clients do.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{Client, FIRST_BIO, PATIENCE, presence, presence_to, unavailable},
    redis::RedisServer,
    system::{Node, System},
};

fn register(username: &str) -> Value {
    json!({"type": "auth", "username": username, "password": "12345", "register": true})
}

fn temporary() -> Value {
    json!({"error": true, "msg": "Temporary failure", "code": 503})
}

/// Sends the same until it is answered otherwise than with 503.
async fn in_the_end(manager: &Node, packet: Value) -> (Client, Value) {
    let answered = async {
        let mut client = Client::connect(manager.address).await;
        loop {
            client.send(&packet).await;
            let answer = client.receive().await;
            if answer != temporary() {
                return (client, answer);
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("503 for ever")
}

/// M8, M11, M24 to M31 while nothing can be read or written there.
#[tokio::test]
async fn while_the_directory_is_away_nobody_is_blamed_and_nothing_is_told_twice() {
    let redis = RedisServer::start();
    let system = System::on(&redis).await;
    let manager = system.manager().await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    fajar.adds("fajar", "esa").await;
    Client::registered(manager.address, "gina")
        .await
        .send(&json!({"stanza": "presence", "from": "gina", "type": "unavailable"}))
        .await;

    redis.freeze();
    Client::connect(manager.address).await.asks(register("hana"), temporary()).await;
    esa.send(&json!({"stanza": "presence", "bio": "away"})).await;
    fajar.receives(presence("esa", "away", 1)).await;
    fajar.asks(json!({"stanza": "presence", "to": "gina"}), temporary()).await;
    drop(esa);
    fajar.receives(unavailable("esa")).await;
    let login = json!({"type": "auth", "username": "esa", "password": "12345"});
    Client::connect(manager.address).await.asks(login.clone(), temporary()).await;
    redis.thaw();

    let (_hana, answer) = in_the_end(&manager, register("hana")).await;
    assert_eq!(answer["code"], 201, "the name was not taken by the first try");
    let (mut esa, answer) = in_the_end(&manager, login).await;
    assert_eq!(answer["code"], 200);
    fajar.hears_nothing().await;
    esa.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence("esa", "away", 1)).await;
    fajar.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence_to("fajar", "esa", "away", 1)).await;
}

#[tokio::test]
async fn after_the_directory_lost_everything_whoever_is_online_stays_so() {
    let redis = RedisServer::start();
    let system = System::on(&redis).await;
    let (first, second) = (system.manager().await, system.manager().await);
    let mut esa = Client::registered(first.address, "esa").await;
    let mut fajar = Client::registered(second.address, "fajar").await;
    fajar.adds("fajar", "esa").await;
    redis.lose_everything();
    let (_gina, answer) = in_the_end(&first, register("gina")).await;
    assert_eq!(answer["code"], 201);
    let mut other = Client::connect(second.address).await;
    other
        .asks(
            json!({"type": "auth", "username": "esa", "password": "12345"}),
            json!({"error": true, "msg": "Already logged in", "code": 409}),
        )
        .await;
    esa.send(&json!({"stanza": "presence"})).await;
    fajar.receives(presence("esa", FIRST_BIO, 1)).await;
}
