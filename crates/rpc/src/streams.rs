//! How many streams to others a component should have, and how many it has.

use kurir_metrics::ByLabel;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

kurir_metrics::label! {
    /// Whom streams lead to.
    pub enum Peer as "peer" {
        /// To be a member.
        Tracker = "tracker",
        /// A relay attaches; a manager tells of its users.
        Manager = "manager",
        /// Messages.
        Relay = "relay",
    }
}

/// The streams of one component. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    wanted: ByLabel<Peer, Gauge>,
    open: ByLabel<Peer, Gauge>,
}

/// One more than there was, until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Streams {
    /// Registers `ROLE_streams` and `ROLE_streams_wanted`.
    pub fn register(&self, registry: &mut Registry, role: &str) {
        registry.register(format!("{role}_streams"), "Streams to others that are open", self.open.clone());
        registry.register(
            format!("{role}_streams_wanted"),
            "Streams to others that there should be: one to each that is known to live",
            self.wanted.clone(),
        );
    }

    /// There should be a stream to one more of these.
    pub fn wanted(&self, peer: Peer) -> Counted {
        Counted::new(self.wanted.of(peer))
    }

    /// There is.
    pub fn open(&self, peer: Peer) -> Counted {
        Counted::new(self.open.of(peer))
    }
}

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_until_it_is_dropped() {
        let streams = Streams::default();
        let counts = || (streams.wanted.of(Peer::Relay).get(), streams.open.of(Peer::Relay).get());
        let wanted = streams.wanted(Peer::Relay);
        let open = streams.clone().open(Peer::Relay);
        assert_eq!(counts(), (1, 1));
        drop(open);
        assert_eq!(counts(), (1, 0));
        drop(wanted);
        assert_eq!(counts(), (0, 0));
    }
}
