//! The registry, shared: members of it, and those who watch it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kurir_rpc::v1::{Component, Load, status_response::Row};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::registry::{Key, Registry, StreamId, Superseded, key};

/// Everybody who joined. Clones are the same roll.
#[derive(Debug, Clone)]
pub(crate) struct Roll {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Mutex<Registry>,
    active: watch::Sender<Arc<Vec<Component>>>,
    metrics: Metrics,
    draining: CancellationToken,
}

impl Roll {
    /// From `draining` on the last list stands: that this tracker ends its streams says nothing of who is on them.
    pub(crate) fn new(max_inactive: usize, metrics: Metrics, draining: CancellationToken) -> Self {
        let registry = Mutex::new(Registry::new(max_inactive));
        Self { shared: Arc::new(Shared { registry, active: watch::Sender::default(), metrics, draining }) }
    }

    /// Adds a component; it is active until the membership is dropped.
    pub(crate) fn join(&self, component: Component) -> Result<Membership, Superseded> {
        let stream = self.shared.lock().open_stream();
        let key = key(&component);
        self.shared.register(stream, component)?;
        Ok(Membership { shared: Arc::clone(&self.shared), key, stream })
    }

    /// The active components, now and after every change. Who looks seldom sees only the last.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<Component>>> {
        self.shared.active.subscribe()
    }

    /// The active components (T4, T5).
    pub(crate) fn active(&self) -> Arc<Vec<Component>> {
        Arc::clone(&self.shared.active.borrow())
    }

    /// Everybody with status and load.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.shared.lock().rows(Instant::now())
    }
}

/// One component's place on the roll. Dropping it makes the component inactive (T6), unless another stream has taken
/// its place.
#[derive(Debug)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
    key: Key,
    stream: StreamId,
}

impl Membership {
    pub(crate) fn report(&self, load: Load) {
        self.shared.lock().report(&self.key, self.stream, load);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut registry = self.shared.lock();
        if registry.leave(&self.key, self.stream, Instant::now()) {
            self.shared.publish(&registry);
        }
    }
}

impl Shared {
    fn register(&self, stream: StreamId, component: Component) -> Result<(), Superseded> {
        let mut registry = self.lock();
        registry.register(stream, component, Instant::now())?;
        self.publish(&registry);
        Ok(())
    }

    /// Called with the lock held, so that lists are published in the order of the changes.
    fn publish(&self, registry: &Registry) {
        if self.draining.is_cancelled() {
            return;
        }
        let active = registry.active();
        self.metrics.set_active(&active);
        self.active.send_if_modified(|published| {
            let changed = **published != active;
            if changed {
                *published = Arc::new(active);
            }
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Every change of the registry is complete before anything could panic.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
