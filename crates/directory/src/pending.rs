//! What is to be taken off record as soon as the directory can be written.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kurir_protocol::name::{LoginId, Resource, UserKey};

use crate::SessionEnd;

/// More than this are not kept: the component then takes a new generation instead, which makes all of them absent.
const LIMIT: usize = 65_536;

/// Something to take off record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removal {
    Session {
        user: UserKey,
        resource: Resource,
        login: LoginId,
        end: SessionEnd,
    },
    /// Not an entry: the right of these logins to have one.
    Logins {
        user: UserKey,
        resource: Resource,
        up_to: LoginId,
    },
    Route {
        user: UserKey,
        resource: Resource,
        connection: u64,
    },
    /// A claim that may have been written though its caller never learnt it.
    Attempt {
        user: UserKey,
        field: String,
        raw: String,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<VecDeque<Removal>>);

/// The queue overflowed, and is empty now.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Pending {
    pub(crate) fn push(&self, removal: Removal) -> Result<(), Overflow> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= LIMIT {
            queue.clear();
            return Err(Overflow);
        }
        queue.push_back(removal);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<Removal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
