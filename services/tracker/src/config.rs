//! What can be configured: section `tracker`.

use std::time::Duration;

use kurir_protocol::framing::Limits;
use kurir_service::ListenerConfig;
use kurir_socket::Options;
use serde::{Deserialize, Serialize};

/// Section `tracker` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients ask, `host:port`.
    pub listen: String,
    /// Where components join and `kurir status` asks, `host:port`.
    pub grpc_listen: String,

    /// A client that has not asked for the components after this time is closed. Afterwards it may be idle for ever.
    pub hello_deadline_seconds: u64,
    /// The largest JSON value that a client may send.
    pub max_value_bytes: usize,
    /// How deep it may nest, 64 at most.
    pub max_depth: u8,
    /// Malformed values in a row before a client is closed.
    pub max_malformed: u32,
    /// Bytes of replies that may wait for a client that does not read. One more closes it with `Too slow`.
    pub outbox_bytes: usize,

    /// Components that failed or left and are still shown by `kurir status`. Beyond that, those gone for longest are
    /// forgotten.
    pub max_inactive: usize,

    /// How client sockets are kept.
    pub socket: ListenerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5000".to_owned(),
            grpc_listen: "127.0.0.1:5100".to_owned(),
            hello_deadline_seconds: 600,
            max_value_bytes: 65_536,
            max_depth: 32,
            max_malformed: 3,
            outbox_bytes: 262_144,
            max_inactive: 100,
            socket: ListenerConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn hello_deadline(&self) -> Duration {
        Duration::from_secs(self.hello_deadline_seconds)
    }

    pub(crate) fn connection(&self) -> Options {
        Options {
            limits: Limits {
                max_value_bytes: self.max_value_bytes,
                max_depth: self.max_depth,
                max_malformed: self.max_malformed,
            },
            first_reply_without_delimiter: true,
        }
    }
}
