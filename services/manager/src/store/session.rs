//! What a device logs in with again instead of its password (PROTOCOL Part II `session`): the token of its last login.
//!
//! A token is used up by its use, which brings the next one. The answer may be lost, so the one before stays good until the
//! next is used. Used again it brings another; which answer arrives nobody knows, so each is good until one of them is
//! used. Whoever comes with one that is older, and stays to hear the answer, has kept what was stolen from, or by, somebody: the
//! device's tokens are all worthless from then on. Tokens of one device share a part that nobody can guess, so that only a real one does that.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use kurir_protocol::name::{LoginId, Resource};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect, UpdateMany,
    sea_query::{Expr, LockType},
};
use uuid::Uuid;

use super::{AccountId, Store, StoreError, entity::device};

/// Characters of the part that a device's tokens share, and of all of one.
const FAMILY: usize = 32;
const LENGTH: usize = 3 * FAMILY;

/// Answers to one token, besides the newest, that may be the one that arrives.
const ANSWERS: usize = 4;

/// A token, opaque to clients. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

/// What became of a token that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionUse {
    /// It is good: the device may log in, and is given the next token. `again`: it was used before.
    Renewed { device: Resource, next: SessionToken, again: bool },
    /// It was good once, and what came of it has been used. Nothing has changed: see [`Store::revoke_family`].
    Older(Resource),
    /// It is nobody's, of another device, or too old.
    Refused,
}

impl SessionToken {
    /// The first one of a login.
    pub fn first() -> Self {
        Self(format!("{}{}{}", random(), random(), random()))
    }

    /// None: no token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(text.to_owned()))
    }

    /// As the client is given it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn next(&self) -> Self {
        Self(format!("{}{}{}", self.family(), random(), random()))
    }

    fn family(&self) -> &str {
        self.0.get(..FAMILY).unwrap_or_default()
    }

    pub(super) fn family_hash(&self) -> Vec<u8> {
        hash(self.family())
    }

    pub(super) fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

/// 122 random bits.
fn random() -> uuid::fmt::Simple {
    Uuid::new_v4().simple()
}

/// Of something nobody can guess: it needs no salt and no time.
fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

impl Store {
    /// Uses a token of the account. `device`: the only one that it may be of. The next token is good for `life_ms`.
    pub async fn use_session(
        &self,
        account: AccountId,
        token: &SessionToken,
        device: Option<&Resource>,
        now_ms: i64,
        life_ms: i64,
    ) -> Result<SessionUse, StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let transaction = self.begin().await?;
            let row = device::Entity::find()
                .filter(device::Column::AccountId.eq(account.0))
                .filter(device::Column::Family.eq(token.family_hash()))
                // Of two uses at once the second is that of a former token.
                .lock(LockType::Update)
                .one(&transaction)
                .await?;
            let Some(row) = row else { return Ok(SessionUse::Refused) };
            let Ok(of) = Resource::try_from(row.resource.as_str()) else { return Ok(SessionUse::Refused) };
            let expired = row.expires_ms.is_none_or(|expires| expires <= now_ms);
            if expired || device.is_some_and(|device| *device != of) {
                return Ok(SessionUse::Refused);
            }
            let next = token.next();
            let used = token.hash();
            let former = used_up(row.current.as_deref(), row.former.as_deref(), &used);
            let Some(former) = former else { return Ok(SessionUse::Older(of)) };
            let again = row.former.is_some_and(|former| former.starts_with(&used));
            let change = device::ActiveModel {
                account_id: Set(row.account_id),
                resource: Set(row.resource),
                current: Set(Some(next.hash())),
                former: Set(Some(former)),
                expires_ms: Set(Some(now_ms.saturating_add(life_ms))),
                ..Default::default()
            };
            device::Entity::update(change).exec(&transaction).await?;
            transaction.commit().await?;
            Ok(SessionUse::Renewed { device: of, next, again })
        })
        .await
    }

    /// Makes this token and all that came of the same login with a password worthless.
    pub async fn revoke_family(&self, account: AccountId, token: &SessionToken) -> Result<(), StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let family = device::Column::Family.eq(token.family_hash());
            worthless(account).filter(family).exec(&self.database).await?;
            Ok(())
        })
        .await
    }

    /// Makes the device's tokens worthless, unless a later login has them.
    pub async fn revoke_session(
        &self,
        account: AccountId,
        device: &Resource,
        login: LoginId,
    ) -> Result<(), StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let no_later = device::Column::Login.lte(login.0.cast_signed());
            revoke(account, device).filter(no_later).exec(&self.database).await?;
            Ok(())
        })
        .await
    }
}

/// What `former` is once this token is used: the token itself, and other answers to it. None: the token is older.
fn used_up(current: Option<&[u8]>, former: Option<&[u8]>, used: &[u8]) -> Option<Vec<u8>> {
    let mut good: Vec<&[u8]> = former.unwrap_or_default().chunks(SHA256_OUTPUT_LEN).collect();
    if good.first() == Some(&used) {
        good.extend(current);
        if good.len() > 1 + ANSWERS {
            good.remove(1);
        }
        return Some(good.concat());
    }
    (current == Some(used) || good.contains(&used)).then(|| used.to_vec())
}

/// Makes all tokens of a device worthless.
pub(super) fn revoke(account: AccountId, device: &Resource) -> UpdateMany<device::Entity> {
    worthless(account).filter(device::Column::Resource.eq(device.as_str()))
}

fn worthless(account: AccountId) -> UpdateMany<device::Entity> {
    let none = || Expr::value(None::<Vec<u8>>);
    device::Entity::update_many()
        .col_expr(device::Column::Family, none())
        .col_expr(device::Column::Current, none())
        .col_expr(device::Column::Former, none())
        .filter(device::Column::AccountId.eq(account.0))
}
