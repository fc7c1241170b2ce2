//! What all tasks of a relay share.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use kurir_directory::{Directory, Member};
use kurir_rpc::{Discovery, drain::Draining};
use kurir_socket::Options;
use kurir_trail::Trail;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Claims, config::BareHello, fence::Fence, handover::Handovers, links::Links, load::Load,
    managers::Managers, metrics::Metrics, readers::Readers, router::Router, tickets::Tickets,
    tracked::Tracked,
};

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) member: Member,
    pub(crate) directory: Directory,
    pub(crate) discovery: Discovery,
    /// What addresses have after their `@`, once a manager has said so.
    pub(crate) domain: OnceLock<Box<str>>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) router: Arc<Router>,
    pub(crate) links: Arc<Links>,
    pub(crate) handovers: Arc<Handovers>,
    pub(crate) tickets: Tickets,
    pub(crate) load: Load,
    pub(crate) managers: Managers,
    pub(crate) tracked: Tracked,
    pub(crate) readers: Readers,
    pub(crate) trail: Arc<Trail>,
    /// Some manager keeps trails in SQL.
    pub(crate) trail_is_kept: AtomicBool,
    pub(crate) claims: Claims,
    pub(crate) metrics: Arc<Metrics>,
    /// The number of the connection that says hello next; never given twice in one life.
    pub(crate) next_connection: AtomicU64,
    pub(crate) settings: Settings,
    /// How far the drain is.
    pub(crate) draining: Draining,
    /// Connections of clients: whoever drains waits for them.
    pub(crate) connections: TaskTracker,
    /// Closes those that are left.
    pub(crate) closing: CancellationToken,
    /// Everything else that runs. Ended by `over`, after the connections.
    pub(crate) tasks: TaskTracker,
    pub(crate) over: CancellationToken,
}

/// What connections need of the configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) bare_hello: BareHello,
    pub(crate) hello_deadline: Duration,
    pub(crate) outbox_bytes: usize,
    pub(crate) audit_every: Duration,
    pub(crate) socket: Options,
}
