//! How many files, and so how many connections, this process may have open.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Files kept back from client connections: for the directory, the database, the links to other components, the admin
/// port, the log. Of a small limit a quarter is kept back.
const RESERVED: u64 = 256;

/// Raises the soft limit of open files to the hard one and returns what then holds.
pub fn raise_open_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the open-file limit");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Permits for client connections, one each, shared by all listeners of a process. When none is left, listeners stop
/// accepting until a connection ends.
#[derive(Clone, Debug)]
pub struct Connections {
    permits: Arc<Semaphore>,
    limit: usize,
    open: Arc<AtomicUsize>,
}

impl Connections {
    /// Permits for `limit` connections.
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(limit)), limit, open: Arc::default() }
    }

    /// As many as an open-file limit allows.
    pub fn within(open_files: u64) -> Self {
        let allowed = open_files - RESERVED.min(open_files / 4);
        Self::new(usize::try_from(allowed).unwrap_or(usize::MAX))
    }

    /// How many may be open at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are open now. Not told from the permits: a listener holds one while it waits for a client.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The client that `permit` was held for has come.
    pub(crate) fn opened(&self, permit: OwnedSemaphorePermit) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open { _permit: permit, open: Arc::clone(&self.open) }
    }

    /// A permit at once, if one is left.
    pub(crate) fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// A permit as soon as there is one. Cancel-safe. `None` never: the semaphore is not closed.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}

/// An open connection's place among those allowed, given back when dropped.
#[derive(Debug)]
pub(crate) struct Open {
    _permit: OwnedSemaphorePermit,
    open: Arc<AtomicUsize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_held_for_a_client_to_come_is_no_open_connection() {
        let connections = Connections::new(1);
        let permit = connections.try_permit().unwrap();
        assert_eq!(connections.open(), 0);
        let open = connections.opened(permit);
        assert_eq!(connections.open(), 1);
        assert!(connections.try_permit().is_none());
        drop(open);
        assert_eq!(connections.open(), 0);
        assert!(connections.try_permit().is_some());
    }

    #[test]
    fn some_files_are_kept_back_from_connections() {
        assert_eq!(Connections::within(65_536).limit(), 65_280);
        assert_eq!(Connections::within(400).limit(), 300);
        assert_eq!(Connections::within(0).limit(), 0);
        assert_eq!(Connections::within(u64::MAX).limit(), Semaphore::MAX_PERMITS);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_open_file_limit();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    }
}
