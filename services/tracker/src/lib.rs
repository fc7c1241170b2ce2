//! The tracker: tells clients and components who is alive.
//!
//! It keeps memory only, and sits in no message's path. Whether a component is dead is decided by its lease in
//! the directory, never here: the end of a component's stream only takes it off the list given to newcomers (T6). Trackers
//! know nothing of each other; components join all of them.
//!
//! - [`config`]: what can be configured
//! - `registry`: who joined, with status and load; pure
//! - `roll`: the registry, shared, and those who watch it
//! - `rpc`: `kurir.v1.Tracker` for components and `kurir status`
//! - `socket`: the JSON socket for clients (PROTOCOL section 1)
//! - `metrics`: what is counted

#![warn(missing_docs)]

pub mod config;
mod metrics;
mod registry;
mod roll;
mod rpc;
mod socket;

use anyhow::Context;
pub use config::Config;
use kurir_rpc::v1::tracker_server::TrackerServer;
use kurir_service::{Listener, Shell};
use kurir_socket::{Ended, Outbox};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::roll::Roll;
use crate::rpc::Rpc;
use crate::socket::Client;

/// Serves until `shell` says to stop. Returns when nothing is accepted any more; open connections are tasks of
/// `shell.shutdown.tracker`.
pub async fn serve(config: Config, shell: Shell) -> anyhow::Result<()> {
    let ready = shell.health.register("tracker");
    let clients = Listener::bind(&config.listen, &config.socket).await.context("tracker.listen")?;
    let components =
        Listener::bind(&config.grpc_listen, &config.socket).await.context("tracker.grpc_listen")?;
    serve_on(&config, clients, components, &shell, || ready.ready()).await
}

async fn serve_on(
    config: &Config,
    clients: Listener,
    components: Listener,
    shell: &Shell,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    tracing::info!(
        listen = %clients.local_addr()?,
        grpc_listen = %components.local_addr()?,
        "the tracker is listening"
    );
    let metrics = Metrics::register(&shell.metrics);
    let roll = Roll::new(config.max_inactive, metrics.clone(), shell.shutdown.token.clone());
    let rpc = Rpc { roll: roll.clone(), metrics: metrics.clone(), shutdown: shell.shutdown.clone() };
    let grpc = kurir_rpc::server().add_service(TrackerServer::new(rpc)).serve_with_incoming_shutdown(
        kurir_rpc::incoming(components.into_inner()),
        shell.shutdown.token.clone().cancelled_owned(),
    );
    ready();
    let accepting = clients.run(shell, |stream, _| {
        let client = Client::new(roll.clone(), metrics.clone(), Instant::now() + config.hello_deadline());
        let closed = metrics.closed.clone();
        let (config, shell) = (config.clone(), shell.clone());
        async move {
            let ended = connection(stream, client, &config, &shell).await;
            closed.of(ended.label()).inc();
        }
    });
    let ((), served) = tokio::join!(accepting, grpc);
    served.context("tracker.grpc_listen")
}

async fn connection(stream: TcpStream, mut client: Client, config: &Config, shell: &Shell) -> Ended {
    let outbox = Outbox::new(config.outbox_bytes);
    let options = config.connection();
    let ended = kurir_socket::run(stream, &mut client, &outbox, &options, &shell.shutdown.token).await;
    tracing::debug!(?ended, "client connection over");
    ended
}

#[cfg(test)]
mod tests;
