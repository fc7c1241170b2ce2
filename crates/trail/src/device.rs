//! The connections and accounts that events are about: made once, shared by all of their events.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Refusals of one connection that are noted in one second. A client that sends what is refused as fast as it can must
/// not push everybody else's events out.
const REFUSALS: u64 = 64;

/// A device's connection, or an account without one.
#[derive(Debug)]
pub struct Device {
    /// Case-mapped.
    pub user: Box<str>,
    /// The device's name; empty: the account.
    pub name: Box<str>,
    /// Its number in the relay; 0: no connection.
    pub connection: u64,
    /// When it said hello, in microseconds since the Unix epoch.
    pub since_us: i64,
    /// The last places shown to it, noted as written, and noted as acknowledged.
    shown: AtomicU64,
    written: AtomicU64,
    acked: AtomicU64,
    /// When it was shown something last.
    shown_us: AtomicI64,
    /// The second of the last refusal, and how many were noted in it.
    refused: AtomicU64,
}

impl Device {
    /// A device's connection.
    pub fn new(user: &str, name: &str, connection: u64, since_us: i64) -> Self {
        Self {
            user: user.into(),
            name: name.into(),
            connection,
            since_us,
            shown: AtomicU64::new(0),
            written: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            shown_us: AtomicI64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// An account, or one of its devices, wherever that is connected.
    pub fn elsewhere(user: &str, name: &str) -> Self {
        Self::new(user, name, 0, 0)
    }

    /// Whether both are one connection. Numbers begin again with a relay's life; the time of the hello does not.
    pub fn is_connection_of(&self, other: &Self) -> bool {
        self.connection != 0
            && (self.connection, self.since_us) == (other.connection, other.since_us)
            && self.user == other.user
    }

    /// The entry at `seq` is in its outbox.
    pub fn shows(&self, seq: u64, at_us: i64) {
        self.shown_us.store(at_us, Ordering::Relaxed);
        self.shown.fetch_max(seq, Ordering::Relaxed);
    }

    /// When it was shown something last, in microseconds since the Unix epoch.
    pub fn shown_us(&self) -> i64 {
        self.shown_us.load(Ordering::Relaxed)
    }

    /// The socket has taken everything up to `seq`. True: some of that was shown, and not noted as written before.
    pub fn writes(&self, seq: u64) -> bool {
        let before = self.written.fetch_max(seq, Ordering::Relaxed);
        before < Ord::min(seq, self.shown.load(Ordering::Relaxed))
    }

    /// The device has everything up to `seq`. True: that was not noted before.
    pub fn acknowledges(&self, seq: u64) -> bool {
        self.acked.fetch_max(seq, Ordering::Relaxed) < seq
    }

    /// Whether it was shown what its socket has not taken.
    pub fn is_owed(&self) -> bool {
        self.written.load(Ordering::Relaxed) < self.shown.load(Ordering::Relaxed)
    }

    /// Whether one more refusal is noted.
    pub fn notes_refusal(&self, now_us: i64) -> bool {
        // The lower bits count, those above are the second.
        let second = u64::try_from(now_us / 1_000_000).unwrap_or_default() << 16;
        let before = self.refused.load(Ordering::Relaxed);
        let count = if before & !0xffff == second { before & 0xffff } else { 0 };
        // Two at once count as one: it is a bound on floods.
        self.refused.store(second | Ord::min(count + 1, 0xffff), Ordering::Relaxed);
        count < REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_shown_and_is_new_is_written() {
        let device = Device::new("esa", "phone", 7, 1);
        assert!(!device.writes(4), "nothing was shown");
        device.shows(6, 100);
        assert!(device.is_owed());
        assert!(device.writes(6));
        assert!(!device.is_owed());
        assert!(!device.writes(6));
        assert!(!device.writes(9), "what is between is not for it");
        assert!(device.acknowledges(5) && !device.acknowledges(5) && !device.acknowledges(3));
    }

    #[test]
    fn a_flood_of_refusals_is_noted_up_to_a_bound_a_second() {
        let device = Device::new("esa", "phone", 7, 1);
        let noted = |at| (0..100_000).filter(|_| device.notes_refusal(at)).count() as u64;
        assert_eq!(noted(5_000_000), REFUSALS);
        assert_eq!(noted(5_999_999), 0);
        assert_eq!(noted(6_000_000), REFUSALS);
    }

    #[test]
    fn a_number_that_a_relay_gave_in_another_life_is_another_connection() {
        let (one, other) = (Device::new("esa", "phone", 7, 1), Device::new("esa", "phone", 7, 2));
        assert!(one.is_connection_of(&Device::new("esa", "phone", 7, 1)));
        assert!(!one.is_connection_of(&other));
        assert!(!Device::elsewhere("esa", "").is_connection_of(&Device::elsewhere("esa", "")));
    }
}
