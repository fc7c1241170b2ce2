//! The managers that this relay is attached to, for calls: any of them will do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kurir_rpc::{
    Channel,
    v1::{log_client::LogClient, trail_client::TrailClient},
};

#[derive(Debug, Default)]
pub(crate) struct Managers {
    attached: Mutex<Vec<Attached>>,
}

#[derive(Debug)]
struct Attached {
    id: Arc<str>,
    channel: Channel,
}

/// A manager's place among them, for as long as it is attached.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    managers: &'a Managers,
    id: Arc<str>,
}

impl Managers {
    /// A manager is attached, until the place is dropped.
    pub(crate) fn add(&self, id: &str, channel: Channel) -> Place<'_> {
        let id: Arc<str> = id.into();
        self.lock().push(Attached { id: Arc::clone(&id), channel });
        Place { managers: self, id }
    }

    /// Where trails may be kept.
    pub(crate) fn trails(&self) -> Vec<TrailClient<Channel>> {
        self.lock().iter().map(|attached| TrailClient::new(attached.channel.clone())).collect()
    }

    /// All of them, `first` before the others.
    pub(crate) fn all(&self, first: Option<&str>) -> Vec<(Arc<str>, LogClient<Channel>)> {
        let attached = self.lock();
        let client = |of: &Attached| (Arc::clone(&of.id), LogClient::new(of.channel.clone()));
        let (mut ordered, others): (Vec<_>, Vec<_>) =
            attached.iter().map(client).partition(|(id, _)| Some(&**id) == first);
        ordered.extend(others);
        ordered
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.managers.lock().retain(|attached| !Arc::ptr_eq(&attached.id, &self.id));
    }
}
