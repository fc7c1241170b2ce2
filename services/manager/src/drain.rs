//! The manager lets its users go before it stops: they are sent to it no more, and leave in their turn.

use std::sync::Arc;

use kurir_rpc::{drain::Drain, v1::drain_server::DrainServer};
use kurir_service::{
    Shell,
    leave::{self, Progress, Times},
};

use crate::{manager::Manager, online::Online};

/// What `kurir drain` calls.
pub(crate) fn server(manager: &Manager, shell: &Shell) -> DrainServer<Drain> {
    let shutdown = shell.shutdown.clone();
    let begin = move || shutdown.leave_unless_shared();
    manager.draining.server("manager", begin, shell.shutdown.tracker.clone())
}

/// Lets everybody go who is logged in, within their time.
pub(crate) async fn let_go(manager: &Manager, times: Times) {
    let here = || {
        let mut sessions: Vec<Arc<Online>> = manager.sessions.all();
        sessions.retain(|online| !online.is_closed());
        sessions
    };
    let tell = |now: Progress| manager.draining.is_at(now.users, now.left, now.closed_at_deadline);
    leave::let_go(times, here, tell).await;
}
