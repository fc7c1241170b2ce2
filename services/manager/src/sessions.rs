//! Who is logged in at this manager.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurir_protocol::name::{Resource, UserKey};

use crate::online::Online;

/// The sessions of this manager by user, one for each device.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_user: Mutex<HashMap<UserKey, Vec<Arc<Online>>>>,
}

impl Sessions {
    /// Adds a session; the older one of that device, if there still is one, is returned.
    pub(crate) fn insert(&self, online: Arc<Online>) -> Option<Arc<Online>> {
        let mut sessions = self.lock();
        // Most users have one device.
        let devices = sessions.entry(online.user.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Some(known) = devices.iter_mut().find(|known| known.device == online.device) {
            return Some(mem::replace(known, online));
        }
        devices.push(online);
        None
    }

    /// Removes this very session. False: it was not there any more.
    pub(crate) fn remove(&self, online: &Online) -> bool {
        let mut sessions = self.lock();
        let Some(devices) = sessions.get_mut(&online.user) else { return false };
        let before = devices.len();
        devices.retain(|known| known.login != online.login);
        let removed = devices.len() < before;
        if devices.is_empty() {
            sessions.remove(&online.user);
        }
        removed
    }

    pub(crate) fn get(&self, user: &UserKey, device: &Resource) -> Option<Arc<Online>> {
        self.lock().get(user)?.iter().find(|online| online.device == *device).cloned()
    }

    /// All of a user's.
    pub(crate) fn of(&self, user: &UserKey) -> Vec<Arc<Online>> {
        self.lock().get(user).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Online>> {
        self.lock().values().flatten().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, Vec<Arc<Online>>>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
