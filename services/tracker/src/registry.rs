//! Who joined, with status and load. No IO, no clock.

use std::collections::BTreeMap;
use std::time::Instant;

use kurir_rpc::v1::{Component, Load, status_response::Row};

/// Names one component's stream; a later one has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(u64);

/// Kind and id.
pub(crate) type Key = (i32, String);

/// A younger generation of the same component is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a younger generation of this component is active")]
pub(crate) struct Superseded;

/// Everybody who joined (T3), and whether they are still there (T6).
#[derive(Debug)]
pub(crate) struct Registry {
    entries: BTreeMap<Key, Entry>,
    last_stream: u64,
    max_inactive: usize,
}

#[derive(Debug)]
struct Entry {
    component: Component,
    load: Load,
    /// The stream it is active on; none: inactive.
    stream: Option<StreamId>,
    /// When it became active, or inactive.
    since: Instant,
}

impl Registry {
    pub(crate) fn new(max_inactive: usize) -> Self {
        Self { entries: BTreeMap::new(), last_stream: 0, max_inactive }
    }

    /// A name for a new stream.
    pub(crate) fn open_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        StreamId(self.last_stream)
    }

    /// `component` is active on `stream`. It takes the place of an older generation, and of the same one on a stream
    /// that has not ended yet.
    pub(crate) fn register(
        &mut self,
        stream: StreamId,
        component: Component,
        now: Instant,
    ) -> Result<(), Superseded> {
        let key = key(&component);
        let known = self.entries.get(&key).filter(|entry| entry.stream.is_some());
        let (load, since) = match known {
            // UUIDv7 in hyphenated form: the order of the text is the order of age.
            Some(active) if active.component.generation > component.generation => return Err(Superseded),
            Some(active) if active.component.generation == component.generation => {
                (active.load, active.since)
            }
            _ => (Load::default(), now),
        };
        self.entries.insert(key, Entry { component, load, stream: Some(stream), since });
        Ok(())
    }

    /// What the component on `stream` says of its load. A stream that was replaced has no say.
    pub(crate) fn report(&mut self, key: &Key, stream: StreamId, load: Load) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.stream == Some(stream)) {
            entry.load = load;
        }
    }

    /// `stream` has ended. True if its component was still active on it.
    pub(crate) fn leave(&mut self, key: &Key, stream: StreamId, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.stream == Some(stream)) else {
            return false;
        };
        entry.stream = None;
        entry.load = Load::default();
        entry.since = now;
        self.forget();
        true
    }

    /// The active components.
    pub(crate) fn active(&self) -> Vec<Component> {
        let active = self.entries.values().filter(|entry| entry.stream.is_some());
        active.map(|entry| entry.component.clone()).collect()
    }

    /// Everybody, for `kurir status`.
    pub(crate) fn rows(&self, now: Instant) -> Vec<Row> {
        self.entries
            .values()
            .map(|entry| Row {
                component: Some(entry.component.clone()),
                load: Some(entry.load),
                active: entry.stream.is_some(),
                since_ms: u64::try_from(now.saturating_duration_since(entry.since).as_millis())
                    .unwrap_or(u64::MAX),
            })
            .collect()
    }

    fn forget(&mut self) {
        let inactive = || self.entries.iter().filter(|(_, entry)| entry.stream.is_none());
        if inactive().count() <= self.max_inactive {
            return;
        }
        if let Some((key, _)) = inactive().min_by_key(|(_, entry)| entry.since) {
            let key = key.clone();
            self.entries.remove(&key);
        }
    }
}

/// What a component is known by.
pub(crate) fn key(component: &Component) -> Key {
    (component.kind, component.id.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn component(id: &str, generation: &str) -> Component {
        Component { kind: 2, id: id.to_owned(), generation: generation.to_owned(), ..Component::default() }
    }

    fn generations(registry: &Registry) -> Vec<String> {
        registry.active().into_iter().map(|component| component.generation).collect()
    }

    struct Joined {
        registry: Registry,
        now: Instant,
    }

    impl Joined {
        fn join(&mut self, component: &Component) -> Result<StreamId, Superseded> {
            let stream = self.registry.open_stream();
            self.registry.register(stream, component.clone(), self.now).map(|()| stream)
        }

        fn leave(&mut self, component: &Component, stream: StreamId) -> bool {
            self.registry.leave(&key(component), stream, self.now)
        }
    }

    fn empty() -> Joined {
        Joined { registry: Registry::new(2), now: Instant::now() }
    }

    /// T6: the old stream's end comes late, and is not the new one's.
    #[test]
    fn a_younger_generation_replaces_the_older_whose_streams_end_then_changes_nothing() {
        let mut tracker = empty();
        let (old, new) = (component("relay-1", "01"), component("relay-1", "02"));
        let old_stream = tracker.join(&old).unwrap();
        let new_stream = tracker.join(&new).unwrap();
        assert_eq!(generations(&tracker.registry), ["02"]);
        assert!(!tracker.leave(&old, old_stream));
        assert_eq!(generations(&tracker.registry), ["02"]);
        assert!(tracker.leave(&new, new_stream));
        assert!(generations(&tracker.registry).is_empty());
    }

    #[test]
    fn the_same_generation_joins_again_before_its_old_stream_has_ended() {
        let mut tracker = empty();
        let relay = component("relay-1", "01");
        let first = tracker.join(&relay).unwrap();
        tracker.now += Duration::from_secs(5);
        tracker.join(&relay).unwrap();
        assert!(!tracker.leave(&relay, first));
        // Active without a break, so it has been for five seconds.
        assert_eq!(tracker.registry.rows(tracker.now)[0].since_ms, 5000);
    }

    #[test]
    fn a_component_that_drains_registers_again_and_is_active_with_its_load() {
        let mut tracker = empty();
        let relay = component("relay-1", "01");
        let stream = tracker.join(&relay).unwrap();
        let load = Load { users: 7, connections: 8 };
        tracker.registry.report(&key(&relay), stream, load);
        tracker.join(&Component { draining: true, ..relay.clone() }).unwrap();
        tracker.leave(&relay, stream);
        let rows = tracker.registry.rows(tracker.now);
        assert!(rows[0].active && rows[0].component.as_ref().unwrap().draining);
        assert_eq!(rows[0].load, Some(load));
    }

    #[test]
    fn an_older_generation_does_not_replace_an_active_younger_one() {
        let mut tracker = empty();
        let younger = component("relay-1", "02");
        let stream = tracker.join(&younger).unwrap();
        assert_eq!(tracker.join(&component("relay-1", "01")), Err(Superseded));
        // Only the lease says that the younger is dead; here it is just not active any more.
        tracker.leave(&younger, stream);
        assert!(tracker.join(&component("relay-1", "01")).is_ok());
    }

    /// T6: kept with its status, no longer given out.
    #[test]
    fn who_left_is_kept_as_inactive_and_only_the_last_few() {
        let mut tracker = empty();
        for id in ["relay-1", "relay-2", "relay-3"] {
            let relay = component(id, "01");
            let stream = tracker.join(&relay).unwrap();
            tracker.now += Duration::from_secs(1);
            assert!(tracker.leave(&relay, stream));
        }
        let rows = tracker.registry.rows(tracker.now);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.component.as_ref().unwrap().id.as_str(), row.active)).collect();
        assert_eq!(shown, [("relay-2", false), ("relay-3", false)]);
        assert!(tracker.registry.active().is_empty());
    }

    #[test]
    fn a_load_is_believed_from_the_present_stream_only() {
        let mut tracker = empty();
        let relay = component("relay-1", "01");
        let old = tracker.join(&relay).unwrap();
        let new = tracker.join(&relay).unwrap();
        tracker.registry.report(&key(&relay), new, Load { users: 7, connections: 8 });
        tracker.registry.report(&key(&relay), old, Load { users: 1, connections: 1 });
        assert_eq!(tracker.registry.rows(tracker.now)[0].load, Some(Load { users: 7, connections: 8 }));
    }
}
