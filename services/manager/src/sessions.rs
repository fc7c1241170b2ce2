//! Who is logged in at this manager.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurir_protocol::name::UserKey;

use crate::online::Online;

/// The sessions of this manager by user. Until there are named devices (Part II) a user has one.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_user: Mutex<HashMap<UserKey, Arc<Online>>>,
}

impl Sessions {
    /// Adds a session; the older one of that user, if there still is one, is returned.
    pub(crate) fn insert(&self, online: Arc<Online>) -> Option<Arc<Online>> {
        self.lock().insert(online.user.clone(), online)
    }

    /// Removes this very session. False: it was not there any more.
    pub(crate) fn remove(&self, online: &Online) -> bool {
        let mut sessions = self.lock();
        let is_this = sessions.get(&online.user).is_some_and(|known| known.login == online.login);
        is_this && sessions.remove(&online.user).is_some()
    }

    pub(crate) fn get(&self, user: &UserKey) -> Option<Arc<Online>> {
        self.lock().get(user).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Online>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, Arc<Online>>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
