//! What a role is given by the process around it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Health, Metrics, open_files::Connections};

/// Everything a role needs from the process it runs in. Cheap to clone; clones are the same shell.
#[derive(Clone, Debug)]
pub struct Shell {
    /// When to stop, and which tasks are waited for then.
    pub shutdown: Shutdown,
    /// Where the role says whether it can serve.
    pub health: Health,
    /// Where the role registers its metrics.
    pub metrics: Metrics,
    /// How many client connections this process may still open. Shared by all listeners in it.
    pub connections: Connections,
}

impl Shell {
    /// A shell with nothing running around it (no signals, no admin port) for `connections` client connections at
    /// most. [`crate::run()`] makes the real one; tests use this.
    pub fn new(connections: usize) -> Self {
        Self {
            shutdown: Shutdown::default(),
            health: Health::default(),
            metrics: Metrics::default(),
            connections: Connections::new(connections),
        }
    }

    /// The shell of one role among several in this process: its parts are named `name/…` in readiness, its metrics
    /// carry the label `component="name"`. Until it has registered a part, the process is not ready.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { health: self.health.child(name), metrics: self.metrics.child(name), ..self.clone() }
    }
}

/// The stop of the process, in two steps: `token` is cancelled when draining begins; tasks in `tracker` are then
/// waited for, up to [`ShutdownConfig::grace_seconds`].
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled when draining begins: stop accepting, say goodbye, end.
    pub token: CancellationToken,
    /// Every task that must end in order is spawned here.
    pub tracker: TaskTracker,
}

impl Shutdown {
    /// Begins to drain. Called by the signal handler; by tests; by a role that cannot go on.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Resolves when draining begins. Cancel-safe.
    pub async fn began(&self) {
        self.token.cancelled().await;
    }
}

/// Section `[shutdown]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// How long the process goes on as before after SIGTERM, with `/readyz` false already, so that load balancers
    /// stop sending newcomers before the listeners close. 0.2 suits a laptop; Kubernetes needs about 5.
    pub pause_seconds: f64,
    /// How long draining may take. What is still connected then is cut, and the log says how many.
    pub grace_seconds: u64,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { pause_seconds: 0.2, grace_seconds: 10 }
    }
}

impl ShutdownConfig {
    pub(crate) fn pause(&self) -> Duration {
        // A negative or absurd value is no pause rather than a panic at the moment of stopping.
        Duration::try_from_secs_f64(self.pause_seconds).unwrap_or_default()
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}
