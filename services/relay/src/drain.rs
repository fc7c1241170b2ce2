//! The relay lets its users go before it stops: they are sent to it no more, and leave in their turn.

use std::sync::Arc;

use kurir_rpc::{drain::Drain, v1::drain_server::DrainServer};
use kurir_service::{
    Shell,
    leave::{self, Progress, Times},
};

use crate::{connection::Connection, relay::Relay};

/// What `kurir drain` calls.
pub(crate) fn server(relay: &Relay, shell: &Shell) -> DrainServer<Drain> {
    let shutdown = shell.shutdown.clone();
    let begin = move || shutdown.leave_unless_shared();
    relay.draining.server("relay", begin, shell.shutdown.tracker.clone())
}

/// Nobody is to be sent here any more, by trackers and by managers.
pub(crate) fn announce(relay: &Relay) {
    relay.discovery.set_draining();
    relay.load.set_draining();
}

/// Lets everybody go who has said hello, within their time.
pub(crate) async fn let_go(relay: &Arc<Relay>, times: Times) {
    let here = || -> Vec<Arc<Connection>> { relay.router.table.connections().flatten().collect() };
    let tell = |now: Progress| relay.draining.is_at(now.users, now.left, now.closed_at_deadline);
    leave::let_go(times, here, tell).await;
}
