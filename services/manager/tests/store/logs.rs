//! PROTOCOL Part II: each account's log, and how far its devices have read it.

use kurir_manager::store::{
    Store,
    device::Cursor,
    log::{Appended, Logged, NewMessage},
};
use kurir_protocol::name::Resource;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    database::{TestDatabase, key, log_in, register},
    on_both_databases,
};

on_both_databases!(
    a_message_is_in_both_logs_under_one_stanza_id,
    a_message_to_oneself_is_one_entry,
    the_same_message_again_is_stored_once,
    the_same_id_with_other_content_is_a_conflict,
    one_bad_message_fails_none_of_its_neighbours,
    ids_may_hold_any_character,
    seq_is_the_order_of_commits_and_has_no_gap,
    the_same_batch_at_two_managers_at_once_is_stored_once_and_in_order,
    pages_follow_each_other,
    cursors_move_forward_only_and_not_beyond_the_end,
);

pub(crate) fn message(from: &str, id: &str, to: &str, body: &str) -> NewMessage {
    NewMessage {
        from: key(from),
        device: Resource::default_device(),
        id: id.to_owned(),
        to: key(to),
        stanza_id: Uuid::now_v7(),
        ts_ms: 1_726_223_542_222,
        stanza: format!(r#"{{"from":"{from}","stanza":"message","to":"{to}","id":"{id}","body":"{body}"}}"#),
        displayed: None,
    }
}

pub(crate) async fn with_accounts(database: &TestDatabase, names: &[&str]) -> Store {
    let store = database.store().await;
    for name in names {
        register(&store, name).await.unwrap();
    }
    store
}

pub(crate) async fn entries(store: &Store, user: &str) -> Vec<Logged> {
    store.read_log(&key(user), 0, 1000).await.unwrap().unwrap().entries
}

pub(crate) async fn append_one(store: &Store, message: &NewMessage) -> Appended {
    store.append(std::slice::from_ref(message)).await.unwrap()[0]
}

async fn a_message_is_in_both_logs_under_one_stanza_id(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    let halo = message("esa", "1", "fajar", "halo");
    assert_eq!(append_one(&store, &halo).await, Appended::Stored { sent: 1, received: 1 });
    let logged = |sent_by: Option<&str>| Logged {
        seq: 1,
        stanza_id: halo.stanza_id,
        ts_ms: halo.ts_ms,
        stanza: halo.stanza.clone(),
        sent_by: sent_by.map(str::to_owned),
    };
    let default = Resource::default_device();
    assert_eq!(entries(&store, "esa").await, [logged(Some(default.as_str()))]);
    assert_eq!(entries(&store, "fajar").await, [logged(None)]);
    let (esa, fajar) = (store.read_log(&key("esa"), 1, 9).await, store.read_log(&key("fajar"), 1, 9).await);
    let (esa, fajar) = (esa.unwrap().unwrap(), fajar.unwrap().unwrap());
    assert_eq!((esa.last, fajar.last), (1, 1));
    assert_ne!(esa.life, fajar.life);
}

async fn a_message_to_oneself_is_one_entry(database: TestDatabase) {
    let store = with_accounts(&database, &["esa"]).await;
    let note = message("esa", "1", "esa", "beli kopi");
    assert_eq!(append_one(&store, &note).await, Appended::Stored { sent: 1, received: 1 });
    assert_eq!(entries(&store, "esa").await.len(), 1);
}

async fn the_same_message_again_is_stored_once(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    let first = message("esa", "1", "fajar", "halo");
    append_one(&store, &first).await;
    // Each attempt makes a stanza id of its own; the first one's stays.
    let again = NewMessage { stanza_id: Uuid::now_v7(), ..first.clone() };
    let repeated = Appended::Repeated { stanza_id: first.stanza_id, sent: 1 };
    assert_eq!(append_one(&store, &again).await, repeated);
    // In one batch too.
    let (second, third) = (message("esa", "2", "fajar", "apa"), message("esa", "3", "fajar", "kabar"));
    let batch = [second.clone(), again, second.clone(), third];
    let outcomes = store.append(&batch).await.unwrap();
    let stored = |seq| Appended::Stored { sent: seq, received: seq };
    let twice = Appended::Repeated { stanza_id: second.stanza_id, sent: 2 };
    assert_eq!(outcomes, [stored(2), repeated, twice, stored(3)]);
    assert_eq!(entries(&store, "fajar").await.len(), 3);
    // Another device's ids are its own.
    let tablet = NewMessage { device: Resource::try_from("tablet").unwrap(), ..first };
    assert_eq!(append_one(&store, &tablet).await, stored(4));
}

async fn the_same_id_with_other_content_is_a_conflict(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar", "gita"]).await;
    append_one(&store, &message("esa", "1", "fajar", "halo")).await;
    assert_eq!(append_one(&store, &message("esa", "1", "fajar", "hai")).await, Appended::Conflict);
    assert_eq!(append_one(&store, &message("esa", "1", "gita", "halo")).await, Appended::Conflict);
    let stored = Appended::Stored { sent: 1, received: 2 };
    assert_eq!(append_one(&store, &message("gita", "1", "fajar", "hai")).await, stored);
    assert_eq!(entries(&store, "fajar").await.len(), 2);
}

async fn one_bad_message_fails_none_of_its_neighbours(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    let batch = [
        message("esa", "1", "fajar", "a"),
        message("esa", "2", "siapa", "b"),
        message("esa", "1", "fajar", "c"),
        message("fajar", "1", "esa", "d"),
        message("siapa", "1", "esa", "e"),
    ];
    let outcomes = store.append(&batch).await.unwrap();
    assert_eq!(
        outcomes,
        [
            Appended::Stored { sent: 1, received: 1 },
            Appended::NoAccount,
            Appended::Conflict,
            Appended::Stored { sent: 2, received: 2 },
            Appended::NoAccount,
        ]
    );
}

async fn ids_may_hold_any_character(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    for (seq, id) in (1..).zip(["\0", "é", "😀", "'", "%", "\u{80}\u{81}\u{82}"]) {
        let new = NewMessage { id: id.to_owned(), ..message("esa", "x", "fajar", "halo") };
        assert_eq!(append_one(&store, &new).await, Appended::Stored { sent: seq, received: seq });
        assert!(matches!(append_one(&store, &new).await, Appended::Repeated { .. }), "{id:?}");
    }
}

/// Two managers, everybody writes to everybody, batches that meet: a reader that goes by `seq` misses nothing.
async fn seq_is_the_order_of_commits_and_has_no_gap(database: TestDatabase) {
    const PEOPLE: [&str; 4] = ["esa", "fajar", "gita", "hadi"];
    const BATCHES: usize = 12;
    let managers = [with_accounts(&database, &PEOPLE).await, database.store().await];
    let mut writers = JoinSet::new();
    for (number, from) in PEOPLE.into_iter().enumerate() {
        let store = managers[number % 2].clone();
        writers.spawn(async move {
            for batch in 0..BATCHES {
                let messages: Vec<_> = (0..PEOPLE.len() * 2)
                    .map(|i| {
                        message(from, &format!("{batch}-{i}"), PEOPLE[(i + batch) % PEOPLE.len()], "halo")
                    })
                    .collect();
                for outcome in store.append(&messages).await.unwrap() {
                    assert!(matches!(outcome, Appended::Stored { .. }), "{outcome:?}");
                }
            }
        });
    }
    // Reads as a device does: what is after the last one that it has seen.
    let reader = managers[0].clone();
    let seen = async {
        let mut seen: Vec<Logged> = Vec::new();
        // To others, from others, and a quarter of one's own to oneself.
        let all = BATCHES * 8 * 2 - BATCHES * 2;
        while seen.len() < all {
            let after = seen.last().map_or(0, |entry| entry.seq);
            let page = reader.read_log(&key("esa"), after, 7).await.unwrap().unwrap();
            assert!(page.last >= page.entries.last().map_or(0, |entry| entry.seq));
            seen.extend(page.entries);
        }
        seen
    };
    let seen = tokio::time::timeout(std::time::Duration::from_mins(1), seen).await.unwrap();
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let seqs: Vec<u64> = seen.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(entries(&managers[1], "esa").await, seen, "what was read while others wrote is what is there");
}

/// A relay that has had no answer sends its batch to another manager, and the first one may still be at it.
async fn the_same_batch_at_two_managers_at_once_is_stored_once_and_in_order(database: TestDatabase) {
    let managers = [with_accounts(&database, &["esa", "fajar"]).await, database.store().await];
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let batch: Vec<_> = ids.iter().map(|id| message("esa", id, "fajar", id)).collect();
    let (first, second) = tokio::join!(managers[0].append(&batch), managers[1].append(&batch));
    let (first, second) = (first.unwrap(), second.unwrap());
    for (one, other) in first.iter().zip(&second) {
        let stored = [one, other].iter().filter(|outcome| matches!(outcome, Appended::Stored { .. })).count();
        let repeated =
            [one, other].iter().filter(|outcome| matches!(outcome, Appended::Repeated { .. })).count();
        assert_eq!((stored, repeated), (1, 1));
    }
    let stored = entries(&managers[0], "fajar").await;
    assert_eq!(stored.len(), 40);
    for (entry, message) in stored.iter().zip(&batch) {
        assert_eq!(entry.stanza, message.stanza);
    }
}

async fn pages_follow_each_other(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    assert_eq!(store.read_log(&key("siapa"), 0, 10).await.unwrap(), None);
    let empty = store.read_log(&key("fajar"), 0, 10).await.unwrap().unwrap();
    assert_eq!((empty.last, empty.entries.len()), (0, 0));
    let batch: Vec<_> = (0..10).map(|n| message("esa", &n.to_string(), "fajar", "halo")).collect();
    store.append(&batch).await.unwrap();
    let mut after = 0;
    for expected in [&[1, 2, 3, 4][..], &[5, 6, 7, 8], &[9, 10], &[]] {
        let page = store.read_log(&key("fajar"), after, 4).await.unwrap().unwrap();
        assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), expected);
        assert_eq!((page.life, page.last), (empty.life, 10), "a log has its life before its first entry");
        after = page.entries.last().map_or(after, |entry| entry.seq);
    }
    assert_eq!(store.read_log(&key("fajar"), u64::MAX, 4).await.unwrap().unwrap().entries, []);
}

async fn cursors_move_forward_only_and_not_beyond_the_end(database: TestDatabase) {
    let store = with_accounts(&database, &["esa", "fajar"]).await;
    let (user, device) = (key("fajar"), Resource::default_device());
    let at = async || store.cursor(&user, &device).await.unwrap();
    let to = async |seq| {
        let cursor = Cursor { user: user.clone(), device: device.clone(), seq };
        store.move_cursors(&[cursor]).await.unwrap();
    };
    let (fajar, tablet) = (store.account(&user).await.unwrap().unwrap(), Resource::named("tablet").unwrap());
    log_in(&store, fajar.id, &tablet, 1).await.unwrap();
    assert_eq!(at().await, 0);
    to(5).await;
    assert_eq!(at().await, 0, "nothing is there to be read");
    let batch: Vec<_> = (0..10).map(|n| message("esa", &n.to_string(), "fajar", "halo")).collect();
    store.append(&batch).await.unwrap();
    for (moved, expected) in [(3, 3), (2, 3), (7, 7), (u64::MAX, 10), (0, 10)] {
        to(moved).await;
        assert_eq!(at().await, expected);
    }
    let nobody = Cursor { user: key("siapa"), device: device.clone(), seq: 1 };
    let tablet = Cursor { user: user.clone(), device: tablet, seq: 4 };
    store.move_cursors(&[nobody, tablet.clone(), Cursor { seq: 2, ..tablet.clone() }]).await.unwrap();
    assert_eq!(store.cursor(&user, &tablet.device).await.unwrap(), 4);
    store.move_cursors(&[]).await.unwrap();
}
