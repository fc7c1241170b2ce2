//! Accounts and rosters in a relational database, PostgreSQL or SQLite, through sea-orm.
//!
//! - [`account`]: who exists, and the login counter
//! - [`roster`]: who has whom as a contact, kept in step on both sides (PROTOCOL §3)
//! - [`subscription`]: the rules of a pair of contacts, without a database
//! - `entity`, `migration`: the tables
//! - `connection`, `error`: pools, deadlines, and what a failure means
//!
//! Every call ends within `database.timeout_seconds`: a database that is away or busy is
//! [`StoreError::Unavailable`], never an answer about the account that was asked for.

pub mod account;
pub mod roster;
pub mod subscription;

use std::fmt;

use kurir_protocol::name::{LoginId, UserKey};
use serde::{Deserialize, Serialize};

pub use account::{Account, AccountId, CreateError, NewAccount};
pub use roster::{Added, Contact, Item, Profile, Removed, RosterError};
pub use subscription::Subscription;

/// Where accounts and rosters are kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/name`, `sqlite://path/to/file` (created when missing) or `sqlite::memory:`.
    pub url: String,
    /// Most connections that one process opens. When all are in use a request waits for one within its deadline.
    pub max_connections: u32,
    /// How long a request may take in all: waiting for a connection, opening one, every statement and the commit.
    pub timeout_seconds: f64,
    /// Bring the schema up to date at start.
    pub migrate: bool,
}

/// The accounts and rosters. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens the database, and brings its schema up to date if `config.migrate` says so.
    pub async fn connect(_config: &DatabaseConfig) -> Result<Store, StoreError> {
        todo!()
    }

    /// Brings the schema up to date. Any number of processes may do so at once: one does it, the others wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        todo!()
    }
}

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is away, starting, overloaded, or took too long: the same request may well succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered, and the answer is a defect, a broken row or a wrong configuration.
    #[error("the database refused a request")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
