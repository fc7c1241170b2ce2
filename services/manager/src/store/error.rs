//! What a failure of the database means for whoever asked.

use std::error::Error;

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is away, starting, overloaded, or took too long: the same request may well succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It answered, and the answer is a defect, a broken row or a wrong configuration.
    #[error("the database refused a request")]
    Other(#[source] Box<dyn Error + Send + Sync>),
}

/// The request was given up after `database.timeout_seconds`.
#[derive(Debug, thiserror::Error)]
#[error("no answer within the deadline")]
pub(super) struct DeadlineExceeded;

/// What a request ends with where it did not succeed: the database's fault, or an answer about what was asked for.
pub(super) trait MayBeStoreError {
    fn is_store_error(&self) -> bool;
}

impl MayBeStoreError for StoreError {
    fn is_store_error(&self) -> bool {
        true
    }
}

impl StoreError {
    /// Two transactions met and this one was chosen to give way: run again at once, it will likely succeed.
    pub(super) fn is_collision(&self) -> bool {
        let StoreError::Unavailable(source) = self else { return false };
        let error = source.downcast_ref().or_else(|| source.downcast_ref().and_then(driver_error));
        let Some(sqlx::Error::Database(answer)) = error else { return false };
        match backend_code(answer.as_ref()) {
            Code::Postgres(code) => matches!(code.as_str(), SERIALIZATION_FAILURE | DEADLOCK_DETECTED),
            Code::Sqlite(code) => matches!(code, SQLITE_BUSY | SQLITE_LOCKED),
            Code::None => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if is_unavailable(&error) {
            StoreError::Unavailable(error.into())
        } else {
            StoreError::Other(error.into())
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_driver_unavailable(&error) {
            StoreError::Unavailable(error.into())
        } else {
            StoreError::Other(error.into())
        }
    }
}

fn is_unavailable(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(RuntimeErr::Internal(_)) => true,
        _ => driver_error(error).is_some_and(is_driver_unavailable),
    }
}

fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

fn is_driver_unavailable(error: &sqlx::Error) -> bool {
    match error {
        // A connection that broke in the middle of an answer shows itself as a protocol error too.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(answer) => match backend_code(answer.as_ref()) {
            Code::Postgres(code) => is_passing_in_postgres(&code),
            Code::Sqlite(code) => PASSING_IN_SQLITE.contains(&code),
            Code::None => false,
        },
        _ => false,
    }
}

enum Code {
    /// SQLSTATE, five characters.
    Postgres(String),
    /// The primary result code, without what extends it.
    Sqlite(u32),
    None,
}

fn backend_code(answer: &dyn sqlx::error::DatabaseError) -> Code {
    let Some(code) = answer.code() else { return Code::None };
    if answer.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_none() {
        return Code::Postgres(code.into_owned());
    }
    code.parse::<u32>().map_or(Code::None, |extended| Code::Sqlite(extended & 0xff))
}

const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;

/// Besides busy and locked: out of memory, an I/O error, disk full, the file cannot be opened.
const PASSING_IN_SQLITE: [u32; 6] = [SQLITE_BUSY, SQLITE_LOCKED, 7, 10, 13, 14];

/// Appendix A of `PostgreSQL`'s manual: classes 08 (connection), 40 (rolled back), 53 (out of resources), 57 (operator: shutting down,
/// starting up, a statement past its deadline), 58 (system error), and single codes: a lock not granted in time, a
/// transaction that stood still for too long, a server that is read only because another one has taken over.
fn is_passing_in_postgres(code: &str) -> bool {
    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || matches!(code, "55P03" | "25P03" | "25006")
}
