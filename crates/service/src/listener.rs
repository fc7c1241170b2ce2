//! Binding and accepting client sockets.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::Shell;

/// How client sockets are kept. A `socket` section in each role's configuration.
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
    #[error("cannot listen on {address}: no such address (expected HOST:PORT)")]
    Address {
        /// As configured.
        address: String,
        /// The resolver's say, if it was asked.
        #[source]
        source: io::Error,
    },
    /// Another process has the port.
    #[error("cannot listen on {address}: the port is in use; stop the other process or choose another port")]
    InUse {
        /// As configured.
        address: String,
    },
    /// Anything else, a port below 1024 for example.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// As configured.
        address: String,
        /// The system's say.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Binds `address` (`host:port`; port 0 lets the system choose).
    pub async fn bind(address: &str, config: &ListenerConfig) -> Result<Self, BindError> {
        let _ = (address, config);
        todo!()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The bare socket, for servers that accept by themselves (gRPC).
    pub fn into_inner(self) -> TcpListener {
        self.inner
    }

    /// Accepts until draining begins. Each connection's `handler` runs as a task of its own in
    /// `shell.shutdown.tracker` and must end soon after `shell.shutdown.token` is cancelled. While as many connections
    /// are open as the open-file limit allows, none is accepted: newcomers wait in the kernel's backlog.
    pub async fn run<H, F>(self, shell: &Shell, handler: H)
    where
        H: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let _ = (shell, handler);
        todo!()
    }
}
