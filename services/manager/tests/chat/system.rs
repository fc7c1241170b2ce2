//! Managers on one database and one directory, each on a runtime of its own so that it can be killed or paused.

use std::{net::SocketAddr, time::Duration};

use kurir_directory::{Directory, Timing};
use kurir_manager::{
    Bound, Config,
    store::{DatabaseConfig, Store},
};
use kurir_service::{Shell, config::Secret};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, time::timeout};

use crate::{client::PATIENCE, redis::RedisServer};

/// Short, for tests of death and pause, and long enough for a machine that is busy with other tests.
const TIMING: Timing = Timing {
    lease: Duration::from_secs(3),
    renew: Duration::from_millis(500),
    poll: Duration::from_millis(200),
    tick: Duration::from_millis(250),
    timeout: Duration::from_secs(1),
    ended: Duration::from_mins(5),
};

pub(crate) struct System {
    pub(crate) directory: Directory,
    /// Holds the database.
    files: TempDir,
}

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) grpc: SocketAddr,
    shell: Shell,
    ended: oneshot::Receiver<anyhow::Result<()>>,
    runtime: Option<Runtime>,
}

impl System {
    pub(crate) fn start() -> System {
        System { directory: Directory::in_process(TIMING), files: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn on(redis: &RedisServer) -> System {
        let directory = Directory::connect(&redis.url(), "test:", TIMING).await.unwrap();
        System { directory, files: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn manager(&self) -> Node {
        self.manager_with(config()).await
    }

    pub(crate) async fn manager_with(&self, config: Config) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shell = Shell::new(1000);
        let (bound, where_bound) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let url = format!("sqlite://{}", self.files.path().join("kurir.db").display());
        let database = DatabaseConfig { url: Secret::new(url), ..DatabaseConfig::default() };
        let (directory, its_shell) = (self.directory.clone(), shell.clone());
        runtime.spawn(async move {
            let store = Store::connect(&database).await.unwrap();
            let manager = Bound::bind(config, its_shell).await.unwrap();
            bound.send((manager.client_addr, manager.grpc_addr)).unwrap();
            let _ = ending.send(manager.serve(store, directory).await);
        });
        let (address, grpc) = where_bound.await.unwrap();
        timeout(PATIENCE, shell.health.wait_until_ready()).await.expect("not ready");
        Node { address, grpc, shell, ended, runtime: Some(runtime) }
    }
}

impl Node {
    /// The load that the manager counts for a relay; none: users are not given it.
    fn relay_load(&self, relay: &str) -> Option<i64> {
        let sample = format!("kurir_manager_relay_load{{relay=\"{relay}\"}} ");
        let metrics = self.shell.metrics.encode();
        metrics.lines().find_map(|line| line.strip_prefix(&sample)).map(|load| load.parse().unwrap())
    }

    /// Waits until the manager counts that load for a relay.
    pub(crate) async fn counts_load(&self, relay: &str, load: impl Into<Option<i64>>) {
        let load = load.into();
        let counted = async {
            while self.relay_load(relay) != load {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.expect("the load is not counted");
    }

    /// Waits until so many logins were not done, for nobody's fault.
    pub(crate) async fn answers_for_now(&self, count: u64) {
        let sample = format!("kurir_manager_auth_total{{result=\"temporary\"}} {count}");
        let counted = async {
            while !self.shell.metrics.encode().lines().any(|line| line == sample) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.expect("no login that was not done");
    }

    /// Stops as on SIGTERM.
    pub(crate) async fn stop(mut self) {
        self.shell.shutdown.begin();
        timeout(PATIENCE, &mut self.ended).await.expect("not stopped").unwrap().unwrap();
    }

    /// Dies as on SIGKILL: its tasks are gone, and its sockets with them.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Stands still, as on SIGSTOP, until the answer is dropped.
    pub(crate) fn pause(&self) -> Paused {
        let (until, paused) = std::sync::mpsc::channel();
        let (begins, has_begun) = std::sync::mpsc::channel();
        // The only worker of its runtime waits.
        self.runtime.as_ref().unwrap().spawn(async move {
            let _ = begins.send(());
            let _ = paused.recv();
        });
        let _ = has_begun.recv();
        Paused(until)
    }
}

/// What holds a manager up.
pub(crate) struct Paused(
    #[expect(dead_code, reason = "it is there to be dropped")] std::sync::mpsc::Sender<()>,
);

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ports of the system's choosing, no trackers, passwords that cost nothing.
pub(crate) fn config() -> Config {
    Config {
        id: format!("manager-{}", uuid::Uuid::new_v4().simple()),
        listen: "127.0.0.1:0".to_owned(),
        grpc_listen: "127.0.0.1:0".to_owned(),
        trackers: Vec::new(),
        argon2_memory_kib: 8,
        argon2_iterations: 1,
        ..Config::default()
    }
}
