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
        self.attached && self.last.is_some_and(|last| now.saturating_duration_since(last.at) <= silence)
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
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(4);
    const TICKET: Duration = Duration::from_mins(1);

    fn id(name: &str) -> ComponentId {
        ComponentId::try_from(name.to_owned()).unwrap()
    }

    fn address(port: u16) -> ClientAddress {
        ClientAddress { host: "127.0.0.1".to_owned(), port }
    }

    fn report(connections: u64, redeemed: u64) -> Report {
        Report { connections, redeemed, loop_delay: Duration::ZERO }
    }

    fn with_relays(rule: RelayChoice, names: &[&str], now: Instant) -> (Choice, Vec<Generation>) {
        let mut choice = Choice::new(rule, SILENCE);
        let generations: Vec<_> = names.iter().map(|_| Generation::new()).collect();
        for (name, generation) in names.iter().zip(&generations) {
            choice.attached(&id(name), *generation, address(5010));
            choice.report(&id(name), *generation, report(0, 0), now);
        }
        (choice, generations)
    }

    fn name(chosen: Option<Chosen>) -> Option<String> {
        chosen.map(|chosen| chosen.id.to_string())
    }

    #[test]
    fn the_relay_with_the_fewest_connections_is_given_m13() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a", "b"], now);
        choice.report(&id("a"), generations[0], report(7, 0), now);
        choice.report(&id("b"), generations[1], report(3, 0), now);
        let chosen = choice.choose(None, now + TICKET, now, &mut rand::rng()).unwrap();
        assert_eq!((chosen.id, chosen.connections), (id("b"), 3));
        let chosen = choice.choose(None, now + TICKET, now, &mut rand::rng()).unwrap();
        assert_eq!((chosen.id, chosen.connections), (id("b"), 4), "the promise counts");
        assert_eq!(choice.loads(now), [(id("a"), 7), (id("b"), 5)]);
    }

    #[test]
    fn the_fastest_relay_is_given_whatever_its_connections() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fastest, &["slow", "fast"], now);
        let slow = Report { connections: 0, redeemed: 0, loop_delay: Duration::from_millis(9) };
        let fast = Report { connections: 900, redeemed: 0, loop_delay: Duration::from_micros(200) };
        choice.report(&id("slow"), generations[0], slow, now);
        choice.report(&id("fast"), generations[1], fast, now);
        assert_eq!(name(choice.choose(None, now + TICKET, now, &mut rand::rng())).unwrap(), "fast");
    }

    #[test]
    fn a_relay_silent_for_four_seconds_is_not_offered_m7() {
        let start = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a", "b"], start);
        let now = start + SILENCE + Duration::from_millis(1);
        choice.report(&id("b"), generations[1], report(100, 0), now);
        assert_eq!(choice.loads(now), [(id("b"), 100)]);
        assert_eq!(name(choice.choose(None, now + TICKET, now, &mut rand::rng())).unwrap(), "b");
    }

    #[test]
    fn neither_a_detached_nor_a_dead_relay_is_offered_m7() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a", "b"], now);
        choice.detached(&id("a"), generations[0]);
        choice.died(&id("b"), generations[1]);
        assert_eq!(choice.choose(None, now + TICKET, now, &mut rand::rng()), None);
    }

    #[test]
    fn the_news_of_an_older_generations_end_changes_nothing() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a"], now);
        let newer = Generation::new();
        choice.attached(&id("a"), newer, address(5011));
        choice.report(&id("a"), newer, report(0, 0), now);
        choice.died(&id("a"), generations[0]);
        choice.detached(&id("a"), generations[0]);
        choice.report(&id("a"), generations[0], report(50, 0), now);
        let chosen = choice.choose(None, now + TICKET, now, &mut rand::rng()).unwrap();
        assert_eq!((chosen.address, chosen.connections), (address(5011), 0));
    }

    #[test]
    fn the_relay_that_failed_for_the_user_is_only_the_last_resort_m14() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a", "b"], now);
        choice.report(&id("b"), generations[1], report(100, 0), now);
        let avoid = id("a");
        assert_eq!(name(choice.choose(Some(&avoid), now + TICKET, now, &mut rand::rng())).unwrap(), "b");
        choice.died(&id("b"), generations[1]);
        assert_eq!(name(choice.choose(Some(&avoid), now + TICKET, now, &mut rand::rng())).unwrap(), "a");
    }

    #[test]
    fn a_relay_that_has_not_reported_yet_is_not_offered() {
        let now = Instant::now();
        let mut choice = Choice::new(RelayChoice::Fewest, SILENCE);
        choice.attached(&id("a"), Generation::new(), address(5010));
        assert_eq!(choice.choose(None, now + TICKET, now, &mut rand::rng()), None);
    }

    #[test]
    fn a_promise_goes_when_redeemed_and_otherwise_when_its_ticket_has_expired() {
        let start = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a"], start);
        for _ in 0..3 {
            choice.choose(None, start + TICKET, start, &mut rand::rng()).unwrap();
        }
        choice.report(&id("a"), generations[0], report(1, 1), start);
        choice.report(&id("a"), generations[0], report(1, 1), start);
        assert_eq!(choice.relays[&id("a")].connections(), 1 + 2, "the same count again removes nothing");
        choice.report(&id("a"), generations[0], report(1, 0), start);
        choice.report(&id("a"), generations[0], report(1, 1), start);
        assert_eq!(choice.relays[&id("a")].connections(), 1 + 2, "lower, then as before: nothing is new");
        let late = start + TICKET + REPORT_DELAY;
        choice.report(&id("a"), generations[0], report(1, 1), late);
        assert_eq!(choice.relays[&id("a")].connections(), 1);
    }

    #[test]
    fn a_promise_is_taken_back_once_and_no_other_with_it() {
        let now = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a"], now);
        let mut promised = || choice.choose(None, now + TICKET, now, &mut rand::rng()).unwrap();
        let (first, second, _third) = (promised(), promised(), promised());
        choice.take_back(&second);
        choice.take_back(&second);
        assert_eq!(choice.relays[&id("a")].promises.len(), 2);
        choice.report(&id("a"), generations[0], report(1, 1), now);
        choice.take_back(&first);
        assert_eq!(choice.relays[&id("a")].promises.len(), 1, "the first was kept");
    }

    #[test]
    fn equals_are_chosen_at_random() {
        let now = Instant::now();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let (mut choice, _) = with_relays(RelayChoice::Fewest, &["a", "b", "c"], now);
            let chosen = choice.choose(None, now + TICKET, now, &mut StdRng::seed_from_u64(seed));
            seen.insert(name(chosen).unwrap());
        }
        assert_eq!(seen.len(), 3);
    }

    /// Users log in at random managers, arrive at their relay 20–300 ms later, and each relay reports every second at its
    /// own moment. Returns the connections of each relay in the end.
    fn burst(managers: usize, logins: usize, per_ms: usize, seed: u64) -> Vec<u64> {
        const RELAYS: [&str; 4] = ["a", "b", "c", "d"];
        let mut random = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut choices: Vec<_> =
            (0..managers).map(|_| with_relays(RelayChoice::Fewest, &RELAYS, start)).collect();
        for (choice, _) in &mut choices {
            choice.set_others(managers - 1);
        }
        let mut connections = vec![0_u64; RELAYS.len()];
        let mut redeemed = vec![vec![0_u64; RELAYS.len()]; managers];
        let report_at: Vec<usize> = RELAYS.iter().map(|_| random.random_range(0..1000)).collect();
        let mut arrivals: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        let mut waiting = logins;
        for ms in 0.. {
            let now = start + Duration::from_millis(ms as u64);
            for (manager, relay) in arrivals.remove(&ms).unwrap_or_default() {
                connections[relay] += 1;
                redeemed[manager][relay] += 1;
            }
            for relay in (0..RELAYS.len()).filter(|relay| ms % 1000 == report_at[*relay]) {
                for (manager, (choice, generations)) in choices.iter_mut().enumerate() {
                    let report = report(connections[relay], redeemed[manager][relay]);
                    choice.report(&id(RELAYS[relay]), generations[relay], report, now);
                }
            }
            if waiting == 0 && arrivals.is_empty() {
                break;
            }
            for _ in 0..per_ms.min(waiting) {
                let manager = random.random_range(0..managers);
                let chosen = choices[manager].0.choose(None, now + TICKET, now, &mut random).unwrap();
                let relay = RELAYS.iter().position(|name| id(name) == chosen.id).unwrap();
                arrivals.entry(ms + random.random_range(20..300)).or_default().push((manager, relay));
                waiting -= 1;
            }
        }
        connections
    }

    fn assert_even(connections: &[u64]) {
        let mean = connections.iter().sum::<u64>() / connections.len() as u64;
        let limit = mean + mean / 20;
        assert!(connections.iter().all(|count| *count <= limit), "{connections:?}");
    }

    #[test]
    fn ten_thousand_logins_at_once_spread_within_five_percent() {
        for managers in [1, 3] {
            assert_even(&burst(managers, 10_000, 10_000, 1));
        }
    }

    #[test]
    fn ten_thousand_logins_within_seconds_spread_within_five_percent_although_reports_lag() {
        for managers in [1, 3] {
            for seed in 0..4 {
                assert_even(&burst(managers, 10_000, 2, seed));
            }
        }
    }

    /// A relay that joins late is filled up to the others and not beyond them, by however many managers.
    #[test]
    fn a_relay_that_was_behind_is_not_overrun_by_several_managers() {
        let start = Instant::now();
        let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["old", "new"], start);
        choice.set_others(2);
        choice.report(&id("old"), generations[0], report(90, 0), start);
        let given = (0..30).filter(|_| {
            let chosen = choice.choose(None, start + TICKET, start + SILENCE / 2, &mut rand::rng());
            name(chosen).unwrap() == "new"
        });
        assert_eq!(given.count(), 30, "thirty from each of three managers make it even");
        let chosen: Vec<_> = (0..20)
            .map(|_| choice.choose(None, start + TICKET, start + SILENCE / 2, &mut rand::rng()))
            .map(|chosen| name(chosen).unwrap())
            .collect();
        assert_eq!(chosen.iter().filter(|name| *name == "old").count(), 10);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Choose,
        Redeem(u8),
        Report,
        /// Before the relay has the key again.
        ReportNone,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Choose),
            2 => (1_u8..4).prop_map(Step::Redeem),
            2 => Just(Step::Report),
            1 => Just(Step::ReportNone),
            1 => (1_u64..1500).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Tickets live 3 s here and a relay reports at most one second after a redemption, as it does in life.
        #[test]
        fn every_promise_is_removed_exactly_once(steps in proptest::collection::vec(step(), 1..200)) {
            let life = Duration::from_secs(3);
            let mut now = Instant::now();
            let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a"], now);
            let relay = id("a");
            // The tickets that can still be redeemed, and those whose redemption or expiry is not yet to be seen.
            let mut open: VecDeque<Instant> = VecDeque::new();
            let (mut promised, mut redeemed, mut expired) = (0_usize, 0_usize, 0_usize);
            let held = |choice: &mut Choice, now: Instant, redeemed: usize| {
                choice.report(&relay, generations[0], report(0, redeemed as u64), now);
                choice.relays[&relay].promises.len()
            };
            for step in steps {
                match step {
                    Step::Choose => {
                        choice.choose(None, now + life, now, &mut rand::rng()).unwrap();
                        open.push_back(now + life);
                        promised += 1;
                    }
                    Step::Redeem(count) => {
                        for _ in 0..count {
                            redeemed += usize::from(open.pop_front().is_some());
                        }
                    }
                    Step::Report => {}
                    Step::ReportNone => {
                        held(&mut choice, now, 0);
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                }
                while open.front().is_some_and(|expiry| *expiry <= now) {
                    open.pop_front();
                    expired += 1;
                }
                // Nothing is removed early; an expired one may stand for `REPORT_DELAY` longer.
                let held = held(&mut choice, now, redeemed);
                prop_assert!(held >= open.len());
                prop_assert!(held <= promised - redeemed);
            }
            let end = now + life + REPORT_DELAY;
            prop_assert_eq!(held(&mut choice, end, redeemed), 0);
            prop_assert_eq!(promised, redeemed + expired + open.len());
        }
    }
}
