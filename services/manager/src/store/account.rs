//! Who exists: registration (M8, M10), login (M11), and when a user was last heard of.

use kurir_protocol::name::{BadName, LoginId, Resource, UserKey, Username};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, SqlErr, UpdateMany,
    sea_query::{Expr, Func},
};

use super::error::MayBeStoreError;
use super::{
    Store, StoreError,
    device::{self, Login, LoginError, LoginSession, NewSession},
    entity::account::{ActiveModel, Column, Entity, Model},
    storable,
};
use crate::password::PasswordHash;

/// The login that a registration is.
pub const FIRST_LOGIN: LoginId = LoginId(1);

/// An account's number in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub(super) i64);

/// An account as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The device that it is registered with, and its session.
    pub device: Resource,
    pub session: NewSession,
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

impl MayBeStoreError for CreateError {
    fn is_store_error(&self) -> bool {
        matches!(self, CreateError::Store(_))
    }
}

/// A row that this version of Kurir did not write, or a row that is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenRow {
    #[error("account {0} does not exist")]
    Missing(i64),
    #[error("account {0} has a key that is no username")]
    Key(i64, #[source] BadName),
    #[error("account {0} has a negative login counter")]
    Login(i64),
}

impl Store {
    /// Stores a new account, logged in for the first time.
    ///
    /// After [`StoreError::Unavailable`] it may exist nevertheless: the answer may have been lost, not the request.
    pub async fn create_account(&self, new: NewAccount) -> Result<Account, CreateError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let transaction = self.begin().await?;
            // The constraint decides. Whoever looks first and inserts then, registers a name twice.
            let row = Entity::insert(ActiveModel {
                username_key: Set(new.username.key().into()),
                username: Set(new.username.to_string()),
                password_hash: Set(new.password_hash),
                bio: Set(storable(&new.bio)),
                updated_at_ms: Set(new.now_ms),
                login: Set(FIRST_LOGIN.0.cast_signed()),
                ..ActiveModel::default()
            })
            .exec_with_returning(&transaction)
            .await
            .map_err(|error| match error.sql_err() {
                Some(SqlErr::UniqueConstraintViolation(_)) => CreateError::Taken,
                _ => CreateError::Store(error.into()),
            })?;
            let device = (&new.device, &new.session);
            device::logs_in(&transaction, row.id, device, new.now_ms, FIRST_LOGIN).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            Ok(Account::try_from(row)?)
        })
        .await
    }

    pub async fn account(&self, key: &UserKey) -> Result<Option<Account>, StoreError> {
        self.within(self.timeout, async {
            let row = Entity::find().filter(Column::UsernameKey.eq(key.as_str())).one(&self.database).await?;
            row.map(Account::try_from).transpose()
        })
        .await
    }

    /// Counts a login of a device, and sets `updated_at`. `most`: named devices that the account may have, none for any number.
    /// Of two logins of an account, at any managers, the later has the larger id.
    pub async fn record_login(
        &self,
        id: AccountId,
        login: &Login<'_>,
        most: Option<u32>,
    ) -> Result<LoginId, LoginError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let transaction = self.begin().await?;
            let rows = Entity::update_many()
                .col_expr(Column::Login, Expr::col(Column::Login).add(1))
                .col_expr(Column::UpdatedAtMs, Expr::value(login.now_ms))
                .filter(Column::Id.eq(id.0))
                .exec_with_returning(&transaction)
                .await
                .map_err(StoreError::from)?;
            let row = rows.into_iter().next().ok_or(BrokenRow::Missing(id.0)).map_err(StoreError::from)?;
            let number = login_of(&row).map_err(StoreError::from)?;
            // With the account's row locked: of two new devices at once the second sees the first.
            if !device::has_room(&transaction, id.0, login.device, most).await? {
                return Err(LoginError::TooManyDevices);
            }
            let Login { device, now_ms, session } = *login;
            match session {
                LoginSession::New(session) => {
                    device::logs_in(&transaction, id.0, (device, session), now_ms, number).await?;
                }
                LoginSession::Next(token) => {
                    if !device::comes_back(&transaction, id.0, (device, token), now_ms, number).await? {
                        return Err(LoginError::SessionOver);
                    }
                }
            }
            transaction.commit().await.map_err(StoreError::from)?;
            Ok(number)
        })
        .await
    }

    /// Sets `updated_at`, unless it is later already: initial presence, going offline, which may be put down late.
    pub async fn touch(&self, id: AccountId, at_ms: i64) -> Result<(), StoreError> {
        let later = Func::greatest([Expr::col(Column::UpdatedAtMs), Expr::value(at_ms)]);
        self.update(id, Entity::update_many().col_expr(Column::UpdatedAtMs, later.into())).await
    }

    /// Sets bio and `updated_at` (M25). U+0000 is stored as U+FFFD.
    pub async fn set_bio(&self, id: AccountId, bio: &str, now_ms: i64) -> Result<(), StoreError> {
        let values =
            ActiveModel { bio: Set(storable(bio)), updated_at_ms: Set(now_ms), ..ActiveModel::default() };
        self.update(id, Entity::update_many().set(values)).await
    }

    async fn update(&self, id: AccountId, update: UpdateMany<Entity>) -> Result<(), StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let updated = update.filter(Column::Id.eq(id.0)).exec(&self.database).await?;
            if updated.rows_affected == 0 { Err(BrokenRow::Missing(id.0).into()) } else { Ok(()) }
        })
        .await
    }
}

impl TryFrom<Model> for Account {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let login = login_of(&row)?;
        let key = key_of(row.id, &row.username_key)?;
        Ok(Account {
            id: AccountId(row.id),
            username: Username::stored(row.username),
            key,
            password_hash: row.password_hash,
            bio: row.bio,
            updated_at_ms: row.updated_at_ms,
            login,
        })
    }
}

impl From<BrokenRow> for StoreError {
    fn from(error: BrokenRow) -> Self {
        StoreError::Other(error.into())
    }
}

fn login_of(row: &Model) -> Result<LoginId, BrokenRow> {
    u64::try_from(row.login).map(LoginId).map_err(|_| BrokenRow::Login(row.id))
}

pub(super) fn key_of(id: i64, username_key: &str) -> Result<UserKey, BrokenRow> {
    UserKey::of(username_key).map_err(|bad_name| BrokenRow::Key(id, bad_name))
}
