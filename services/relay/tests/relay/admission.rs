//! Who is let in, and what managers and trackers learn of it.

use std::net::{IpAddr, Ipv4Addr};

use kurir_directory::SessionEnd;
use kurir_protocol::name::UserKey;
use kurir_relay::BareHello;
use serde_json::json;

use crate::{
    peers::Tracker,
    world::{Relay, World},
};

/// A hello that is answered 401 and closed.
async fn refused(relay: &Relay, hello: &str) {
    let mut client = relay.connect().await;
    client.send(hello).await;
    assert_eq!(client.next().await, json!({"error": true, "msg": "Unauthorized", "code": 401}), "{hello}");
    client.closed().await;
}

fn with_token(user: &str, token: &str) -> String {
    json!({"username": user, "message": "hello!", "token": token}).to_string()
}

#[tokio::test]
async fn r1_a_relay_joins_the_tracker_and_says_where_it_is() {
    let (url, mut joined) = Tracker::start(Vec::new()).await;
    let relay = World::new().relay_with("relay-1", |config| config.trackers = vec![url]).await;
    let component = joined.recv().await.unwrap();
    assert_eq!(component.id, "relay-1");
    assert_eq!(component.client_port, u32::from(relay.address.port()));
}

/// R2, R3: the relay was there first, and finds the manager when it comes.
#[tokio::test]
async fn r3_a_relay_asks_for_managers_until_there_is_one() {
    let world = World::new();
    let relay = world.relay("relay-1").await;
    let manager = world.manager("manager-1").await;
    relay.hello("esa", &manager.login("esa").await).await;
}

/// R7, R10: every manager is told how many are connected; each ticket counts once, where it was made out for this
/// relay, and with its own manager.
#[tokio::test]
async fn r7_managers_are_told_of_each_user_once() {
    let world = World::new();
    let (one, two) = (world.manager("manager-1").await, world.manager("manager-2").await);
    let relay = world.relay("relay-1").await;
    let token = one.sign(&one.claims("esa", "relay-1"));
    let esa = relay.hello("esa", &token).await;
    let report = one.reported(|report| report.connections == 1).await;
    assert_eq!(report.redeemed, 1);
    let report = two.reported(|report| report.connections == 1).await;
    assert_eq!(report.redeemed, 0);
    // The same ticket once more, after a lost connection; and one that was made out for another relay.
    drop(esa);
    one.reported(|report| report.connections == 0).await;
    let _esa = relay.hello("esa", &token).await;
    let _fajar = relay.hello("fajar", &two.login("fajar").await).await;
    assert_eq!(one.reported(|report| report.connections == 2).await.redeemed, 1);
    assert_eq!(two.reported(|report| report.connections == 2).await.redeemed, 0);
}

#[tokio::test]
async fn r5_a_ping_is_answered_before_the_hello() {
    let world = World::new();
    let relay = world.relay("relay-1").await;
    relay.connect().await.ping().await;
}

/// Part II `token`: bound to user and login, signed by a manager of ours, not ended.
#[tokio::test]
async fn a_hello_with_a_bad_ticket_is_unauthorized() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    refused(&relay, r#"{"username":"esa","message":"hello!"}"#).await;
    refused(&relay, r#"{"username":"es a","message":"hello!"}"#).await;
    refused(&relay, &with_token("esa", "no.ticket.atall")).await;
    refused(&relay, &with_token("fajar", &manager.login("esa").await)).await;
    let mut ended = manager.claims("esa", "relay-1");
    ended.exp = ended.iat - 60;
    refused(&relay, &with_token("esa", &manager.sign(&ended))).await;
    let good = manager.login("esa").await;
    let (rest, _) = good.rsplit_once('.').unwrap();
    let (_, signature) =
        manager.login("fajar").await.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    refused(&relay, &with_token("esa", &format!("{rest}.{signature}"))).await;
    relay.hello("esa", &good).await;
}

/// ARCHITECTURE "Tables": a half-open old client with a valid ticket can't displace a newer login, and a login that was
/// ended can't come back.
#[tokio::test]
async fn an_older_or_ended_login_is_unauthorized() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let (older, newer) = (manager.login("esa").await, manager.login("esa").await);
    let mut esa = relay.hello("esa", &newer).await;
    refused(&relay, &with_token("esa", &older)).await;
    esa.ping().await;
    let key = UserKey::of("esa").unwrap();
    manager.offline(&key, SessionEnd::Ended).await;
    refused(&relay, &with_token("esa", &newer)).await;
}

/// PROTOCOL section 5: the second hello of a device replaces the first, which is closed; messages go to the second.
#[tokio::test]
async fn a_second_hello_replaces_the_first() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let mut fajar = relay.hello("fajar", &manager.login("fajar").await).await;
    let token = manager.login("esa").await;
    let mut first = relay.hello("esa", &token).await;
    fajar.message("esa", "satu").await;
    assert_eq!(first.body("fajar").await, "satu");
    let mut second = relay.hello("esa", &token).await;
    first.closed().await;
    fajar.message("esa", "dua").await;
    assert_eq!(second.body("fajar").await, "dua");
}

#[tokio::test]
async fn a_bare_hello_needs_the_managers_session_and_its_address() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let same = world.relay_with("relay-1", |config| config.bare_hello = BareHello::SameAddress).await;
    let online = world.relay_with("relay-2", |config| config.bare_hello = BareHello::Online).await;
    let hello = r#"{"username":"Esa","message":"hello!"}"#;
    refused(&same, hello).await;
    refused(&online, hello).await;
    manager.online(&manager.claims("Esa", ""), IpAddr::from([192, 0, 2, 1])).await;
    refused(&same, hello).await;
    let mut esa = online.connect().await;
    esa.send(hello).await;
    esa.message("esa", "halo").await;
    assert_eq!(esa.body("Esa").await, "halo");
    manager.online(&manager.claims("Esa", ""), Ipv4Addr::LOCALHOST.into()).await;
    let mut esa = same.connect().await;
    esa.send(hello).await;
    esa.message("esa", "halo").await;
    assert_eq!(esa.body("Esa").await, "halo");
}

/// A connection that never says hello is closed; one that has said it may be idle for ever.
#[tokio::test]
async fn nobody_waits_for_a_hello_for_ever() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay_with("relay-1", |config| config.hello_deadline_seconds = 3).await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    relay.connect().await.closed().await;
    esa.ping().await;
}

/// ARCHITECTURE "Ends": whose device has had no live session for the audit's time is closed.
#[tokio::test]
async fn the_audit_closes_who_has_no_session() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay_with("relay-1", |config| config.audit_seconds = 1).await;
    let token = manager.sign(&manager.claims("esa", "relay-1"));
    let mut fajar = relay.hello("fajar", &manager.login("fajar").await).await;
    relay.hello("esa", &token).await.closed().await;
    fajar.ping().await;
}
