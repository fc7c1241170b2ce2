//! What `/metrics` shows of a relay.

use kurir_service::Shell;
use kurir_trail::Counts;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::lookup::Answer;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Admitted and not over.
    pub(crate) users: Gauge,
    pub(crate) links: Gauge,
    /// On a link that broke: reported to their senders, delivered or not.
    pub(crate) lost: Counter,
    pub(crate) trail: Counts,
    tracked: Family<TrackedLabels, Counter>,
    hellos: Family<HelloLabels, Counter>,
    lookups: Family<LookupLabels, Counter>,
    pub(crate) here: Counter,
    pub(crate) linked: Counter,
    pub(crate) waiting: Counter,
    pub(crate) refused: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HelloLabels {
    outcome: HelloOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum HelloOutcome {
    Admitted,
    Unauthorized,
    TemporaryFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrackedLabels {
    outcome: TrackedOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum TrackedOutcome {
    Stored,
    NoAccount,
    Conflict,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    answer: LookupAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum LookupAnswer {
    Relay,
    Here,
    Nobody,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Way {
    Here,
    Linked,
    Waiting,
    Refused,
}

impl Metrics {
    pub(crate) fn register(shell: &Shell) -> Self {
        let metrics = Self::default();
        let messages: Family<MessageLabels, Counter> = Family::default();
        let way = |way| messages.get_or_create(&MessageLabels { way }).clone();
        let metrics = Self {
            here: way(Way::Here),
            linked: way(Way::Linked),
            waiting: way(Way::Waiting),
            refused: way(Way::Refused),
            ..metrics
        };
        shell.metrics.register(|registry| {
            registry.register("relay_users", "Connections that have said hello", metrics.users.clone());
            registry.register("relay_links", "Streams to other relays", metrics.links.clone());
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
            registry.register("relay_messages", "Messages from clients, by their way", messages.clone());
        });
        metrics
    }

    pub(crate) fn hello(&self, outcome: HelloOutcome) {
        self.hellos.get_or_create(&HelloLabels { outcome }).inc();
    }

    pub(crate) fn tracked(&self, outcome: TrackedOutcome, count: u64) {
        self.tracked.get_or_create(&TrackedLabels { outcome }).inc_by(count);
    }

    pub(crate) fn looked_up(&self, answer: &Answer) {
        let answer = match answer {
            Answer::Link(_) => LookupAnswer::Relay,
            Answer::Here => LookupAnswer::Here,
            Answer::Nobody => LookupAnswer::Nobody,
            Answer::Failed => LookupAnswer::Failed,
        };
        self.lookups.get_or_create(&LookupLabels { answer }).inc();
    }
}
