//! PROTOCOL Part II `resource`: an account's devices.

use kurir_manager::store::{
    Account, Store,
    device::{Cursor, Login, LoginError, LoginSession},
    log::NewMessage,
};
use kurir_protocol::name::Resource;
use uuid::Uuid;

use crate::{
    database::{REGISTERED_AT_MS, TestDatabase, key, log_in, register, session},
    on_both_databases,
};

on_both_databases!(
    a_device_is_there_from_its_first_login_until_it_is_removed,
    a_named_device_begins_where_the_log_ends_and_the_default_one_at_the_beginning,
    what_a_removed_device_has_read_does_not_bring_it_back,
    devices_that_nobody_has_seen_are_forgotten,
    one_device_too_many_is_refused,
);

const LATER_MS: i64 = REGISTERED_AT_MS + 1000;

fn phone() -> Resource {
    Resource::named("phone").unwrap()
}

async fn account(database: &TestDatabase) -> (Store, Account) {
    let store = database.store().await;
    let esa = register(&store, "esa").await.unwrap();
    (store, esa)
}

async fn devices(store: &Store, of: &Account) -> Vec<(String, i64)> {
    let devices = store.devices(of.id).await.unwrap();
    devices.into_iter().map(|device| (device.resource.into(), device.seen_ms)).collect()
}

async fn note(store: &Store, id: &str) {
    let note = NewMessage {
        from: key("esa"),
        device: Resource::default_device(),
        id: id.to_owned(),
        to: key("esa"),
        stanza_id: Uuid::now_v7(),
        ts_ms: REGISTERED_AT_MS,
        stanza: r#"{"from":"esa"}"#.to_owned(),
        displayed: None,
    };
    store.append(&[note]).await.unwrap();
}

async fn a_device_is_there_from_its_first_login_until_it_is_removed(database: TestDatabase) {
    let (store, esa) = account(&database).await;
    let default = ("default".to_owned(), REGISTERED_AT_MS);
    assert_eq!(devices(&store, &esa).await, std::slice::from_ref(&default));
    log_in(&store, esa.id, &phone(), LATER_MS).await.unwrap();
    assert_eq!(devices(&store, &esa).await, [default.clone(), ("phone".to_owned(), LATER_MS)]);
    store.devices_seen(&[(esa.id, phone())], LATER_MS + 1).await.unwrap();
    store.devices_seen(&[(esa.id, phone())], LATER_MS).await.unwrap();
    assert_eq!(devices(&store, &esa).await, [default.clone(), ("phone".to_owned(), LATER_MS + 1)]);
    assert!(store.remove_device(esa.id, &phone()).await.unwrap());
    assert!(!store.remove_device(esa.id, &phone()).await.unwrap());
    assert_eq!(devices(&store, &esa).await, [default]);
}

async fn a_named_device_begins_where_the_log_ends_and_the_default_one_at_the_beginning(
    database: TestDatabase,
) {
    let (store, esa) = account(&database).await;
    let at = async |device: &Resource| store.cursor(&key("esa"), device).await.unwrap();
    note(&store, "1").await;
    log_in(&store, esa.id, &phone(), LATER_MS).await.unwrap();
    assert_eq!(at(&phone()).await, 1, "what was written before is history");
    assert_eq!(at(&Resource::default_device()).await, 0, "which was there before");
    note(&store, "2").await;
    log_in(&store, esa.id, &phone(), LATER_MS).await.unwrap();
    assert_eq!(at(&phone()).await, 1, "a later login changes nothing");
}

async fn what_a_removed_device_has_read_does_not_bring_it_back(database: TestDatabase) {
    let (store, esa) = account(&database).await;
    log_in(&store, esa.id, &phone(), LATER_MS).await.unwrap();
    note(&store, "1").await;
    store.remove_device(esa.id, &phone()).await.unwrap();
    assert_eq!(store.cursor(&key("esa"), &phone()).await.unwrap(), 1, "and it is not sent the log either");
    let read = Cursor { user: key("esa"), device: phone(), seq: 1 };
    store.move_cursors(&[read]).await.unwrap();
    assert_eq!(devices(&store, &esa).await.len(), 1);
}

async fn devices_that_nobody_has_seen_are_forgotten(database: TestDatabase) {
    let (store, esa) = account(&database).await;
    log_in(&store, esa.id, &phone(), LATER_MS).await.unwrap();
    assert_eq!(store.forget_devices(REGISTERED_AT_MS).await.unwrap(), 0);
    assert_eq!(store.forget_devices(LATER_MS).await.unwrap(), 0, "the default device stays with its cursor");
    assert_eq!(store.forget_devices(LATER_MS + 1).await.unwrap(), 1);
    assert_eq!(devices(&store, &esa).await, [("default".to_owned(), REGISTERED_AT_MS)]);
    assert!(store.remove_device(esa.id, &Resource::default_device()).await.unwrap());
    assert_eq!(devices(&store, &esa).await.len(), 1);
}

/// Those that are there may log in, and the default one always.
async fn one_device_too_many_is_refused(database: TestDatabase) {
    let store = database.store().await;
    let account = register(&store, "esa").await.unwrap();
    let logs_in = async |device: &Resource| {
        let session = session();
        let login = Login { device, now_ms: LATER_MS, session: LoginSession::New(&session) };
        store.record_login(account.id, &login, Some(2)).await
    };
    let [tv, laptop] = ["tv", "laptop"].map(|name| Resource::named(name).unwrap());
    for device in [&phone(), &tv, &phone(), &Resource::default_device()] {
        logs_in(device).await.unwrap();
    }
    assert!(matches!(logs_in(&laptop).await, Err(LoginError::TooManyDevices)));
    assert!(store.remove_device(account.id, &tv).await.unwrap());
    logs_in(&laptop).await.unwrap();
    let names: Vec<_> = store.devices(account.id).await.unwrap().into_iter().map(|it| it.resource).collect();
    assert_eq!(names, [Resource::default_device(), laptop, phone()]);
}
