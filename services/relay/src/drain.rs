//! The relay lets its users go before it stops: they are sent to it no more, and leave in their turn.

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

use crate::{connection::Connection, relay::Relay};

/// What `kurir drain` calls.
pub(crate) fn server(relay: &Relay, shell: &Shell) -> DrainServer<Drain> {
    let shutdown = shell.shutdown.clone();
    let begin = move || {
        if shutdown.is_shared() {
            return Err(Status::failed_precondition(
                "this relay shares its process with every other part: stop that",
            ));
        }
        shutdown.leave();
        Ok(())
    };
    Drain::server(begin, relay.draining.subscribe(), shell.shutdown.tracker.clone())
}

/// Nobody is to be sent here any more, by trackers and by managers.
pub(crate) fn announce(relay: &Relay) {
    relay.discovery.set_draining();
    relay.load.set_draining();
}

/// Lets everybody go who has said hello, within their time.
pub(crate) async fn let_go(relay: &Arc<Relay>, times: Times) {
    let here = || -> Vec<Arc<Connection>> { relay.router.table.connections().flatten().collect() };
    let done = leave::let_go(times, here, |progress| tell(relay, progress)).await;
    if done.closed_at_deadline > 0 {
        tracing::warn!(users = done.closed_at_deadline, "users who had not left in time were closed");
    }
}

/// The last word.
pub(crate) fn done(relay: &Relay) {
    relay.draining.send_modify(|progress| progress.stopped = true);
}

fn tell(relay: &Relay, Progress { users, left, closed_at_deadline }: Progress) {
    let [users, left, closed_at_deadline] = [users, left, closed_at_deadline].map(|count| count as u64);
    relay.draining.send_replace(DrainProgress { users, left, closed_at_deadline, stopped: false });
}
