//! How long everything takes.

use std::time::Duration;

/// The durations that every component of one system must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A component that has not renewed for this long may be declared dead. 6 s.
    pub lease: Duration,
    /// Between two renewals. 2 s.
    pub renew: Duration,
    /// Between two looks at who is there. 1 s.
    pub poll: Duration,
    /// Between two ticks, by whose gaps a component notices that it was paused. 500 ms.
    pub tick: Duration,
    /// How long one exchange with the directory may take before it counts as away. 1 s.
    pub timeout: Duration,
    /// How long an ended login is remembered: at least a ticket's life. 5 minutes.
    pub ended: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(6),
            renew: Duration::from_secs(2),
            poll: Duration::from_secs(1),
            tick: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            ended: Duration::from_mins(5),
        }
    }
}
