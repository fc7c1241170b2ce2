//! How many files, and so how many connections, this process may have open.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_file_limit() -> u64 {
    todo!()
}

/// Permits for client connections, one each, shared by all listeners of a process.
#[derive(Clone, Debug)]
pub struct Connections {
    permits: Arc<Semaphore>,
    limit: usize,
}

impl Connections {
    /// Permits for `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), limit }
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.limit.saturating_sub(self.permits.available_permits())
    }

    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}
