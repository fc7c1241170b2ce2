//! Time as leases need it: it goes on while the machine or the process is suspended.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time of this machine, counted from its boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    #[cfg(test)]
    pub(crate) const fn at(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the time comes from.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// `CLOCK_BOOTTIME`: unlike the monotonic clock it counts the machine's suspension.
    Boot,
    /// Milliseconds that a test sets.
    #[cfg(test)]
    Set(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Clock {
    pub(crate) fn now(&self) -> Moment {
        match self {
            Self::Boot => {
                let time = clock_gettime(ClockId::Boottime);
                let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
                let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
                Moment(Duration::new(seconds, nanos))
            }
            #[cfg(test)]
            Self::Set(ms) => Moment(Duration::from_millis(ms.load(std::sync::atomic::Ordering::SeqCst))),
        }
    }
}
