//! Relays with real sockets around one directory, clients that write lines, and managers that speak gRPC and do
//! nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here is the test's failure"
)]

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kurir_directory::{
    ComponentId, Directory, Event, Kind, Member, NewComponent, NewSession, SessionClaim, SessionEnd, Timing,
};
use kurir_protocol::{
    name::{LoginId, Resource, UserKey},
    ticket::Claims,
};
use kurir_relay::Config;
use kurir_rpc::v1::{
    AttachRequest, AttachResponse, EndSession, LoadReport, NotifyRequest, NotifyResponse, TicketKey,
    attach_request, attach_response,
    log_server::LogServer,
    manager_server::{self, ManagerServer},
    trail_server::TrailServer,
};
use kurir_service::Shell;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use crate::logs::Logs;

/// Of addresses, as the managers here say.
pub(crate) const DOMAIN: &str = "a.example";

/// Nothing here takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) directory: Directory,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: Directory::in_process(Timing::default()) }
    }

    /// Where a test can wait for leases to run out. On a busy machine they may do so by themselves.
    pub(crate) fn with_short_leases() -> Self {
        let timing = Timing {
            lease: Duration::from_millis(1500),
            renew: Duration::from_millis(300),
            poll: Duration::from_millis(100),
            tick: Duration::from_millis(200),
            ..Timing::default()
        };
        Self { directory: Directory::in_process(timing) }
    }

    pub(crate) async fn relay(&self, id: &str) -> Relay {
        self.relay_with(id, |_| {}).await
    }

    pub(crate) async fn relay_with(&self, id: &str, configure: impl FnOnce(&mut Config)) -> Relay {
        self.start(id, configure, None).await
    }

    /// A relay that can be killed.
    pub(crate) async fn mortal_relay(&self, id: &str) -> Relay {
        self.start(id, |_| {}, Some(Life::new())).await
    }

    async fn start(&self, id: &str, configure: impl FnOnce(&mut Config), life: Option<Life>) -> Relay {
        let mut config = Config {
            id: id.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            grpc_listen: "127.0.0.1:0".to_owned(),
            trackers: Vec::new(),
            ..Config::default()
        };
        configure(&mut config);
        let shell = Shell::new(1000);
        let serving = kurir_relay::serve(config, self.directory.clone(), shell.clone());
        let mut task = match &life {
            Some(Life(Some(runtime))) => runtime.spawn(serving),
            _ => tokio::spawn(serving),
        };
        tokio::select! {
            ready = timeout(PATIENCE, shell.health.wait_until_ready()) => ready.expect("ready in time"),
            ended = &mut task => panic!("relay ended: {ended:?}"),
        }
        let components = self.directory.components().await.unwrap();
        let me = components.into_iter().find(|other| other.id.as_str() == id).unwrap();
        let address = SocketAddr::new(me.client.host.parse().unwrap(), me.client.port);
        Relay { address, grpc: me.grpc, shell, task, life }
    }

    pub(crate) async fn manager(&self, id: &str) -> Manager {
        Manager::start(self.directory.clone(), id, false, Logs::default()).await
    }

    /// Another one with the same database.
    pub(crate) async fn manager_beside(&self, id: &str, other: &Manager) -> Manager {
        Manager::start(self.directory.clone(), id, false, other.logs.at_another_manager()).await
    }

    /// One that puts down what relays remember.
    pub(crate) async fn manager_that_keeps_trails(&self, id: &str) -> Manager {
        Manager::start(self.directory.clone(), id, true, Logs::default()).await
    }
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// Where other components connect.
    pub(crate) grpc: String,
    pub(crate) shell: Shell,
    task: JoinHandle<anyhow::Result<()>>,
    life: Option<Life>,
}

/// A runtime that nothing else runs on; dropped, all of its tasks are gone at once and unfinished.
struct Life(Option<Runtime>);

impl Life {
    fn new() -> Self {
        Self(Some(Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Relay {
    pub(crate) async fn connect(&self) -> Client {
        Client::of(TcpStream::connect(self.address).await.unwrap())
    }

    /// With little room for what the client does not read.
    pub(crate) async fn connect_narrowly(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Client::of(socket.connect(self.address).await.unwrap())
    }

    /// A client that has said hello with `token`, and the relay has heard it.
    pub(crate) async fn hello(&self, user: &str, token: &str) -> Client {
        let mut client = self.connect().await;
        client.hello(user, token).await;
        client
    }

    /// How many events it has noted for `kurir explain`.
    pub(crate) fn noted(&self) -> u64 {
        let metrics = self.shell.metrics.encode();
        let noted = metrics.lines().find_map(|line| line.strip_prefix("kurir_relay_trail_events_total "));
        noted.expect("the metric").parse().unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shell.shutdown.begin();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// As SIGKILL would: it says nothing to anybody, and its lease runs out.
    pub(crate) fn kill(self) {
        drop(self.life.expect("a mortal relay"));
    }
}

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// What has been read of the next packet: a test may read from two clients, whichever hears first.
    line: Vec<u8>,
}

impl Client {
    fn of(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream), line: Vec::new() }
    }

    /// Says hello, and the relay has heard it.
    pub(crate) async fn hello(&mut self, user: &str, token: &str) {
        self.send(&format!(r#"{{"username":"{user}","message":"hello!","token":"{token}"}}"#)).await;
        self.ping().await;
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn message(&mut self, to: &str, body: &str) {
        self.send(&format!(
            r#"{{"stanza":"message","from":"liar","to":"{to}","lang":"id","body":"{body}"}}"#
        ))
        .await;
    }

    /// The next packet.
    pub(crate) async fn next(&mut self) -> Value {
        let read = self.stream.read_until(b'\n', &mut self.line);
        timeout(PATIENCE, read).await.expect("a packet in time").unwrap();
        let line = mem::take(&mut self.line);
        assert!(!line.is_empty(), "a packet, not the end");
        serde_json::from_slice(&line).unwrap()
    }

    /// The `body` of the next packet, which is a message from `from`.
    pub(crate) async fn body(&mut self, from: &str) -> String {
        let packet = self.next().await;
        assert_eq!(packet["from"], from, "{packet}");
        packet["body"].as_str().unwrap().to_owned()
    }

    /// Everything sent before has been handled when this returns.
    pub(crate) async fn ping(&mut self) {
        self.send(r#"{"stanza":"iq","namespace":"ping","type":"get","id":"ping"}"#).await;
        let packet = self.next().await;
        assert_eq!(packet["id"], "ping", "{packet}");
        assert_eq!(packet["type"], "result", "{packet}");
    }

    /// R15's packet.
    pub(crate) async fn not_delivered(&mut self, me: &str) {
        let packet = self.next().await;
        let expected = serde_json::json!({
            "stanza": "message", "from": "relay", "to": me, "error": true,
            "body": "User not found or User not online",
        });
        assert_eq!(packet, expected);
    }

    /// All packets to the end.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<Value>> {
        timeout(PATIENCE, self.stream.read_to_end(&mut self.line)).await.expect("an end in time")?;
        let rest = mem::take(&mut self.line);
        let lines = rest.split_inclusive(|byte| *byte == b'\n');
        Ok(lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
    }

    /// Closes its side.
    pub(crate) async fn ends(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The relay closes, with nothing more to say.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.rest().await.unwrap(), Vec::<Value>::new());
    }
}

/// A manager as relays see it: it is in the directory, gives its key, hears reports and ends sessions.
pub(crate) struct Manager {
    member: Member,
    signing: EncodingKey,
    key_id: String,
    pub(crate) reports: watch::Receiver<LoadReport>,
    /// Who has died since this manager joined.
    dead: watch::Receiver<Vec<ComponentId>>,
    ends: broadcast::Sender<EndSession>,
    /// The accounts' logs, and the trails that relays hand in.
    pub(crate) logs: Logs,
    logins: std::sync::atomic::AtomicU64,
    _over: DropGuard,
}

impl Manager {
    async fn start(directory: Directory, id: &str, keeps_trail: bool, logs: Logs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let over = CancellationToken::new();
        let component = NewComponent {
            kind: Kind::Manager,
            id: id.parse().unwrap(),
            client: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into(),
            grpc: format!("http://{}", listener.local_addr().unwrap()),
        };
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key_id = format!("key of {id}");
        let (reported, reports) = watch::channel(LoadReport::default());
        let (ends, _) = broadcast::channel(16);
        let attached = Attached {
            key: TicketKey {
                key_id: key_id.clone(),
                public_key: pair.public_key().as_ref().to_vec(),
                domain: DOMAIN.to_owned(),
                keeps_trail,
            },
            reported: Arc::new(reported),
            ends: ends.clone(),
        };
        let server = kurir_rpc::server()
            .add_service(ManagerServer::new(attached))
            .add_service(LogServer::new(logs.clone()))
            .add_service(TrailServer::new(logs.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let stopped = over.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(server).await });
        let (member, mut events) = Member::join(directory, component, over.child_token()).await.unwrap();
        let (died, dead) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Died(component) = event {
                    died.send_modify(|dead| dead.push(component.id));
                }
            }
        });
        Self {
            member,
            signing: EncodingKey::from_ed_der(document.as_ref()),
            key_id,
            reports,
            dead,
            ends,
            logs,
            logins: 1.into(),
            _over: over.drop_guard(),
        }
    }

    pub(crate) fn claims(&self, user: &str, relay: &str) -> Claims {
        let login = self.logins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Claims {
            sub: UserKey::of(user).unwrap(),
            name: user.to_owned(),
            res: Resource::default_device(),
            login: LoginId(login),
            relay: relay.to_owned(),
            mgr: self.member.id().to_string(),
            jti: login.to_string(),
            iat: now,
            exp: now + 60,
            trace: None,
        }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }

    /// Logs `user` in and gives a ticket, made out for no relay of the test.
    pub(crate) async fn login(&self, user: &str) -> String {
        let claims = self.claims(user, "elsewhere");
        self.online(&claims, Ipv4Addr::LOCALHOST.into()).await;
        self.sign(&claims)
    }

    pub(crate) async fn online(&self, claims: &Claims, client_address: IpAddr) {
        // A second login of one user in a test ends the first.
        self.offline(&claims.sub, SessionEnd::Lost).await;
        let session = NewSession {
            username: claims.name.clone(),
            login: claims.login,
            since_ms: 0,
            client_address,
            presence_counter: 0,
            displaces: false,
        };
        let claim = self.member.claim_session(&claims.sub, &claims.res, session).await.unwrap();
        assert!(matches!(claim, SessionClaim::Granted { .. }), "{claim:?}");
    }

    pub(crate) async fn offline(&self, user: &UserKey, end: SessionEnd) {
        let entries = self.member.directory().user(user).await.unwrap();
        for (resource, session) in entries.sessions {
            self.member.release_session(user, &resource, session.login, end).await.unwrap();
        }
    }

    /// The user has logged out.
    pub(crate) fn end_session(&self, user: &str, login: u64) {
        self.end(user, login, false);
    }

    /// A newer login has the device.
    pub(crate) fn displace(&self, user: &str, login: u64) {
        self.end(user, login, true);
    }

    fn end(&self, user: &str, login: u64, conflict: bool) {
        let (user, resource) = (user.to_owned(), "default".to_owned());
        self.ends.send(EndSession { user, resource, login, conflict }).unwrap();
    }

    /// Waits until the directory has said that `id` is dead.
    pub(crate) async fn heard_of_the_death_of(&self, id: &str) {
        let mut dead = self.dead.clone();
        let died = dead.wait_for(|dead| dead.iter().any(|dead| dead.as_str() == id));
        timeout(PATIENCE, died).await.expect("its death in time").unwrap();
    }

    /// Waits for a report that `is` true of.
    pub(crate) async fn reported(&self, is: impl FnMut(&LoadReport) -> bool) -> LoadReport {
        let mut reports = self.reports.clone();
        *timeout(PATIENCE, reports.wait_for(is)).await.expect("a report in time").unwrap()
    }
}

struct Attached {
    key: TicketKey,
    reported: Arc<watch::Sender<LoadReport>>,
    ends: broadcast::Sender<EndSession>,
}

#[tonic::async_trait]
impl manager_server::Manager for Attached {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;
    type NotifyStream = ReceiverStream<Result<NotifyResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let (tx, rx) = mpsc::channel(16);
        let hello = requests.next().await.unwrap()?.message;
        assert!(matches!(hello, Some(attach_request::Message::Hello(_))), "hello first: {hello:?}");
        let key = attach_response::Message::Key(self.key.clone());
        tx.send(Ok(AttachResponse { message: Some(key) })).await.unwrap();
        let (reported, mut ends) = (Arc::clone(&self.reported), self.ends.subscribe());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    request = requests.next() => match request {
                        Some(Ok(AttachRequest { message: Some(attach_request::Message::Report(report)) })) => {
                            reported.send_replace(report);
                        }
                        _ => return,
                    },
                    Ok(end) = ends.recv() => {
                        let message = Some(attach_response::Message::EndSession(end));
                        let _ = tx.send(Ok(AttachResponse { message })).await;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn notify(
        &self,
        _: Request<Streaming<NotifyRequest>>,
    ) -> Result<Response<Self::NotifyStream>, Status> {
        Err(Status::unimplemented("no manager here"))
    }
}
