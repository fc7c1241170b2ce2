//! What can be configured: section `manager`. The database has a section of its own ([`crate::store::DatabaseConfig`]).

use std::time::Duration;

use kurir_service::ListenerConfig;
use kurir_trail::Bounds;
use serde::{Deserialize, Serialize};

use crate::password::PasswordConfig;

/// Section `manager` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The stable name of this manager, unique in the cluster. Empty: `manager-<port of listen>`.
    pub id: String,
    /// What the addresses of this system's users have after their `@`: `esa@chat.example/phone`. The same at every manager.
    pub domain: String,
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// The address that clients are given, `host:port`. Empty: what `listen` is bound to.
    pub advertise: String,
    /// Where relays and the other managers connect, `host:port`.
    pub grpc_listen: String,
    /// The address that they are given, `http://host:port`. Empty: what `grpc_listen` is bound to.
    pub grpc_advertise: String,
    /// The original's `is_private`, passed on to clients by the tracker.
    pub private: bool,
    /// The trackers to join, `http://host:port` each.
    pub trackers: Vec<String>,

    /// A device that was not online for so many days is forgotten: a later login of it is that of a new one.
    pub device_days: u32,
    /// So many named devices an account may have; a login of another one is refused. 0: any number.
    pub max_devices: u32,
    /// What a device logs in with again in place of its password is good for so many days after its last login.
    pub session_days: u32,
    /// Messages are kept for so many days; 0: for ever. A device that had not read them is told that they are gone.
    pub log_days: u32,
    /// So many messages of an account are kept, those that it sent included; 0: all. Nothing of the last day is dropped, as it
    /// may be sent again.
    pub log_entries: u64,

    /// Events about tracked messages that are remembered for `kurir explain`, up to 300 bytes each; 0: none.
    pub explain_events: usize,
    /// How long.
    pub explain_seconds: u64,
    /// How long events, of relays too, are also kept in the database; 0: not there.
    pub explain_sql_hours: u32,

    /// Which relay a user is given.
    pub relay_choice: RelayChoice,
    /// How long a ticket for a relay is valid. PROTOCOL asks for at least 60.
    pub ticket_seconds: u64,
    /// A relay that has reported nothing for so long is not given to anybody.
    pub relay_silence_seconds: u64,
    /// For so long a user who asks for another relay is given the one that failed only where there is no other: it may work
    /// again, and nothing else would.
    pub relay_failed_seconds: u64,

    /// Memory of one password hash, KiB. Stored hashes are checked with what they were made with.
    pub argon2_memory_kib: u32,
    /// Passes over that memory.
    pub argon2_iterations: u32,
    /// Hashes computed at once; 0: as many as there are cores.
    pub argon2_threads: usize,
    /// Logins that may wait for their password to be checked. One more is answered 503 at once, and one whose turn has not come
    /// after 3 s then.
    pub argon2_queue: usize,

    /// Failed logins and registrations of one connection before it is closed.
    pub max_auth_failures: u32,
    /// A connection on which nobody has logged in after this time is closed. Afterwards it may be idle for ever.
    pub login_deadline_seconds: u64,
    /// The largest JSON value that a client may send.
    pub max_value_bytes: usize,
    /// How deep it may nest, 64 at most.
    pub max_depth: u8,
    /// Malformed values in a row before a client is closed.
    pub max_malformed: u32,
    /// Bytes that may wait for a client that does not read. One more closes it with `Too slow`.
    pub outbox_bytes: usize,
    /// Bytes of presence that may wait for another manager. When they are reached all of it is dropped, and that manager
    /// reads its users' contacts again once it can be reached: nobody waits, and presence is made good. What else was among
    /// it, directed presence and "subscribed", is lost; a roster shows the subscription whenever it is read.
    pub peer_queue_bytes: usize,

    /// How client sockets are kept.
    pub socket: ListenerConfig,
}

/// How a relay is chosen among those that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayChoice {
    /// The one with the fewest connections, those included that were promised and have not arrived yet. A burst of logins
    /// spreads evenly. Right for relays on machines of one size, and the default.
    Fewest,
    /// The one whose own loop is least delayed, in steps of a millisecond; among equals the one with the fewest
    /// connections. Right where machines differ, or where a few users send most of the messages: then connections say
    /// little about load.
    Fastest,
}

impl Default for Config {
    fn default() -> Self {
        let password = PasswordConfig::default();
        Self {
            id: String::new(),
            domain: "localhost".to_owned(),
            listen: "127.0.0.1:5001".to_owned(),
            advertise: String::new(),
            grpc_listen: "127.0.0.1:5101".to_owned(),
            grpc_advertise: String::new(),
            private: false,
            trackers: vec!["http://127.0.0.1:5100".to_owned()],
            device_days: 30,
            max_devices: 50,
            session_days: 30,
            log_days: 365,
            log_entries: 100_000,
            explain_events: 65_536,
            explain_seconds: 3600,
            explain_sql_hours: 0,
            relay_choice: RelayChoice::Fewest,
            ticket_seconds: 60,
            relay_silence_seconds: 4,
            relay_failed_seconds: 30,
            argon2_memory_kib: password.memory_kib,
            argon2_iterations: password.iterations,
            argon2_threads: password.threads,
            argon2_queue: password.queue,
            max_auth_failures: 10,
            login_deadline_seconds: 600,
            max_value_bytes: 65_536,
            max_depth: 32,
            max_malformed: 3,
            outbox_bytes: 1_048_576,
            peer_queue_bytes: 16 * 1_048_576,
            socket: ListenerConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn passwords(&self) -> PasswordConfig {
        PasswordConfig {
            memory_kib: self.argon2_memory_kib,
            iterations: self.argon2_iterations,
            threads: self.argon2_threads,
            queue: self.argon2_queue,
        }
    }

    pub(crate) fn ticket_life(&self) -> Duration {
        Duration::from_secs(self.ticket_seconds)
    }

    pub(crate) fn device_life(&self) -> Duration {
        Duration::from_hours(24).saturating_mul(self.device_days.max(1))
    }

    pub(crate) fn trail_bounds(&self) -> Bounds {
        Bounds { events: self.explain_events, age: Duration::from_secs(self.explain_seconds) }
    }

    /// None: trails are not kept in the database.
    pub(crate) fn trail_life(&self) -> Option<Duration> {
        let hours = Duration::from_hours(self.explain_sql_hours.into());
        (!hours.is_zero()).then_some(hours)
    }

    /// None: any number.
    pub(crate) fn max_devices(&self) -> Option<u32> {
        (self.max_devices > 0).then_some(self.max_devices)
    }

    pub(crate) fn session_life_ms(&self) -> i64 {
        i64::from(self.session_days.max(1)) * 24 * 60 * 60 * 1000
    }

    pub(crate) fn login_deadline(&self) -> Duration {
        Duration::from_secs(self.login_deadline_seconds)
    }
}
