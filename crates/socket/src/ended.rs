//! Why connections end.

use std::io;

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed it.
    ByClient,
    /// The session, a limit of the protocol or the outbox's owner closed it.
    ByServer,
    /// The session's deadline passed.
    Deadline,
    /// The client did not read what was sent to it.
    TooSlow,
    /// The process stops.
    Shutdown,
    /// The network did.
    Failed(io::Error),
}

kurir_metrics::label! {
    /// [`Ended`] as a label.
    pub enum End as "reason" {
        /// The client closed it.
        Client = "client",
        /// The server did, for a reason of the protocol.
        Server = "server",
        /// The client had not logged in in time.
        Deadline = "deadline",
        /// The client did not read what was sent to it.
        SlowConsumer = "slow_consumer",
        /// The process stops.
        Shutdown = "shutdown",
        /// The network did.
        Network = "network",
    }
}

impl Ended {
    /// For counting.
    pub fn label(&self) -> End {
        match self {
            Ended::ByClient => End::Client,
            Ended::ByServer => End::Server,
            Ended::Deadline => End::Deadline,
            Ended::TooSlow => End::SlowConsumer,
            Ended::Shutdown => End::Shutdown,
            Ended::Failed(_) => End::Network,
        }
    }
}
