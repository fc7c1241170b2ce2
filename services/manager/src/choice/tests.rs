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
    Report { connections, redeemed, loop_delay: Duration::ZERO, draining: false }
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
    let slow = Report { connections: 0, redeemed: 0, loop_delay: Duration::from_millis(9), draining: false };
    let fast =
        Report { connections: 900, redeemed: 0, loop_delay: Duration::from_micros(200), draining: false };
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
fn a_relay_that_drains_is_offered_to_nobody() {
    let now = Instant::now();
    let (mut choice, generations) = with_relays(RelayChoice::Fewest, &["a", "b"], now);
    choice.report(&id("b"), generations[1], report(100, 0), now);
    choice.report(&id("a"), generations[0], Report { draining: true, ..report(0, 0) }, now);
    assert_eq!(name(choice.choose(None, now + TICKET, now, &mut rand::rng())).unwrap(), "b");
    // Better none than one that will be gone.
    choice.report(&id("b"), generations[1], Report { draining: true, ..report(100, 0) }, now);
    assert_eq!(choice.choose(None, now + TICKET, now, &mut rand::rng()), None);
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
