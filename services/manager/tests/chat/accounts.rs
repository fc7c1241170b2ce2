use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{Client, PATIENCE},
    system::{System, config},
};

fn bad() -> Value {
    json!({"error": true, "msg": "Bad request", "code": 400})
}

fn used() -> Value {
    json!({"error": true, "msg": "Username used", "code": 409})
}

fn auth(username: &Value, password: &Value) -> Value {
    json!({"type": "auth", "username": username, "password": password})
}

fn register(username: &Value, password: &Value) -> Value {
    json!({"type": "auth", "username": username, "password": password, "register": true})
}

/// M2, M8, M10, M11.
#[tokio::test]
async fn a_user_registers_and_logs_in_again_after_the_connection_is_lost() {
    let system = System::start();
    let manager = system.manager().await;
    let mut client = Client::connect(manager.address).await;
    client.send(&json!({"ip_local": "192.168.1.6", "port": 62998, "type": "client"})).await;
    client.send(&register(&json!("Esa"), &json!("12345"))).await;
    assert_eq!(
        without_session(client.receive().await),
        json!({"error": false, "msg": "Account created", "code": 201, "component": []})
    );
    drop(client);
    // Until the manager has noticed, she is online already.
    let again = async {
        loop {
            let mut again = Client::connect(manager.address).await;
            again.send(&auth(&json!("esa"), &json!("12345"))).await;
            let answer = again.receive().await;
            if answer["code"] == 200 {
                return answer;
            }
            // Or her session is just ending.
            let online = json!({"error": true, "msg": "Already logged in", "code": 409});
            let ending = json!({"error": true, "msg": "Temporary failure", "code": 503});
            assert!(answer == online || answer == ending, "{answer}");
        }
    };
    assert_eq!(
        without_session(timeout(PATIENCE, again).await.expect("she stays online")),
        json!({"error": false, "msg": "Login successfull", "code": 200, "component": []})
    );
}

/// Part II's key apart, which is never the same.
fn without_session(mut reply: serde_json::Value) -> serde_json::Value {
    assert!(reply.as_object_mut().and_then(|reply| reply.remove("session")).is_some_and(|it| it.is_string()));
    reply
}

/// M9, each kind of bad input, and the order of the checks.
#[tokio::test]
async fn a_bad_registration_is_answered_in_the_order_of_the_checks_m9() {
    let system = System::start();
    let manager = system.manager().await;
    let _esa = Client::registered(manager.address, "Esa").await;
    let good = json!("12345");
    for (packet, answer) in [
        (register(&json!("ESA"), &good), used()),
        (register(&json!("esa"), &json!("")), used()),
        (register(&json!("Relay"), &good), used()),
        (register(&json!(""), &good), bad()),
        (register(&json!("fa jar"), &good), bad()),
        (register(&json!(null), &good), bad()),
        (register(&json!(7), &good), bad()),
        (register(&json!("fajar@home"), &good), bad()),
        (register(&json!("fajar"), &json!("")), bad()),
        (register(&json!("fajar"), &json!("12 345")), bad()),
        (register(&json!("fajar"), &json!(12345)), bad()),
        (json!({"type": "auth", "register": 1}), bad()),
    ] {
        let mut client = Client::connect(manager.address).await;
        client.asks(packet, answer).await;
    }
}

/// M12, each kind of bad input, and the order of the checks.
#[tokio::test]
async fn a_bad_login_is_answered_in_the_order_of_the_checks_m12() {
    let system = System::start();
    let manager = system.manager().await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let not_found = json!({"error": true, "msg": "User not found", "code": 404});
    let good = json!("12345");
    for (packet, answer) in [
        (auth(&json!(""), &good), bad()),
        (auth(&json!("e sa"), &good), bad()),
        (json!({"type": "auth", "password": "12345"}), bad()),
        (json!({"type": "auth", "username": "esa"}), bad()),
        (auth(&json!("nobody"), &json!("")), bad()),
        (auth(&json!("nobody"), &good), not_found.clone()),
        (auth(&json!("no:body"), &good), not_found),
        // Wrong comes before online already: who doesn't know the password learns nothing.
        (auth(&json!("esa"), &json!("54321")), bad()),
        (auth(&json!("esa"), &good), json!({"error": true, "msg": "Already logged in", "code": 409})),
    ] {
        let mut client = Client::connect(manager.address).await;
        client.asks(packet, answer).await;
    }
    esa.send(&auth(&json!("esa"), &good)).await;
    esa.hears_nothing().await;
}

#[tokio::test]
async fn after_ten_failures_the_last_is_answered_and_the_connection_closed() {
    let system = System::start();
    let manager = system.manager().await;
    let mut client = Client::connect(manager.address).await;
    for _ in 0..10 {
        client.asks(auth(&json!("esa"), &json!("")), bad()).await;
    }
    client.is_closed().await;
}

#[tokio::test]
async fn a_password_that_has_to_wait_too_long_is_answered_503_and_no_failure() {
    let busy = kurir_manager::Config {
        argon2_memory_kib: 65_536,
        argon2_iterations: 4,
        argon2_threads: 1,
        argon2_queue: 0,
        max_auth_failures: 1,
        ..config()
    };
    let system = System::start();
    let manager = system.manager_with(busy).await;
    // Whether the second comes while the first is worked on is for the machine to say.
    let both_seen = async {
        let (mut created, mut busy) = (false, false);
        for round in 0.. {
            let mut clients = Vec::new();
            for _ in 0..4 {
                clients.push(Client::connect(manager.address).await);
            }
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(&register(&json!(format!("user-{round}-{number}")), &json!("12345"))).await;
            }
            for client in &mut clients {
                let answer = client.receive().await;
                match answer["code"].as_i64() {
                    Some(201) => created = true,
                    Some(503) => {
                        busy = true;
                        assert_eq!(answer, json!({"error": true, "msg": "Temporary failure", "code": 503}));
                        client.hears_nothing().await;
                    }
                    _ => panic!("{answer}"),
                }
            }
            if created && busy {
                return;
            }
        }
    };
    timeout(PATIENCE, both_seen).await.expect("never both created and busy");
}

/// M32: what fits no row leaves the connection as it was.
#[tokio::test]
async fn any_packet_is_taken_without_falling_over_m32() {
    let system = System::start();
    let manager = system.manager().await;
    let mut client = Client::connect(manager.address).await;
    client.asks(json!([1, 2]), bad()).await;
    client.send_text("{\"type\":\"auth\",\"type\":\"auth\"}").await;
    client.receives(bad()).await;
    for packet in [
        json!({}),
        json!({"type": "relay", "port": -1}),
        json!({"stanza": "presence"}),
        json!({"type": "get_relay_less_connection"}),
        json!({"stanza": "message", "to": "esa"}),
    ] {
        client.send(&packet).await;
    }
    client.hears_nothing().await;
    client.send_text("{\"a\":\u{1}}").await;
    client.receives(bad()).await;
}

#[tokio::test]
async fn a_manager_that_stops_says_goodbye_and_its_users_are_offline() {
    let system = System::start();
    let manager = system.manager().await;
    let mut esa = Client::registered(manager.address, "esa").await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    fajar.hears_nothing().await;
    // Nobody yet, but of Part II.
    let mut guest = Client::connect(manager.address).await;
    guest.hears_nothing().await;
    let next = system.manager().await;
    let clients = async {
        esa.is_closed().await;
        // She has not closed her side, and may log in elsewhere.
        Client::logged_in(next.address, "esa").await;
        drop(esa);
        let error = json!({"type": "wait", "condition": "system-shutdown"});
        for mut of_part_two in [fajar, guest] {
            of_part_two.receives(json!({"stanza": "stream", "type": "error", "error": error})).await;
            of_part_two.is_closed().await;
        }
    };
    tokio::join!(manager.stop(), clients);
    Client::logged_in(next.address, "fajar").await;
}
