//! What can be configured: section `relay`.

use std::time::Duration;

use kurir_service::ListenerConfig;
use kurir_trail::Bounds;
use serde::{Deserialize, Serialize};

/// Section `relay` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The stable name of this relay, unique in the cluster; clients see it as `R.username`. Empty: `relay-<port of
    /// listen>`.
    pub id: String,
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// The address that clients are given, `host:port`. Empty: what `listen` is bound to.
    pub advertise: String,
    /// Where the other relays connect, `host:port`.
    pub grpc_listen: String,
    /// The address that they are given, `http://host:port`. Empty: what `grpc_listen` is bound to.
    pub grpc_advertise: String,
    /// The original's `is_private`, passed on to clients by the tracker.
    pub private: bool,
    /// The trackers to join, `http://host:port` each.
    pub trackers: Vec<String>,

    /// Who is admitted without a ticket.
    pub bare_hello: BareHello,
    /// A connection on which nobody has said hello after this time is closed. Afterwards it may be idle for ever.
    pub hello_deadline_seconds: u64,
    /// How long a manager's ticket key is kept after that manager was last attached. At least as long as the longest
    /// `manager.ticket_seconds` in the cluster; longer does no harm, since every ticket says itself when it ends.
    pub ticket_key_seconds: u64,

    /// The largest JSON value that a client may send.
    pub max_value_bytes: usize,
    /// How deep it may nest, 64 at most.
    pub max_depth: u8,
    /// Malformed values in a row before a client is closed.
    pub max_malformed: u32,
    /// Bytes of messages that may wait for a client that does not read. One more closes it with `Too slow`.
    pub outbox_bytes: usize,
    /// Bytes of messages on the way to one other relay: waiting, or sent and not yet acknowledged. What comes beyond
    /// that is answered "User not found or User not online" at once.
    pub link_bytes: usize,
    /// Bytes of messages to one receiver that may wait while that receiver is looked up. Beyond: answered as above.
    pub line_bytes: usize,
    /// Bytes of messages to all receivers together that may wait so.
    pub waiting_bytes: usize,
    /// Bytes of tracked messages that may wait to be stored. What comes beyond that its sender is told to send again.
    pub tracked_bytes: usize,
    /// Receivers that may be looked up at the same time. Messages to one more are answered as above. While more than a
    /// quarter of them are, one sender may have 64 looked up.
    pub max_lookups: usize,
    /// Receivers at other relays whose relay is remembered. Beyond that, some are forgotten and looked up again.
    pub route_cache: usize,

    /// Every connection is compared with the directory once in this time. One whose device has had no live session
    /// for at least this long is closed, so a manager's death ends nobody's connection before.
    pub audit_seconds: u64,

    /// Events about tracked messages that are remembered for `kurir explain`, up to 300 bytes each; 0: none.
    pub explain_events: usize,
    /// How long.
    pub explain_seconds: u64,

    /// How client sockets are kept.
    pub socket: ListenerConfig,
}

/// Who is admitted with a hello that carries no ticket, as the original's clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BareHello {
    /// Nobody. The default, and the only choice where strangers can reach the relay.
    TicketOnly,
    /// A user who is online at a manager, from the address of that manager connection. The default of `kurir up`. Users
    /// behind one address (NAT, one machine) can speak for each other.
    SameAddress,
    /// A user who is online at a manager. For closed networks where the two sockets leave from different addresses.
    Online,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            listen: "127.0.0.1:5010".to_owned(),
            advertise: String::new(),
            grpc_listen: "127.0.0.1:5110".to_owned(),
            grpc_advertise: String::new(),
            private: false,
            trackers: vec!["http://127.0.0.1:5100".to_owned()],
            bare_hello: BareHello::TicketOnly,
            hello_deadline_seconds: 600,
            ticket_key_seconds: 3600,
            max_value_bytes: 65_536,
            max_depth: 32,
            max_malformed: 3,
            outbox_bytes: 1_048_576,
            link_bytes: 16 * 1_048_576,
            line_bytes: 262_144,
            waiting_bytes: 64 * 1_048_576,
            tracked_bytes: 16 * 1_048_576,
            max_lookups: 10_000,
            route_cache: 200_000,
            audit_seconds: 60,
            explain_events: 65_536,
            explain_seconds: 3600,
            socket: ListenerConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn hello_deadline(&self) -> Duration {
        Duration::from_secs(self.hello_deadline_seconds)
    }

    pub(crate) fn ticket_key_life(&self) -> Duration {
        Duration::from_secs(self.ticket_key_seconds)
    }

    pub(crate) fn trail_bounds(&self) -> Bounds {
        Bounds { events: self.explain_events, age: Duration::from_secs(self.explain_seconds) }
    }

    pub(crate) fn audit_every(&self) -> Duration {
        Duration::from_secs(self.audit_seconds.max(1))
    }
}
