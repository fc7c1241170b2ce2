//! PROTOCOL Part II `session` and `resource`: logins that come late, and one device too many.

use std::net::SocketAddr;

use kurir_manager::Config;
use serde_json::{Value, json};

use crate::{
    client::Client,
    system::{System, config},
};

/// A login that is answered with this code, and the session that it brings.
async fn comes_back(at: SocketAddr, session: &Value, code: u16) -> (Client, Value) {
    let mut client = Client::connect(at).await;
    client.send(&json!({"type": "auth", "username": "esa", "session": session})).await;
    let reply = client.receive().await;
    assert_eq!(reply["code"], code, "{reply}");
    (client, reply["session"].clone())
}

/// A manager stands still, its client goes elsewhere, and only then the login is read: it takes the device from nobody, and is
/// no theft.
#[tokio::test]
async fn a_login_that_its_client_has_given_up_is_not_done() {
    for used_since in 1..=3 {
        let system = System::start();
        let (late, other) = (system.manager().await, system.manager().await);
        let mut first = Client::connect(other.address).await;
        first
            .send(&json!({"type": "auth", "username": "esa", "password": "12345", "register": true, "resource": "phone"}))
            .await;
        let mut session = first.receive().await["session"].clone();

        let paused = late.pause();
        let mut given_up = Client::connect(late.address).await;
        given_up.send(&json!({"type": "auth", "username": "esa", "session": session})).await;
        drop(given_up);
        let mut online = first;
        for _ in 0..used_since {
            (online, session) = comes_back(other.address, &session, 200).await;
        }
        drop(paused);
        late.answers_for_now(1).await;
        online.hears_nothing().await;
        comes_back(late.address, &session, 200).await;
    }
}

/// Who stays to hear the answer has what was stolen.
#[tokio::test]
async fn an_old_session_revokes_the_device() {
    let system = System::start();
    let manager = system.manager().await;
    let mut esa = Client::connect(manager.address).await;
    esa.send(&json!({"type": "auth", "username": "esa", "password": "12345", "register": true})).await;
    let stolen = esa.receive().await["session"].clone();
    let (_, session) = comes_back(manager.address, &stolen, 200).await;
    let (mut esa, session) = comes_back(manager.address, &session, 200).await;
    comes_back(manager.address, &stolen, 401).await;
    esa.receives(json!({"error": true, "msg": "Unauthorized", "code": 401})).await;
    // A `session` is a key of Part II: such a client is told more.
    esa.receives(json!({"stanza": "stream", "type": "error", "error": {"type": "auth", "condition": "not-authorized"}}))
        .await;
    comes_back(manager.address, &session, 401).await;
}

/// Said when the manager has said its own goodbye, and before the client could know.
#[tokio::test]
async fn a_logout_that_meets_the_end_of_the_manager_ends_the_session() {
    let system = System::start();
    let (manager, other) = (system.manager().await, system.manager().await);
    let mut esa = Client::connect(manager.address).await;
    esa.send(&json!({"type": "auth", "username": "esa", "password": "12345", "register": true})).await;
    let session = esa.receive().await["session"].clone();
    let client = async {
        esa.is_closed().await;
        esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
        drop(esa);
    };
    tokio::join!(manager.stop(), client);
    comes_back(other.address, &session, 401).await;
}

#[tokio::test]
async fn one_device_too_many_is_refused() {
    let system = System::start();
    let manager = system.manager_with(Config { max_devices: 1, ..config() }).await;
    let _esa = Client::registered(manager.address, "esa").await;
    for (resource, code) in [("phone", 200), ("laptop", 403), ("phone", 200)] {
        let mut device = Client::connect(manager.address).await;
        device
            .send(&json!({"type": "auth", "username": "esa", "password": "12345", "resource": resource}))
            .await;
        let reply = device.receive().await;
        assert_eq!(reply["code"], code, "{reply}");
        if code == 403 {
            assert_eq!(reply, json!({"error": true, "msg": "Too many devices", "code": 403}));
        }
    }
}
