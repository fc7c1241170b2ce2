//! The metrics registry of the process, in Prometheus' text format.

use std::{
    collections::HashMap,
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode_registry},
    metrics::gauge::ConstGauge,
    registry::Registry,
};

/// What the name of every metric of ours begins with.
const PREFIX: &str = "kurir";

/// The registry of this process. Cheap to clone; clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    component: Option<Arc<str>>,
}

impl Metrics {
    /// Lets `add` register metrics; their names are given the prefix `kurir_`. Give counters names without `_total`: the
    /// encoder adds it.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        self.with_registry(|registry| {
            let ours = registry.sub_registry_with_prefix(PREFIX);
            match &self.component {
                Some(component) => {
                    let label = ("component".into(), component.to_string().into());
                    add(ours.sub_registry_with_label(label));
                }
                None => add(ours),
            }
        });
    }

    /// Registers a gauge that is read whenever metrics are asked for. `read` is called with the registry locked, so it may be
    /// as slow as a scrape may be, and must not come back here.
    pub fn register_reading(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        self.register(|registry| registry.register_collector(Box::new(Reading { name, help, read })));
    }

    /// The same of something that need not live as long as the registry: 0 once it is gone.
    pub fn register_reading_of<T: Send + Sync + 'static>(
        &self,
        whose: &Arc<T>,
        name: &'static str,
        help: &'static str,
        read: fn(&T) -> usize,
    ) {
        let whose = Arc::downgrade(whose);
        self.register_reading(name, help, move || whose.upgrade().map_or(0, |whose| read(&whose)));
    }

    pub(crate) fn with_registry<R>(&self, act: impl FnOnce(&mut Registry) -> R) -> R {
        // A panic while registering leaves at worst a metric out.
        act(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn child(&self, component: &str) -> Self {
        Self { registry: Arc::clone(&self.registry), component: Some(component.into()) }
    }

    /// All metrics, as `/metrics` answers them.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a collector of ours does, and then the rest is still worth having.
        let _ = self.with_registry(|registry| encode_registry(&mut text, registry));
        one_family_per_name(&text)
    }
}

/// A gauge that is not kept but read.
struct Reading<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<F> fmt::Debug for Reading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F: Fn() -> usize + Send + Sync + 'static> Collector for Reading<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new(i64::try_from((self.read)()).unwrap_or(i64::MAX));
        // The registry ends a metric's help with a full stop and a collector's not.
        let help = format!("{}.", self.help);
        gauge.encode(encoder.encode_descriptor(self.name, &help, None, gauge.metric_type())?)
    }
}

/// The registry writes the header of a family once for each component that has it; a scraper wants each family once,
/// with all its samples together.
fn one_family_per_name(text: &str) -> String {
    let mut places = HashMap::new();
    let mut families: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    let mut current = 0;
    for line in text.lines() {
        let header = line.strip_prefix("# ").and_then(|rest| rest.split(' ').nth(1));
        if let Some(name) = header {
            current = *places.entry(name).or_insert_with(|| {
                families.push((Vec::new(), Vec::new()));
                families.len() - 1
            });
        }
        if let Some((headers, samples)) = families.get_mut(current) {
            if header.is_none() {
                samples.push(line);
            } else if !headers.contains(&line) {
                headers.push(line);
            }
        }
    }
    let mut grouped = String::with_capacity(text.len());
    for line in families.into_iter().flat_map(|(headers, samples)| headers.into_iter().chain(samples)) {
        // Writing to a string cannot fail.
        let _ = writeln!(grouped, "{line}");
    }
    grouped.push_str("# EOF\n");
    grouped
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

    use super::*;

    #[test]
    fn a_metric_of_two_components_is_one_family() {
        let metrics = Metrics::default();
        for (component, value) in [("relay-1", 3), ("relay-2", 4)] {
            let messages: Counter = Counter::default();
            messages.inc_by(value);
            let users: Gauge = Gauge::default();
            metrics.child(component).register(|registry| {
                registry.register("messages", "Messages delivered", messages);
                registry.register("users", "Users here", users);
            });
        }
        assert_eq!(
            metrics.encode(),
            "# HELP kurir_messages Messages delivered.\n\
             # TYPE kurir_messages counter\n\
             kurir_messages_total{component=\"relay-1\"} 3\n\
             kurir_messages_total{component=\"relay-2\"} 4\n\
             # HELP kurir_users Users here.\n\
             # TYPE kurir_users gauge\n\
             kurir_users{component=\"relay-1\"} 0\n\
             kurir_users{component=\"relay-2\"} 0\n\
             # EOF\n"
        );
    }

    #[test]
    fn a_gauge_that_is_read_looks_like_any_other() {
        let metrics = Metrics::default();
        metrics.child("relay-1").register_reading("waiting_bytes", "What waits", || 17);
        assert_eq!(
            metrics.encode(),
            "# HELP kurir_waiting_bytes What waits.\n\
             # TYPE kurir_waiting_bytes gauge\n\
             kurir_waiting_bytes{component=\"relay-1\"} 17\n\
             # EOF\n"
        );
    }

    #[test]
    fn a_role_alone_in_its_process_carries_no_label() {
        let metrics = Metrics::default();
        metrics.register(|registry| registry.register("users", "Users here", Gauge::<i64>::default()));
        assert!(metrics.encode().contains("\nkurir_users 0\n"));
    }
}
