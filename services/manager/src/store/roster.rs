//! Contacts (M15–M23). Both sides of a pair change in one transaction that holds both accounts' rows, locked in the
//! order of their ids, so two users who add each other at the same moment end as `both` whichever manager each is at.

use super::{Account, AccountId, Store, StoreError, Subscription, UserKey};
use kurir_protocol::name::Username;

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
#[derive(Debug, Clone)]
pub struct Added {
    pub mine: Item,
    /// The owner's entry in the contact's roster.
    pub theirs: Item,
    pub contact: Account,
}

/// The pair after a contact was removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// What is left in the owner's roster: `from` where it was `both`.
    pub mine: Option<Item>,
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

impl Store {
    /// The whole roster, `from` too, ordered by the contacts' keys (M24, U7).
    pub async fn roster(&self, _owner: AccountId) -> Result<Vec<Contact>, StoreError> {
        todo!()
    }

    /// Adds `jid` to the owner's roster, or renames it (M17, M19). Without `name` it has none afterwards.
    pub async fn add_contact(&self, _owner: AccountId, _jid: &UserKey, _name: Option<String>) -> Result<Added, RosterError> {
        todo!()
    }

    /// Removes `jid` from the owner's roster (M22).
    pub async fn remove_contact(&self, _owner: AccountId, _jid: &UserKey) -> Result<Removed, RosterError> {
        todo!()
    }
}
