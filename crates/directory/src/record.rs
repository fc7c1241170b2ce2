//! How entries are written: as JSON in the fields of the user's hash, `s:<resource>` for the session and
//! `r:<resource>` for the route of a device, `e:<resource>` for its newest ended login (a plain number).

use kurir_protocol::name::{LoginId, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::{Epoch, Fields};
use crate::{ComponentId, DirectoryError, Generation, Route, Session};

/// What sessions and routes have in common.
pub(crate) trait Entry: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// What their fields' names begin with.
    const TABLE: &str;

    fn owner(&self) -> (&ComponentId, Generation);
    fn login(&self) -> LoginId;
    /// What tells this claim of the field from others by the same owner.
    fn unique(&self) -> u64;
    /// Whether the login before it lost the device for good.
    fn displaces(&self) -> bool;
}

impl Entry for Session {
    const TABLE: &str = "s:";

    fn owner(&self) -> (&ComponentId, Generation) {
        (&self.manager, self.generation)
    }

    fn login(&self) -> LoginId {
        self.login
    }

    fn unique(&self) -> u64 {
        self.login.0
    }

    fn displaces(&self) -> bool {
        self.displaces
    }
}

impl Entry for Route {
    const TABLE: &str = "r:";

    fn owner(&self) -> (&ComponentId, Generation) {
        (&self.relay, self.generation)
    }

    fn login(&self) -> LoginId {
        self.login
    }

    fn unique(&self) -> u64 {
        self.connection
    }

    fn displaces(&self) -> bool {
        true
    }
}

pub(crate) fn field<E: Entry>(resource: &Resource) -> String {
    format!("{}{resource}", E::TABLE)
}

pub(crate) fn ended_field(resource: &Resource) -> String {
    format!("e:{resource}")
}

/// An entry as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored<E> {
    pub(crate) entry: E,
    /// The life of the tables that it was written in. One of a former life is as good as none: its owner has written
    /// it again, or it is what a restarted server remembers of long ago.
    pub(crate) epoch: Epoch,
    /// No two writes are alike, so that taking one back never takes back another.
    attempt: u64,
}

pub(crate) fn write<E: Entry>(entry: E, epoch: Epoch, attempt: u64) -> Result<String, DirectoryError> {
    let stored = Stored { entry, epoch, attempt };
    serde_json::to_string(&stored).map_err(|e| DirectoryError::Garbled(e.to_string()))
}

/// One user's fields, read.
#[derive(Debug, Clone)]
pub(crate) struct Record(Fields);

impl Record {
    pub(crate) fn new(fields: Fields) -> Self {
        Self(fields)
    }

    /// The value as it stands, for comparing.
    pub(crate) fn raw<E: Entry>(&self, resource: &Resource) -> Option<&str> {
        self.value(&field::<E>(resource))
    }

    /// The entry of a device, if it is of this life of the tables. One that can't be read is as good as none.
    pub(crate) fn entry<E: Entry>(&self, resource: &Resource, epoch: Option<&Epoch>) -> Option<E> {
        let stored = parse::<E>(self.raw::<E>(resource)?)?;
        (Some(&stored.epoch) == epoch).then_some(stored.entry)
    }

    /// The entry of a device, whichever life of the tables it is of.
    pub(crate) fn entry_of_any_epoch<E: Entry>(&self, resource: &Resource) -> Option<E> {
        Some(parse::<E>(self.raw::<E>(resource)?)?.entry)
    }

    /// The newest login of the device that was ended for good.
    pub(crate) fn ended(&self, resource: &Resource) -> Option<LoginId> {
        self.value(&ended_field(resource))?.parse().ok().map(LoginId)
    }

    /// All entries of one table.
    pub(crate) fn entries<E: Entry>(&self) -> impl Iterator<Item = (Resource, Stored<E>)> {
        self.0.iter().filter_map(|(field, value)| {
            let resource = Resource::try_from(field.strip_prefix(E::TABLE)?.to_owned()).ok()?;
            Some((resource, parse(value)?))
        })
    }

    /// The value of a field, if it is an entry of `generation`.
    pub(crate) fn carrying(&self, field: &str, generation: Generation) -> Option<&str> {
        let value = self.value(field)?;
        let owner = if field.starts_with(Session::TABLE) {
            parse::<Session>(value)?.entry.generation
        } else {
            parse::<Route>(value)?.entry.generation
        };
        (owner == generation).then_some(value)
    }

    fn value(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }
}

fn parse<E: Entry>(value: &str) -> Option<Stored<E>> {
    serde_json::from_str(value)
        .inspect_err(|error| tracing::warn!(%error, "entry in the directory can't be read"))
        .ok()
}
