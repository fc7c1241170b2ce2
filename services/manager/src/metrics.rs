//! What the manager counts.

use std::sync::Arc;

use kurir_directory::ComponentId;
use kurir_metrics::ByLabel;
use kurir_rpc::Streams;
use kurir_service::Metrics as Registry;
use kurir_socket::End;
use kurir_trail::Counts;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::{manager::Manager, store::log::Appended};

/// Counters and gauges of one manager. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    auth: ByLabel<AuthResult, Counter>,
    offers: ByLabel<OfferResult, Counter>,
    reclaimed: ByLabel<ReclaimResult, Counter>,
    temporary_failures: Counter,
    notices_sent: Counter,
    notices_received: Counter,
    notices_dropped: Counter,
    appended: ByLabel<AppendResult, Counter>,
    append_failures: Counter,
    dropped: Counter,
    dropped_unread: Counter,
    pub(crate) trail: Counts,
    pub(crate) streams: Streams,
    /// Client connections that are over.
    pub(crate) closed: ByLabel<End, Counter>,
    sessions: Gauge,
    connections: Gauge,
    relays: Gauge,
    relay_load: Family<RelayLabels, Gauge>,
}

kurir_metrics::label! {
    /// What became of a registration or login.
    pub(crate) enum AuthResult as "result" {
        Created = "created",
        LoggedIn = "logged_in",
        CameBack = "came_back",
        UsernameUsed = "username_used",
        BadRequest = "bad_request",
        UserNotFound = "user_not_found",
        Unauthorized = "unauthorized",
        AlreadyLoggedIn = "already_logged_in",
        TooManyDevices = "too_many_devices",
        Temporary = "temporary",
    }
}

kurir_metrics::label! {
    enum OfferResult as "result" {
        Given = "given",
        NoRelay = "no_relay",
    }
}

kurir_metrics::label! {
    enum ReclaimResult as "result" {
        Kept = "kept",
        Lost = "lost",
    }
}

kurir_metrics::label! {
    enum AppendResult as "result" {
        Stored = "stored",
        Repeated = "repeated",
        Conflict = "conflict",
        NoAccount = "no_account",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RelayLabels {
    relay: String,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &Registry) {
        registry.register(|registry| {
            let mut counters = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
            counters("manager_temporary_failures", "Requests answered with 503", &self.temporary_failures);
            counters("manager_notices_sent", "Notices sent to other managers", &self.notices_sent);
            counters("manager_notices_received", "Notices taken from other managers", &self.notices_received);
            counters(
                "manager_notices_dropped",
                "Notices dropped as another manager took none; it reads again what they said",
                &self.notices_dropped,
            );
            counters(
                "manager_append_failures",
                "Transactions of tracked messages that failed; the relays send them again",
                &self.append_failures,
            );
            counters(
                "manager_log_entries_dropped",
                "Entries of accounts' logs that were too old or too many",
                &self.dropped,
            );
            counters(
                "manager_log_entries_dropped_unread",
                "Those of them that a live device had not read; one that uses resume is told of the gap",
                &self.dropped_unread,
            );
            counters("manager_trail_events", "Events noted for kurir explain", &self.trail.noted);
            counters(
                "manager_trail_pushed_out",
                "Events forgotten before their time: manager.explain_events was reached",
                &self.trail.pushed_out,
            );
            counters(
                "manager_trail_expired",
                "Events forgotten after manager.explain_seconds",
                &self.trail.expired,
            );
            counters(
                "manager_trail_not_kept",
                "Events forgotten before they were put down in SQL",
                &self.trail.not_kept,
            );
            let mut gauges = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
            gauges("manager_sessions", "Users logged in here", &self.sessions);
            gauges("manager_connections", "Open client connections", &self.connections);
            gauges("manager_trail_kept", "Events that are remembered", &self.trail.kept);
            gauges("manager_relays", "Relays that users are given", &self.relays);
            registry.register(
                "manager_relay_load",
                "Connections of each relay that users are given, with those promised here",
                self.relay_load.clone(),
            );
            self.streams.register(registry, "manager");
            registry.register(
                "manager_connections_closed",
                "Client connections that are over, by why",
                self.closed.clone(),
            );
            registry.register("manager_auth", "Registrations and logins by result", self.auth.clone());
            registry.register(
                "manager_messages_appended",
                "Tracked messages by result",
                self.appended.clone(),
            );
            registry.register("manager_relay_offers", "Relays asked for by users", self.offers.clone());
            registry.register(
                "manager_sessions_reclaimed",
                "Sessions claimed again after a pause of this manager or a loss of the directory",
                self.reclaimed.clone(),
            );
        });
    }

    pub(crate) fn authenticated(&self, result: AuthResult) {
        self.auth.of(result).inc();
    }

    pub(crate) fn relay_offered(&self, given: bool) {
        let result = if given { OfferResult::Given } else { OfferResult::NoRelay };
        self.offers.of(result).inc();
    }

    pub(crate) fn session_reclaimed(&self, kept: bool) {
        let result = if kept { ReclaimResult::Kept } else { ReclaimResult::Lost };
        self.reclaimed.of(result).inc();
    }

    pub(crate) fn temporary_failure(&self) {
        self.temporary_failures.inc();
    }

    pub(crate) fn notice_sent(&self) {
        self.notices_sent.inc();
    }

    pub(crate) fn notice_received(&self) {
        self.notices_received.inc();
    }

    pub(crate) fn notices_dropped(&self, count: usize) {
        self.notices_dropped.inc_by(count as u64);
    }

    pub(crate) fn appended(&self, appended: &Appended) {
        let result = match appended {
            Appended::Stored { .. } => AppendResult::Stored,
            Appended::Repeated { .. } => AppendResult::Repeated,
            Appended::Conflict => AppendResult::Conflict,
            Appended::NoAccount => AppendResult::NoAccount,
        };
        self.appended.of(result).inc();
    }

    pub(crate) fn append_failed(&self) {
        self.append_failures.inc();
    }

    pub(crate) fn dropped(&self, entries: u64, unread: u64) {
        self.dropped.inc_by(entries);
        self.dropped_unread.inc_by(unread);
    }

    /// What is read whenever it is asked for.
    pub(crate) fn register_readings(registry: &Registry, manager: &Arc<Manager>) {
        registry.register_reading_of(
            manager,
            "manager_outbox_bytes",
            "Waiting to be written to users who are logged in, all together",
            |manager| manager.sessions.all().iter().map(|online| online.outbox_bytes()).sum(),
        );
        registry.register_reading_of(
            manager,
            "manager_passwords_waiting",
            "Passwords that wait for their turn to be hashed",
            |manager| manager.passwords.waiting(),
        );
        registry.register_reading_of(
            manager,
            "manager_passwords_hashing",
            "Passwords that are being hashed",
            |manager| manager.passwords.hashing(),
        );
        let passwords = manager.passwords.requests();
        registry.register(|registry| {
            passwords.register(registry, "manager_password", "passwords hashed or checked, waiting included");
        });
    }

    /// What is true at the moment.
    pub(crate) fn observe(&self, sessions: usize, connections: usize) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, sessions);
        set(&self.connections, connections);
    }

    /// The relays that users are given at the moment, with their loads, and those that were `before`.
    pub(crate) fn observe_relays(&self, before: &[(ComponentId, i128)], now: &[(ComponentId, i128)]) {
        let labels = |relay: &ComponentId| RelayLabels { relay: relay.to_string() };
        for (gone, _) in before.iter().filter(|(id, _)| now.iter().all(|(known, _)| known != id)) {
            self.relay_load.remove(&labels(gone));
        }
        for (relay, load) in now {
            let load = i64::try_from(*load).unwrap_or(i64::MAX);
            self.relay_load.get_or_create(&labels(relay)).set(load);
        }
        self.relays.set(i64::try_from(now.len()).unwrap_or(i64::MAX));
    }
}
