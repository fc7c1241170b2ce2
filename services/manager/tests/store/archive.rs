//! PROTOCOL Part II `archive`: the log as its account reads it back.

use kurir_manager::store::{
    Store,
    archive::{Displayed, Found, Part},
    log::NewMessage,
};
use kurir_protocol::name::Resource;
use uuid::Uuid;

use crate::{
    database::{TestDatabase, key, register},
    logs::{append_one, message, with_accounts},
    on_both_databases,
};

on_both_databases!(
    a_part_is_the_last_entries_or_the_first_ones_after_a_place,
    a_conversation_is_what_two_have_written_to_each_other,
    large_messages_come_a_few_at_a_time,
    a_message_is_found_by_the_id_that_its_device_gave_it,
    a_conversation_is_read_up_to_the_furthest_marker,
);

/// Esa has written 1 to 3 to Fajar, Gita 4 and 5 to Esa, Fajar 6 and 7.
async fn conversations(database: &TestDatabase) -> Store {
    let store = with_accounts(database, &["esa", "fajar", "gita"]).await;
    let batch: Vec<NewMessage> = [(1, "esa", "fajar"), (2, "esa", "fajar"), (3, "esa", "fajar")]
        .into_iter()
        .chain([(4, "gita", "esa"), (5, "gita", "esa"), (6, "fajar", "esa"), (7, "fajar", "esa")])
        .map(|(id, from, to): (u32, _, _)| message(from, &id.to_string(), to, "halo"))
        .collect();
    store.append(&batch).await.unwrap();
    store
}

async fn search(store: &Store, part: &Part) -> Found {
    let esa = store.account(&key("esa")).await.unwrap().unwrap();
    store.search_log(esa.id, part).await.unwrap()
}

fn places(found: &Found) -> (Vec<u64>, bool) {
    (found.entries.iter().map(|entry| entry.seq).collect(), found.complete)
}

async fn a_part_is_the_last_entries_or_the_first_ones_after_a_place(database: TestDatabase) {
    let store = conversations(&database).await;
    for (after, before, most, expected, complete) in [
        (None, None, 3, vec![5, 6, 7], false),
        (None, None, 7, vec![1, 2, 3, 4, 5, 6, 7], true),
        (None, Some(5), 2, vec![3, 4], false),
        (None, Some(3), 2, vec![1, 2], true),
        (None, Some(1), 2, vec![], true),
        (Some(0), None, 2, vec![1, 2], false),
        (Some(5), None, 2, vec![6, 7], true),
        (Some(2), Some(5), 9, vec![3, 4], true),
        (Some(2), Some(5), 1, vec![3], false),
        (Some(u64::MAX), None, 9, vec![], true),
        (None, Some(u64::MAX), 1, vec![7], false),
    ] {
        let part = Part { with: None, after, before, most };
        assert_eq!(places(&search(&store, &part).await), (expected, complete), "{part:?}");
    }
    let nobody = register(&store, "hana").await.unwrap();
    let found = store.search_log(nobody.id, &Part { most: 9, ..Part::default() }).await.unwrap();
    assert_eq!((places(&found), found.first), ((vec![], true), 1));
}

async fn a_conversation_is_what_two_have_written_to_each_other(database: TestDatabase) {
    let store = conversations(&database).await;
    append_one(&store, &message("esa", "note", "esa", "beli kopi")).await;
    for (with, expected) in
        [("fajar", vec![1, 2, 3, 6, 7]), ("gita", vec![4, 5]), ("esa", vec![8]), ("siapa", vec![])]
    {
        let part = Part { with: Some(key(with)), most: 9, ..Part::default() };
        assert_eq!(places(&search(&store, &part).await), (expected, true), "{with}");
    }
    let part = Part { with: Some(key("fajar")), before: Some(7), most: 2, ..Part::default() };
    assert_eq!(places(&search(&store, &part).await), (vec![3, 6], false));
}

async fn large_messages_come_a_few_at_a_time(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    let body = "x".repeat(60_000);
    for id in 1..=5 {
        append_one(&store, &message("fajar", &id.to_string(), "esa", &body)).await;
    }
    let (last, first) =
        (Part { most: 9, ..Part::default() }, Part { after: Some(0), most: 9, ..Part::default() });
    assert_eq!(places(&search(&store, &last).await), (vec![3, 4, 5], false));
    assert_eq!(places(&search(&store, &first).await), (vec![1, 2, 3], false));
}

async fn a_message_is_found_by_the_id_that_its_device_gave_it(database: TestDatabase) {
    let store = conversations(&database).await;
    let esa = store.account(&key("esa")).await.unwrap().unwrap();
    let default = Resource::default_device();
    let sent = async |device: &Resource, id| store.sent(esa.id, device, id).await.unwrap();
    assert_eq!(places(&sent(&default, "2").await).0, [2]);
    assert_eq!(places(&sent(&default, "6").await).0, [] as [u64; 0], "somebody else's");
    assert_eq!(places(&sent(&Resource::named("phone").unwrap(), "2").await).0, [] as [u64; 0]);
}

async fn a_conversation_is_read_up_to_the_furthest_marker(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar", "gita"]).await;
    let esa = store.account(&key("esa")).await.unwrap().unwrap();
    // Their ids are not in the order of the log, as with several managers.
    let mut ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    ids.reverse();
    for (number, id) in ids.iter().enumerate() {
        let from_fajar =
            NewMessage { stanza_id: *id, ..message("fajar", &format!("f{number}"), "esa", "halo") };
        store.append(&[from_fajar]).await.unwrap();
    }
    let of_gita = message("gita", "g", "esa", "halo");
    let gita = of_gita.stanza_id;
    store.append(&[of_gita]).await.unwrap();
    let reads = |id: &str, with: &str, read: Uuid, ts_ms| NewMessage {
        displayed: Some(read),
        ts_ms,
        ..message("esa", id, with, "")
    };
    assert_eq!(store.displayed(esa.id).await.unwrap(), []);
    // Two of one conversation in one batch.
    store.append(&[reads("1", "fajar", ids[1], 11), reads("2", "fajar", ids[0], 12)]).await.unwrap();
    store.append(&[reads("3", "gita", gita, 13)]).await.unwrap();
    // An older one that comes late.
    store.append(&[reads("4", "fajar", ids[0], 14)]).await.unwrap();
    let read = |with: &str, stanza_id, ts_ms| Displayed { with: with.to_owned(), stanza_id, ts_ms };
    let expected = [read("gita", gita, 13), read("fajar", ids[1], 11)];
    assert_eq!(store.displayed(esa.id).await.unwrap(), expected);
    store.append(&[reads("5", "fajar", ids[2], 15)]).await.unwrap();
    assert_eq!(store.displayed(esa.id).await.unwrap()[0], read("fajar", ids[2], 15));
    // Sent again, it says nothing new.
    store.append(&[reads("3", "gita", gita, 16)]).await.unwrap();
    assert_eq!(store.displayed(esa.id).await.unwrap()[1], read("gita", gita, 13));
    // What is nobody's, or another conversation's, is nothing that was read.
    store.append(&[reads("6", "gita", Uuid::max(), 17), reads("7", "gita", ids[2], 18)]).await.unwrap();
    assert_eq!(store.displayed(esa.id).await.unwrap()[1], read("gita", gita, 13));
}
