//! The metrics registry of the process, in Prometheus' text format.

use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;

/// The registry of this process. Cheap to clone; clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    component: Option<Arc<str>>,
}

impl Metrics {
    /// Lets `add` register metrics under the prefix `kurir`. Give counters names without `_total`: the encoder adds
    /// it.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        let _ = (&self.registry, &self.component, add);
        todo!()
    }

    pub(crate) fn child(&self, component: &str) -> Self {
        Self { registry: Arc::clone(&self.registry), component: Some(component.into()) }
    }

    /// All metrics, as `/metrics` answers them.
    pub fn encode(&self) -> String {
        todo!()
    }
}
