//! Who is logged in at this manager.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kurir_protocol::name::{LoginId, Resource, UserKey};

use crate::online::Online;

/// The sessions of this manager by user, one for each device.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_user: HashMap<UserKey, Vec<Arc<Online>>>,
    /// Logins that may be on record in the directory, and are not served here yet.
    coming: HashMap<UserKey, Vec<Coming>>,
}

#[derive(Debug)]
struct Coming {
    device: Resource,
    login: LoginId,
    /// It was ended meanwhile.
    over: Option<Over>,
}

/// A login under way, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    sessions: &'a Sessions,
    user: UserKey,
    device: Resource,
    login: LoginId,
}

/// Why a session is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A newer login has the device.
    Displaced,
    /// The device was removed.
    Removed,
}

impl Sessions {
    /// A login is about to be put on record. What is said of it from then on counts when it is inserted.
    pub(crate) fn begin(&self, user: &UserKey, device: &Resource, login: LoginId) -> UnderWay<'_> {
        let coming = Coming { device: device.clone(), login, over: None };
        self.lock().coming.entry(user.clone()).or_default().push(coming);
        UnderWay { sessions: self, user: user.clone(), device: device.clone(), login }
    }

    /// Adds a session; the older one of that device, if there still is one, is returned. An error: it is over already.
    pub(crate) fn insert(&self, online: Arc<Online>) -> Result<Option<Arc<Online>>, Over> {
        let mut state = self.lock();
        let coming = state.coming.get_mut(&online.user).into_iter().flatten();
        for coming in coming.filter(|coming| coming.device == online.device) {
            match coming.over {
                Some(over) if coming.login == online.login => return Err(over),
                None if coming.login < online.login => coming.over = Some(Over::Displaced),
                _ => {}
            }
        }
        // Most users have one device.
        let devices = state.by_user.entry(online.user.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Some(known) = devices.iter_mut().find(|known| known.device == online.device) {
            return Ok(Some(mem::replace(known, online)));
        }
        devices.push(online);
        Ok(None)
    }

    /// The device's logins up to this one are over. Returns the session of one of them; of those under way that is remembered.
    pub(crate) fn end(
        &self,
        user: &UserKey,
        device: &Resource,
        up_to: LoginId,
        over: Over,
    ) -> Option<Arc<Online>> {
        let mut state = self.lock();
        let coming = state.coming.get_mut(user).into_iter().flatten();
        for coming in coming.filter(|coming| coming.device == *device && coming.login <= up_to) {
            coming.over.get_or_insert(over);
        }
        let mut devices = state.by_user.get(user)?.iter();
        devices.find(|online| online.device == *device && online.login <= up_to).cloned()
    }

    /// Removes this very session. False: it was not there any more.
    pub(crate) fn remove(&self, online: &Online) -> bool {
        let mut state = self.lock();
        let Some(devices) = state.by_user.get_mut(&online.user) else { return false };
        let before = devices.len();
        devices.retain(|known| known.login != online.login);
        let removed = devices.len() < before;
        if devices.is_empty() {
            state.by_user.remove(&online.user);
        }
        removed
    }

    pub(crate) fn get(&self, user: &UserKey, device: &Resource) -> Option<Arc<Online>> {
        self.lock().by_user.get(user)?.iter().find(|online| online.device == *device).cloned()
    }

    /// All of a user's.
    pub(crate) fn of(&self, user: &UserKey) -> Vec<Arc<Online>> {
        self.lock().by_user.get(user).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Online>> {
        self.lock().by_user.values().flatten().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().by_user.values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let Some(devices) = state.coming.get_mut(&self.user) else { return };
        devices.retain(|coming| coming.device != self.device || coming.login != self.login);
        if devices.is_empty() {
            state.coming.remove(&self.user);
        }
    }
}
