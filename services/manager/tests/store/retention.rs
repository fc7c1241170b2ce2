//! Dropping what is old, and what is still known of it.

use kurir_manager::store::{
    Store,
    archive::Part,
    device::Cursor,
    log::{Appended, NewMessage},
    retention::{Dropped, Due, Retention},
};
use kurir_protocol::name::Resource;
use uuid::Uuid;

use crate::{
    database::{TestDatabase, key, log_in, register},
    logs::{append_one, message, with_accounts},
    on_both_databases,
};

on_both_databases!(
    old_entries_go_and_the_log_says_where_it_begins,
    too_many_entries_go_the_oldest_first,
    what_may_be_sent_again_is_still_known,
    what_a_live_device_has_not_read_is_counted,
    every_log_is_looked_at,
);

const NONE: Retention = Retention { before_ms: None, most: None, since_ms: i64::MAX, live_ms: 0 };

/// Fajar has written so many messages to Esa, at 1, 2, 3 and so on.
async fn written(database: &TestDatabase, many: u32) -> Store {
    let store = with_accounts(database, &["esa", "fajar"]).await;
    for batch in (1..=many).collect::<Vec<_>>().chunks(250) {
        let one =
            |id: &u32| NewMessage { ts_ms: (*id).into(), ..message("fajar", &id.to_string(), "esa", "halo") };
        store.append(&batch.iter().map(one).collect::<Vec<_>>()).await.unwrap();
    }
    store
}

async fn due(store: &Store, rules: &Retention) -> Vec<Due> {
    store.logs_due(rules, None).await.unwrap().due
}

/// Drops until nothing is left to be dropped. How many entries in all logs, and of them unread ones.
async fn drop_all(store: &Store, rules: &Retention) -> (u64, u64) {
    let mut sum = (0, 0);
    for due in due(store, rules).await {
        while let Some(Dropped { entries, unread }) = store.drop_entries(rules, due).await.unwrap() {
            sum = (sum.0 + entries, sum.1 + unread);
        }
    }
    assert_eq!(due(store, rules).await, []);
    sum
}

async fn page(store: &Store, after: u64) -> (u64, u64, Vec<u64>) {
    let page = store.read_log(&key("esa"), after, 9).await.unwrap().unwrap();
    (page.first, page.last, page.entries.iter().map(|entry| entry.seq).collect())
}

async fn old_entries_go_and_the_log_says_where_it_begins(database: TestDatabase) {
    let store = written(&database, 5).await;
    let rules = |before_ms| Retention { before_ms: Some(before_ms), ..NONE };
    assert_eq!(drop_all(&store, &rules(1)).await, (0, 0));
    assert_eq!(drop_all(&store, &rules(4)).await.0, 6, "three in either log");
    assert_eq!(page(&store, 0).await, (4, 5, vec![4, 5]));
    assert_eq!(page(&store, 4).await, (4, 5, vec![5]));
    let esa = store.account(&key("esa")).await.unwrap().unwrap();
    let found = store.search_log(esa.id, &Part { most: 9, ..Part::default() }).await.unwrap();
    assert_eq!((found.first, found.entries.len(), found.complete), (4, 2, true));
    assert_eq!(drop_all(&store, &rules(100)).await.0, 4);
    assert_eq!(page(&store, 0).await, (6, 5, vec![]));
    // And goes on.
    let next = append_one(&store, &message("fajar", "6", "esa", "halo")).await;
    assert_eq!(next, Appended::Stored { sent: 6, received: 6 });
    assert_eq!(page(&store, 0).await, (6, 6, vec![6]));
}

async fn too_many_entries_go_the_oldest_first(database: TestDatabase) {
    let store = written(&database, 1201).await;
    let rules = Retention { most: Some(100), ..NONE };
    assert_eq!(drop_all(&store, &rules).await.0, 2 * 1101);
    assert_eq!(page(&store, 0).await, (1102, 1201, (1102..1111).collect()));
    // Nothing that may be sent again, whatever else.
    let store = with_accounts(&database, &["gita"]).await;
    append_one(&store, &NewMessage { ts_ms: 10, ..message("gita", "1", "gita", "a") }).await;
    append_one(&store, &NewMessage { ts_ms: 11, ..message("gita", "2", "gita", "b") }).await;
    let since = |since_ms| Retention { most: Some(0), since_ms, before_ms: None, live_ms: 0 };
    assert_eq!(due(&store, &since(10)).await, []);
    assert_eq!(drop_all(&store, &since(11)).await.0, 1);
}

async fn what_may_be_sent_again_is_still_known(database: TestDatabase) {
    let store = written(&database, 3).await;
    drop_all(&store, &Retention { before_ms: Some(3), ..NONE }).await;
    let again =
        |id: &str, body: &str| NewMessage { stanza_id: Uuid::now_v7(), ..message("fajar", id, "esa", body) };
    let repeated = append_one(&store, &again("1", "halo")).await;
    assert!(matches!(repeated, Appended::Repeated { sent: 1, .. }), "{repeated:?}");
    assert_eq!(append_one(&store, &again("1", "hai")).await, Appended::Conflict);
    assert_eq!(page(&store, 0).await, (3, 3, vec![3]));
    let fajar = store.account(&key("fajar")).await.unwrap().unwrap();
    let sent = store.sent(fajar.id, &Resource::default_device(), "1").await.unwrap();
    assert_eq!((sent.entries.len(), sent.entries[0].stanza.as_str(), sent.first), (1, "", 3));
}

async fn what_a_live_device_has_not_read_is_counted(database: TestDatabase) {
    let store = written(&database, 5).await;
    let esa = store.account(&key("esa")).await.unwrap().unwrap();
    let (phone, default) = (Resource::named("phone").unwrap(), Resource::default_device());
    log_in(&store, esa.id, &phone, 1000).await.unwrap();
    log_in(&store, esa.id, &default, 2000).await.unwrap();
    let read = |device: &Resource, seq| Cursor { user: key("esa"), device: device.clone(), seq };
    store.move_cursors(&[read(&default, 1)]).await.unwrap();
    let mine = due(&store, &Retention { before_ms: Some(3), ..NONE }).await[0];
    let drop = async |before_ms, live_ms| {
        let rules = Retention { before_ms: Some(before_ms), live_ms, ..NONE };
        store.drop_entries(&rules, mine).await.unwrap()
    };
    // The phone, which is at the end, and the default device, which has read one.
    assert_eq!(drop(3, 1000).await, Some(Dropped { entries: 2, unread: 1 }));
    assert_eq!(drop(4, 1000).await, Some(Dropped { entries: 1, unread: 1 }));
    // Nobody has been here for long.
    assert_eq!(drop(5, 3000).await, Some(Dropped { entries: 1, unread: 0 }));
    assert_eq!(drop(5, 3000).await, None);
}

async fn every_log_is_looked_at(database: TestDatabase) {
    let store = written(&database, 1).await;
    for number in 0..600 {
        let name = format!("user{number}");
        register(&store, &name).await.unwrap();
        append_one(&store, &NewMessage { ts_ms: 1, ..message(&name, "1", &name, "a") }).await;
    }
    let rules = Retention { before_ms: Some(2), ..NONE };
    let (mut after, mut logs) = (None, 0);
    loop {
        let looked = store.logs_due(&rules, after).await.unwrap();
        logs += looked.due.len();
        after = looked.more;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(logs, 602);
}
