//! Which relay a user is given (PROTOCOL §2 `R`, rows M3, M6, M13 and M14; ARCHITECTURE "Choosing a relay"). Pure: time
//! and randomness are arguments.
//!
//! A relay's load is what it reported plus what was promised here since: a ticket handed out is a connection to come, so
//! a burst of logins between two reports spreads evenly. A promise is removed once, when the relay counts a
//! ticket of ours as redeemed, or when the ticket has expired.
//!
//! What the other managers give out shows only in reports, and each relay reports at a moment of its own: the relay that
//! reported longest ago would look emptiest, and every manager would send its next users there. So the relays are
//! compared as of one moment, the oldest of their last reports, and what this manager has given out since is
//! taken for what each of the others has given out too.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use kurir_directory::{ComponentId, Generation};
use rand::{Rng, RngExt};

use crate::config::RelayChoice;

/// A ticket redeemed at the last moment is counted in a report that comes later: a promise waits for it so long, or two
/// would be removed for it.
const REPORT_DELAY: Duration = Duration::from_secs(2);

/// The resolution of [`RelayChoice::Fastest`]: smaller differences of delay are noise, and following them would send a
/// whole burst to one relay.
const DELAY_STEP: Duration = Duration::from_millis(1);

/// The relays attached to this manager, and what is promised at each.
#[derive(Debug)]
pub(crate) struct Choice {
    rule: RelayChoice,
    silence: Duration,
    /// Managers besides this one.
    others: u32,
    relays: BTreeMap<ComponentId, Relay>,
    /// How many promises were made.
    promises: u64,
}

/// Where clients reach a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What a relay says of itself, all of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) connections: u64,
    /// Tickets of this manager redeemed there since its generation began.
    pub(crate) redeemed: u64,
    pub(crate) loop_delay: Duration,
    /// It lets its users go, and is given to nobody.
    pub(crate) draining: bool,
}

/// A relay given to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) id: ComponentId,
    pub(crate) address: ClientAddress,
    /// Its connections, with those promised before this one.
    pub(crate) connections: u64,
    /// Names the promise, for [`Choice::take_back`].
    promise: u64,
}

#[derive(Debug)]
struct Relay {
    generation: Generation,
    address: ClientAddress,
    attached: bool,
    /// The last report; none yet: its load is unknown, so it is given to nobody.
    last: Option<Reported>,
    /// The one before.
    before: Option<Reported>,
    /// In the order given.
    promises: VecDeque<Promise>,
    /// When the promises were made that are younger than the moment of comparison.
    recent: VecDeque<Instant>,
}

#[derive(Debug)]
struct Promise {
    number: u64,
    /// Until when it stands.
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Reported {
    report: Report,
    at: Instant,
}

impl Choice {
    /// `silence`: a relay that has reported nothing for so long is not offered.
    pub(crate) fn new(rule: RelayChoice, silence: Duration) -> Self {
        Self { rule, silence, others: 0, relays: BTreeMap::new(), promises: 0 }
    }

    /// How many other managers there are.
    pub(crate) fn set_others(&mut self, others: usize) {
        self.others = u32::try_from(others).unwrap_or(u32::MAX);
    }

    /// A relay attached. Promises made at an older generation of it stand: their tickets are as good at the new one.
    pub(crate) fn attached(&mut self, id: &ComponentId, generation: Generation, address: ClientAddress) {
        if let Some(relay) = self.relays.get_mut(id) {
            if relay.generation != generation {
                (relay.last, relay.before) = (None, None);
            }
            relay.generation = generation;
            relay.address = address;
            relay.attached = true;
        } else {
            let relay = Relay {
                generation,
                address,
                attached: true,
                last: None,
                before: None,
                promises: VecDeque::new(),
                recent: VecDeque::new(),
            };
            self.relays.insert(id.clone(), relay);
        }
    }

    /// The relay's stream ended: it is not offered until it attaches again.
    pub(crate) fn detached(&mut self, id: &ComponentId, generation: Generation) {
        if let Some(relay) = self.relays.get_mut(id)
            && relay.generation == generation
        {
            relay.attached = false;
        }
    }

    /// The generation is dead (M7): forgotten, with what was promised there.
    pub(crate) fn died(&mut self, id: &ComponentId, generation: Generation) {
        if self.relays.get(id).is_some_and(|relay| relay.generation == generation) {
            self.relays.remove(id);
        }
    }

    pub(crate) fn report(&mut self, id: &ComponentId, generation: Generation, report: Report, now: Instant) {
        let Some(relay) = self.relays.get_mut(id).filter(|relay| relay.generation == generation) else {
            return;
        };
        let counted = relay.last.map_or(0, |last| last.report.redeemed);
        // A relay whose stream has broken counts from zero until it has the key again. What was counted stays so.
        let report = Report { redeemed: report.redeemed.max(counted), ..report };
        let redeemed = usize::try_from(report.redeemed - counted).unwrap_or(usize::MAX);
        // Redeemed ones first: one that expired meanwhile may be among those counted.
        relay.promises.drain(..redeemed.min(relay.promises.len()));
        relay.forget_expired(now);
        relay.before = relay.last.replace(Reported { report, at: now });
    }

    /// Chooses a relay and counts a promise that stands until the ticket's `expiry`. `avoid`, the relay that the user has just
    /// failed on, is given only where there is no other.
    pub(crate) fn choose(
        &mut self,
        avoid: Option<&ComponentId>,
        expiry: Instant,
        now: Instant,
        random: &mut impl Rng,
    ) -> Option<Chosen> {
        let compared_at = self.forget_past(now);
        let id = match self.best(avoid, compared_at, now, random) {
            Some(id) => id,
            None => self.best(None, compared_at, now, random)?,
        };
        let others = self.others;
        let relay = self.relays.get_mut(&id)?;
        let connections = relay.connections();
        self.promises += 1;
        let promise = self.promises;
        relay.promises.push_back(Promise { number: promise, until: expiry + REPORT_DELAY });
        if others > 0 {
            relay.recent.push_back(now);
        }
        Some(Chosen { connections, address: relay.address.clone(), id, promise })
    }

    /// A user asks again and has failed on that relay: nobody comes for this promise, unless it was kept already.
    pub(crate) fn take_back(&mut self, chosen: &Chosen) {
        let Some(relay) = self.relays.get_mut(&chosen.id) else { return };
        if let Ok(index) = relay.promises.binary_search_by_key(&chosen.promise, |promise| promise.number) {
            relay.promises.remove(index);
        }
    }

    /// The load of each relay that would be offered now, as they are compared by it.
    pub(crate) fn loads(&mut self, now: Instant) -> Vec<(ComponentId, i128)> {
        let compared_at = self.forget_past(now);
        let alive = self.relays.iter().filter(|(_, relay)| relay.is_alive(now, self.silence));
        alive.map(|(id, relay)| (id.clone(), relay.load(compared_at, self.others))).collect()
    }

    /// Forgets promises that do not count any more, and returns the moment as of which relays are compared.
    fn forget_past(&mut self, now: Instant) -> Instant {
        let compared_at = self.compared_at(now);
        for relay in self.relays.values_mut() {
            relay.forget_expired(now);
            relay.forget_compared(compared_at);
        }
        compared_at
    }

    /// The youngest moment that every relay has reported.
    fn compared_at(&self, now: Instant) -> Instant {
        let alive = self.relays.values().filter(|relay| relay.is_alive(now, self.silence));
        alive.filter_map(|relay| relay.last).map(|last| last.at).min().unwrap_or(now)
    }

    fn best(
        &self,
        avoid: Option<&ComponentId>,
        compared_at: Instant,
        now: Instant,
        random: &mut impl Rng,
    ) -> Option<ComponentId> {
        let mut best: Option<((u128, i128), &ComponentId)> = None;
        let mut equals = 0_u32;
        for (id, relay) in &self.relays {
            if Some(id) == avoid || !relay.is_alive(now, self.silence) {
                continue;
            }
            let rank = relay.rank(self.rule, compared_at, self.others);
            equals = match best {
                Some((known, _)) if known < rank => continue,
                Some((known, _)) if known == rank => equals + 1,
                _ => 1,
            };
            // The n-th of equals replaces the one held with probability 1/n: each is as likely as the others.
            if equals == 1 || random.random_range(0..equals) == 0 {
                best = Some((rank, id));
            }
        }
        best.map(|(_, id)| id.clone())
    }
}

impl Relay {
    fn is_alive(&self, now: Instant, silence: Duration) -> bool {
        let gives_itself =
            |last: Reported| !last.report.draining && now.saturating_duration_since(last.at) <= silence;
        self.attached && self.last.is_some_and(gives_itself)
    }

    /// As clients are told: reported, and to come.
    fn connections(&self) -> u64 {
        let reported = self.last.map_or(0, |last| last.report.connections);
        reported.saturating_add(self.promises.len() as u64)
    }

    fn rank(&self, rule: RelayChoice, compared_at: Instant, others: u32) -> (u128, i128) {
        let delay = self.last.map_or(Duration::ZERO, |last| last.report.loop_delay);
        let load = self.load(compared_at, others);
        match rule {
            RelayChoice::Fewest => (0, load),
            RelayChoice::Fastest => (delay.as_millis() / DELAY_STEP.as_millis(), load),
        }
    }

    /// What is not ours as of `at`, ours as of now, and what the others may have given out since.
    fn load(&self, at: Instant, others: u32) -> i128 {
        let redeemed = self.last.map_or(0, |last| last.report.redeemed);
        let ours = redeemed.saturating_add(self.promises.len() as u64);
        self.not_ours(at) + i128::from(ours) + i128::from(others) * self.recent.len() as i128
    }

    /// Between two reports it is taken to have grown evenly.
    fn not_ours(&self, at: Instant) -> i128 {
        let Some(last) = self.last else { return 0 };
        let Some(before) = self.before.filter(|_| at < last.at) else { return last.not_ours() };
        let span = last.at.saturating_duration_since(before.at).as_micros().cast_signed();
        let part = at.saturating_duration_since(before.at).as_micros().cast_signed();
        before.not_ours() + (last.not_ours() - before.not_ours()) * part / span.max(1)
    }

    fn forget_compared(&mut self, compared_at: Instant) {
        while self.recent.front().is_some_and(|made| *made <= compared_at) {
            self.recent.pop_front();
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while self.promises.front().is_some_and(|promise| promise.until <= now) {
            self.promises.pop_front();
        }
    }
}

impl Reported {
    /// Connections that came with no ticket of ours, less those of ours that are gone.
    fn not_ours(&self) -> i128 {
        i128::from(self.report.connections) - i128::from(self.report.redeemed)
    }
}

#[cfg(test)]
mod tests;
