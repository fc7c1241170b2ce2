//! Accounts and rosters in a relational database, `PostgreSQL` or `SQLite`, through sea-orm.
//!
//! - [`account`]: who exists, and the login counter
//! - [`roster`]: who has whom as a contact, kept in step on both sides (PROTOCOL §3)
//! - [`log`]: what each account has received and sent
//! - [`archive`]: the log as its account reads it back
//! - [`retention`]: dropping what is old
//! - [`device`]: an account's devices, and how far each has read
//! - [`session`]: what a device logs in with again
//! - [`trail`]: what became of tracked messages, where that is kept
//! - [`subscription`]: the rules of a pair of contacts, without a database
//! - `entity`, `migration`: the tables
//! - `connection`, `error`: pools, deadlines, and what a failure means
//!
//! Every call ends within `database.timeout_seconds`: a database that is away or busy is
//! [`StoreError::Unavailable`], never an answer about the account that was asked for.
//!
//! Every call may be dropped while it runs: it then happens as a whole or not at all.

pub mod account;
pub mod archive;
pub mod device;
pub mod log;
pub mod retention;
pub mod roster;
pub mod session;
pub mod subscription;
pub mod trail;

mod connection;
mod displayed;
mod entity;
mod error;
mod migration;

use std::{sync::Arc, time::Duration};

use kurir_metrics::Requests;
use kurir_service::config::Secret;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tracing::Instrument;

pub use account::{Account, AccountId, CreateError, FIRST_LOGIN, NewAccount};
pub use error::StoreError;
pub use roster::{Added, Contact, Item, Profile, Removed, RosterError};
pub use subscription::Subscription;

use error::{DeadlineExceeded, MayBeStoreError};

/// Section `database` of the configuration: where accounts and rosters are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/name`, `sqlite://path/to/file` (created when missing) or `sqlite::memory:`
    /// (gone with the process).
    pub url: Secret,
    /// Most connections that one process opens. When all are in use a request waits for one within its deadline.
    pub max_connections: u32,
    /// How long a request may take in all: waiting for a connection, opening one, every statement and the commit.
    pub timeout_seconds: f64,
    /// Bring the schema up to date at start. Otherwise `kurir migrate` has to.
    pub migrate: bool,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        DatabaseConfig {
            url: Secret::new("postgres://kurir@127.0.0.1:5432/kurir"),
            max_connections: 10,
            timeout_seconds: 2.0,
            migrate: true,
        }
    }
}

/// `database.timeout_seconds` leaves no time for anything, or more than there is.
#[derive(Debug, thiserror::Error)]
#[error("database.timeout_seconds = {0} is no time to wait")]
struct ImpossibleTimeout(f64);

/// The accounts and rosters. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    database: DatabaseConnection,
    timeout: Duration,
    requests: Requests,
    /// `SQLite` has one writer: here they queue in order, inside it they would poll for their turn.
    writer: Option<Arc<Mutex<()>>>,
}

impl Store {
    /// Opens the database, and brings its schema up to date if `config.migrate` says so.
    ///
    /// A database that cannot be reached is [`StoreError::Unavailable`] after `timeout_seconds`; it is for the caller to
    /// try again.
    pub async fn connect(config: &DatabaseConfig) -> Result<Store, StoreError> {
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds).unwrap_or_default();
        if timeout.is_zero() {
            return Err(StoreError::Other(ImpossibleTimeout(config.timeout_seconds).into()));
        }
        let opened = connection::open(config, timeout).await?;
        let writer = opened.one_writer.then(Arc::default);
        let store = Store { database: opened.database, timeout, requests: Requests::default(), writer };
        if config.migrate {
            store.migrate().await?;
        }
        Ok(store)
    }

    /// How long its requests take; those that failed had no answer, or one that is a defect.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// One round trip: whether the database can be reached.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.within(self.timeout, async { Ok(self.database.ping().await?) }).await
    }

    /// Gives `work` up when the deadline has passed.
    async fn within<T, E: From<StoreError> + MayBeStoreError>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        // On the heap, or each future that waits for it would hold it several times over.
        let work = Box::pin(work);
        let bounded = async {
            tokio::time::timeout(deadline, work)
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable(DeadlineExceeded.into()).into()))
        };
        let failed = |outcome: &Result<T, E>| outcome.as_ref().is_err_and(E::is_store_error);
        self.requests.timed(bounded.instrument(kurir_trace::step!("database")), failed).await
    }

    /// Waits for the turn to write, where only one can.
    async fn turn_to_write(&self) -> Option<MutexGuard<'_, ()>> {
        match &self.writer {
            Some(writer) => Some(writer.lock().await),
            None => None,
        }
    }

    /// Begins a transaction that is going to write. Dropped, it is rolled back.
    async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        let database = self.database.clone();
        let options = TransactionOptions {
            // One that writes only later may find that somebody else has written meanwhile, and fail.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        // A task of its own: were this future dropped between BEGIN and its answer, sqlx would hand the connection to
        // others inside a transaction that nobody commits. The task lasts no longer than one statement.
        tokio::spawn(async move { database.begin_with_options(options).await })
            .await
            .map_err(|e| StoreError::Other(e.into()))?
            .map_err(StoreError::from)
    }
}

/// `text` without the one character that JSON allows and `PostgreSQL` cannot store.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
