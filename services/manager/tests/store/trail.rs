//! What became of tracked messages, kept in the database.

use std::sync::Arc;

use kurir_manager::store::{Store, log::NewMessage};
use kurir_protocol::name::Resource;
use kurir_trail::{Asked, Device, Event, Kept, Reason, SentAs, Step, resolve};
use uuid::Uuid;

use crate::{
    database::{TestDatabase, key, register},
    on_both_databases,
};

on_both_databases!(
    a_trail_comes_back_as_it_was_kept,
    of_a_long_connection_the_progress_of_one_entry_is_found,
    what_is_old_is_forgotten,
    only_the_sender_has_sent_a_message,
);

fn by_stanza(stanza_id: Uuid) -> Asked {
    Asked { stanza_id: Some(stanza_id), sent_as: None }
}

fn kept(component: &str, event: Event) -> Kept {
    Kept { component: component.to_owned(), event }
}

async fn resolved(store: &Store, asked: &Asked) -> Vec<(i64, Step)> {
    let events: Vec<Event> = store.trail(asked).await.unwrap().into_iter().map(|kept| kept.event).collect();
    resolve(asked, &events).iter().map(|event| (event.at_us, event.step)).collect()
}

async fn a_trail_comes_back_as_it_was_kept(database: TestDatabase) {
    let store = database.store().await;
    store.keep_trail(&[]).await.unwrap();
    let esa = Arc::new(Device::new("esa", "phone", u64::from(u32::MAX) + 7, 1_726_223_542_222_333));
    let stanza_id = Uuid::now_v7();
    let stored = Event {
        reason: Reason::Repeated,
        stanza_id: Some(stanza_id),
        seq: 7,
        message_id: Some("a\0é".into()),
        peer: Some("manager-1".into()),
        count: u32::MAX,
        took_us: u32::MAX,
        ..Event::new(1_726_223_542_222_444, Step::Stored, &esa)
    };
    let other = Event { stanza_id: Some(Uuid::now_v7()), ..stored.clone() };
    store.keep_trail(&[kept("relay-1", stored.clone()), kept("relay-1", other)]).await.unwrap();
    let encode = |kept: Kept| Kept::encode(&kept.component, kept.event);
    let back: Vec<_> = store.trail(&by_stanza(stanza_id)).await.unwrap().into_iter().map(encode).collect();
    assert_eq!(back, [Kept::encode("relay-1", stored)]);
    let sent_as = |user: &str, id: &str| {
        let sent = SentAs { user: user.to_owned(), device: None, id: id.to_owned() };
        Asked { stanza_id: None, sent_as: Some(sent) }
    };
    assert_eq!(store.trail(&sent_as("esa", "a\0é")).await.unwrap().len(), 2);
    assert_eq!(store.trail(&sent_as("esa", "a")).await.unwrap().len(), 0);
    assert_eq!(store.trail(&sent_as("fajar", "a\0é")).await.unwrap().len(), 0);
    assert_eq!(store.trail(&Asked::default()).await.unwrap().len(), 0);
}

async fn of_a_long_connection_the_progress_of_one_entry_is_found(database: TestDatabase) {
    use Step::{Acked, Read, Written};
    let store = database.store().await;
    let fajar = Arc::new(Device::new("fajar", "phone", 3, 1));
    let progress = |at_us, step, seq| Event { seq, ..Event::new(at_us, step, &fajar) };
    let mut events = Vec::new();
    let ids: Vec<Uuid> = (0..200).map(|_| timeless()).collect();
    for (seq, id) in (1..).zip(&ids) {
        let at_us = i64::try_from(seq).unwrap() * 10;
        events.push(Event { stanza_id: Some(*id), ..progress(at_us, Step::Read, seq) });
        // Every tenth place.
        if seq % 10 == 0 {
            events.push(progress(at_us + 1, Step::Written, seq));
            events.push(progress(at_us + 2, Step::Acked, seq - 1));
        }
    }
    events.push(Event { reason: Reason::ConnectionLost, ..progress(5000, Step::Lost, 0) });
    // The same number in another life of the relay, and at another relay.
    let again = Arc::new(Device::new("fajar", "phone", 3, 2));
    events.push(Event { seq: 900, ..Event::new(1, Step::Written, &again) });
    for some in events.chunks(512) {
        let some: Vec<_> = some.iter().cloned().map(|event| kept("relay-1", event)).collect();
        store.keep_trail(&some).await.unwrap();
    }
    store.keep_trail(&[kept("relay-2", progress(1, Step::Acked, 900))]).await.unwrap();
    assert_eq!(
        resolved(&store, &by_stanza(ids[54])).await,
        [(550, Read), (601, Written), (602, Acked)],
        "the entry at 55"
    );
    assert_eq!(resolved(&store, &by_stanza(ids[59])).await, [(600, Read), (601, Written), (702, Acked)]);
    let of_another = store.trail(&by_stanza(ids[199])).await.unwrap();
    assert!(of_another.iter().all(|kept| kept.component == "relay-1"), "{of_another:?}");
}

/// Ids without a time.
fn timeless() -> Uuid {
    Uuid::new_v4()
}

async fn what_is_old_is_forgotten(database: TestDatabase) {
    let store = database.store().await;
    let esa = Arc::new(Device::elsewhere("esa", "phone"));
    let stanza_id = Uuid::new_v4();
    let events: Vec<_> = (0..300)
        .map(|at_us| {
            kept("relay-1", Event { stanza_id: Some(stanza_id), ..Event::new(at_us, Step::Accepted, &esa) })
        })
        .collect();
    store.keep_trail(&events).await.unwrap();
    assert_eq!(store.forget_trail(0).await.unwrap(), 0);
    assert_eq!(store.forget_trail(250).await.unwrap(), 250);
    let left = store.trail(&by_stanza(stanza_id)).await.unwrap();
    assert_eq!(left.iter().map(|kept| kept.event.at_us).min(), Some(250));
    assert_eq!(left.len(), 50);
    assert_eq!(store.forget_trail(i64::MAX).await.unwrap(), 50);
    assert_eq!(store.forget_trail(i64::MAX).await.unwrap(), 0);
}

async fn only_the_sender_has_sent_a_message(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = (register(&store, "esa").await.unwrap(), register(&store, "fajar").await.unwrap());
    let message = |from: &str, to: &str| NewMessage {
        from: key(from),
        device: Resource::default_device(),
        id: "1".to_owned(),
        to: key(to),
        stanza_id: Uuid::now_v7(),
        ts_ms: 1,
        stanza: "{}".to_owned(),
        displayed: None,
    };
    let (halo, note) = (message("esa", "fajar"), message("fajar", "fajar"));
    store.append(&[halo.clone(), note.clone()]).await.unwrap();
    assert!(store.has_sent(esa.id, halo.stanza_id).await.unwrap());
    assert!(!store.has_sent(fajar.id, halo.stanza_id).await.unwrap(), "has received it");
    assert!(store.has_sent(fajar.id, note.stanza_id).await.unwrap());
    assert!(!store.has_sent(esa.id, note.stanza_id).await.unwrap());
    assert!(!store.has_sent(esa.id, Uuid::now_v7()).await.unwrap());
}
