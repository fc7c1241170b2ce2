//! Reading the tables.

use kurir_protocol::name::UserKey;

use crate::{Component, DirectoryError, Timing, UserEntries};

/// A connection to the tables. Clones share it.
#[derive(Debug, Clone)]
pub struct Directory {}

impl Directory {
    /// Connects to Redis. `prefix` comes before every key, so that several systems can share one.
    ///
    /// Fails with [`DirectoryError::Away`] if it can't be reached, with [`DirectoryError::BadUrl`] if it never will.
    pub async fn connect(url: &str, prefix: &str, timing: Timing) -> Result<Self, DirectoryError> {
        todo!()
    }

    /// Tables in this process; clones share them, and they end with the last one.
    pub fn in_process(timing: Timing) -> Self {
        todo!()
    }

    /// The durations this directory was made with.
    pub fn timing(&self) -> Timing {
        todo!()
    }

    /// What stands for one user.
    pub async fn user(&self, user: &UserKey) -> Result<UserEntries, DirectoryError> {
        todo!()
    }

    /// What stands for each of `users`, in their order, in two round trips.
    pub async fn users(&self, users: &[UserKey]) -> Result<Vec<UserEntries>, DirectoryError> {
        todo!()
    }

    /// The components that hold their lease.
    pub async fn components(&self) -> Result<Vec<Component>, DirectoryError> {
        todo!()
    }
}
