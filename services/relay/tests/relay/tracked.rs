//! Tracked messages on their way into the log, where managers do not answer (PROTOCOL Part II `id`).

use serde_json::json;

use crate::world::{Client, World};

fn tracked(id: &str) -> String {
    json!({"stanza": "message", "to": "fajar", "id": id, "body": "halo"}).to_string()
}

/// The deadline of 2 s passes: the same messages go to another manager in the same order, and no answer of the first, whenever it
/// comes, is an answer any more.
#[tokio::test]
async fn what_a_silent_manager_may_have_stored_goes_to_another_one_before_anything_later() {
    for stores_first in [true, false] {
        let world = World::new();
        let (one, relay) = (world.manager("manager-1").await, world.relay("relay-1").await);
        let mut esa = relay.hello("esa", &one.login("esa").await).await;
        let mut named = Vec::new();
        let mut acked = async |esa: &mut Client, id: &str| {
            let ack = esa.next().await;
            assert_eq!((&ack["type"], &ack["id"]), (&json!("ack"), &json!(id)), "{ack}");
            named.push(ack["stanza_id"].as_str().unwrap().to_owned());
        };
        esa.send(&tracked("1")).await;
        acked(&mut esa, "1").await;
        let two = world.manager_beside("manager-2", &one).await;
        two.reported(|report| report.connections == 1).await;

        one.logs.fall_silent(stores_first);
        for id in ["2", "3"] {
            esa.send(&tracked(id)).await;
        }
        one.logs.is_asked().await;
        esa.send(&tracked("4")).await;
        acked(&mut esa, "2").await;
        acked(&mut esa, "3").await;
        one.logs.speak();
        acked(&mut esa, "4").await;
        esa.send(&tracked("5")).await;
        acked(&mut esa, "5").await;
        esa.ping().await;
        let stored = one.logs.stored("fajar");
        assert_eq!(stored, named, "stores first: {stores_first}");
    }
}
