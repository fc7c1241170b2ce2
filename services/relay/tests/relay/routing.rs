//! Where messages go, over one relay and several.

use std::{io::ErrorKind, net::Ipv4Addr};

use kurir_directory::SessionEnd;
use kurir_protocol::name::UserKey;
use kurir_relay::Config;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    peers::{Refusing, Tracker},
    world::{PATIENCE, World},
};

/// R13, R14, R16: here. `from` is what the relay knows, other members travel along, names compare case-mapped.
#[tokio::test]
async fn r16_a_message_reaches_a_user_of_the_same_relay() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    let mut fajar = relay.hello("Fajar", &manager.login("Fajar").await).await;
    esa.send(
        r#"{"stanza":"message","from":"liar","to":"FAJAR","lang":"id","body":"halo","seq":9,"x":{"y":[1]}}"#,
    )
    .await;
    assert_eq!(
        fajar.next().await,
        json!({"stanza": "message", "from": "esa", "to": "FAJAR", "lang": "id", "body": "halo", "x": {"y": [1]}})
    );
    fajar.message("esa", "halo juga").await;
    assert_eq!(esa.body("Fajar").await, "halo juga");
}

#[tokio::test]
async fn a_message_to_oneself_is_delivered_to_oneself() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    esa.message("esa", "remember").await;
    assert_eq!(esa.body("esa").await, "remember");
}

/// R15: unknown, offline, no `to`, a `to` that is no string.
#[tokio::test]
async fn r15_a_message_to_nobody_is_answered_with_the_error_packet() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let mut esa = relay.hello("Esa", &manager.login("Esa").await).await;
    manager.login("fajar").await;
    esa.message("nobody", "?").await;
    esa.not_delivered("Esa").await;
    esa.message("fajar", "online at a manager, at no relay").await;
    esa.not_delivered("Esa").await;
    for packet in [r#"{"stanza":"message","body":"?"}"#, r#"{"stanza":"message","to":7}"#] {
        esa.send(packet).await;
        esa.not_delivered("Esa").await;
    }
}

/// Part II: what only accompanies a conversation. The receiver is unknown, offline, or gone from another relay.
#[tokio::test]
async fn what_accompanies_a_conversation_never_comes_back() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut budi = two.hello("budi", &manager.login("budi").await).await;
    manager.login("fajar").await;
    esa.message("budi", "halo").await;
    assert_eq!(budi.body("esa").await, "halo");
    drop(budi);
    manager.reported(|report| report.connections == 0).await;
    for rest in [r#""state":"gone""#, r#""receipt":{"received":"s"}"#, r#""marker":{"displayed":"s"}"#] {
        for to in ["nobody", "fajar", "budi"] {
            esa.send(&format!(r#"{{"stanza":"message","to":"{to}",{rest}}}"#)).await;
        }
    }
    // What comes after them to each does, behind all of theirs.
    for to in ["nobody", "fajar", "budi"] {
        esa.message(to, "?").await;
        esa.not_delivered("esa").await;
    }
    // Nor is a state stored.
    esa.send(r#"{"stanza":"message","to":"fajar","id":"1","state":"gone"}"#).await;
    let refused = esa.next().await;
    assert_eq!(refused["error"]["condition"], "bad-request", "{refused}");
}

/// R4, R14, R17 to R19, R21: across relays, in both directions, in the order sent, to a user who has just come.
#[tokio::test]
async fn r19_messages_cross_relays_in_order() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    for number in 0..500 {
        esa.message("fajar", &number.to_string()).await;
    }
    for number in 0..500 {
        assert_eq!(fajar.body("esa").await, number.to_string());
    }
    fajar.message("esa", "semua sampai").await;
    assert_eq!(esa.body("fajar").await, "semua sampai");
}

/// The largest value is a matter of configuration, not of what carries it.
#[tokio::test]
async fn r19_a_very_large_message_crosses_relays() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let large = |config: &mut Config| {
        config.max_value_bytes = 6 << 20;
        config.outbox_bytes = 8 << 20;
    };
    let (one, two) = (world.relay_with("relay-1", large).await, world.relay_with("relay-2", large).await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    let body = "x".repeat(5 << 20);
    esa.message("fajar", &body).await;
    assert!(fajar.body("esa").await == body);
    fajar.message("esa", "sampai").await;
    assert_eq!(esa.body("fajar").await, "sampai");
}

/// R12, R20, R22, R23: the receiver has gone, the sender's relay has cached where it was.
#[tokio::test]
async fn r20_a_receiver_who_has_gone_meanwhile_is_reported_by_its_relay() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "halo").await;
    assert_eq!(fajar.body("esa").await, "halo");
    drop(fajar);
    manager.reported(|report| report.connections == 0).await;
    esa.message("fajar", "masih di sana?").await;
    esa.not_delivered("esa").await;
}

/// R21, R22: the cached route is wrong, the message comes back and finds the right one.
#[tokio::test]
async fn r21_a_receiver_who_has_moved_is_found_where_it_is() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let one = world.relay("relay-1").await;
    let (two, three) = (world.relay("relay-2").await, world.relay("relay-3").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut before = two.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "di relay-2").await;
    assert_eq!(before.body("esa").await, "di relay-2");
    let mut fajar = three.hello("fajar", &manager.login("fajar").await).await;
    before.closed().await;
    esa.message("fajar", "di relay-3").await;
    assert_eq!(fajar.body("esa").await, "di relay-3");
    let mut here = one.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "di relay-1").await;
    assert_eq!(here.body("esa").await, "di relay-1");
    fajar.closed().await;
}

/// A client goes from one relay to another while it writes: what it wrote to the older connection before it looked there is
/// delivered, or answered.
#[tokio::test]
async fn what_a_client_writes_to_its_older_connection_is_handled_until_it_closes_that() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut fajar = one.hello("fajar", &manager.login("fajar").await).await;
    let mut before = one.hello("esa", &manager.login("esa").await).await;
    let mut esa = two.hello("esa", &manager.login("esa").await).await;
    // Once the new connection is found by who has found the older one, that one's relay knows.
    let moved = async {
        loop {
            fajar.message("esa", "di mana?").await;
            tokio::select! {
                _ = before.next() => {}
                _ = esa.next() => return,
            }
        }
    };
    timeout(PATIENCE, moved).await.expect("the older connection is not displaced");
    for number in 0..3 {
        before.message("fajar", &format!("di jalan {number}")).await;
        assert_eq!(fajar.body("esa").await, format!("di jalan {number}"));
    }
    before.message("siapa", "halo?").await;
    before.not_delivered("esa").await;
    before.message("fajar", "sampai").await;
    before.ends().await;
    before.closed().await;
    assert_eq!(fajar.body("esa").await, "sampai");
    esa.message("fajar", "di sini").await;
    assert_eq!(fajar.body("esa").await, "di sini");
}

/// A client that goes to another manager logs in there first, and then says hello: until then it is reached where it is.
#[tokio::test]
async fn a_connection_of_an_older_login_works_until_the_newer_one_says_hello() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut fajar = one.hello("fajar", &manager.login("fajar").await).await;
    let claims = manager.claims("esa", "relay-1");
    manager.online(&claims, Ipv4Addr::LOCALHOST.into()).await;
    let mut before = one.hello("esa", &manager.sign(&claims)).await;
    let token = manager.login("esa").await;
    manager.displace("esa", claims.login.0);
    // A logout that is told after it is heard after it: the relay knows of both.
    let other = manager.claims("ibu", "relay-1");
    let mut ibu = one.hello("ibu", &manager.sign(&other)).await;
    manager.end_session("ibu", other.login.0);
    ibu.closed().await;
    fajar.message("esa", "masih di sana?").await;
    assert_eq!(before.body("fajar").await, "masih di sana?");
    let mut esa = two.hello("esa", &token).await;
    before.closed().await;
    fajar.message("esa", "dan sekarang?").await;
    assert_eq!(esa.body("fajar").await, "dan sekarang?");
}

#[tokio::test]
async fn a_connection_of_an_older_login_is_closed_if_nobody_comes() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let claims = manager.claims("esa", "relay-1");
    let mut esa = relay.hello("esa", &manager.sign(&claims)).await;
    manager.displace("esa", claims.login.0);
    esa.closed().await;
}

/// R24, R25: a relay stops cleanly; its users are closed and reported as gone, everybody else goes on.
#[tokio::test]
async fn r24_the_others_survive_a_relay_that_stops() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "halo").await;
    assert_eq!(fajar.body("esa").await, "halo");
    two.stop().await;
    // It has shown that it knows Part II.
    let error = json!({"type": "wait", "condition": "system-shutdown"});
    let last = json!({"stanza": "stream", "type": "error", "error": error});
    assert_eq!(fajar.rest().await.unwrap(), [last]);
    let entries = world.directory.user(&UserKey::of("fajar").unwrap()).await.unwrap();
    assert_eq!(entries.routes, [], "routes are released before the relay leaves");
    esa.message("fajar", "halo?").await;
    esa.not_delivered("esa").await;
    esa.message("esa", "still here").await;
    assert_eq!(esa.body("esa").await, "still here");
}

/// R24, R25: a relay dies without a word. Its users are not found, and come back at its next life.
#[tokio::test]
async fn r25_a_dead_relay_is_forgotten_with_its_users() {
    let world = World::with_short_leases();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.mortal_relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "halo").await;
    assert_eq!(fajar.body("esa").await, "halo");
    two.kill();
    manager.heard_of_the_death_of("relay-2").await;
    let alive = world.directory.components().await.unwrap();
    assert!(alive.iter().all(|component| component.id.as_str() != "relay-2"), "{alive:?}");
    esa.message("fajar", "halo?").await;
    esa.not_delivered("esa").await;
    let two = world.relay("relay-2").await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    esa.message("fajar", "selamat datang").await;
    assert_eq!(fajar.body("esa").await, "selamat datang");
    fajar.message("esa", "terima kasih").await;
    assert_eq!(esa.body("fajar").await, "terima kasih");
}

/// R9 to R11: the manager ends a session; its device's connection is closed, a newer login's is not.
#[tokio::test]
async fn r9_a_user_who_logs_out_is_gone_everywhere() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let claims = manager.claims("fajar", "relay-2");
    let mut fajar = two.hello("fajar", &manager.sign(&claims)).await;
    manager.reported(|report| report.connections == 1).await;
    esa.message("fajar", "halo").await;
    assert_eq!(fajar.body("esa").await, "halo");
    manager.end_session("fajar", claims.login.0 - 1);
    fajar.ping().await;
    manager.offline(&claims.sub, SessionEnd::Ended).await;
    manager.end_session("fajar", claims.login.0);
    fajar.closed().await;
    esa.message("fajar", "halo?").await;
    esa.not_delivered("esa").await;
}

/// R26: nothing that a client sends makes the relay fall over, or reaches anybody else.
#[tokio::test]
async fn r26_any_packet_is_taken() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay("relay-1").await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    for ignored in [
        r#"{"username":"esa","message":"hello again"}"#,
        r#"{"stanza":"presence","type":"unavailable"}"#,
        r#"{"what":["is","this"]}"#,
        r#"{"stanza":7}"#,
    ] {
        esa.send(ignored).await;
        esa.ping().await;
    }
    let bad = json!({"error": true, "msg": "Bad request", "code": 400});
    for malformed in ["[1,2]", r#"{"stanza":"message","to":"a","to":"b"}"#] {
        esa.send(malformed).await;
        assert_eq!(esa.next().await, bad, "{malformed}");
    }
    esa.ping().await;
    for _ in 0..3 {
        esa.send("rubbish").await;
        assert_eq!(esa.next().await, bad);
    }
    esa.closed().await;
}

/// PROTOCOL section 5: a receiver that does not read is closed and slows nobody; its senders are told.
#[tokio::test]
async fn a_receiver_that_does_not_read_is_closed_as_too_slow() {
    let world = World::new();
    let manager = world.manager("manager-1").await;
    let relay = world.relay_with("relay-1", |config| config.outbox_bytes = 65_536).await;
    let mut esa = relay.hello("esa", &manager.login("esa").await).await;
    let mut fajar = relay.connect_narrowly().await;
    fajar.hello("fajar", &manager.login("fajar").await).await;
    let mut dewi = relay.hello("dewi", &manager.login("dewi").await).await;
    let body = "x".repeat(60_000);
    let mut refused = 0;
    // More than the sockets' own buffers hold.
    for round in (0..40).map(|round| round.to_string()) {
        for _ in 0..10 {
            esa.message("fajar", &body).await;
        }
        esa.message("dewi", &round).await;
        assert_eq!(dewi.body("esa").await, round);
        dewi.message("esa", "diterima").await;
        while esa.next().await["from"] == "relay" {
            refused += 1;
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0);
    match fajar.rest().await {
        Ok(received) => {
            assert_eq!(received.last(), Some(&json!({"error": true, "msg": "Too slow", "code": 408})));
        }
        // It was not even fast enough for that.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// ARCHITECTURE "Tables": relays that were paused past their lease have new lives, claim their users again, and go on with
/// them. The whole process is paused here, as by SIGSTOP.
#[tokio::test]
async fn paused_relays_claim_their_users_again() {
    let world = World::with_short_leases();
    let manager = world.manager("manager-1").await;
    let (one, two) = (world.relay("relay-1").await, world.relay("relay-2").await);
    let mut esa = one.hello("esa", &manager.login("esa").await).await;
    let mut fajar = two.hello("fajar", &manager.login("fajar").await).await;
    let route = async || {
        let entries = world.directory.user(&UserKey::of("fajar").unwrap()).await.unwrap();
        entries.routes.first().map(|(_, route)| route.generation)
    };
    let before = route().await.unwrap();
    std::thread::sleep(world.directory.timing().lease * 2);
    esa.ping().await;
    fajar.ping().await;
    assert!(route().await.is_some_and(|after| after != before));
    esa.message("esa", "masih di sini").await;
    assert_eq!(esa.body("esa").await, "masih di sini");
    // The link between them begins again too; what finds it not there yet is reported.
    let arrives = async {
        loop {
            esa.message("fajar", "dan kamu?").await;
            tokio::select! {
                body = fajar.body("esa") => return body,
                () = esa.not_delivered("esa") => {}
            }
        }
    };
    assert_eq!(timeout(PATIENCE, arrives).await.expect("a link in time"), "dan kamu?");
}

/// R4: a peer that the directory does not know, as after a loss of its tables, is given up but not for ever.
#[tokio::test]
async fn r4_a_relay_that_was_not_on_record_for_a_while_is_dialled_again() {
    let world = World::new();
    let (older, mut dials) = Refusing::start("relay-1").await;
    let (url, _joined) = Tracker::start(vec![older]).await;
    let _relay = world.relay_with("relay-2", |config| config.trackers = vec![url]).await;
    for _ in 0..2 {
        timeout(PATIENCE, dials.recv()).await.expect("a dial in time").unwrap();
    }
}
