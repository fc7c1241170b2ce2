//! What a store must be able to do, without any rule about who may: each operation is atomic, one round trip, and safe
//! to repeat when its answer was lost.

pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod redis;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use kurir_protocol::name::{LoginId, UserKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, Component, ComponentId, DirectoryError, Generation};

/// How long marks of death are kept. A component that was away for half of this counts itself dead, so no
/// generation outlives its mark.
pub(crate) const MARKS: Duration = Duration::from_hours(24);

/// How many devices of a user have an ended login on record: of one more the oldest is forgotten, so that who names devices
/// and removes them again does not grow the tables. A ticket that is valid for minutes then counts again, as it would
/// after [`Timing::ended`](crate::Timing::ended).
pub(crate) const MOST_ENDED: usize = 128;

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DirectoryError>> + Send + 'a>>;

/// The fields of one user's hash: name and value.
pub(crate) type Fields = Vec<(String, String)>;

pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Whether the store answers at all.
    fn ping(&self) -> Answer<'_, ()>;

    /// One user's fields, and how `me` stands.
    fn look<'a>(&'a self, me: &'a ComponentId, user: &'a UserKey) -> Answer<'a, (Fields, Standing)>;

    /// The fields of each of `users`, in their order, and how the tables stand after that.
    fn users<'a>(&'a self, users: &'a [UserKey]) -> Answer<'a, (Vec<Fields>, Standing)>;

    /// Every swap by itself, in order; whether each found what it expected; and how `me` stands after them.
    fn swap<'a>(&'a self, me: &'a ComponentId, swaps: &'a [Swap]) -> Answer<'a, (Vec<bool>, Standing)>;

    /// Who holds the lease of each of `ids`, and how `me` stands after that.
    fn leases<'a>(
        &'a self,
        me: Option<&'a ComponentId>,
        ids: &'a [ComponentId],
    ) -> Answer<'a, (Vec<Option<Generation>>, Standing)>;

    /// Notes that `id` is being judged in this epoch; then who holds its lease, and how `me` stands.
    fn suspect<'a>(
        &'a self,
        me: &'a ComponentId,
        id: &'a ComponentId,
        epoch: &'a Epoch,
    ) -> Answer<'a, (Option<Generation>, Standing)>;

    /// Marks a generation as dead for good unless it holds its lease, or that note is gone: the store has then lost the
    /// lease, too. Whether it is dead.
    fn confirm_dead<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        epoch: &'a Epoch,
    ) -> Answer<'a, bool>;

    /// Takes the lease for a generation and registers it, unless another process has it.
    fn acquire<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Acquired, Standing)>;

    /// Registers a generation and renews its lease, unless it is marked dead or another one has the lease.
    fn renew<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Renewal, Standing)>;

    /// Begins an epoch, recovering for one lease time, unless there is one.
    fn begin_epoch<'a>(&'a self, me: &'a ComponentId) -> Answer<'a, Standing>;

    /// Every generation that was registered and not yet forgotten, alive or not.
    fn registered(&self) -> Answer<'_, Vec<Component>>;

    /// Up to `limit` of the entries that a generation may own, at random.
    fn owned<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        limit: usize,
    ) -> Answer<'a, Vec<Owned>>;

    /// Takes entries out of what a generation may own.
    fn disown<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        owned: &'a [Owned],
    ) -> Answer<'a, ()>;

    /// Takes a generation off the register, with what it may own.
    fn forget<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()>;

    /// Marks a generation as dead for good and gives its lease back, if it has it.
    fn resign<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()>;
}

/// One life of the tables: a text that never comes again, an at sign, and the life of the server it was begun on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Epoch(pub(crate) String);

impl Epoch {
    pub(crate) fn new(server: &str) -> Self {
        Self(format!("{}@{server}", Uuid::now_v7()))
    }

    pub(crate) fn is_of(&self, server: &str) -> bool {
        self.0.rsplit_once('@').is_some_and(|(_, begun_on)| begun_on == server)
    }
}

/// What a component must know of the tables before it trusts what it read in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// None: the tables are new, or were lost, or the server was restarted since (and may have gone back in time).
    pub(crate) epoch: Option<Epoch>,
    /// Owners are still writing their entries again.
    pub(crate) recovering: bool,
    /// Who holds the asking component's lease.
    pub(crate) holder: Option<Generation>,
}

/// One attempt at taking or renewing a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bid {
    pub(crate) component: Component,
    /// The same for all generations of one process, which may take the lease from itself.
    pub(crate) process: Uuid,
}

/// What became of taking a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acquired {
    Held,
    /// This generation carries a mark of death.
    Marked,
    /// Another process has it.
    InUse {
        client: Address,
        /// What is left of its lease.
        left: Duration,
    },
}

/// What became of renewing a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    Held,
    Refused,
}

/// A change of one field of a user's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) user: UserKey,
    pub(crate) field: String,
    /// What must be there now; None: nothing.
    pub(crate) expected: Option<String>,
    /// What is to be there; None: nothing.
    pub(crate) new: Option<String>,
    /// The field that remembers the newest ended login.
    pub(crate) ended: Option<(String, Ended)>,
    /// Whose the new value will be: noted before the swap.
    pub(crate) owner: Option<(ComponentId, Generation, Owned)>,
}

/// What a swap has to do with the newest ended login of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It must still be this one; None: there must be none.
    Is(Option<LoginId>),
    /// It is raised to this one.
    Raise(LoginId),
}

/// An entry that a generation may own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Owned {
    pub(crate) user: UserKey,
    pub(crate) field: String,
    /// Login or connection, so that giving up one claim of a field leaves the next one noted.
    pub(crate) unique: u64,
}
