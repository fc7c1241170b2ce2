//! What a relay sends a device of its account's log.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::net::Ipv4Addr;

use kurir_protocol::name::Resource;
use serde_json::json;

use crate::world::{Client, Manager, Relay, World};

fn to_fajar(body: &str) -> String {
    format!(r#"{{"from":"esa","stanza":"message","to":"fajar","id":"{body}","body":"{body}"}}"#)
}

/// A login of `fajar`'s phone, which does not go by places.
async fn phone(relay: &Relay, manager: &Manager) -> Client {
    let mut claims = manager.claims("fajar", "elsewhere");
    claims.res = Resource::named("phone").unwrap();
    manager.online(&claims, Ipv4Addr::LOCALHOST.into()).await;
    relay.hello("fajar", &manager.sign(&claims)).await
}

/// The older connection is cut, or still there, when the device says hello at the other relay: its cursor is stored first.
#[tokio::test]
async fn what_a_connection_was_sent_is_not_sent_to_the_next_one_at_another_relay() {
    for cut in [false, true] {
        let world = World::new();
        let manager = world.manager("manager-1").await;
        let relays = [world.relay("relay-1").await, world.relay("relay-2").await];
        let mut old = None::<Client>;
        for number in 0..20 {
            let body = number.to_string();
            manager.logs.put("fajar", &to_fajar(&body), None);
            if cut {
                old = None;
            }
            let mut new = phone(&relays[number % 2], &manager).await;
            assert_eq!(new.body("esa@a.example/default").await, body, "cut: {cut}");
            if let Some(mut old) = old {
                assert_eq!(old.next().await["msg"], "Conflict");
            }
            old = Some(new);
        }
    }
}

/// Not even if the words that close the old connection wait to be written when its cursor is stored.
#[tokio::test]
async fn what_a_replaced_connection_was_sent_is_not_sent_to_the_next_one() {
    let world = World::new();
    let (manager, relay) = (world.manager("manager-1").await, world.relay("relay-1").await);
    let mut old = None::<Client>;
    for number in 0..20 {
        let body = number.to_string();
        manager.logs.put("fajar", &to_fajar(&body), None);
        let mut new = phone(&relay, &manager).await;
        if let Some(mut old) = old {
            assert_eq!(old.next().await["msg"], "Conflict");
        }
        assert_eq!(new.body("esa@a.example/default").await, body);
        old = Some(new);
    }
}

/// A device that has a name knows Part II, whether it goes by places or not; one like the original's is told nothing.
#[tokio::test]
async fn a_named_device_is_told_that_what_it_had_not_read_is_gone() {
    let world = World::new();
    let (manager, relay) = (world.manager("manager-1").await, world.relay("relay-1").await);
    for body in ["1", "2", "3"] {
        manager.logs.put("fajar", &to_fajar(body), None);
    }
    manager.logs.drop_before("fajar", 3);
    let mut phone = phone(&relay, &manager).await;
    let gap = phone.next().await;
    assert_eq!((&gap["type"], &gap["after"], &gap["first"]), (&json!("gap"), &json!(0), &json!(3)), "{gap}");
    assert_eq!(phone.body("esa@a.example/default").await, "3");
    let mut original = relay.hello("fajar", &manager.login("fajar").await).await;
    assert_eq!(original.body("esa").await, "3");
}
