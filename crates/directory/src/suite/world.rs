//! Stores, members and pauses for the suite.

use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::task::Poll;
use std::time::Duration;

use kurir_protocol::name::{LoginId, Resource, UserKey};
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backend::Fields;
use crate::backend::memory::Memory;
use crate::clock::Clock;
use crate::{Address, Directory, DirectoryError, Event, Kind, Member, NewComponent, NewSession, Timing};

/// Long enough that nobody misses it on a busy machine, short enough to wait for its end.
pub(super) const TIMING: Timing = Timing {
    lease: Duration::from_secs(4),
    renew: Duration::from_millis(500),
    poll: Duration::from_millis(100),
    tick: Duration::from_millis(50),
    timeout: Duration::from_secs(1),
    ended: Duration::from_mins(1),
};

/// Whatever takes longer never happens.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn user(name: &str) -> UserKey {
    UserKey::of(name).unwrap()
}

pub(super) fn default_device() -> Resource {
    Resource::default_device()
}

pub(super) fn named(resource: &str) -> Resource {
    Resource::try_from(resource.to_owned()).unwrap()
}

pub(super) fn login(login: u64) -> NewSession {
    NewSession {
        username: "Esa".to_owned(),
        login: LoginId(login),
        since_ms: 1,
        client_address: Ipv4Addr::LOCALHOST.into(),
        presence_counter: 0,
        displaces: false,
    }
}

/// One that takes the device from an older login.
pub(super) fn displacing(number: u64) -> NewSession {
    NewSession { displaces: true, ..login(number) }
}

pub(super) enum World {
    InProcess(Tables),
    OnRedis(RedisServer),
}

pub(super) struct Tables {
    memory: Arc<Memory>,
    timing: Timing,
}

impl World {
    pub(super) fn in_process() -> Self {
        Self::in_process_with(TIMING)
    }

    fn in_process_with(timing: Timing) -> Self {
        Self::InProcess(Tables { memory: Arc::new(Memory::new(Clock::Boot, timing)), timing })
    }

    pub(super) async fn on_redis() -> Self {
        let server = RedisServer::start(&["--save", ""]);
        // The first ever to come finds no epoch and waits for owners that there are not, for a lease: not what most tests
        // are about.
        let world = Self::OnRedis(server).with_timing(Timing { lease: Duration::from_secs(1), ..TIMING });
        let (member, mut events) = world.join(Kind::Manager, "first").await;
        events.until(&Event::Recovered).await;
        member.leave().await;
        world.with_timing(TIMING)
    }

    /// The same for who comes from now on; nobody may have joined yet.
    pub(super) fn with_timing(self, timing: Timing) -> Self {
        match self {
            Self::InProcess(_) => Self::in_process_with(timing),
            Self::OnRedis(mut server) => {
                server.timing = timing;
                Self::OnRedis(server)
            }
        }
    }

    pub(super) async fn directory(&self) -> Directory {
        match self {
            Self::InProcess(tables) => Directory::on(Arc::clone(&tables.memory) as _, tables.timing),
            Self::OnRedis(server) => Directory::connect(&server.url(), "test:", server.timing).await.unwrap(),
        }
    }

    pub(super) async fn try_join(&self, kind: Kind, id: &str) -> Result<(Member, Events), DirectoryError> {
        join_through(self.directory().await, kind, id).await
    }

    pub(super) async fn join(&self, kind: Kind, id: &str) -> (Member, Events) {
        self.try_join(kind, id).await.unwrap()
    }

    pub(super) async fn lose(&self) {
        match self {
            Self::InProcess(tables) => tables.memory.lose(),
            Self::OnRedis(server) => server.command(&redis::cmd("FLUSHALL")).await,
        }
    }

    pub(super) async fn fields(&self, user: &UserKey) -> Fields {
        let (users, _) = self.directory().await.backend.users(std::slice::from_ref(user)).await.unwrap();
        users.into_iter().next().unwrap()
    }

    pub(super) async fn wait_until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let wait = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }
}

/// Joins on a connection that is there already.
pub(super) async fn join_through(
    directory: Directory,
    kind: Kind,
    id: &str,
) -> Result<(Member, Events), DirectoryError> {
    let component = NewComponent {
        kind,
        id: id.parse().unwrap(),
        client: Address { host: "127.0.0.1".to_owned(), port: 5001 },
        grpc: "http://127.0.0.1:5101".to_owned(),
    };
    let (member, events) = Member::join(directory, component, CancellationToken::new()).await?;
    Ok((member, Events { receiver: events, seen: Vec::new() }))
}

/// Polls a future up to `times` and drops it.
pub(super) async fn poll_times<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What a member was told, and what it is told next.
#[derive(Debug)]
pub(super) struct Events {
    receiver: mpsc::Receiver<Event>,
    pub(super) seen: Vec<Event>,
}

impl Events {
    pub(super) async fn next(&mut self) -> Event {
        let event = timeout(PATIENCE, self.receiver.recv()).await;
        let event =
            event.unwrap_or_else(|_| panic!("waited in vain for an event after {:?}", self.seen)).unwrap();
        self.seen.push(event.clone());
        event
    }

    pub(super) async fn until(&mut self, expected: &Event) {
        while self.next().await != *expected {}
    }

    /// Nor was this member taken for dead, up to now.
    pub(super) fn nobody_died(&mut self) {
        while let Ok(event) = self.receiver.try_recv() {
            self.seen.push(event);
        }
        let died = |event: &Event| matches!(event, Event::Died(_) | Event::Renewed { .. });
        assert!(!self.seen.iter().any(died), "{:?}", self.seen);
    }

    pub(super) async fn until_renewed(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if matches!(event, Event::Renewed { .. }) {
                return event;
            }
        }
    }
}

/// A member in a thread of its own, which can be stopped as SIGSTOP stops a process: nothing of it runs, its
/// connection included.
pub(super) struct Puppet {
    pub(super) member: Member,
    pub(super) events: Events,
    pauses: mpsc::UnboundedSender<blocking::Receiver<()>>,
}

pub(super) struct Pause(blocking::Sender<()>);

impl Puppet {
    pub(super) async fn join(world: &World, kind: Kind, id: &str) -> Self {
        let (pauses, mut paused) = mpsc::unbounded_channel::<blocking::Receiver<()>>();
        let (joined, join) = oneshot::channel();
        let world = match world {
            World::InProcess(tables) => {
                World::InProcess(Tables { memory: Arc::clone(&tables.memory), timing: tables.timing })
            }
            World::OnRedis(server) => World::OnRedis(server.same()),
        };
        let id = id.to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                joined.send(world.join(kind, &id).await).ok();
                while let Some(pause) = paused.recv().await {
                    // Blocks the only thread that this runtime has. Ends with an error when the test is over.
                    pause.recv().ok();
                }
            });
        });
        let (member, events) = join.await.unwrap();
        Self { member, events, pauses }
    }

    pub(super) fn pause(&mut self) -> Pause {
        let (end, paused) = blocking::channel();
        self.pauses.send(paused).unwrap();
        Pause(end)
    }
}

impl Pause {
    pub(super) fn end(self) {
        self.0.send(()).unwrap();
    }
}

/// Below the ports that the kernel gives to outgoing connections: none of those takes it while the server is away.
fn free_port() -> u16 {
    let random = std::iter::repeat_with(|| rand::rng().random_range(10_000..32_000));
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    random.take(1000).find(free).expect("a free port on this machine")
}

/// A redis-server on a free port, in a directory of its own, ended with the value.
pub(super) struct RedisServer {
    process: Option<Child>,
    port: u16,
    timing: Timing,
    directory: Option<TempDir>,
    arguments: Vec<String>,
}

impl RedisServer {
    pub(super) fn start(arguments: &[&str]) -> Self {
        let directory = Some(tempfile::tempdir().unwrap());
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { process: None, port: free_port(), timing: TIMING, directory, arguments };
        server.start_again();
        server
    }

    pub(super) fn start_again(&mut self) {
        let directory = self.directory.as_ref().unwrap();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"])
            .arg(directory.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed for this test (Debian: apt install redis-server)");
        self.process = Some(process);
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it or lets it go on, as an unreachable network would.
    pub(super) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) async fn command(&self, command: &redis::Cmd) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        command.query_async::<redis::Value>(&mut connection).await.unwrap();
    }

    /// The same server for another thread, which does not end it.
    fn same(&self) -> Self {
        Self { process: None, port: self.port, timing: self.timing, directory: None, arguments: Vec::new() }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
