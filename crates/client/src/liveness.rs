//! When to ping a silent socket, and when to give it up.

use std::time::Duration;

use tokio::time::Instant;

/// One socket's silence. Anything heard counts as life.
#[derive(Debug)]
pub(crate) struct Liveness {
    silence: Duration,
    answer: Duration,
    heard: Instant,
    pinged: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Alive,
    Ping,
    Dead,
}

impl Liveness {
    pub(crate) fn new(silence: Duration, answer: Duration, now: Instant) -> Self {
        Self { silence, answer, heard: now, pinged: None }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// When to ask for a verdict again.
    pub(crate) fn due(&self) -> Instant {
        self.pinged.map_or(self.heard + self.silence, |pinged| pinged + self.answer)
    }

    /// After `Ping` the caller sends one.
    pub(crate) fn verdict(&mut self, now: Instant) -> Verdict {
        if now < self.due() {
            return Verdict::Alive;
        }
        if self.pinged.is_some() {
            return Verdict::Dead;
        }
        self.pinged = Some(now);
        Verdict::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);
    const ANSWER: Duration = Duration::from_secs(3);

    #[test]
    fn five_seconds_of_silence_ask_for_a_ping_and_three_more_mean_death() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SILENCE, ANSWER, start);
        assert_eq!(liveness.verdict(start + Duration::from_secs(4)), Verdict::Alive);
        let pinged = liveness.due();
        assert_eq!(pinged, start + SILENCE);
        assert_eq!(liveness.verdict(pinged), Verdict::Ping);
        assert_eq!(liveness.verdict(pinged + Duration::from_secs(2)), Verdict::Alive);
        assert_eq!(liveness.verdict(pinged + ANSWER), Verdict::Dead);
    }

    #[test]
    fn anything_heard_answers_the_ping() {
        let start = Instant::now();
        let mut liveness = Liveness::new(SILENCE, ANSWER, start);
        assert_eq!(liveness.verdict(start + SILENCE), Verdict::Ping);
        liveness.heard(start + SILENCE + Duration::from_secs(1));
        assert_eq!(liveness.due(), start + SILENCE + Duration::from_secs(1) + SILENCE);
    }
}
