//! An account's devices: when each was last heard of, and how far it has read the account's log.
//!
//! A device is there from its first login until it is removed or forgotten. What it has read is only put down while it is
//! there: the last word of a device that was just removed does not bring it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kurir_protocol::name::{LoginId, Resource, UserKey};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Alias, Expr, LockType, OnConflict},
};

use super::error::MayBeStoreError;
use super::{
    AccountId, Store, StoreError,
    entity::{device, log},
    log::{account_ids, signed, unsigned},
    session::{self, SessionToken},
};

/// Devices forgotten with one statement.
const FORGOTTEN_AT_ONCE: u64 = 500;

/// A device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub resource: Resource,
    /// When it last logged in or went, in milliseconds since the Unix epoch.
    pub seen_ms: i64,
}

/// A login of a device, as it is put down.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub device: &'a Resource,
    pub now_ms: i64,
    pub session: LoginSession<'a>,
}

/// The session that a device has from a login on.
#[derive(Debug, Clone, Copy)]
pub enum LoginSession<'a> {
    /// Of a login with the password.
    New(&'a NewSession),
    /// Of a device that has used a token, and with it got this next one.
    Next(&'a SessionToken),
}

/// Why no login is put down.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It is that of a new device, and the account has as many as it may.
    #[error("the account has too many devices")]
    TooManyDevices,
    /// The device's session was ended since its token was used.
    #[error("the device's session is over")]
    SessionOver,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStoreError for LoginError {
    fn is_store_error(&self) -> bool {
        matches!(self, LoginError::Store(_))
    }
}

/// The first token of a login with the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    pub token: SessionToken,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// How far a device has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub user: UserKey,
    pub device: Resource,
    pub seq: u64,
}

impl Store {
    /// The devices of an account, by name.
    pub async fn devices(&self, account: AccountId) -> Result<Vec<Device>, StoreError> {
        self.within(self.timeout, async {
            let rows = device::Entity::find()
                .filter(device::Column::AccountId.eq(account.0))
                .order_by_asc(device::Column::Resource)
                .all(&self.database)
                .await?;
            // What is no name of a device was not written by us, and nobody could log in with it.
            let known = |row: device::Model| {
                Some(Device { resource: Resource::try_from(row.resource).ok()?, seen_ms: row.seen_ms })
            };
            Ok::<_, StoreError>(rows.into_iter().filter_map(known).collect())
        })
        .await
    }

    /// Forgets a device and how far it has read. False: there is none of that name. Of the default device, which every account
    /// has, only the session is forgotten: without its cursor a client of the original would be sent everything again.
    pub async fn remove_device(&self, account: AccountId, device: &Resource) -> Result<bool, StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            if !device.is_named() {
                let revoked = session::revoke(account, device).exec(&self.database).await?;
                return Ok(revoked.rows_affected > 0);
            }
            let id = (account.0, device.as_str().to_owned());
            let removed = device::Entity::delete_by_id(id).exec(&self.database).await?;
            Ok(removed.rows_affected > 0)
        })
        .await
    }

    /// These devices are there at this moment.
    pub async fn devices_seen(
        &self,
        devices: &[(AccountId, Resource)],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.within(self.timeout, async {
            let these = any_of(devices.iter().map(|(account, device)| (account.0, device.as_str())));
            let _turn = self.turn_to_write().await;
            device::Entity::update_many()
                .col_expr(device::Column::SeenMs, Expr::value(now_ms))
                .filter(these)
                .filter(device::Column::SeenMs.lt(now_ms))
                .exec(&self.database)
                .await?;
            Ok(())
        })
        .await
    }

    /// Forgets named devices that were last heard of before that moment, a few hundred at most. Returns how many.
    pub async fn forget_devices(&self, before_ms: i64) -> Result<u64, StoreError> {
        self.within(self.timeout, async {
            let old = device::Entity::find()
                .filter(device::Column::SeenMs.lt(before_ms))
                .filter(device::Column::Resource.ne(Resource::default_device().as_str()))
                .order_by_asc(device::Column::SeenMs)
                .limit(FORGOTTEN_AT_ONCE)
                .all(&self.database)
                .await?;
            if old.is_empty() {
                return Ok(0);
            }
            let _turn = self.turn_to_write().await;
            let forgotten = device::Entity::delete_many()
                .filter(any_of(old.iter().map(|row| (row.account_id, row.resource.as_str()))))
                // It may have logged in meanwhile.
                .filter(device::Column::SeenMs.lt(before_ms))
                .exec(&self.database)
                .await?;
            Ok(forgotten.rows_affected)
        })
        .await
    }

    /// How far a device has read; 0 for one that has read nothing. One with a name that is not there any more gets nothing of
    /// what was written before.
    pub async fn cursor(&self, user: &UserKey, device: &Resource) -> Result<u64, StoreError> {
        self.within(self.timeout, async {
            let Some(account) = account_ids(&self.database, [user.as_str()]).await?.remove(user.as_str())
            else {
                return Ok(0);
            };
            let id = (account, device.as_str().to_owned());
            let row = device::Entity::find_by_id(id).one(&self.database).await?;
            if row.is_none() && device.is_named() {
                let head = log::Entity::find_by_id(account).one(&self.database).await?;
                return Ok(head.map_or(0, |head| unsigned(head.last_seq)));
            }
            Ok::<_, StoreError>(row.map_or(0, |row| unsigned(row.cursor)))
        })
        .await
    }

    /// Moves cursors forward: never back, and never beyond the end of the log.
    pub async fn move_cursors(&self, cursors: &[Cursor]) -> Result<(), StoreError> {
        self.within(self.timeout, async {
            let keys: BTreeSet<&str> = cursors.iter().map(|cursor| cursor.user.as_str()).collect();
            let accounts = account_ids(&self.database, keys).await?;
            let heads = log::Entity::find().filter(log::Column::AccountId.is_in(accounts.values().copied()));
            let heads = heads.all(&self.database).await?;
            let heads: HashMap<i64, i64> =
                heads.iter().map(|head| (head.account_id, head.last_seq)).collect();
            // By account and device, so that two of these take their rows in the same order.
            let mut furthest = BTreeMap::new();
            for cursor in cursors {
                let Some(account) = accounts.get(cursor.user.as_str()) else { continue };
                let seq = Ord::min(signed(cursor.seq), heads.get(account).copied().unwrap_or_default());
                let known = furthest.entry((*account, cursor.device.as_str())).or_insert(seq);
                *known = Ord::max(seq, *known);
            }
            if furthest.is_empty() {
                return Ok(());
            }
            let _turn = self.turn_to_write().await;
            let transaction = self.begin().await?;
            let these = any_of(furthest.keys().map(|(account, device)| (*account, *device)));
            let there = device::Entity::find()
                .filter(these)
                .order_by_asc(device::Column::AccountId)
                .order_by_asc(device::Column::Resource)
                // None is removed before it is written.
                .lock(LockType::NoKeyUpdate)
                .all(&transaction)
                .await?;
            let moved = |row: device::Model| {
                let seq = *furthest.get(&(row.account_id, row.resource.as_str()))?;
                (seq > row.cursor).then_some(device::Model { cursor: seq, ..row })
            };
            let rows: Vec<_> = there
                .into_iter()
                .filter_map(moved)
                // As an insert, whose every value counts.
                .map(|row| device::ActiveModel {
                    account_id: Set(row.account_id),
                    resource: Set(row.resource),
                    cursor: Set(row.cursor),
                    seen_ms: Set(row.seen_ms),
                    ..Default::default()
                })
                .collect();
            if rows.is_empty() {
                return Ok(());
            }
            let [before, after] =
                ["device", "excluded"].map(|row| Expr::col((Alias::new(row), device::Column::Cursor)));
            let forward = OnConflict::columns([device::Column::AccountId, device::Column::Resource])
                .update_column(device::Column::Cursor)
                .action_and_where(before.lt(after))
                .to_owned();
            device::Entity::insert_many(rows)
                .on_conflict(forward)
                .exec_without_returning(&transaction)
                .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

/// These devices. `SQLite` takes a thousand terms.
fn any_of<'a>(devices: impl Iterator<Item = (i64, &'a str)>) -> Condition {
    devices.fold(Condition::any(), |any, (account, device)| {
        any.add(device::Column::AccountId.eq(account).and(device::Column::Resource.eq(device)))
    })
}

/// Whether a device that logs in is known, or one more may be where `most` named ones are.
pub(super) async fn has_room(
    transaction: &impl ConnectionTrait,
    account: i64,
    device: &Resource,
    most: Option<u32>,
) -> Result<bool, StoreError> {
    let Some(most) = most.filter(|_| device.is_named()) else { return Ok(true) };
    let id = (account, device.as_str().to_owned());
    if device::Entity::find_by_id(id).one(transaction).await?.is_some() {
        return Ok(true);
    }
    let named = device::Entity::find()
        .filter(device::Column::AccountId.eq(account))
        .filter(device::Column::Resource.ne(Resource::default_device().as_str()));
    Ok(named.count(transaction).await? < most.into())
}

/// Puts down that a device logs in with its password. A new one that has a name reads its account's log from here on: what was written before
/// is history. The default device is there from the beginning.
pub(super) async fn logs_in(
    transaction: &impl ConnectionTrait,
    account: i64,
    (device, session): (&Resource, &NewSession),
    now_ms: i64,
    id: LoginId,
) -> Result<(), StoreError> {
    let head =
        if device.is_named() { log::Entity::find_by_id(account).one(transaction).await? } else { None };
    let new = device::ActiveModel {
        account_id: Set(account),
        resource: Set(device.as_str().to_owned()),
        cursor: Set(head.map_or(0, |head| head.last_seq)),
        seen_ms: Set(now_ms),
        login: Set(id.0.cast_signed()),
        family: Set(Some(session.token.family_hash())),
        current: Set(Some(session.token.hash())),
        former: Set(None),
        expires_ms: Set(Some(session.expires_ms)),
    };
    let mut known = OnConflict::columns([device::Column::AccountId, device::Column::Resource]);
    known.update_columns([
        device::Column::SeenMs,
        device::Column::Login,
        device::Column::Family,
        device::Column::Current,
        device::Column::Former,
        device::Column::ExpiresMs,
    ]);
    device::Entity::insert(new).on_conflict(known).exec_without_returning(transaction).await?;
    Ok(())
}

/// Puts down that a device logs in with its session. False: that was ended since its token was used, by a removal for
/// example.
pub(super) async fn comes_back(
    transaction: &impl ConnectionTrait,
    account: i64,
    (device, next): (&Resource, &SessionToken),
    now_ms: i64,
    id: LoginId,
) -> Result<bool, StoreError> {
    let updated = device::Entity::update_many()
        .col_expr(device::Column::SeenMs, Expr::value(now_ms))
        .col_expr(device::Column::Login, Expr::value(id.0.cast_signed()))
        .filter(device::Column::AccountId.eq(account))
        .filter(device::Column::Resource.eq(device.as_str()))
        .filter(device::Column::Family.eq(next.family_hash()))
        .exec(transaction)
        .await?;
    Ok(updated.rows_affected > 0)
}
