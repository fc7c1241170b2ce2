//! Opening the database: pools whose every wait ends.

use std::{str::FromStr, time::Duration};

use sea_orm::{
    DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector,
    sqlx::{
        self, Connection,
        pool::PoolOptions,
        postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use super::{DatabaseConfig, StoreError, error::DeadlineExceeded};

/// The part of a request's deadline that a pooled connection gets to show that it still works, so that after finding
/// it dead there is time left to open another one.
const PING_SHARE: u32 = 4;

/// Pause before `SQLite` is asked again to open a file that another process is just turning into a database.
const SQLITE_OPEN_RETRY: Duration = Duration::from_millis(10);

/// Which database a URL names.
enum Target {
    Postgres(Box<PgConnectOptions>),
    Sqlite { options: Box<SqliteConnectOptions>, in_memory: bool },
}

/// `database.url` begins with nothing that Kurir knows.
#[derive(Debug, thiserror::Error)]
#[error("a database URL begins with postgres: or sqlite:")]
struct UnknownScheme;

/// An open database.
pub(super) struct Opened {
    pub(super) database: DatabaseConnection,
    /// Only one writer at a time gets anywhere, the others would poll for their turn.
    pub(super) one_writer: bool,
}

pub(super) async fn open(config: &DatabaseConfig, timeout: Duration) -> Result<Opened, StoreError> {
    match target(config.url.expose())? {
        Target::Postgres(options) => open_postgres(config, *options, timeout).await,
        Target::Sqlite { options, in_memory } => open_sqlite(config, *options, in_memory, timeout).await,
    }
}

fn target(url: &str) -> Result<Target, StoreError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" => Ok(Target::Postgres(Box::new(PgConnectOptions::from_str(url)?))),
        "sqlite" => {
            let in_memory = url.contains(":memory:") || url.contains("mode=memory");
            Ok(Target::Sqlite { options: Box::new(SqliteConnectOptions::from_str(url)?), in_memory })
        }
        _ => Err(StoreError::Other(UnknownScheme.into())),
    }
}

async fn open_postgres(
    config: &DatabaseConfig,
    options: PgConnectOptions,
    timeout: Duration,
) -> Result<Opened, StoreError> {
    let options = options
        .application_name("kurir")
        // The server ends what we have given up, instead of leaving it with its locks.
        .options([
            ("statement_timeout", timeout.as_millis().to_string()),
            // Of a manager that stands still, or that the network has taken away: nobody else waits for its locks.
            ("idle_in_transaction_session_timeout", timeout.as_millis().to_string()),
            ("tcp_user_timeout", (timeout * 2).as_millis().to_string()),
        ]);
    // The pool says only that time ran out; one connection by hand says why. It says goodbye: `close_hard` would wait, over TLS, for
    // a word of the server that never comes.
    let once = async { PgConnection::connect_with(&options).await?.close().await };
    match tokio::time::timeout(timeout, once).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(StoreError::Unavailable(DeadlineExceeded.into())),
    }
    let ping = timeout / PING_SHARE;
    let pool = pool_options::<sqlx::Postgres>(config.max_connections, timeout)
        .test_before_acquire(false)
        .before_acquire(move |connection, _| Box::pin(async move { Ok(is_alive(connection, ping).await) }))
        // Without it a connection to a machine that is gone would wait here, and occupy its place, for minutes.
        .after_release(move |connection, _| Box::pin(async move { Ok(is_alive(connection, ping).await) }));
    let pool: PgPoolOptions = pool;
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(options));
    Ok(Opened { database, one_writer: false })
}

/// Whether `connection` answers in time. Writes out, on the way, the rollback of a transaction that was dropped. Never an error,
/// for which the pool would close it hard and wait.
async fn is_alive(connection: &mut PgConnection, within: Duration) -> bool {
    matches!(tokio::time::timeout(within, connection.ping()).await, Ok(Ok(())))
}

async fn open_sqlite(
    config: &DatabaseConfig,
    options: SqliteConnectOptions,
    in_memory: bool,
    timeout: Duration,
) -> Result<Opened, StoreError> {
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(timeout);
    // A database in memory lives as long as its one connection.
    let pool: SqlitePoolOptions = if in_memory {
        pool_options(1, timeout).idle_timeout(None).max_lifetime(None)
    } else {
        pool_options(config.max_connections, timeout)
    };
    let opening = async {
        loop {
            match pool.clone().connect_with(options.clone()).await.map_err(StoreError::from) {
                // Turning a new file into a write-ahead one excludes everybody, and does not wait for its turn.
                Err(error) if error.is_collision() => tokio::time::sleep(SQLITE_OPEN_RETRY).await,
                opened => return opened,
            }
        }
    };
    let pool = tokio::time::timeout(timeout, opening)
        .await
        .map_err(|_| StoreError::Unavailable(DeadlineExceeded.into()))??;
    Ok(Opened { database: SqlxSqliteConnector::from_sqlx_sqlite_pool(pool), one_writer: true })
}

fn pool_options<DB: sqlx::Database>(max_connections: u32, timeout: Duration) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(max_connections.max(1)).acquire_timeout(timeout)
}
