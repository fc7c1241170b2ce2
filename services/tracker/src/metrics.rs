//! What the tracker counts.

use kurir_metrics::ByLabel;
use kurir_rpc::v1::{Component, ComponentKind};
use kurir_socket::End;
use prometheus_client::metrics::counter::Counter;
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
    /// Client connections that are over.
    pub(crate) closed: ByLabel<End, Counter>,
    active: ByLabel<Kind, Gauge>,
}

kurir_metrics::label! {
    enum Kind as "kind" {
        Manager = "manager",
        Relay = "relay",
    }
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
            registry.register(
                "tracker_connections_closed",
                "Client connections that are over, by why",
                this.closed.clone(),
            );
            registry.register("tracker_active_components", "Components that are active", this.active.clone());
        });
        this
    }

    pub(crate) fn set_active(&self, components: &[Component]) {
        for (kind, is) in [(Kind::Manager, ComponentKind::Manager), (Kind::Relay, ComponentKind::Relay)] {
            let count = components.iter().filter(|component| component.kind() == is).count();
            self.active.of(kind).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
