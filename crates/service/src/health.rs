//! Readiness: each part of the process says for itself whether it can serve; the process is ready when all can.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use tokio::sync::watch;

use crate::Metrics;

/// The readiness of this process, by part. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Health {
    report: Arc<watch::Sender<Report>>,
    scope: Option<Arc<str>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { report: Arc::new(watch::Sender::new(Report::default())), scope: None }
    }
}

impl Health {
    /// Adds a part, not ready ("starting") until it says otherwise. A role registers all its parts before it reports
    /// the first as ready; otherwise the process looks ready for a moment too early.
    pub fn register(&self, part: &str) -> Ready {
        let name = match &self.scope {
            Some(scope) => format!("{scope}/{part}"),
            None => part.to_owned(),
        };
        self.report.send_modify(|report| {
            if let Some(scope) = &self.scope {
                report.parts.remove(&**scope);
            }
            report.parts.insert(name.clone(), State::NotReady("starting".to_owned()));
        });
        Ready { report: Arc::clone(&self.report), kind: Report::parts, name }
    }

    /// Adds what the process depends on, not ready until it says otherwise. However ready it is, without a part the process is
    /// not.
    pub fn register_dependency(&self, name: &str) -> Ready {
        let dependency =
            Ready { report: Arc::clone(&self.report), kind: Report::dependencies, name: name.to_owned() };
        dependency.not_ready("starting");
        dependency
    }

    /// Shows readiness among the metrics.
    pub(crate) fn register_metrics(&self, metrics: &Metrics) {
        let health = self.clone();
        metrics.register(|registry| registry.register_collector(Box::new(health)));
    }

    pub(crate) fn child(&self, scope: &str) -> Self {
        let child = Self { report: Arc::clone(&self.report), scope: Some(scope.into()) };
        child.report.send_modify(|report| {
            report.parts.insert(scope.to_owned(), State::NotReady("starting".to_owned()));
        });
        child
    }

    /// The process is about to stop: not ready any more, whatever the parts say.
    pub fn stopping(&self) {
        self.report.send_modify(|report| report.stopping = true);
    }

    /// What `/readyz` answers now.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Resolves when there is at least one part and all are ready. Cancel-safe.
    pub async fn wait_until_ready(&self) {
        // Fails only when the sender is gone, and `self` holds it.
        let _ = self.report.subscribe().wait_for(Report::is_ready).await;
    }
}

/// One part's say in the readiness of the process.
#[derive(Debug)]
pub struct Ready {
    report: Arc<watch::Sender<Report>>,
    kind: fn(&mut Report) -> &mut States,
    name: String,
}

type States = BTreeMap<String, State>;

impl Ready {
    /// This part can serve.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// This part cannot serve now; `reason` is shown to the operator by `/readyz`.
    pub fn not_ready(&self, reason: &str) {
        self.set(State::NotReady(reason.to_owned()));
    }

    /// This part is no longer asked, as when what it stood for was to be waited for and has come.
    pub fn withdraw(self) {
        self.report.send_modify(|report| {
            (self.kind)(report).remove(&self.name);
        });
    }

    fn set(&self, state: State) {
        self.report.send_if_modified(|report| {
            let states = (self.kind)(report);
            let changed = states.get(&self.name) != Some(&state);
            if changed {
                states.insert(self.name.clone(), state);
            }
            changed
        });
    }
}

/// The readiness of the process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    stopping: bool,
    parts: States,
    dependencies: States,
}

impl Report {
    fn parts(&mut self) -> &mut States {
        &mut self.parts
    }

    fn dependencies(&mut self) -> &mut States {
        &mut self.dependencies
    }

    fn states(&self) -> impl Iterator<Item = (&String, &State)> {
        self.parts.iter().chain(&self.dependencies)
    }

    /// Whether newcomers should be sent here.
    pub fn is_ready(&self) -> bool {
        !self.stopping && !self.parts.is_empty() && self.states().all(|(_, state)| *state == State::Ready)
    }
}

/// `{"ready": false, "parts": {"relay": "ready"}, "dependencies": {"redis": "the reason why not"}}`, with `"stopping": true` once
/// it is.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ready", &self.is_ready())?;
        if self.stopping {
            map.serialize_entry("stopping", &true)?;
        }
        map.serialize_entry("parts", &self.parts)?;
        if !self.dependencies.is_empty() {
            map.serialize_entry("dependencies", &self.dependencies)?;
        }
        map.end()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady(String),
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Ready => "ready",
            Self::NotReady(reason) => reason,
        })
    }
}

/// One gauge for each part and dependency: 1 while it is ready.
impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.report();
        let help = "Whether this part or dependency is ready, as /readyz says.";
        let mut family = encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?;
        for (name, state) in report.states() {
            let ready = ConstGauge::new(i64::from(*state == State::Ready && !report.stopping));
            ready.encode(family.encode_family(&[("part", name.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(health: &Health) -> String {
        serde_json::to_string(&health.report()).unwrap()
    }

    #[test]
    fn the_process_is_ready_when_every_part_is() {
        let health = Health::default();
        assert!(!health.report().is_ready());
        let (relay, directory) = (health.register("relay"), health.register("directory"));
        relay.ready();
        assert_eq!(json(&health), r#"{"ready":false,"parts":{"directory":"starting","relay":"ready"}}"#);
        directory.ready();
        assert!(health.report().is_ready());
        directory.not_ready("cannot reach redis");
        assert_eq!(
            json(&health),
            r#"{"ready":false,"parts":{"directory":"cannot reach redis","relay":"ready"}}"#
        );
    }

    #[test]
    fn a_role_that_has_not_registered_yet_holds_the_process_back() {
        let health = Health::default();
        let (one, two) = (health.child("relay-1"), health.child("relay-2"));
        one.register("clients").ready();
        assert_eq!(
            json(&health),
            r#"{"ready":false,"parts":{"relay-1/clients":"ready","relay-2":"starting"}}"#
        );
        two.register("clients").ready();
        assert!(health.report().is_ready());
    }

    #[test]
    fn a_process_that_stops_is_not_ready_whatever_its_parts_say() {
        let health = Health::default();
        let relay = health.register("relay");
        relay.ready();
        health.stopping();
        relay.ready();
        assert_eq!(json(&health), r#"{"ready":false,"stopping":true,"parts":{"relay":"ready"}}"#);
    }

    #[test]
    fn a_part_that_is_withdrawn_makes_nothing_ready() {
        let health = Health::default();
        health.register("start").withdraw();
        assert_eq!(json(&health), r#"{"ready":false,"parts":{}}"#);
    }

    #[test]
    fn what_a_process_depends_on_makes_it_unready_and_never_ready() {
        let health = Health::default();
        let redis = health.register_dependency("redis");
        redis.ready();
        assert!(!health.report().is_ready());
        health.register("relay").ready();
        assert!(health.report().is_ready());
        redis.not_ready("away");
        assert_eq!(
            json(&health),
            r#"{"ready":false,"parts":{"relay":"ready"},"dependencies":{"redis":"away"}}"#
        );
        let metrics = Metrics::default();
        health.register_metrics(&metrics);
        let text = metrics.encode();
        assert!(text.contains("\nkurir_ready{part=\"relay\"} 1\nkurir_ready{part=\"redis\"} 0\n"), "{text}");
    }

    #[tokio::test]
    async fn waiting_for_readiness_ends_with_the_last_part() {
        let health = Health::default();
        let (one, two) = (health.register("one"), health.register("two"));
        one.ready();
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.wait_until_ready().await }
        });
        assert!(!waiting.is_finished());
        two.ready();
        waiting.await.unwrap();
    }
}
