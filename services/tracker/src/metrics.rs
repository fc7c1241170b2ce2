//! What the tracker counts.

use kurir_rpc::v1::{Component, ComponentKind};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// The tracker's metrics; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Lists given to clients (T4, T5).
    pub(crate) client_lists: Counter,
    /// Lists pushed to components.
    pub(crate) component_lists: Counter,
    /// Components that joined.
    pub(crate) joins: Counter,
    /// Components that were refused.
    pub(crate) refused: Counter,
    active: Family<Labels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the labels")]
enum Kind {
    manager,
    relay,
}

impl Metrics {
    pub(crate) fn register(metrics: &kurir_service::Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register("tracker_client_lists", "Lists given to clients", this.client_lists.clone());
            registry.register(
                "tracker_component_lists",
                "Lists pushed to components",
                this.component_lists.clone(),
            );
            registry.register("tracker_joins", "Components that joined", this.joins.clone());
            registry.register("tracker_joins_refused", "Components that were refused", this.refused.clone());
            registry.register("tracker_active_components", "Components that are active", this.active.clone());
        });
        this
    }

    pub(crate) fn set_active(&self, components: &[Component]) {
        for (kind, is) in [(Kind::manager, ComponentKind::Manager), (Kind::relay, ComponentKind::Relay)] {
            let count = components.iter().filter(|component| component.kind() == is).count();
            self.active.get_or_create(&Labels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
