//! A logout under way: first the relay, so that messages just sent are not cut off, then the manager.

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::options::Timing;

/// A logout under way. No IO.
#[derive(Debug)]
pub(crate) struct Leaving {
    done: Vec<oneshot::Sender<()>>,
    stage: Stage,
    deadline: Instant,
}

#[derive(Debug)]
enum Stage {
    /// The relay was pinged behind the last untracked message; it gets until then.
    Flushing { until: Instant, answered: bool },
    /// The manager was told; it closes.
    Goodbye,
}

impl Leaving {
    /// Echoed in the relay's answer.
    pub(crate) const PING_ID: &str = "bye";

    /// Begins, or joins the logout that has begun. True if it is to begin: ping the relay.
    pub(crate) fn start(current: &mut Option<Self>, done: oneshot::Sender<()>, timing: &Timing) -> bool {
        if let Some(leaving) = current {
            leaving.done.push(done);
            return false;
        }
        let now = Instant::now();
        *current = Some(Self {
            done: vec![done],
            stage: Stage::Flushing { until: now + timing.logout / 2, answered: false },
            deadline: now + timing.logout,
        });
        true
    }

    /// When the present stage has had its time.
    pub(crate) fn due(&self) -> Instant {
        match self.stage {
            Stage::Flushing { until, .. } => until,
            Stage::Goodbye => self.deadline,
        }
    }

    /// The relay has handled what was sent untracked.
    pub(crate) fn answered(&mut self) {
        if let Stage::Flushing { answered, .. } = &mut self.stage {
            *answered = true;
        }
    }

    /// Only tracked messages are waited for.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Flushing { answered: true, .. })
    }

    /// The relay has handled what was sent, or had its time. True if the manager is to be told now.
    pub(crate) fn flushed(&mut self) -> bool {
        let flushing = matches!(self.stage, Stage::Flushing { .. });
        self.stage = Stage::Goodbye;
        flushing
    }

    pub(crate) fn finish(self) {
        for done in self.done {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }
}
