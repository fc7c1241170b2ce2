//! Delays between attempts: decorrelated jitter, so that clients cut off together do not come back together.

use std::time::Duration;

use crate::error::Failure;

/// A server's wish to be left alone is followed for so long.
const LONGEST_WISH: Duration = Duration::from_mins(10);

/// The delays of one thing that is tried again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    last: Option<Duration>,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), last: None }
    }

    /// The next delay. `random` is drawn from `0.0..1.0`.
    ///
    /// The first is anything up to `first`; each later one lies between `first` and three times the one before,
    /// up to `longest`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let delay = match self.last {
            None => self.first.mul_f64(random),
            Some(last) => {
                let most = (last.max(self.first) * 3).min(self.longest);
                self.first + most.saturating_sub(self.first).mul_f64(random)
            }
        };
        self.last = Some(delay);
        delay
    }

    /// The delay after this failure: what a server asks for, and up to half as much again, or else the next one. `random` is
    /// drawn from `0.0..1.0`.
    pub(crate) fn after(&mut self, failure: &Failure, random: f64) -> Duration {
        let next = self.next(random);
        let Failure::SentAway { condition, retry_after, .. } = failure else { return next };
        let wish = match condition.as_str() {
            // At once it would be told the same.
            "policy-violation" => self.longest,
            "resource-constraint" | "system-shutdown" => retry_after.unwrap_or_default().min(LONGEST_WISH),
            _ => Duration::ZERO,
        };
        next.max(wish.mul_f64(1.0 + random / 2.0))
    }

    /// What was tried works again. After `lived` long enough the next failure is a new one; a server that accepts and
    /// closes at once is not.
    pub(crate) fn worked(&mut self, lived: Duration) {
        if lived >= self.longest {
            self.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn the_first_retry_is_fast() {
        assert_eq!(Backoff::new(FIRST, LONGEST).next(0.0), Duration::ZERO);
        assert!(Backoff::new(FIRST, LONGEST).next(0.999) <= FIRST);
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let delays: Vec<_> = (0..6).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(delays, [200, 600, 1800, 5000, 5000, 5000]);
    }

    #[test]
    fn delays_never_fall_below_the_first_after_the_first() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        backoff.next(0.0);
        assert_eq!(backoff.next(0.0), FIRST);
    }

    #[test]
    fn a_server_says_when_to_come_again_and_not_for_ever() {
        let minute = Some(Duration::from_mins(1));
        let table = [
            ("system-shutdown", None, 200),
            ("system-shutdown", minute, 90_000),
            ("resource-constraint", minute, 90_000),
            ("resource-constraint", Some(Duration::from_hours(24)), 900_000),
            ("policy-violation", None, 7500),
            ("not-authorized", minute, 200),
        ];
        for (condition, retry_after, expected) in table {
            let failure = Failure::SentAway { address: "r".into(), condition: condition.into(), retry_after };
            let delay = Backoff::new(FIRST, LONGEST).after(&failure, 1.0);
            assert_eq!(delay.as_millis(), expected, "{condition}");
        }
        let other = Failure::NoRelay;
        assert_eq!(Backoff::new(FIRST, LONGEST).after(&other, 1.0), FIRST);
    }

    #[test]
    fn a_connection_that_dies_at_once_does_not_make_the_delays_short_again() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        backoff.next(1.0);
        backoff.next(1.0);
        backoff.worked(Duration::from_millis(10));
        assert_eq!(backoff.next(1.0), Duration::from_millis(1800));
        backoff.worked(LONGEST);
        assert_eq!(backoff.next(1.0), FIRST);
    }
}
