//! Start and stop: what has to be there before the first client is let in, and what has to be done after the last
//! one.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use anyhow::Context;
use kurir_directory::{Address, ComponentId, Directory, Kind, Member, NewComponent};
use kurir_protocol::framing::Limits;
use kurir_rpc::{
    Discovery,
    drain::Draining,
    v1::{self, ComponentKind},
};
use kurir_service::{Listener, Shell};
use kurir_socket::Options;
use kurir_trail::Trail;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config,
    admission::Claims,
    audit, drain,
    fence::Fence,
    handover::{self, Handovers},
    links::{Links, Setup},
    load::Load,
    lookup::{self, LookUps},
    managers::Managers,
    metrics::Metrics,
    peers::Peers,
    readers::{self, Readers},
    relay::{Relay, Settings},
    router::Router,
    rpc::{ExplainRpc, Rpc},
    session,
    table::{Table, Waiting},
    tickets::Tickets,
    tracked::{self, Tracked},
    trail,
};

/// Look-ups on their way to the directory at once, each of many users.
const ASKERS: usize = 4;

/// How long the trackers are waited for before this relay serves without them.
const TRACKER_WAIT: Duration = Duration::from_secs(5);

/// Before it accepts, a relay waits so long for the links to the relays that were there before it (R4): a user who comes is
/// then reachable from all of them at once.
const LINKS_OPEN: Duration = Duration::from_secs(2);

/// Clients have been closed, and those that are not gone after this time are cut with the process: closing takes up to 5.5 s.
/// With the times below it fits into what the users leave of `shutdown.grace_seconds`, so that this relay always takes its
/// leave: nobody has to wait for its lease to run out.
const CLIENTS_GO: Duration = Duration::from_secs(6);

/// Storing how far the last clients have read may take so long.
const CURSORS_STORED: Duration = Duration::from_secs(1);

/// What is still on its way to other relays when the last client is gone may take so long.
const LINKS_SETTLE: Duration = Duration::from_secs(1);

/// Serves until `shell` says to stop.
///
/// Ready when both ports are bound, the lease is held, a tracker has been joined, and the links to the relays on its list
/// are up or have failed.
pub async fn serve(config: Config, directory: Directory, shell: Shell) -> anyhow::Result<()> {
    let ready = shell.health.register("relay");
    let listener = Listener::bind(&config.listen, &config.socket).await?;
    let grpc = Listener::bind(&config.grpc_listen, &config.socket).await?;
    let me = me(&config, &listener, &grpc)?;
    let over = CancellationToken::new();
    // However this ends, nothing of it goes on.
    let _over = over.clone().drop_guard();

    ready.not_ready("taking the lease");
    let joining = Member::join(directory, me.clone(), over.child_token());
    let (member, events) = tokio::select! {
        joined = joining => joined.context("cannot join the directory")?,
        () = shell.shutdown.began() => return Ok(()),
    };
    let announced = announced(&me, &member, config.private);
    let tasks = shell.shutdown.tracker.clone();
    let metrics = Arc::new(Metrics::register(&shell));
    let (trackers, streams) = (config.trackers.clone(), metrics.streams.clone());
    let discovery = Discovery::start(trackers, announced.clone(), streams, &over, &tasks);
    let (handovers, questions) = Handovers::new();
    let relay = assemble(&config, member, discovery, &metrics, (handovers, over.clone()));
    Metrics::register_readings(&shell.metrics, &relay);
    let server = kurir_rpc::server()
        .add_service(Rpc::server(Arc::clone(&relay.links)))
        .add_service(ExplainRpc::server(Arc::clone(&relay)))
        .add_service(drain::server(&relay, &shell))
        .serve_with_incoming(kurir_rpc::incoming(grpc.into_inner()));
    run(&relay, async move {
        if let Err(error) = server.await {
            tracing::error!(error = kurir_rpc::chain(&error), "gRPC server failed");
        }
    });
    let (leaving, shutdown) = (Arc::clone(&relay), shell.shutdown.clone());
    run(&relay, async move {
        shutdown.leaves().await;
        drain::announce(&leaving);
    });

    ready.not_ready("joining a tracker");
    if !config.trackers.is_empty() {
        tokio::select! {
            joined = timeout(TRACKER_WAIT, relay.discovery.joined()) => if joined.is_err() {
                tracing::warn!("no tracker has answered yet; managers and relays are found in the directory");
            },
            () = shell.shutdown.began() => return stop(&relay, &shell).await,
        }
    }
    ready.not_ready("linking to the other relays");
    let mut peers = Peers::new(Arc::clone(&relay), announced);
    peers.meet_all().await;
    let _ = timeout(LINKS_OPEN, relay.links.opened()).await;
    start_tasks(&relay, peers, events, questions);

    ready.ready();
    tracing::info!(relay = %relay.member.id(), address = %me.client, "relay is ready");
    let clients = Arc::clone(&relay);
    listener
        .run(&shell, move |stream, peer| {
            let relay = Arc::clone(&clients);
            let connection = relay.connections.token();
            async move {
                session::serve(relay, stream, peer).await;
                drop(connection);
            }
        })
        .await;
    stop(&relay, &shell).await
}

/// Lets the users go, each in its turn, and then leaves. Until then messages to and from those who are still here go on.
async fn stop(relay: &Arc<Relay>, shell: &Shell) -> anyhow::Result<()> {
    drain::let_go(relay, shell.shutdown.times).await;
    relay.closing.cancel();
    relay.connections.close();
    if timeout(CLIENTS_GO, relay.connections.wait()).await.is_err() {
        tracing::warn!(connections = relay.connections.len(), "leaving before the last clients have gone");
    }
    let _ = timeout(LINKS_SETTLE, relay.links.settled()).await;
    // What the last connections have taken is not sent to them again elsewhere.
    let _ = timeout(CURSORS_STORED, readers::store_moved(relay)).await;
    relay.member.leave().await;
    relay.draining.is_done();
    relay.over.cancel();
    relay.tasks.close();
    relay.tasks.wait().await;
    Ok(())
}

fn assemble(
    config: &Config,
    member: Member,
    discovery: Discovery,
    metrics: &Arc<Metrics>,
    (handovers, over): (Handovers, CancellationToken),
) -> Arc<Relay> {
    let handovers = Arc::new(handovers);
    let fence = Arc::new(Fence::new(member.clone()));
    let lookups = LookUps::new(config.max_lookups);
    let waiting = Waiting::new(config.line_bytes, config.waiting_bytes);
    let router = Arc::new(Router::new(Table::new(config.route_cache), lookups, waiting));
    let tasks = TaskTracker::new();
    let links = Links::new(Setup {
        id: member.id().clone(),
        generation: member.generation(),
        limit_bytes: config.link_bytes,
        router: Arc::clone(&router),
        fence: Arc::clone(&fence),
        handovers: Arc::clone(&handovers),
        directory: member.directory().clone(),
        components: discovery.components(),
        metrics: Arc::clone(metrics),
        shutdown: over.clone(),
        tasks: tasks.clone(),
    });
    Arc::new(Relay {
        directory: member.directory().clone(),
        member,
        discovery,
        domain: OnceLock::new(),
        fence,
        router,
        links,
        handovers,
        tickets: Tickets::new(config.ticket_key_life()),
        load: Load::default(),
        managers: Managers::default(),
        tracked: Tracked::new(config.tracked_bytes),
        readers: Readers::new(),
        trail: Arc::new(Trail::new(config.trail_bounds(), metrics.trail.clone(), kurir_trail::now_us())),
        trail_is_kept: AtomicBool::new(false),
        claims: Claims::new(),
        metrics: Arc::clone(metrics),
        next_connection: AtomicU64::new(1),
        settings: Settings {
            bare_hello: config.bare_hello,
            hello_deadline: config.hello_deadline(),
            outbox_bytes: config.outbox_bytes,
            audit_every: config.audit_every(),
            socket: Options {
                limits: Limits {
                    max_value_bytes: config.max_value_bytes,
                    max_depth: config.max_depth,
                    max_malformed: config.max_malformed,
                },
                first_reply_without_delimiter: false,
            },
        },
        draining: Draining::default(),
        connections: TaskTracker::new(),
        closing: over.child_token(),
        tasks,
        over,
    })
}

fn start_tasks(
    relay: &Arc<Relay>,
    peers: Peers,
    events: mpsc::Receiver<kurir_directory::Event>,
    questions: mpsc::Receiver<handover::Question>,
) {
    run(relay, peers.follow(events));
    for _ in 0..ASKERS {
        let relay = Arc::clone(relay);
        run(&Arc::clone(&relay), async move {
            lookup::answer(&relay).await;
        });
    }
    let measured = Arc::clone(relay);
    run(relay, async move { measured.load.measure_loop_delay().await });
    let storing = Arc::clone(relay);
    run(relay, async move { tracked::store(&storing).await });
    let asking = Arc::clone(relay);
    run(relay, async move { readers::keep_asking(&asking).await });
    let parting = Arc::clone(relay);
    run(relay, async move { handover::answer(&parting, questions).await });
    let moving = Arc::clone(relay);
    run(relay, async move { readers::store_cursors(&moving).await });
    let forgetting = Arc::clone(relay);
    run(relay, async move { trail::forget_old(&forgetting).await });
    let keeping = Arc::clone(relay);
    run(relay, async move { trail::hand_on(&keeping).await });
    let audited = Arc::clone(relay);
    run(relay, async move { audit::keep(&audited).await });
    let shown = Arc::clone(relay);
    run(relay, async move {
        let mut changes = shown.load.changes();
        while changes.changed().await.is_ok() {
            let connections = shown.load.connections();
            shown.discovery.set_load(connections, connections);
        }
    });
}

/// A task that ends with the relay.
fn run(relay: &Arc<Relay>, task: impl Future<Output = ()> + Send + 'static) {
    let over = relay.over.clone();
    relay.tasks.spawn(async move {
        let _ = over.run_until_cancelled(task).await;
    });
}

fn me(config: &Config, listener: &Listener, grpc: &Listener) -> anyhow::Result<NewComponent> {
    let bound = listener.local_addr()?;
    let id = if config.id.is_empty() { format!("relay-{}", bound.port()) } else { config.id.clone() };
    let id: ComponentId = id.parse().context("relay.id")?;
    let client = match config.advertise.rsplit_once(':') {
        Some((host, port)) => {
            let port = port
                .parse()
                .with_context(|| format!("relay.advertise: no port in {:?}", config.advertise))?;
            Address { host: host.trim_matches(['[', ']']).to_owned(), port }
        }
        None if config.advertise.is_empty() => bound.into(),
        None => anyhow::bail!("relay.advertise: expected host:port, not {:?}", config.advertise),
    };
    let grpc = match config.grpc_advertise.as_str() {
        "" => format!("http://{}", grpc.local_addr()?),
        url => url.to_owned(),
    };
    Ok(NewComponent { kind: Kind::Relay, id, client, grpc })
}

fn announced(me: &NewComponent, member: &Member, private: bool) -> v1::Component {
    v1::Component {
        kind: ComponentKind::Relay.into(),
        id: me.id.to_string(),
        generation: member.generation().to_string(),
        client_host: me.client.host.clone(),
        client_port: me.client.port.into(),
        grpc_url: me.grpc.clone(),
        private,
        draining: false,
    }
}
