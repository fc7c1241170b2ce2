//! What can be configured: section `tracker`.

use serde::{Deserialize, Serialize};

/// Section `tracker` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients ask, `host:port`.
    pub listen: String,
    /// Where components join and `kurir status` asks, `host:port`.
    pub grpc_listen: String,
    /// The largest JSON value that a client may send.
    pub max_value_bytes: usize,
    /// How deep it may nest, 64 at most.
    pub max_depth: u8,
    /// Malformed values in a row before a client is closed.
    pub max_malformed: u32,
    /// A client that says nothing for so long after connecting is closed. One that has said something is never closed for
    /// being idle.
    pub hello_deadline_seconds: u64,
    /// Bytes of replies that wait for a client that does not read them, before it is closed.
    pub outbox_bytes: usize,
    /// Components that failed or left and are still shown by `kurir status`; beyond that the longest gone
    /// are forgotten.
    pub max_inactive: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5000".to_owned(),
            grpc_listen: "127.0.0.1:5100".to_owned(),
            max_value_bytes: 65_536,
            max_depth: 32,
            max_malformed: 3,
            hello_deadline_seconds: 600,
            outbox_bytes: 262_144,
            max_inactive: 100,
        }
    }
}
