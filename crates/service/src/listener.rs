//! Binding and accepting client sockets.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::OwnedSemaphorePermit,
    time,
};

use crate::{
    Shell,
    open_files::{Connections, Open},
};

/// How long accepting rests after the system refused a connection for want of files or memory.
const REST: Duration = Duration::from_millis(100);
/// So many connections are accepted at most when draining has begun: more than are there already come faster than they are served.
const LATE: u32 = 4096;
/// The same trouble is logged at most this often.
const LOG_AGAIN: Duration = Duration::from_secs(10);

/// How client sockets are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// After this long without a byte from the peer its machine is probed. TCP keepalive's idle time.
    pub keepalive_seconds: u64,
    /// Time between probes.
    pub keepalive_interval_seconds: u64,
    /// So many unanswered probes end the connection.
    pub keepalive_probes: u32,
    /// Bytes that the peer's machine leaves unacknowledged for this long end the connection (`TCP_USER_TIMEOUT`).
    pub user_timeout_seconds: u64,
    /// Connections that the kernel holds for us until they are accepted. The kernel cuts it to `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            keepalive_seconds: 15,
            keepalive_interval_seconds: 5,
            keepalive_probes: 3,
            user_timeout_seconds: 30,
            backlog: 4096,
        }
    }
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address has no such form, or its host is unknown.
    #[error("cannot listen on {address}, expected HOST:PORT of this machine")]
    Address {
        /// As configured.
        address: String,
        /// The resolver's say.
        #[source]
        source: io::Error,
    },
    /// Another process has the port.
    #[error("cannot listen on {address}: the port is in use")]
    InUse {
        /// As configured.
        address: String,
    },
    /// Anything else, a port below 1024 for example.
    #[error("cannot listen on {address}")]
    Io {
        /// As configured.
        address: String,
        /// The system's say.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Binds `address` (`host:port`; port 0 lets the system choose). Every connection accepted here inherits the socket
    /// options.
    pub async fn bind(address: &str, config: &ListenerConfig) -> Result<Self, BindError> {
        let resolved = lookup_host(address).await.and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
        });
        let resolved =
            resolved.map_err(|source| BindError::Address { address: address.to_owned(), source })?;
        let inner = listen(resolved, config).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address: address.to_owned() },
            _ => BindError::Io { address: address.to_owned(), source },
        })?;
        Ok(Self { inner })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The bare socket, for servers that accept by themselves (gRPC).
    pub fn into_inner(self) -> TcpListener {
        self.inner
    }

    /// Accepts until draining begins, and whoever is in the backlog by then. Each connection's `handler` runs as a task of its own in
    /// `shell.shutdown.tracker` and must end soon after `shell.shutdown.token` is cancelled. While as many connections
    /// are open as the open-file limit allows, none is accepted: newcomers wait in the kernel's backlog.
    pub async fn run<H, F>(self, shell: &Shell, handler: H)
    where
        H: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let metrics = Metrics::register(&shell.metrics);
        let mut acceptor = Acceptor { listener: self.inner, connections: &shell.connections, logged: None };
        let mut late = LATE;
        loop {
            if shell.shutdown.token.is_cancelled() {
                late -= 1;
                if late == 0 {
                    return;
                }
            }
            let (stream, peer, permit) = tokio::select! {
                // Whose connection is there already is accepted still: closing the listener would reset it.
                biased;
                next = acceptor.next() => next,
                () = shell.shutdown.began() => return,
            };
            metrics.accepted.inc();
            metrics.open.inc();
            let held = Held { _place: shell.connections.opened(permit), open: metrics.open.clone() };
            // Boxed: an async block holds a future that it has captured and then awaits twice.
            let connection = Box::pin(handler(stream, peer));
            shell.shutdown.tracker.spawn(async move {
                let _held = held;
                connection.await;
            });
        }
    }
}

struct Acceptor<'a> {
    listener: TcpListener,
    connections: &'a Connections,
    logged: Option<Instant>,
}

impl Acceptor<'_> {
    async fn next(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            // The permit comes first: a connection that was accepted and cannot be served would have to be refused.
            let Some(permit) = self.permit().await else { continue };
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                // The client went away before we came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if self.may_log() {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    // The connection is still in the backlog, so trying at once would fail at once.
                    time::sleep(REST).await;
                }
            }
        }
    }

    async fn permit(&mut self) -> Option<OwnedSemaphorePermit> {
        let at_once = self.connections.try_permit();
        if at_once.is_some() {
            return at_once;
        }
        if self.may_log() {
            let limit = self.connections.limit();
            tracing::warn!(limit, "as many connections as the open-file limit allows, newcomers wait");
        }
        self.connections.permit().await
    }

    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let due = self.logged.is_none_or(|last| now.duration_since(last) >= LOG_AGAIN);
        if due {
            self.logged = Some(now);
        }
        due
    }
}

/// What an open connection holds, given back however its task ends.
struct Held {
    _place: Open,
    open: Gauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[derive(Debug, Default)]
struct Metrics {
    open: Gauge,
    accepted: Counter,
}

impl Metrics {
    fn register(metrics: &crate::Metrics) -> Self {
        let Self { open, accepted } = Self::default();
        metrics.register(|registry| {
            registry.register("listener_open_connections", "Client connections open", open.clone());
            registry.register("listener_accepted", "Client connections accepted", accepted.clone());
        });
        Self { open, accepted }
    }
}

fn listen(address: SocketAddr, config: &ListenerConfig) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Otherwise a restart has to wait for the connections of the process before to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(config.keepalive_seconds))
        .with_interval(Duration::from_secs(config.keepalive_interval_seconds))
        .with_retries(config.keepalive_probes);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(config.user_timeout_seconds)))?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use socket2::SockRef;
    use tokio::{io::AsyncReadExt, sync::mpsc};

    use super::*;

    async fn any_port() -> (Listener, SocketAddr) {
        let listener = Listener::bind("127.0.0.1:0", &ListenerConfig::default()).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// PROTOCOL §0, quiet connections: keepalive 15 s + 3 × 5 s, `TCP_USER_TIMEOUT` 30 s.
    #[tokio::test]
    async fn accepted_connections_have_the_sockets_options() {
        let (listener, address) = any_port().await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.into_inner().accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let (_listener, address) = any_port().await;
        let error = Listener::bind(&address.to_string(), &ListenerConfig::default()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}: the port is in use"));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_named() {
        for address in ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            let error = Listener::bind(address, &ListenerConfig::default()).await.unwrap_err();
            assert!(matches!(error, BindError::Address { .. }), "{error}");
            assert!(error.to_string().contains(address));
        }
    }

    #[tokio::test]
    async fn as_many_connections_as_allowed_are_served_and_the_next_waits_for_one_to_end() {
        let (listener, address) = any_port().await;
        let shell = Shell::new(2);
        let (opened_tx, mut opened) = mpsc::channel(8);
        let accepting = tokio::spawn({
            let shell = shell.clone();
            async move {
                listener
                    .run(&shell, |mut stream, _| {
                        let opened = opened_tx.clone();
                        async move {
                            opened.send(()).await.unwrap();
                            let _ = stream.read(&mut [0; 8]).await;
                        }
                    })
                    .await;
            }
        });
        let first = TcpStream::connect(address).await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        let third = TcpStream::connect(address).await.unwrap();
        opened.recv().await.unwrap();
        opened.recv().await.unwrap();
        assert_eq!(shell.connections.open(), 2);
        // Both permits are held by open connections, so the third can only be waiting.
        assert!(opened.try_recv().is_err());

        drop(first);
        opened.recv().await.unwrap();
        assert_eq!(shell.connections.open(), 2);
        assert!(shell.metrics.encode().contains("kurir_listener_accepted_total 3\n"));

        drop((second, third));
        shell.shutdown.begin();
        accepting.await.unwrap();
        shell.shutdown.tracker.close();
        shell.shutdown.tracker.wait().await;
        assert_eq!(shell.connections.open(), 0);
        assert!(shell.metrics.encode().contains("kurir_listener_open_connections 0\n"));
    }

    #[tokio::test]
    async fn a_handler_that_panics_gives_its_permit_back() {
        let (listener, address) = any_port().await;
        let shell = Shell::new(1);
        let calls = Arc::new(AtomicUsize::new(0));
        let (done_tx, mut done) = mpsc::channel(1);
        let accepting = tokio::spawn({
            let (shell, calls) = (shell.clone(), Arc::clone(&calls));
            async move {
                listener
                    .run(&shell, |_stream, _| {
                        let (call, done) = (calls.fetch_add(1, Ordering::Relaxed), done_tx.clone());
                        async move {
                            assert!(call > 0, "the first call fails on purpose");
                            done.send(()).await.unwrap();
                        }
                    })
                    .await;
            }
        });
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        done.recv().await.unwrap();
        shell.shutdown.begin();
        accepting.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_server_stops_at_once_when_told_to() {
        let (listener, _) = any_port().await;
        let shell = Shell::new(0);
        shell.shutdown.begin();
        listener.run(&shell, |_, _| async {}).await;
    }
}
