//! What became of tracked messages, kept in the database.

use std::sync::Arc;

use kurir_manager::store::{Store, log::NewMessage, trail::Receiver};
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
    of_what_repeats_the_last_and_of_the_rest_all_is_read,
    a_receiver_is_seen_by_whom_its_roster_says,
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

/// A device that reads its log again and again.
async fn of_what_repeats_the_last_and_of_the_rest_all_is_read(database: TestDatabase) {
    let store = database.store().await;
    let id = timeless();
    let stanza_id = Some(id);
    let esa = Arc::new(Device::elsewhere("esa", "phone"));
    let mut events = vec![kept("relay-1", Event { stanza_id, ..Event::new(0, Step::Accepted, &esa) })];
    for at_us in 1..=300_i64 {
        let fajar = Arc::new(Device::new("fajar", "phone", at_us.unsigned_abs(), at_us));
        let event = |step, stanza_id| Event { seq: 7, stanza_id, ..Event::new(at_us, step, &fajar) };
        events.push(kept("relay-1", event(Step::Read, stanza_id)));
        events.push(kept("relay-1", event(Step::Written, None)));
    }
    events.push(kept("relay-1", Event { stanza_id, ..Event::new(301, Step::Confirmed, &esa) }));
    for some in events.chunks(512) {
        store.keep_trail(some).await.unwrap();
    }
    let told = resolved(&store, &by_stanza(id)).await;
    let of = |wanted: Step| told.iter().filter(move |(_, step)| *step == wanted).map(|(at_us, _)| *at_us);
    assert_eq!((told.first(), told.last()), (Some(&(0, Step::Accepted)), Some(&(301, Step::Confirmed))));
    assert_eq!(of(Step::Read).collect::<Vec<_>>(), (237..=300).collect::<Vec<_>>(), "as in memory");
    assert_eq!(of(Step::Written).collect::<Vec<_>>(), (269..=300).collect::<Vec<_>>());
}

fn message(from: &str, to: &str) -> NewMessage {
    NewMessage {
        from: key(from),
        device: Resource::default_device(),
        id: Uuid::now_v7().to_string(),
        to: key(to),
        stanza_id: Uuid::now_v7(),
        ts_ms: 1,
        stanza: "{}".to_owned(),
        displayed: None,
    }
}

async fn only_the_sender_has_sent_a_message(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = (register(&store, "esa").await.unwrap(), register(&store, "fajar").await.unwrap());
    let (halo, note) = (message("esa", "fajar"), message("fajar", "fajar"));
    store.append(&[halo.clone(), note.clone()]).await.unwrap();
    assert_eq!(store.receiver(esa.id, halo.stanza_id).await.unwrap(), Some(Receiver::Hidden));
    assert_eq!(store.receiver(fajar.id, halo.stanza_id).await.unwrap(), None, "has received it");
    assert_eq!(store.receiver(fajar.id, note.stanza_id).await.unwrap(), Some(Receiver::Seen), "oneself");
    assert_eq!(store.receiver(esa.id, note.stanza_id).await.unwrap(), None);
    assert_eq!(store.receiver(esa.id, Uuid::now_v7()).await.unwrap(), None);
}

async fn a_receiver_is_seen_by_whom_its_roster_says(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = (register(&store, "esa").await.unwrap(), register(&store, "fajar").await.unwrap());
    let (there, back) = (message("esa", "fajar"), message("fajar", "esa"));
    store.append(&[there.clone(), back.clone()]).await.unwrap();
    let both = async || {
        let receiver = async |of, stanza_id| store.receiver(of, stanza_id).await.unwrap().unwrap();
        (receiver(esa.id, there.stanza_id).await, receiver(fajar.id, back.stanza_id).await)
    };
    assert_eq!(both().await, (Receiver::Hidden, Receiver::Hidden));
    store.add_contact(fajar.id, &key("esa"), None).await.unwrap();
    assert_eq!(both().await, (Receiver::Hidden, Receiver::Seen), "fajar sees esa");
    store.add_contact(esa.id, &key("fajar"), None).await.unwrap();
    assert_eq!(both().await, (Receiver::Seen, Receiver::Seen));
    store.remove_contact(fajar.id, &key("esa")).await.unwrap();
    assert_eq!(both().await, (Receiver::Seen, Receiver::Hidden));
}
