//! Readiness: each part of the process says for itself whether it can serve; the process is ready when all can.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tokio::sync::watch;

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
        Ready { report: Arc::clone(&self.report), name }
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
    name: String,
}

impl Ready {
    /// This part can serve.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// This part cannot serve now; `reason` is shown to the operator by `/readyz`.
    pub fn not_ready(&self, reason: &str) {
        self.set(State::NotReady(reason.to_owned()));
    }

    fn set(&self, state: State) {
        self.report.send_if_modified(|report| {
            let changed = report.parts.get(&self.name) != Some(&state);
            if changed {
                report.parts.insert(self.name.clone(), state);
            }
            changed
        });
    }
}

/// The readiness of the process at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    stopping: bool,
    parts: BTreeMap<String, State>,
}

impl Report {
    /// Whether newcomers should be sent here.
    pub fn is_ready(&self) -> bool {
        !self.stopping && !self.parts.is_empty() && self.parts.values().all(|state| *state == State::Ready)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady(String),
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Ready => "ready",
            Self::NotReady(reason) => reason,
        })
    }
}
