//! Several managers start at once on an empty database.

use kurir_manager::store::{DatabaseConfig, Store, StoreError};
use kurir_service::config::Secret;
use tokio::task::JoinSet;

use crate::{
    database::{TestDatabase, key, register},
    on_both_databases,
};

on_both_databases!(eight_managers_that_start_at_once_all_find_the_schema, migrating_again_changes_nothing);

async fn eight_managers_that_start_at_once_all_find_the_schema(database: TestDatabase) {
    let mut starting = JoinSet::new();
    for i in 0..8 {
        let config = database.config();
        starting.spawn(async move {
            let store = Store::connect(&config).await.unwrap();
            register(&store, &format!("user{i}")).await.unwrap();
        });
    }
    starting.join_all().await;
    assert!(database.store().await.account(&key("user7")).await.unwrap().is_some());
}

async fn migrating_again_changes_nothing(database: TestDatabase) {
    let store = database.store().await;
    let esa = register(&store, "esa").await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.account(&key("esa")).await.unwrap().unwrap(), esa);
}

#[tokio::test]
async fn a_database_in_memory_keeps_its_contents_and_shares_them_with_nobody() {
    let database = TestDatabase::at("sqlite::memory:");
    let (one, other) = (database.store().await, database.store().await);
    let mut registrations = JoinSet::new();
    for i in 0..20 {
        let store = one.clone();
        registrations.spawn(async move { register(&store, &format!("user{i}")).await.unwrap() });
    }
    registrations.join_all().await;
    assert!(one.account(&key("user7")).await.unwrap().is_some());
    assert!(other.account(&key("user7")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_url_or_a_timeout_that_makes_no_sense_is_no_outage() {
    let defaults = DatabaseConfig::default();
    let bad_url = DatabaseConfig { url: Secret::new("mysql://localhost/kurir"), ..defaults.clone() };
    assert!(matches!(Store::connect(&bad_url).await, Err(StoreError::Other(_))));
    for timeout_seconds in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
        let bad_timeout = DatabaseConfig { timeout_seconds, ..defaults.clone() };
        assert!(matches!(Store::connect(&bad_timeout).await, Err(StoreError::Other(_))));
    }
}
