//! What `/metrics` shows of a relay.

use std::sync::Arc;

use kurir_metrics::ByLabel;
use kurir_rpc::Streams;
use kurir_service::{Metrics as Registry, Shell};
use kurir_socket::End;
use kurir_trail::Counts;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::{lookup::Answer, relay::Relay};

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Admitted and not over.
    pub(crate) users: Gauge,
    pub(crate) streams: Streams,
    /// Client connections that are over.
    pub(crate) closed: ByLabel<End, Counter>,
    /// On a link that broke: reported to their senders, delivered or not.
    pub(crate) lost: Counter,
    /// Answered with R15.
    pub(crate) not_delivered: Counter,
    pub(crate) trail: Counts,
    tracked: ByLabel<TrackedOutcome, Counter>,
    hellos: ByLabel<HelloOutcome, Counter>,
    lookups: ByLabel<LookupAnswer, Counter>,
    messages: ByLabel<Way, Counter>,
}

kurir_metrics::label! {
    pub(crate) enum HelloOutcome as "outcome" {
        Admitted = "admitted",
        Unauthorized = "unauthorized",
        TemporaryFailure = "temporary_failure",
    }
}

kurir_metrics::label! {
    pub(crate) enum TrackedOutcome as "outcome" {
        Stored = "stored",
        NoAccount = "no_account",
        Conflict = "conflict",
        Refused = "refused",
    }
}

kurir_metrics::label! {
    enum LookupAnswer as "answer" {
        Relay = "relay",
        Here = "here",
        Nobody = "nobody",
        Failed = "failed",
    }
}

kurir_metrics::label! {
    /// How a message goes to its receiver.
    pub(crate) enum Way as "way" {
        /// Into the outbox of a device that is connected here.
        Here = "here",
        /// Over a link, by a route that was cached.
        Linked = "linked",
        /// In line: the directory is asked, or what is on its way to the receiver comes first.
        Waiting = "waiting",
        /// Nowhere.
        Refused = "refused",
    }
}

impl Metrics {
    pub(crate) fn register(shell: &Shell) -> Self {
        let metrics = Self::default();
        shell.metrics.register(|registry| {
            registry.register("relay_users", "Connections that have said hello", metrics.users.clone());
            metrics.streams.register(registry, "relay");
            registry.register(
                "relay_connections_closed",
                "Client connections that are over, by why",
                metrics.closed.clone(),
            );
            registry.register(
                "relay_lost_messages",
                "Answered because their link broke",
                metrics.lost.clone(),
            );
            registry.register("relay_hellos", "Hellos, by what became of them", metrics.hellos.clone());
            registry.register(
                "relay_tracked_messages",
                "Tracked messages, by what became of them",
                metrics.tracked.clone(),
            );
            registry.register("relay_lookups", "Users looked up, by answer", metrics.lookups.clone());
            let trail = &metrics.trail;
            let mut counters = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
            counters("relay_trail_events", "Events noted for kurir explain", &trail.noted);
            counters(
                "relay_trail_pushed_out",
                "Events forgotten before their time: relay.explain_events was reached",
                &trail.pushed_out,
            );
            counters("relay_trail_expired", "Events forgotten after relay.explain_seconds", &trail.expired);
            counters(
                "relay_trail_not_kept",
                "Events forgotten before a manager had put them down in SQL",
                &trail.not_kept,
            );
            registry.register("relay_trail_kept", "Events that are remembered", trail.kept.clone());
            registry.register(
                "relay_not_delivered",
                "Untracked messages that were answered with R15",
                metrics.not_delivered.clone(),
            );
            registry.register(
                "relay_messages",
                "Untracked messages from clients, by their way",
                metrics.messages.clone(),
            );
        });
        metrics
    }

    /// What is read whenever it is asked for.
    pub(crate) fn register_readings(registry: &Registry, relay: &Arc<Relay>) {
        registry.register_reading_of(
            relay,
            "relay_outbox_bytes",
            "Waiting to be written to users, all together",
            |relay| {
                let connections = relay.router.table.connections().flatten();
                connections.map(|connection| connection.outbox.waiting_bytes()).sum()
            },
        );
        registry.register_reading_of(
            relay,
            "relay_cached_routes",
            "Users elsewhere whose relay is remembered",
            |relay| relay.router.table.routes(),
        );
        registry.register_reading_of(
            relay,
            "relay_waiting_bytes",
            "Messages whose receiver is being looked up or whose link settles",
            |relay| relay.router.waiting_bytes(),
        );
    }

    pub(crate) fn hello(&self, outcome: HelloOutcome) {
        self.hellos.of(outcome).inc();
    }

    pub(crate) fn tracked(&self, outcome: TrackedOutcome, count: u64) {
        self.tracked.of(outcome).inc_by(count);
    }

    pub(crate) fn sent(&self, way: Way, count: u32) {
        self.messages.of(way).inc_by(count.into());
    }

    pub(crate) fn looked_up(&self, answer: &Answer) {
        let answer = match answer {
            Answer::Link(_) => LookupAnswer::Relay,
            Answer::Here => LookupAnswer::Here,
            Answer::Nobody => LookupAnswer::Nobody,
            Answer::Failed => LookupAnswer::Failed,
        };
        self.lookups.of(answer).inc();
    }
}
