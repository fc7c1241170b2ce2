//! Who exists: registration (M8, M10), login (M11), and when a user was last heard of.

use super::{LoginId, Store, StoreError, UserKey};
use crate::password::PasswordHash;
use kurir_protocol::name::Username;

/// An account's row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(i64);

/// An account as stored.
#[derive(Debug, Clone)]
pub struct Account {
    pub id: AccountId,
    /// As registered.
    pub username: Username,
    pub key: UserKey,
    pub password_hash: PasswordHash,
    pub bio: String,
    pub updated_at_ms: i64,
    /// The newest login of this account, 1 at registration.
    pub login: LoginId,
}

/// What a registration stores.
#[derive(Debug, Clone)]
pub struct NewAccount {
    pub username: Username,
    pub password_hash: PasswordHash,
    pub bio: String,
    pub now_ms: i64,
}

/// Why there is no new account.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Another account has this name; also when both are registered at the same moment.
    #[error("the username is taken")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Stores a new account, logged in for the first time.
    ///
    /// After [`StoreError::Unavailable`] it may exist nevertheless: the answer may have been lost, not the request.
    pub async fn create_account(&self, _new: NewAccount) -> Result<Account, CreateError> {
        todo!()
    }

    pub async fn account(&self, _key: &UserKey) -> Result<Option<Account>, StoreError> {
        todo!()
    }

    /// Counts a login and sets `updated_at`. Of two logins of an account at any managers the later has the larger id.
    pub async fn record_login(&self, _id: AccountId, _now_ms: i64) -> Result<LoginId, StoreError> {
        todo!()
    }

    /// Sets `updated_at`: initial presence, going offline.
    pub async fn touch(&self, _id: AccountId, _now_ms: i64) -> Result<(), StoreError> {
        todo!()
    }

    /// Sets bio and `updated_at` (M25).
    pub async fn set_bio(&self, _id: AccountId, _bio: &str, _now_ms: i64) -> Result<(), StoreError> {
        todo!()
    }
}
