//! The metrics registry of the process, in Prometheus' text format.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{encoding::text::encode_registry, registry::Registry};

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
    fn a_role_alone_in_its_process_carries_no_label() {
        let metrics = Metrics::default();
        metrics.register(|registry| registry.register("users", "Users here", Gauge::<i64>::default()));
        assert!(metrics.encode().contains("\nkurir_users 0\n"));
    }
}
