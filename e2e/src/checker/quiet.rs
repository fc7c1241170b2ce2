//! When a device was online and nothing was under way that excuses a delay. Only that time counts against a bound.

use std::fmt;
use std::time::Duration;

use super::history::{Device, Event, History};

/// Of each device, the stretches of time that count: in order, not overlapping.
#[derive(Debug)]
pub struct Quiet(Vec<Vec<Stretch>>);

/// From and to.
type Stretch = (Duration, Duration);

impl Quiet {
    /// Works it out.
    pub fn of(history: &History) -> Quiet {
        let mut stretches = vec![Vec::new(); history.devices.len()];
        let mut online: Vec<Option<(Duration, u16)>> = vec![None; history.devices.len()];
        let mut ends = |device: Device, since: Option<(Duration, u16)>, end: Duration| {
            if let Some((from, relay)) = since {
                stretches[device].extend(undisturbed(history, (from, end), relay));
            }
        };
        for record in &history.records {
            match record.event {
                Event::Online { device, relay } => {
                    let before = online[device].replace((record.at, relay));
                    ends(device, before, record.at);
                }
                Event::Offline { device } => ends(device, online[device].take(), record.at),
                _ => {}
            }
        }
        for (device, since) in online.into_iter().enumerate() {
            ends(device, since, history.end);
        }
        Quiet(stretches)
    }

    /// How long this device waited between two moments.
    pub fn waited(&self, device: Device, from: Duration, to: Duration) -> Waited {
        let stretches = &self.0[device];
        let first = stretches.partition_point(|(_, end)| *end <= from);
        let within = stretches[first..].iter().take_while(|(begin, _)| *begin < to);
        let waits = within.map(|(begin, end)| (*end).min(to).saturating_sub((*begin).max(from)));
        waits.fold(Waited::default(), |so_far, wait| Waited {
            longest: so_far.longest.max(wait),
            in_all: so_far.in_all + wait,
        })
    }
}

/// Time that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// The longest without a break.
    pub longest: Duration,
    /// All of it.
    pub in_all: Duration,
}

impl Waited {
    /// Whether it was longer than this without a break, or longer than twice so long in all: who is cut off again and again shortly
    /// before the bound has waited, too.
    pub fn is_over(&self, bound: Duration) -> bool {
        self.longest > bound || self.in_all > 2 * bound
    }

    /// The longer of two, each way of counting by itself.
    #[must_use]
    pub fn max(self, other: Waited) -> Waited {
        Waited { longest: self.longest.max(other.longest), in_all: self.in_all.max(other.in_all) }
    }
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} ({:.2?} in all)", self.longest, self.in_all)
    }
}

/// What is left of a stretch at this relay without the disturbances that hit it.
fn undisturbed(history: &History, whole: Stretch, relay: u16) -> Vec<Stretch> {
    let mut left = vec![whole];
    for disturbance in history.disturbances.iter().filter(|disturbance| disturbance.place.hits(relay)) {
        let (from, until) = (disturbance.from, disturbance.until);
        let cut = |(begin, end): Stretch| [(begin, end.min(from)), (begin.max(until), end)];
        left = left.into_iter().flat_map(cut).filter(|(begin, end)| begin < end).collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checker::history::{Disturbance, Place, Record};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_time_online_and_undisturbed_counts() {
        let online = |at, relay| Record { at: s(at), event: Event::Online { device: 0, relay } };
        let offline = |at| Record { at: s(at), event: Event::Offline { device: 0 } };
        let disturbance = |from, until, place| Disturbance { from: s(from), until: s(until), place };
        let history = History {
            devices: vec![0],
            plain: BTreeSet::new(),
            records: vec![online(10, 1), offline(30), online(40, 2)],
            disturbances: vec![
                disturbance(15, 18, Place::Relay(1)),
                disturbance(20, 29, Place::Relay(2)),
                disturbance(50, 60, Place::Everywhere),
                disturbance(55, 62, Place::Relay(2)),
            ],
            end: s(100),
        };
        let quiet = Quiet::of(&history);
        assert_eq!(quiet.0, [[(s(10), s(15)), (s(18), s(30)), (s(40), s(50)), (s(62), s(100))]]);
        let waited = |from, to| {
            let waited = quiet.waited(0, s(from), s(to));
            (waited.longest, waited.in_all)
        };
        assert_eq!(waited(0, 12), (s(2), s(2)));
        assert_eq!(waited(12, 20), (s(3), s(3) + s(2)));
        assert_eq!(waited(30, 40), (s(0), s(0)));
        assert_eq!(waited(45, 70), (s(8), s(5) + s(8)));
        assert_eq!(waited(0, 100), (s(38), s(5) + s(12) + s(10) + s(38)));
        assert_eq!(waited(7, 3), (s(0), s(0)));
    }

    #[test]
    fn a_wait_is_over_by_its_longest_stretch_or_by_all_of_them() {
        let is_over = |longest, in_all| Waited { longest: s(longest), in_all: s(in_all) }.is_over(s(5));
        assert!(!is_over(5, 10));
        assert!(is_over(6, 6));
        assert!(is_over(4, 11));
    }
}
