//! When a device was online and nothing was under way that excuses a delay. Only that time counts against a bound.

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

    /// The longest time without a break that counts for this device between two moments.
    pub fn longest(&self, device: Device, from: Duration, to: Duration) -> Duration {
        self.within(device, from, to).max().unwrap_or_default()
    }

    /// All the time that counts for this device between two moments.
    pub fn total(&self, device: Device, from: Duration, to: Duration) -> Duration {
        self.within(device, from, to).sum()
    }

    fn within(&self, device: Device, from: Duration, to: Duration) -> impl Iterator<Item = Duration> {
        let stretches = &self.0[device];
        let first = stretches.partition_point(|(_, end)| *end <= from);
        let within = stretches[first..].iter().take_while(move |(begin, _)| *begin < to);
        within.map(move |(begin, end)| (*end).min(to).saturating_sub((*begin).max(from)))
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
        assert_eq!(quiet.longest(0, s(0), s(12)), s(2));
        assert_eq!(quiet.longest(0, s(12), s(20)), s(3));
        assert_eq!(quiet.longest(0, s(30), s(40)), s(0));
        assert_eq!(quiet.longest(0, s(45), s(70)), s(8));
        assert_eq!(quiet.longest(0, s(0), s(100)), s(38));
        assert_eq!(quiet.longest(0, s(7), s(3)), s(0));
        assert_eq!(quiet.total(0, s(12), s(20)), s(3) + s(2));
        assert_eq!(quiet.total(0, s(0), s(100)), s(5) + s(12) + s(10) + s(38));
        assert_eq!(quiet.total(0, s(30), s(40)), s(0));
    }
}
