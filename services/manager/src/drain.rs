//! The manager lets its users go before it stops: they are sent to it no more, and leave in their turn.

use std::sync::Arc;

use kurir_rpc::{
    drain::Drain,
    v1::{DrainProgress, drain_server::DrainServer},
};
use kurir_service::{
    Shell,
    leave::{self, Progress, Times},
};
use tonic::Status;

use crate::{manager::Manager, online::Online};

/// What `kurir drain` calls.
pub(crate) fn server(manager: &Manager, shell: &Shell) -> DrainServer<Drain> {
    let shutdown = shell.shutdown.clone();
    let begin = move || {
        if shutdown.is_shared() {
            return Err(Status::failed_precondition(
                "this manager shares its process with every other part: stop that",
            ));
        }
        shutdown.leave();
        Ok(())
    };
    Drain::server(begin, manager.draining.subscribe(), shell.shutdown.tracker.clone())
}

/// Lets everybody go who is logged in, within their time.
pub(crate) async fn let_go(manager: &Manager, times: Times) {
    let here = || {
        let mut sessions: Vec<Arc<Online>> = manager.sessions.all();
        sessions.retain(|online| !online.is_closed());
        sessions
    };
    let done = leave::let_go(times, here, |progress| tell(manager, progress)).await;
    if done.closed_at_deadline > 0 {
        tracing::warn!(users = done.closed_at_deadline, "users who had not left in time were closed");
    }
}

/// The last word.
pub(crate) fn done(manager: &Manager) {
    manager.draining.send_modify(|progress| progress.stopped = true);
}

fn tell(manager: &Manager, Progress { users, left, closed_at_deadline }: Progress) {
    let [users, left, closed_at_deadline] = [users, left, closed_at_deadline].map(|count| count as u64);
    manager.draining.send_replace(DrainProgress { users, left, closed_at_deadline, stopped: false });
}
