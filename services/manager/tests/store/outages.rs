//! The database stops, comes back, is busy; callers go away. None of it is ever an answer about an account.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kurir_manager::store::{CreateError, DatabaseConfig, RosterError, Store, StoreError};
use kurir_protocol::name::{LoginId, Resource};
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use crate::{
    database::{TestDatabase, key, log_in, new_account, register, roster},
    on_both_databases,
    postgres::Server,
};

static DEFAULT: Resource = Resource::default_device();

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_mins(1);

on_both_databases!(
    a_row_that_somebody_else_holds_is_unavailable_within_the_deadline,
    callers_that_go_away_leave_nothing_half_done
);

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_postgres_is_unavailable_and_works_again_at_once_when_it_is_back() {
    let mut server = Server::new();
    let database = TestDatabase::at(&server.create_database().await);
    let config = DatabaseConfig { timeout_seconds: 2.0, ..database.config() };
    let esa = register(&database.store().await, "esa").await.unwrap();
    let store = Store::connect(&config).await.unwrap();
    // Several connections stay behind in the pool, all of them dead afterwards.
    join_all((0..8).map(|_| store.account(&esa.key))).await;

    server.crash();
    let started = Instant::now();
    assert!(matches!(store.account(&esa.key).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.account(&key("nobody")).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(log_in(&store, esa.id, &DEFAULT, 1).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.touch(esa.id, 1).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.roster(esa.id).await, Err(StoreError::Unavailable(_))));
    let created = store.create_account(new_account("fajar").await).await;
    assert!(matches!(created, Err(CreateError::Store(StoreError::Unavailable(_)))));
    let added = store.add_contact(esa.id, &key("fajar"), None).await;
    assert!(matches!(added, Err(RosterError::Store(StoreError::Unavailable(_)))));
    assert!(matches!(Store::connect(&config).await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(17), "each within 2 s: {:?}", started.elapsed());

    server.start();
    assert_eq!(store.account(&esa.key).await.unwrap().as_ref(), Some(&esa));
    for result in join_all((0..8).map(|_| log_in(&store, esa.id, &DEFAULT, 1))).await {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_while_postgres_restarts_gets_the_truth_or_unavailable() {
    let mut server = Server::new();
    let database = TestDatabase::at(&server.create_database().await);
    let store = database.store().await;
    let esa = register(&store, "esa").await.unwrap();
    let restarting = tokio::task::spawn_blocking(move || {
        server.crash();
        server.start();
        server
    });
    let mut asked = 0;
    let started = Instant::now();
    while !restarting.is_finished() || asked < 10 {
        assert!(started.elapsed() < PATIENCE, "PostgreSQL does not come back");
        for result in join_all((0..4).map(|_| store.account(&esa.key))).await {
            match result {
                Ok(account) => assert_eq!(account.unwrap().password_hash, esa.password_hash),
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        asked += 1;
    }
    let _server = restarting.await.unwrap();
    store.account(&esa.key).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_is_unavailable_within_the_deadline_and_works_when_it_goes_on() {
    let server = Server::new();
    let database = TestDatabase::at(&server.create_database().await);
    let patient = database.store().await;
    let esa = register(&patient, "esa").await.unwrap();
    let config = impatient(&database);
    let store = Store::connect(&config).await.unwrap();
    join_all((0..8).map(|_| store.account(&esa.key))).await;

    server.freeze();
    let started = Instant::now();
    for result in join_all((0..30).map(|_| log_in(&store, esa.id, &DEFAULT, 1))).await {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(matches!(store.account(&esa.key).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(Store::connect(&config).await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_millis(5_500), "three times 0.4 s: {:?}", started.elapsed());

    server.thaw();
    // It answers the connections that were opened meanwhile first.
    let again = async { while store.account(&esa.key).await.is_err() {} };
    timeout(PATIENCE, again).await.expect("does not work again");
    log_in(&patient, esa.id, &DEFAULT, 1).await.unwrap();
}

/// As a manager that is stopped, or that the network has taken away: the server ends its transaction, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_who_stands_still_in_a_transaction() {
    let server = Server::new();
    let database = TestDatabase::at(&server.create_database().await);
    let (store, raw) = (database.store().await, database.raw().await);
    let esa = register(&store, "esa").await.unwrap();
    let config = impatient(&database);
    let others = Handle::current();
    let standing = tokio::task::spawn_blocking(move || {
        // Nothing of it goes on but in `block_on`.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let stopped = runtime.block_on(Store::connect(&config)).unwrap();
        let in_transaction = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
        let in_transaction = sea_orm::Statement::from_string(DbBackend::Postgres, in_transaction);
        let mut login = Box::pin(log_in(&stopped, esa.id, &DEFAULT, 1));
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "never in a transaction");
            let step = Duration::from_micros(50);
            let done = runtime.block_on(async { timeout(step, &mut login).await });
            if done.is_ok() {
                login = Box::pin(log_in(&stopped, esa.id, &DEFAULT, 1));
            }
            if others.block_on(raw.query_one_raw(in_transaction.clone())).unwrap().is_some() {
                break;
            }
        }
        others.block_on(log_in(&store, esa.id, &DEFAULT, 1)).unwrap();
    });
    standing.await.unwrap();
}

async fn a_row_that_somebody_else_holds_is_unavailable_within_the_deadline(database: TestDatabase) {
    let patient = database.store().await;
    let (esa, fajar) = (register(&patient, "esa").await.unwrap(), register(&patient, "fajar").await.unwrap());
    let store = Store::connect(&impatient(&database)).await.unwrap();

    let other = database.raw().await;
    let holding = other.begin().await.unwrap();
    holding.execute_unprepared("UPDATE account SET bio = 'held'").await.unwrap();
    let started = Instant::now();
    let added = store.add_contact(esa.id, &fajar.key, None).await;
    assert!(matches!(added, Err(RosterError::Store(StoreError::Unavailable(_)))), "{added:?}");
    let login = log_in(&store, esa.id, &DEFAULT, 1).await;
    assert!(matches!(login, Err(StoreError::Unavailable(_))), "{login:?}");
    assert!(started.elapsed() < Duration::from_millis(3_500));
    // Who only reads does not wait.
    assert_eq!(patient.account(&esa.key).await.unwrap().as_ref(), Some(&esa));

    holding.rollback().await.unwrap();
    // SQLite may still be trying, for the caller that has gone, until its own deadline.
    let again = async { while log_in(&store, esa.id, &DEFAULT, 1).await.is_err() {} };
    timeout(PATIENCE, again).await.expect("does not work again");
    patient.add_contact(esa.id, &fajar.key, None).await.unwrap();
}

/// For a store that is used only while the database does not answer.
fn impatient(database: &TestDatabase) -> DatabaseConfig {
    DatabaseConfig { timeout_seconds: 0.4, ..database.config() }
}

async fn callers_that_go_away_leave_nothing_half_done(database: TestDatabase) {
    let store = database.store().await;
    let (esa, fajar) = (register(&store, "esa").await.unwrap(), register(&store, "fajar").await.unwrap());
    let witness = database.store().await;
    let mut logins = LoginId(1);
    for patience in 0..60 {
        let patience = Duration::from_micros(patience * 40);
        let _ = tokio::time::timeout(patience, store.add_contact(esa.id, &fajar.key, None)).await;
        let _ = tokio::time::timeout(patience, store.remove_contact(esa.id, &fajar.key)).await;
        // On a connection left inside a transaction this would be lost, and nobody else would see it.
        let login = log_in(&store, esa.id, &DEFAULT, 1).await.unwrap();
        assert!(login > logins);
        logins = login;
        assert_eq!(witness.account(&esa.key).await.unwrap().unwrap().login, login);
        assert_eq!(roster(&witness, &esa).await.len(), roster(&witness, &fajar).await.len());
    }
    assert_no_transaction_is_open(&database).await;
}

async fn assert_no_transaction_is_open(database: &TestDatabase) {
    let raw = database.raw().await;
    match raw.get_database_backend() {
        DbBackend::Postgres => {
            let open =
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
            let statement = sea_orm::Statement::from_string(DbBackend::Postgres, open);
            // A rollback is sent when its connection goes back to the pool, which is after its caller has gone.
            let open = async { while raw.query_one_raw(statement.clone()).await.unwrap().is_some() {} };
            timeout(PATIENCE, open).await.expect("a transaction stays open");
        }
        // An open one that has written keeps everybody else from writing.
        _ => drop(raw.execute_unprepared("UPDATE account SET bio = ''").await.unwrap()),
    }
}
