//! An empty database for one test, and accounts in it.

use kurir_manager::{
    password::{PasswordConfig, PasswordHash, Passwords},
    store::{
        Account, AccountId, CreateError, DatabaseConfig, NewAccount, Store, StoreError, Subscription,
        device::{Login, LoginError, LoginSession, NewSession},
        session::SessionToken,
    },
};
use kurir_protocol::name::{LoginId, Resource, UserKey, Username};
use kurir_service::config::Secret;
use sea_orm::{Database, DatabaseConnection};
use tempfile::TempDir;

use crate::postgres;

/// When the accounts of these tests are registered.
pub(crate) const REGISTERED_AT_MS: i64 = 1_726_223_542_222;

/// Where one test's database is.
pub(crate) struct TestDatabase {
    config: DatabaseConfig,
    /// Holds the file of `SQLite`.
    _directory: Option<TempDir>,
}

impl TestDatabase {
    pub(crate) async fn postgres() -> TestDatabase {
        Self::at(&postgres::shared().create_database().await)
    }

    pub(crate) fn sqlite() -> TestDatabase {
        let directory = TempDir::with_prefix("kurir-sqlite-").unwrap();
        let url = format!("sqlite://{}", directory.path().join("kurir.db").display());
        TestDatabase { _directory: Some(directory), ..Self::at(&url) }
    }

    pub(crate) fn at(url: &str) -> TestDatabase {
        let url = Secret::new(url);
        // A busy machine is no outage.
        let config = DatabaseConfig { url, timeout_seconds: 20.0, ..DatabaseConfig::default() };
        TestDatabase { config, _directory: None }
    }

    /// A store on it, with connections of its own, as another manager has.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.config).await.unwrap()
    }

    pub(crate) fn config(&self) -> DatabaseConfig {
        self.config.clone()
    }

    /// A connection that knows nothing of Kurir.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        Database::connect(self.config.url.expose()).await.unwrap()
    }
}

pub(crate) fn key(name: &str) -> UserKey {
    UserKey::of(name).unwrap()
}

/// A hash that costs nothing.
pub(crate) async fn password_hash() -> PasswordHash {
    let config = PasswordConfig { memory_kib: 64, iterations: 1, ..PasswordConfig::default() };
    Passwords::new(&config).unwrap().hash("12345").await.unwrap()
}

/// A token that is good for long.
pub(crate) fn session() -> NewSession {
    NewSession { token: SessionToken::first(), expires_ms: i64::MAX }
}

/// Puts down a login with the password.
pub(crate) async fn log_in(
    store: &Store,
    account: AccountId,
    device: &Resource,
    now_ms: i64,
) -> Result<LoginId, StoreError> {
    let session = session();
    let login = Login { device, now_ms, session: LoginSession::New(&session) };
    store.record_login(account, &login, None).await.map_err(|error| match error {
        LoginError::Store(error) => error,
        refused => panic!("{refused}"),
    })
}

pub(crate) async fn new_account(name: &str) -> NewAccount {
    NewAccount {
        username: Username::register(name).unwrap(),
        password_hash: password_hash().await,
        bio: "Feel happy using this application! ;D".to_owned(),
        now_ms: REGISTERED_AT_MS,
        device: Resource::default_device(),
        session: session(),
    }
}

pub(crate) async fn register(store: &Store, name: &str) -> Result<Account, CreateError> {
    store.create_account(new_account(name).await).await
}

/// An account's roster, short: contact, name, subscription.
pub(crate) async fn roster(store: &Store, owner: &Account) -> Vec<(String, Option<String>, Subscription)> {
    let contacts = store.roster(owner.id).await.unwrap();
    contacts.into_iter().map(|c| (c.item.jid.to_string(), c.item.name, c.item.subscription)).collect()
}
