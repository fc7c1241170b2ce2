//! M15–M23: contacts.

use std::sync::Arc;

use kurir_manager::store::{
    Account, Item, RosterError, Store,
    Subscription::{Both, From, To},
};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    database::{TestDatabase, key, register, roster},
    on_both_databases,
};

on_both_databases!(
    m17_adding_gives_to_and_silently_from,
    m17_adding_back_gives_both,
    m17_two_simultaneous_mutual_adds_give_both,
    m19_adding_again_renames_and_keeps_the_other_sides_name,
    m22_removing_from_both_leaves_from_and_to,
    m22_removing_to_removes_both_rows,
    m21_removing_from_is_not_allowed_and_a_stranger_is_not_found,
    m16_nobody_adds_himself_or_an_unknown_name,
    m24_a_roster_comes_with_profiles_ordered_by_key_and_is_ones_own,
    any_changes_at_once_leave_every_pair_agreeing,
);

async fn esa_and_fajar(store: &Store) -> (Account, Account) {
    (register(store, "Esa").await.unwrap(), register(store, "Fajar").await.unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "a contact's name is optional")]
fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

async fn m17_adding_gives_to_and_silently_from(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    let added = store.add_contact(fajar.id, &key("esa"), named("author")).await.unwrap();
    assert_eq!(added.mine, Item { jid: esa.username.clone(), name: named("author"), subscription: To });
    assert_eq!(added.theirs, Item { jid: fajar.username.clone(), name: None, subscription: From });
    assert_eq!(added.contact, esa);
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), named("author"), To)]);
    assert_eq!(roster(&store, &esa).await, [("Fajar".to_owned(), None, From)]);
}

async fn m17_adding_back_gives_both(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    store.add_contact(fajar.id, &key("esa"), named("author")).await.unwrap();
    let added = store.add_contact(esa.id, &key("FAJAR"), None).await.unwrap();
    assert_eq!(added.mine, Item { jid: fajar.username.clone(), name: None, subscription: Both });
    assert_eq!(added.theirs, Item { jid: esa.username.clone(), name: named("author"), subscription: Both });
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), named("author"), Both)]);
    assert_eq!(roster(&store, &esa).await, [("Fajar".to_owned(), None, Both)]);
}

async fn m17_two_simultaneous_mutual_adds_give_both(database: TestDatabase) {
    let managers = [database.store().await, database.store().await];
    let (esa, fajar) = esa_and_fajar(&managers[0]).await;
    for _ in 0..20 {
        let start = Barrier::new(2);
        let add = async |store: &Store, me: &Account, them: &Account| {
            start.wait().await;
            store.add_contact(me.id, &them.key, named("you")).await.unwrap()
        };
        tokio::join!(add(&managers[0], &esa, &fajar), add(&managers[1], &fajar, &esa));
        assert_eq!(roster(&managers[0], &esa).await, [("Fajar".to_owned(), named("you"), Both)]);
        assert_eq!(roster(&managers[0], &fajar).await, [("Esa".to_owned(), named("you"), Both)]);

        managers[0].remove_contact(esa.id, &fajar.key).await.unwrap();
        managers[1].remove_contact(fajar.id, &esa.key).await.unwrap();
    }
    assert_eq!(roster(&managers[0], &esa).await, []);
}

async fn m19_adding_again_renames_and_keeps_the_other_sides_name(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    store.add_contact(fajar.id, &key("esa"), named("author")).await.unwrap();
    let renamed = store.add_contact(fajar.id, &key("esa"), named("ini 'esa'")).await.unwrap();
    assert_eq!((renamed.mine.name, renamed.mine.subscription), (named("ini 'esa'"), To));

    let renamed = store.add_contact(fajar.id, &key("esa"), named("a\0b")).await.unwrap();
    assert_eq!(renamed.mine.name, named("a\u{fffd}b"));

    store.add_contact(esa.id, &key("fajar"), named("jar")).await.unwrap();
    store.add_contact(fajar.id, &key("esa"), None).await.unwrap();
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), None, Both)]);
    assert_eq!(roster(&store, &esa).await, [("Fajar".to_owned(), named("jar"), Both)]);
}

async fn m22_removing_from_both_leaves_from_and_to(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    store.add_contact(fajar.id, &key("esa"), named("author")).await.unwrap();
    store.add_contact(esa.id, &key("fajar"), named("jar")).await.unwrap();
    let removed = store.remove_contact(fajar.id, &key("esa")).await.unwrap();
    assert_eq!(removed.contact.id, esa.id);
    assert_eq!(removed.mine.unwrap().subscription, From);
    assert_eq!(removed.theirs.unwrap().subscription, To);
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), named("author"), From)]);
    assert_eq!(roster(&store, &esa).await, [("Fajar".to_owned(), named("jar"), To)]);
}

async fn m22_removing_to_removes_both_rows(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    store.add_contact(fajar.id, &key("esa"), None).await.unwrap();
    let removed = store.remove_contact(fajar.id, &key("esa")).await.unwrap();
    assert_eq!((removed.mine, removed.theirs), (None, None));
    assert_eq!(roster(&store, &fajar).await, []);
    assert_eq!(roster(&store, &esa).await, []);
}

async fn m21_removing_from_is_not_allowed_and_a_stranger_is_not_found(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    let remove = async |jid: &str| store.remove_contact(esa.id, &key(jid)).await;
    assert!(matches!(remove("fajar").await, Err(RosterError::NotFound)));
    assert!(matches!(remove("nobody").await, Err(RosterError::NotFound)));
    assert!(matches!(remove("ESA").await, Err(RosterError::Myself)));

    store.add_contact(fajar.id, &key("esa"), None).await.unwrap();
    assert!(matches!(remove("fajar").await, Err(RosterError::NotAllowed)));
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), None, To)]);
}

async fn m16_nobody_adds_himself_or_an_unknown_name(database: TestDatabase) {
    let store = database.store().await;
    let (esa, _) = esa_and_fajar(&store).await;
    assert!(matches!(store.add_contact(esa.id, &key("Esa"), None).await, Err(RosterError::Myself)));
    assert!(matches!(store.add_contact(esa.id, &key("nobody"), None).await, Err(RosterError::NotFound)));
    assert_eq!(roster(&store, &esa).await, []);
}

async fn m24_a_roster_comes_with_profiles_ordered_by_key_and_is_ones_own(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = esa_and_fajar(&store).await;
    // In most locales "eb" sorts before "e-c", and "B" after "a".
    for name in ["Budi", "andi", "eb", "e-c"] {
        register(&store, name).await.unwrap();
        store.add_contact(esa.id, &key(name), named(name)).await.unwrap();
    }
    store.add_contact(fajar.id, &key("esa"), None).await.unwrap();
    store.set_bio(fajar.id, "di jalan", 42).await.unwrap();

    let contacts = store.roster(esa.id).await.unwrap();
    let keys: Vec<&str> = contacts.iter().map(|contact| contact.profile.key.as_str()).collect();
    assert_eq!(keys, ["andi", "budi", "e-c", "eb", "fajar"]);
    let last = &contacts[4];
    assert_eq!((last.item.jid.as_str(), last.item.subscription), ("Fajar", From));
    assert_eq!(
        (last.profile.bio.as_str(), last.profile.updated_at_ms, last.profile.id),
        ("di jalan", 42, fajar.id)
    );
    assert_eq!(roster(&store, &fajar).await, [("Esa".to_owned(), None, To)]);
}

async fn any_changes_at_once_leave_every_pair_agreeing(database: TestDatabase) {
    let managers = [database.store().await, database.store().await];
    let mut users = Vec::new();
    for name in ["a1", "a2", "a3", "a4"] {
        users.push(register(&managers[0], name).await.unwrap());
    }
    let users = Arc::new(users);
    let mut changes = JoinSet::new();
    for who in 0..users.len() {
        let (store, users) = (managers[who % 2].clone(), Arc::clone(&users));
        changes.spawn(async move {
            for step in 0..24 {
                let (me, them) = (&users[who], &users[(who + 1 + step % 3) % 4]);
                let result = if step % 5 == 4 {
                    store.remove_contact(me.id, &them.key).await.map(|_| ())
                } else {
                    store.add_contact(me.id, &them.key, None).await.map(|_| ())
                };
                // What the others did meanwhile may have left nothing to remove; nothing else may go wrong.
                assert!(
                    matches!(result, Ok(()) | Err(RosterError::NotFound | RosterError::NotAllowed)),
                    "{result:?}"
                );
            }
        });
    }
    changes.join_all().await;
    for me in users.iter() {
        for (them, _, mine) in roster(&managers[0], me).await {
            let them = users.iter().find(|user| user.username.as_str() == them).unwrap();
            let theirs =
                roster(&managers[0], them).await.into_iter().find(|(jid, ..)| jid == me.username.as_str());
            let expected = match mine {
                To => From,
                From => To,
                Both => Both,
            };
            assert_eq!(theirs.map(|(_, _, subscription)| subscription), Some(expected));
        }
    }
}
