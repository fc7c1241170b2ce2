//! What a role is given by the process around it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Health, Metrics, leave::Times, open_files::Connections};

/// What is left of the grace when the users' time is over: closing takes up to 5.5 s, and what is under way has to arrive.
const LAST_STEPS: Duration = Duration::from_secs(8);

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
        let shutdown = Shutdown { shared: true, ..self.shutdown.clone() };
        Self { shutdown, health: self.health.child(name), metrics: self.metrics.child(name), ..self.clone() }
    }
}

/// The stop of the process. [`Shutdown::leave`]: no newcomers are sent here any more; a pause later draining begins, and
/// `token` is cancelled; tasks in `tracker` are then waited for, up to [`ShutdownConfig::grace_seconds`].
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    leaving: CancellationToken,
    /// Cancelled when draining begins: stop accepting, let the users go, end.
    pub token: CancellationToken,
    /// Every task that must end in order is spawned here.
    pub tracker: TaskTracker,
    /// How users are let go.
    pub times: Times,
    /// Several roles share it.
    shared: bool,
}

impl Shutdown {
    /// Has the process stop, as SIGTERM does.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Resolves when the process is about to stop: newcomers are to be sent elsewhere. Cancel-safe.
    pub async fn leaves(&self) {
        self.leaving.cancelled().await;
    }

    /// The same, unless roles besides the caller's would stop with it. False: they would.
    pub fn leave_unless_shared(&self) -> bool {
        if !self.shared {
            self.leave();
        }
        !self.shared
    }

    /// Begins to drain. Called by the signal handler; by tests; by a role that cannot go on.
    pub fn begin(&self) {
        self.leaving.cancel();
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
    /// Over how long the users' turns are spread, at most until the time that they have is over: who speaks Part II is told
    /// when to connect elsewhere, others are closed then. 0: all are closed at once.
    pub spread_seconds: u64,
    /// How long draining may take, from the first turn to the end of the process. Who has not left a little before (8 s, or
    /// half of it) is closed; what is still there at the end is cut, and the log says how many.
    pub grace_seconds: u64,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { pause_seconds: 0.2, spread_seconds: 5, grace_seconds: 15 }
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

    /// How users are let go within the grace.
    pub fn times(&self) -> Times {
        let grace = self.grace();
        let stay = grace.saturating_sub(LAST_STEPS).max(grace / 2);
        let stay = if self.spread_seconds == 0 { Duration::ZERO } else { stay };
        Times { spread: Duration::from_secs(self.spread_seconds).min(stay), stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_grace_but_for_the_last_steps_and_no_turn_is_later() {
        let times = |spread_seconds, grace_seconds| {
            let times = ShutdownConfig { spread_seconds, grace_seconds, ..ShutdownConfig::default() }.times();
            (times.spread.as_millis(), times.stay.as_millis())
        };
        assert_eq!(times(5, 15), (5000, 7500));
        assert_eq!(times(60, 15), (7500, 7500));
        assert_eq!(times(5, 3), (1500, 1500));
        assert_eq!(times(5, 0), (0, 0));
        assert_eq!(times(0, 15), (0, 0));
    }
}
