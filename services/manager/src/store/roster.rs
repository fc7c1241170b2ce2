//! Contacts (M15–M23). Both sides of a pair change in one transaction that holds both accounts' rows, locked in the
//! order of their ids, so two users who add each other at the same moment end as `both` whichever manager each is at.

use kurir_protocol::name::{UserKey, Username};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, FromQueryResult, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
    sea_query::{LockType, OnConflict},
};

use super::error::MayBeStoreError;
use super::{
    Account, AccountId, Store, StoreError, Subscription,
    account::{BrokenRow, key_of},
    entity::{account, roster_item},
    storable,
    subscription::{Entry, Pair, Refused},
};

/// How often a change is tried that collides with others. The locks are taken in order, so that each collision means
/// that somebody else's change went through.
const ATTEMPTS: u32 = 5;

/// One entry of a roster, as shown to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The contact, as registered.
    pub jid: Username,
    pub name: Option<String>,
    pub subscription: Subscription,
}

/// What a presence shows of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub id: AccountId,
    pub username: Username,
    pub key: UserKey,
    pub bio: String,
    pub updated_at_ms: i64,
}

/// A roster entry with the contact's profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    pub item: Item,
    pub profile: Profile,
}

/// The pair after a contact was added or renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub mine: Item,
    /// The owner's entry in the contact's roster.
    pub theirs: Item,
    pub contact: Account,
}

/// The pair after a contact was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What is left in the owner's roster: `from` where it was `both`.
    pub mine: Option<Item>,
    /// What is left in the contact's roster: `to` where it was `both`.
    pub theirs: Option<Item>,
    pub contact: Account,
}

/// Why a roster was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// Adding: no such account. Removing: not in the roster.
    #[error("no such contact")]
    NotFound,
    #[error("nobody is their own contact")]
    Myself,
    /// Removing an entry that only the other side made (`from`).
    #[error("the contact's own entry cannot be removed")]
    NotAllowed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStoreError for RosterError {
    fn is_store_error(&self) -> bool {
        matches!(self, RosterError::Store(_))
    }
}

impl Store {
    /// The whole roster, `from` too, ordered by the contacts' keys (U7, M24).
    pub async fn roster(&self, owner: AccountId) -> Result<Vec<Contact>, StoreError> {
        let rows =
            self.within(self.timeout, async { Ok::<_, StoreError>(self.contact_rows(owner).await?) }).await?;
        let mut roster = rows.into_iter().map(Contact::try_from).collect::<Result<Vec<_>, _>>()?;
        // Not by the database: there the order would depend on its locale.
        roster.sort_unstable_by(|a, b| a.profile.key.cmp(&b.profile.key));
        Ok(roster)
    }

    /// Adds `jid` to the owner's roster, or renames it (M17, M19). Without `name` it has none afterwards; U+0000 in it is
    /// stored as U+FFFD.
    pub async fn add_contact(
        &self,
        owner: AccountId,
        jid: &UserKey,
        name: Option<String>,
    ) -> Result<Added, RosterError> {
        let name = name.as_deref().map(storable);
        let change = |pair: Pair| Ok(pair.added(name.clone()));
        let Changed { me, contact, pair } = self.change_pair(owner, jid, &change).await?;
        let mine = pair.mine.map(|entry| entry.shown(&contact)).ok_or(RosterError::NotFound)?;
        let theirs = pair.theirs.map(|entry| entry.shown(&me)).ok_or(RosterError::NotFound)?;
        Ok(Added { mine, theirs, contact })
    }

    /// Removes `jid` from the owner's roster (M20, M22).
    pub async fn remove_contact(&self, owner: AccountId, jid: &UserKey) -> Result<Removed, RosterError> {
        let Changed { me, contact, pair } = self.change_pair(owner, jid, &Pair::removed).await?;
        let mine = pair.mine.map(|entry| entry.shown(&contact));
        let theirs = pair.theirs.map(|entry| entry.shown(&me));
        Ok(Removed { mine, theirs, contact })
    }

    async fn contact_rows(&self, owner: AccountId) -> Result<Vec<ContactRow>, sea_orm::DbErr> {
        roster_item::Entity::find()
            .select_only()
            .columns([roster_item::Column::Name, roster_item::Column::Subscription])
            .columns([
                account::Column::Id,
                account::Column::Username,
                account::Column::UsernameKey,
                account::Column::Bio,
                account::Column::UpdatedAtMs,
            ])
            .join(JoinType::InnerJoin, roster_item::Relation::Contact.def())
            .filter(roster_item::Column::OwnerId.eq(owner.0))
            .into_model()
            .all(&self.database)
            .await
    }

    /// Changes both sides of a pair, again where the transaction collides with another one.
    async fn change_pair(
        &self,
        owner: AccountId,
        jid: &UserKey,
        change: &(dyn Fn(Pair) -> Result<Pair, Refused> + Sync),
    ) -> Result<Changed, RosterError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            for _ in 1..ATTEMPTS {
                match self.change_pair_once(owner, jid, change).await {
                    Err(RosterError::Store(error)) if error.is_collision() => {}
                    result => return result,
                }
            }
            self.change_pair_once(owner, jid, change).await
        })
        .await
    }

    async fn change_pair_once(
        &self,
        owner: AccountId,
        jid: &UserKey,
        change: &(dyn Fn(Pair) -> Result<Pair, Refused> + Sync),
    ) -> Result<Changed, RosterError> {
        let transaction = self.begin().await?;
        let (me, contact) = lock_accounts(&transaction, owner, jid).await?;
        let mine = Side { owner: me.id, contact: contact.id };
        let theirs = Side { owner: contact.id, contact: me.id };

        let before = Pair { mine: mine.read(&transaction).await?, theirs: theirs.read(&transaction).await? };
        let pair = change(before.clone())?;
        if pair.mine != before.mine {
            mine.write(&transaction, pair.mine.as_ref()).await?;
        }
        if pair.theirs != before.theirs {
            theirs.write(&transaction, pair.theirs.as_ref()).await?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Changed { me, contact, pair })
    }
}

/// A pair after a change.
struct Changed {
    me: Account,
    contact: Account,
    pair: Pair,
}

/// Finds both accounts of a pair, and keeps everybody else from changing that pair until the transaction ends.
///
/// The lock leaves alone the references that other pairs make to these accounts.
async fn lock_accounts(
    transaction: &DatabaseTransaction,
    owner: AccountId,
    jid: &UserKey,
) -> Result<(Account, Account), RosterError> {
    let rows = account::Entity::find()
        .filter(
            Condition::any()
                .add(account::Column::Id.eq(owner.0))
                .add(account::Column::UsernameKey.eq(jid.as_str())),
        )
        .order_by_asc(account::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .all(transaction)
        .await
        .map_err(StoreError::from)?;
    let (mut me, mut contact) = (None, None);
    for row in rows {
        if row.id == owner.0 { me = Some(row) } else { contact = Some(row) }
    }
    let me = Account::try_from(me.ok_or(BrokenRow::Missing(owner.0)).map_err(StoreError::from)?)?;
    if me.key == *jid {
        return Err(RosterError::Myself);
    }
    let contact = Account::try_from(contact.ok_or(RosterError::NotFound)?)?;
    Ok((me, contact))
}

/// Whose entry about whom.
struct Side {
    owner: AccountId,
    contact: AccountId,
}

impl Side {
    async fn read(&self, transaction: &DatabaseTransaction) -> Result<Option<Entry>, StoreError> {
        let row = roster_item::Entity::find_by_id((self.owner.0, self.contact.0)).one(transaction).await?;
        Ok(row.map(|row| Entry { name: row.name, subscription: row.subscription }))
    }

    async fn write(
        &self,
        transaction: &DatabaseTransaction,
        entry: Option<&Entry>,
    ) -> Result<(), StoreError> {
        use roster_item::Column::{ContactId, Name, OwnerId, Subscription};
        let Some(entry) = entry else {
            roster_item::Entity::delete_by_id((self.owner.0, self.contact.0)).exec(transaction).await?;
            return Ok(());
        };
        let row = roster_item::ActiveModel {
            owner_id: Set(self.owner.0),
            contact_id: Set(self.contact.0),
            name: Set(entry.name.clone()),
            subscription: Set(entry.subscription),
        };
        let or_update =
            OnConflict::columns([OwnerId, ContactId]).update_columns([Name, Subscription]).to_owned();
        roster_item::Entity::insert(row).on_conflict(or_update).exec_without_returning(transaction).await?;
        Ok(())
    }
}

impl Entry {
    fn shown(self, contact: &Account) -> Item {
        Item { jid: contact.username.clone(), name: self.name, subscription: self.subscription }
    }
}

impl From<Refused> for RosterError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotAContact => RosterError::NotFound,
            Refused::NotMine => RosterError::NotAllowed,
        }
    }
}

/// A roster entry joined with the contact's account.
#[derive(FromQueryResult)]
struct ContactRow {
    name: Option<String>,
    subscription: Subscription,
    id: i64,
    username: String,
    username_key: String,
    bio: String,
    updated_at_ms: i64,
}

impl TryFrom<ContactRow> for Contact {
    type Error = StoreError;

    fn try_from(row: ContactRow) -> Result<Self, StoreError> {
        let username = Username::stored(row.username);
        let item = Item { jid: username.clone(), name: row.name, subscription: row.subscription };
        let key = key_of(row.id, &row.username_key)?;
        let id = AccountId(row.id);
        let profile = Profile { id, username, key, bio: row.bio, updated_at_ms: row.updated_at_ms };
        Ok(Contact { item, profile })
    }
}
