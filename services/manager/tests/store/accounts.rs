//! M8–M12, M25: accounts and logins.

use kurir_manager::store::{AccountId, CreateError, StoreError};
use kurir_protocol::name::{LoginId, Resource};
use tokio::task::JoinSet;

use crate::{
    database::{REGISTERED_AT_MS, TestDatabase, key, log_in, new_account, register},
    on_both_databases,
};

on_both_databases!(
    m10_an_account_is_found_by_any_writing_of_its_name_and_shown_as_registered,
    m12_an_unknown_name_is_nobody,
    m9_a_taken_name_is_refused_however_it_is_written,
    m9_of_simultaneous_registrations_of_a_name_exactly_one_succeeds,
    m11_logins_are_counted_across_managers_without_gap_or_repetition,
    m25_bio_and_updated_at_are_stored,
    an_account_that_is_gone_is_an_error_and_not_a_success,
);

async fn m10_an_account_is_found_by_any_writing_of_its_name_and_shown_as_registered(database: TestDatabase) {
    let store = database.store().await;
    let created = register(&store, "Esa").await.unwrap();
    assert_eq!(created.username.as_str(), "Esa");
    assert_eq!(created.login, LoginId(1));
    assert_eq!(created.updated_at_ms, REGISTERED_AT_MS);
    for writing in ["esa", "Esa", "ESA"] {
        assert_eq!(store.account(&key(writing)).await.unwrap().as_ref(), Some(&created));
    }
    let unicode = register(&store, "Çağla").await.unwrap();
    assert_eq!(store.account(&key("çağla")).await.unwrap().unwrap(), unicode);
}

async fn m12_an_unknown_name_is_nobody(database: TestDatabase) {
    let store = database.store().await;
    register(&store, "esa").await.unwrap();
    assert_eq!(store.account(&key("es")).await.unwrap(), None);
    assert_eq!(store.account(&key("%")).await.unwrap(), None);
}

async fn m9_a_taken_name_is_refused_however_it_is_written(database: TestDatabase) {
    let store = database.store().await;
    let esa = register(&store, "esa").await.unwrap();
    assert!(matches!(register(&store, "ESA").await, Err(CreateError::Taken)));
    assert_eq!(store.account(&key("esa")).await.unwrap().unwrap(), esa);
}

async fn m9_of_simultaneous_registrations_of_a_name_exactly_one_succeeds(database: TestDatabase) {
    let managers = [database.store().await, database.store().await];
    let mut registrations = JoinSet::new();
    for i in 0..16 {
        let store = managers[i % 2].clone();
        let new = new_account(if i % 3 == 0 { "esa" } else { "Esa" }).await;
        registrations.spawn(async move { store.create_account(new).await });
    }
    let results = registrations.join_all().await;
    let (created, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(created.len(), 1);
    for result in refused {
        assert!(matches!(result, Err(CreateError::Taken)), "{result:?}");
    }
}

async fn m11_logins_are_counted_across_managers_without_gap_or_repetition(database: TestDatabase) {
    let managers = [database.store().await, database.store().await];
    let esa = register(&managers[0], "esa").await.unwrap();
    let mut logins = JoinSet::new();
    for i in 0..20 {
        let store = managers[i % 2].clone();
        logins.spawn(async move {
            log_in(&store, esa.id, &Resource::default_device(), REGISTERED_AT_MS + 1).await.unwrap()
        });
    }
    let mut logins = logins.join_all().await;
    logins.sort();
    assert_eq!(logins, (2..=21).map(LoginId).collect::<Vec<_>>());
    let stored = managers[0].account(&key("esa")).await.unwrap().unwrap();
    assert_eq!(stored.login, LoginId(21));
    assert_eq!(stored.updated_at_ms, REGISTERED_AT_MS + 1);
}

async fn m25_bio_and_updated_at_are_stored(database: TestDatabase) {
    let store = database.store().await;
    let esa = register(&store, "esa").await.unwrap();
    let fajar = register(&store, "fajar").await.unwrap();
    let bio = "lagi makan 'kebab' \u{1f959}";
    store.set_bio(esa.id, bio, REGISTERED_AT_MS + 5).await.unwrap();
    let after = store.account(&key("esa")).await.unwrap().unwrap();
    assert_eq!((after.bio.as_str(), after.updated_at_ms), (bio, REGISTERED_AT_MS + 5));

    store.set_bio(esa.id, "a\0b", 1).await.unwrap();
    assert_eq!(store.account(&key("esa")).await.unwrap().unwrap().bio, "a\u{fffd}b");
    store.set_bio(esa.id, bio, 2).await.unwrap();

    store.touch(esa.id, REGISTERED_AT_MS + 9).await.unwrap();
    // Going offline may be put down late.
    store.touch(esa.id, REGISTERED_AT_MS + 8).await.unwrap();
    let after = store.account(&key("esa")).await.unwrap().unwrap();
    assert_eq!(
        (after.bio.as_str(), after.updated_at_ms, after.login),
        (bio, REGISTERED_AT_MS + 9, LoginId(1))
    );
    assert_eq!(store.account(&key("fajar")).await.unwrap().unwrap(), fajar);
}

async fn an_account_that_is_gone_is_an_error_and_not_a_success(database: TestDatabase) {
    use sea_orm::ConnectionTrait;
    let store = database.store().await;
    let id: AccountId = register(&store, "esa").await.unwrap().id;
    database.raw().await.execute_unprepared("DELETE FROM account").await.unwrap();
    assert!(matches!(log_in(&store, id, &Resource::default_device(), 1).await, Err(StoreError::Other(_))));
    assert!(matches!(store.touch(id, 1).await, Err(StoreError::Other(_))));
    assert!(matches!(store.set_bio(id, "", 1).await, Err(StoreError::Other(_))));
    assert!(store.add_contact(id, &key("fajar"), None).await.is_err());
}
