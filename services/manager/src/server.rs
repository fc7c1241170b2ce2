//! Starting and stopping a manager.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use kurir_directory::{Address, ComponentId, Directory, Event, Kind, Member, NewComponent};
use kurir_protocol::{framing::Limits, session::Rules};
use kurir_rpc::{
    Discovery,
    drain::{Drain, Draining},
    v1::{self, drain_server::DrainServer},
};
use kurir_service::{Listener, Ready, Shell, Shutdown, leave::Times};
use kurir_socket::Options;
use kurir_trail::Trail;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, accounts::Registering, choice::Choice, connection, differences::Differences, drain,
    explaining::Explaining, log::Log, manager::Manager, metrics::Metrics, password::Passwords, peers::Peers,
    relays::Relays, retention::Kept, rpc, sessions::Sessions, store::Store, ticket::Signer,
};

/// How often a starting manager looks whether the directory is whole.
const RECOVERY_POLL: Duration = Duration::from_millis(100);

/// How long the trackers are waited for before this manager calls itself ready without them.
const TRACKER_WAIT: Duration = Duration::from_secs(5);

/// When the users' time is over: how long their goodbyes may take, and then their delivery to other managers. It fits into
/// what they leave of `shutdown.grace_seconds`.
const GOODBYE: Duration = Duration::from_secs(6);
const FLUSH: Duration = Duration::from_secs(1);

/// How often metrics and the load shown by `kurir status` are set.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

/// A manager that has its ports and serves nobody yet.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    clients: Listener,
    components: TcpListener,
    /// Where clients connect.
    pub client_addr: SocketAddr,
    /// Where relays and other managers connect.
    pub grpc_addr: SocketAddr,
    ready: Ready,
    shell: Shell,
}

/// What lives as long as the manager, longer than its clients.
struct Running {
    manager: Arc<Manager>,
    discovery: Discovery,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Bound {
    /// Binds both ports.
    pub async fn bind(config: Config, shell: Shell) -> anyhow::Result<Bound> {
        let ready = shell.health.register("manager");
        let clients = Listener::bind(&config.listen, &config.socket).await?;
        let components = Listener::bind(&config.grpc_listen, &config.socket).await?;
        Ok(Bound {
            client_addr: clients.local_addr()?,
            grpc_addr: components.local_addr()?,
            components: components.into_inner(),
            clients,
            config,
            ready,
            shell,
        })
    }

    /// Serves until the shell says to stop, and returns when the users here have been told goodbye.
    pub async fn serve(self, store: Store, directory: Directory) -> anyhow::Result<()> {
        let component = self.component()?;
        anyhow::ensure!(
            self.config.ticket_life() <= directory.timing().ended,
            "manager.ticket_seconds is longer than the directory remembers that a login was ended ({} s)",
            directory.timing().ended.as_secs()
        );
        // Before joining: what fails here must leave no lease behind.
        let passwords = Passwords::new(&self.config.passwords()).context("manager.argon2_*")?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // Its lease outlives the drain: whoever departs then is still this manager's to release.
        self.ready.not_ready("taking the lease");
        let joining = Member::join(directory, component.clone(), stop.clone());
        let (member, events) = tokio::select! {
            joined = joining => joined.context("the manager cannot join the directory")?,
            () = self.shell.shutdown.began() => return Ok(()),
        };
        tracing::info!(
            manager = %component.id, generation = %member.generation(), clients = %component.client,
            components = component.grpc, "manager joined"
        );
        let manager = Arc::new(self.manager(store, passwords, member, &tasks, &stop)?);
        let me = v1::Component {
            kind: v1::ComponentKind::Manager.into(),
            id: component.id.to_string(),
            generation: manager.member.generation().to_string(),
            client_host: component.client.host,
            client_port: component.client.port.into(),
            grpc_url: component.grpc,
            private: self.config.private,
            draining: false,
        };
        let shutdown = &self.shell.shutdown;
        let trackers = self.config.trackers.clone();
        Metrics::register_readings(&self.shell.metrics, &manager);
        let streams = manager.metrics.streams.clone();
        let discovery = Discovery::start(trackers, me.clone(), streams, &stop, &shutdown.tracker);
        let running = Running { manager, discovery, tasks, stop };
        running.start(
            (self.components, drain::server(&running.manager, &self.shell)),
            events,
            me,
            &self.config,
        );
        running.announce_drain(shutdown.clone());
        running.report_ready(self.ready, self.config.trackers.is_empty(), &shutdown.token);
        let manager = Arc::clone(&running.manager);
        self.clients
            .run(&self.shell, move |stream, address| connection::serve(Arc::clone(&manager), stream, address))
            .await;
        running.drain(self.shell.shutdown.times).await;
        Ok(())
    }

    pub(crate) fn component(&self) -> anyhow::Result<NewComponent> {
        let config = &self.config;
        let id = match config.id.as_str() {
            "" => format!("manager-{}", self.client_addr.port()),
            id => id.to_owned(),
        };
        let client = match config.advertise.as_str() {
            "" => {
                if self.client_addr.ip().is_unspecified() {
                    tracing::warn!(listen = %self.client_addr, "clients cannot connect to this address: set manager.advertise");
                }
                Address::from(self.client_addr)
            }
            address => parse_address(address).context("manager.advertise is no HOST:PORT")?,
        };
        let grpc = match config.grpc_advertise.as_str() {
            "" => format!("http://{}", self.grpc_addr),
            url => url.to_owned(),
        };
        let id = ComponentId::try_from(id).context("manager.id")?;
        Ok(NewComponent { kind: Kind::Manager, id, client, grpc })
    }

    pub(crate) fn manager(
        &self,
        store: Store,
        passwords: Passwords,
        member: Member,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Manager> {
        let config = &self.config;
        let metrics = Metrics::default();
        metrics.register(&self.shell.metrics);
        let signer = Signer::generate(member.id(), member.generation(), config.ticket_life())?;
        let choice = Choice::new(config.relay_choice, Duration::from_secs(config.relay_silence_seconds));
        let limits = Limits {
            max_value_bytes: config.max_value_bytes,
            max_depth: config.max_depth,
            max_malformed: config.max_malformed,
        };
        let domain: Arc<str> = config.domain.as_str().into();
        let trail_life = config.trail_life();
        let keeps_trail = trail_life.is_some();
        let relays = Arc::new(Relays::new(choice, signer, Arc::clone(&domain), keeps_trail, metrics.clone()));
        let trail = Arc::new(Trail::new(config.trail_bounds(), metrics.trail.clone(), kurir_trail::now_us()));
        let (log, committer) =
            Log::new(store.clone(), Arc::clone(&relays), metrics.clone(), Arc::clone(&trail));
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(Box::pin(committer.run())).await });
        Ok(Manager {
            domain,
            rules: Rules {
                max_auth_failures: config.max_auth_failures,
                login_deadline: config.login_deadline(),
            },
            options: Options { limits, ..Options::default() },
            outbox_bytes: config.outbox_bytes,
            relay_failed: Duration::from_secs(config.relay_failed_seconds),
            store,
            session_life_ms: config.session_life_ms(),
            max_devices: config.max_devices(),
            passwords,
            registering: Registering::default(),
            sessions: Sessions::default(),
            relays,
            peers: Peers::new(
                member.clone(),
                config.peer_queue_bytes,
                metrics.clone(),
                tasks.clone(),
                stop.clone(),
            ),
            member,
            differences: Differences::default(),
            log,
            trail,
            trail_life,
            explaining: Explaining::new(),
            metrics,
            connections: TaskTracker::new(),
            draining: Draining::default(),
            closing: CancellationToken::new(),
            reclaimed: Notify::new(),
            #[cfg(test)]
            blind: std::sync::atomic::AtomicBool::default(),
        })
    }
}

impl Running {
    /// Starts what goes on beside the connections.
    fn start(
        &self,
        (components, drain): (TcpListener, DrainServer<Drain>),
        events: mpsc::Receiver<Event>,
        me: v1::Component,
        config: &Config,
    ) {
        let (manager, stop) = (&self.manager, &self.stop);
        let service =
            rpc::Service { manager: Arc::clone(manager), tasks: self.tasks.clone(), stop: stop.clone() };
        let server = kurir_rpc::server()
            .add_service(v1::manager_server::ManagerServer::new(service))
            .add_service(v1::log_server::LogServer::new(rpc::log::Service { manager: Arc::clone(manager) }))
            .add_service(rpc::explain::explain(manager))
            .add_service(rpc::explain::trail(manager))
            .add_service(drain)
            .serve_with_incoming_shutdown(kurir_rpc::incoming(components), stop.clone().cancelled_owned());
        self.tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(error = &error as &dyn std::error::Error, "gRPC ended");
            }
        });
        let (manager, discovery) = (Arc::clone(&self.manager), self.discovery.clone());
        self.spawn(async move { manager.follow(events, &discovery, me).await });
        let manager = Arc::clone(&self.manager);
        self.spawn(async move { manager.tell_differences().await });
        let manager = Arc::clone(&self.manager);
        self.spawn(async move { manager.audit().await });
        let (manager, device_life) = (Arc::clone(&self.manager), config.device_life());
        self.spawn(async move { manager.forget_devices(device_life).await });
        let (manager, kept) = (Arc::clone(&self.manager), Kept::new(config));
        self.spawn(async move { manager.keep_logs_short(kept).await });
        let manager = Arc::clone(&self.manager);
        self.spawn(async move { manager.tend_trail().await });
        let (manager, discovery) = (Arc::clone(&self.manager), self.discovery.clone());
        self.spawn(async move { observe(&manager, &discovery).await });
    }

    fn report_ready(&self, ready: Ready, alone: bool, shutdown: &CancellationToken) {
        let (discovery, shutdown) = (self.discovery.clone(), shutdown.clone());
        let member = self.manager.member.clone();
        self.spawn(async move {
            if member.is_recovering() {
                ready.not_ready("the directory is new or was emptied: logins are refused for one lease time");
                while member.is_recovering() {
                    tokio::time::sleep(RECOVERY_POLL).await;
                }
            }
            if !alone {
                ready.not_ready("joining a tracker");
                if timeout(TRACKER_WAIT, discovery.joined()).await.is_err() {
                    tracing::warn!("no tracker has answered yet; clients that know this manager are served");
                }
            }
            ready.ready();
            shutdown.cancelled().await;
            ready.not_ready("stopping");
        });
    }

    /// Before it drains nobody is to be sent here any more.
    fn announce_drain(&self, shutdown: Shutdown) {
        let discovery = self.discovery.clone();
        self.spawn(async move {
            shutdown.leaves().await;
            discovery.set_draining();
        });
    }

    /// Ends a task with the manager.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Lets the users go, each in its turn, waits until their contacts are told, and leaves.
    async fn drain(&self, times: Times) {
        let manager = &self.manager;
        drain::let_go(manager, times).await;
        manager.closing.cancel();
        manager.connections.close();
        if timeout(GOODBYE, manager.connections.wait()).await.is_err() {
            tracing::warn!(connections = manager.connections.len(), "connections cut");
        }
        if timeout(FLUSH, manager.peers.flushed()).await.is_err() {
            tracing::warn!("not all was told to other managers; they find out by this one's end");
        }
        manager.member.leave().await;
        manager.draining.is_done();
        self.stop.cancel();
        self.tasks.close();
        // Streams that the other side does not close.
        if timeout(FLUSH, self.tasks.wait()).await.is_err() {
            tracing::debug!(tasks = self.tasks.len(), "streams cut");
        }
    }
}

async fn observe(manager: &Manager, discovery: &Discovery) {
    let mut every = tokio::time::interval(OBSERVE_EVERY);
    let mut relays = Vec::new();
    loop {
        every.tick().await;
        let (sessions, connections) = (manager.sessions.count(), manager.connections.len());
        manager.metrics.observe(sessions, connections);
        let loads = manager.relays.loads();
        manager.metrics.observe_relays(&relays, &loads);
        relays = loads;
        discovery.set_load(sessions as u64, connections as u64);
    }
}

fn parse_address(address: &str) -> Option<Address> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some(())?;
    Some(Address { host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_has_a_host_and_a_port() {
        let address = |host: &str, port| Some(Address { host: host.to_owned(), port });
        assert_eq!(parse_address("chat.example.org:5001"), address("chat.example.org", 5001));
        assert_eq!(parse_address("[::1]:5001"), address("::1", 5001));
        assert_eq!(parse_address("chat.example.org"), None);
        assert_eq!(parse_address(":5001"), None);
        assert_eq!(parse_address("host:port"), None);
    }
}
