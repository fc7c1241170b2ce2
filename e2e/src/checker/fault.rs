//! What can be done to a system: one thing goes wrong, for a while, and is right again.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::dice::Dice;
use super::history::Place;
use super::journal::Journal;
use crate::island::Loss;
use crate::network::{POSTGRES, REDIS};
use crate::proxy::{Flow, Way};
use crate::system::{CLIENTS, RELAYS, System};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again after a while.
    Killed(String, Duration),
    /// SIGSTOP, and SIGCONT after a while.
    Paused(String, Duration),
    /// Redis killed; it comes back empty.
    RedisKilled(Duration),
    /// Redis emptied.
    RedisEmptied,
    /// `PostgreSQL` ended at once, without writing anything.
    PostgresKilled(Duration),
    /// The network between every manager and `PostgreSQL`.
    PostgresApart(Trouble, Duration),
    /// The network between two parts, or from one to the other.
    Network(String, String, Trouble, Duration),
    /// The network between a component and all of its clients.
    Clients(String, Trouble, Duration),
    /// Packets between the relay on the island and somebody, or from one to the other.
    Dropped(String, String, Loss, Duration),
    /// Every component ended with SIGTERM and started again, one after the other.
    RollingRestart,
}

/// What is wrong with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing passes; connections seem to be there.
    HalfOpen,
    /// Nothing passes from the first to the second.
    DeafForth,
    /// Nothing passes from the second to the first.
    DeafBack,
    /// Everything passes so much later, each way.
    Slow(Duration),
    /// Connections are reset, and new ones too.
    Cut,
    /// Nothing passes; the connections that there were are dead without a word, also when new ones pass.
    Forgotten,
}

/// Longer than a lease of 6 s, however long ago it was renewed.
const PAST_THE_LEASE: Duration = Duration::from_secs(9);

/// Each goes wrong so long after the one before it; when this returns everything is right again. What they excuse goes into
/// the journal.
pub async fn happen(faults: &[Fault], apart: Duration, system: &mut System, journal: &Journal) {
    let mut ends = Vec::new();
    let began = Instant::now();
    for (fault, nth) in faults.iter().zip(0..) {
        sleep_until(began + apart * nth).await;
        let since = Instant::now();
        fault.begins(system).await;
        ends.push((since + fault.lasts(), since, fault));
    }
    ends.sort_by_key(|(end, ..)| *end);
    for (end, since, fault) in ends {
        sleep_until(end).await;
        fault.ends(system).await;
        if let Some((place, grace)) = fault.excuses() {
            journal.disturbed(since, grace, place);
        }
    }
    for fault in faults {
        // Only now: while something else was wrong it may have had to wait.
        if let Fault::Killed(part, _) = fault {
            system.is_ready(part).await;
        }
    }
    if faults.iter().filter(|fault| fault.takes_manager()).count() > 1 {
        // Somebody may have had none.
        journal.disturbed(began, NO_MANAGER, Place::Everywhere);
    }
}

/// A relay that had no manager in reach has one again so soon.
const NO_MANAGER: Duration = Duration::from_secs(3);

/// What can fail.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// How many managers there are.
    pub managers: u16,
    /// How many relays there are behind proxies.
    pub relays: u16,
    /// The relay that is in a namespace of its own.
    pub island: Option<u16>,
}

impl Parts {
    /// Those of a system.
    pub fn of(system: &System) -> Parts {
        let island = system.island();
        let relays = system.relays() - u16::from(island.is_some());
        Parts { managers: system.managers(), relays, island }
    }
}

impl Fault {
    /// Each kind once, for a system of 2 managers and 3 relays at least.
    pub fn each(parts: Parts) -> Vec<Fault> {
        let (relay, manager) = (|n: u16| format!("relay-{n}"), |n: u16| format!("manager-{n}"));
        let s = Duration::from_secs;
        let slow = Trouble::Slow(Duration::from_millis(200));
        let dropped =
            |other: &str, loss, time| Some(Fault::Dropped(relay(parts.island?), other.into(), loss, time));
        let dropped = [
            dropped("manager-1", Loss::BothWays, s(7)),
            dropped("manager-2", Loss::Back, s(4)),
            dropped(RELAYS, Loss::BothWays, s(4)),
            dropped(CLIENTS, Loss::BothWays, s(9)),
        ];
        let mut faults = vec![
            Fault::Killed(relay(1), s(1)),
            Fault::Killed(manager(1), s(1)),
            Fault::Killed("tracker".into(), s(1)),
            Fault::Paused(relay(2), PAST_THE_LEASE),
            Fault::Paused(manager(2), PAST_THE_LEASE),
            Fault::RedisEmptied,
            Fault::RedisKilled(s(2)),
            Fault::PostgresKilled(s(2)),
            Fault::PostgresApart(Trouble::Forgotten, s(3)),
            Fault::Network(manager(1), POSTGRES.into(), Trouble::Forgotten, s(1)),
            Fault::Network(relay(1), relay(2), Trouble::HalfOpen, s(5)),
            Fault::Network(relay(2), manager(1), Trouble::HalfOpen, s(7)),
            Fault::Network(relay(3), manager(2), Trouble::DeafBack, s(7)),
            Fault::Network(relay(1), manager(2), Trouble::Cut, s(3)),
            Fault::Network(relay(1), manager(1), slow, s(3)),
            Fault::Clients(relay(3), Trouble::HalfOpen, s(9)),
            Fault::Clients(relay(1), Trouble::DeafForth, s(3)),
            Fault::Clients(relay(2), Trouble::Cut, s(1)),
        ];
        faults.extend(dropped.into_iter().flatten());
        faults.push(Fault::RollingRestart);
        faults
    }

    /// What goes wrong together, and how far apart it begins.
    pub fn pairs() -> Vec<([Fault; 2], Duration)> {
        let s = Duration::from_secs;
        // Who has lost the one turns to the other, waits there in vain and comes back: and is then logged in a second time by what it has
        // left behind there.
        let left_behind =
            [Fault::Paused("manager-2".into(), PAST_THE_LEASE), Fault::Killed("manager-1".into(), s(1))];
        // Nobody else can take over what it had in Redis, and it comes back to find that away, or empty.
        let without_redis = [Fault::RedisKilled(s(3)), Fault::Killed("manager-2".into(), s(1))];
        let soon = Duration::from_millis(200);
        vec![(left_behind, soon), (without_redis, soon)]
    }

    /// Any one, anywhere, for any time from a moment to past the lease.
    pub fn random(dice: &mut Dice, parts: Parts) -> Fault {
        let Parts { managers, relays, island } = parts;
        let one_of =
            |dice: &mut Dice, role: &str, many: u16| format!("{role}-{}", 1 + dice.below(many.into()));
        let relay = one_of(dice, "relay", relays);
        let manager = one_of(dice, "manager", managers);
        let time = Duration::from_millis(dice.one_of(&[200, 1000, 3000, 5000, 7000, 10_000]));
        let apart = format!("relay-{}", island.unwrap_or_default());
        match dice.below(if island.is_some() { 20 } else { 16 }) {
            0 => Fault::Killed(relay, time),
            1 => Fault::Killed(manager, time),
            2 => Fault::Killed("tracker".into(), time),
            3 => Fault::Paused(relay, time),
            4 => Fault::Paused(manager, time),
            5 => Fault::Paused("tracker".into(), time),
            6 => Fault::RedisKilled(time),
            7 => Fault::RedisEmptied,
            8 => {
                let apart = Fault::PostgresApart(Trouble::of_a_store(dice), time);
                dice.one_of(&[Fault::PostgresKilled(time), apart])
            }
            9 => {
                let others: Vec<String> =
                    (1..=relays).map(|n| format!("relay-{n}")).filter(|other| *other != relay).collect();
                Fault::Network(relay, dice.one_of(&others), Trouble::any(dice), time)
            }
            10 | 11 => Fault::Network(relay, manager, Trouble::any(dice), time),
            12 => Fault::Network(dice.one_of(&[relay, manager]), REDIS.into(), Trouble::any(dice), time),
            13 => Fault::Network(manager, POSTGRES.into(), Trouble::of_a_store(dice), time),
            14 => Fault::Clients(dice.one_of(&[relay.clone(), relay, manager]), Trouble::any(dice), time),
            15 => Fault::RollingRestart,
            16 => dice.one_of(&[Fault::Killed(apart.clone(), time), Fault::Paused(apart, time)]),
            _ => {
                let other = dice.one_of(&[&*manager, RELAYS, CLIENTS, REDIS]).to_string();
                Fault::Dropped(apart, other, dice.one_of(&[Loss::BothWays, Loss::Forth, Loss::Back]), time)
            }
        }
    }

    /// What it is called in the figures.
    pub fn kind(&self) -> String {
        let role = |name: &str| name.split('-').next().unwrap_or(name).to_string();
        match self {
            Fault::Killed(part, _) => format!("{} killed", role(part)),
            Fault::Paused(part, _) => format!("{} paused", role(part)),
            Fault::RedisKilled(_) => "redis killed".into(),
            Fault::RedisEmptied => "redis emptied".into(),
            Fault::PostgresKilled(_) => "postgres killed".into(),
            Fault::PostgresApart(trouble, _) => format!("network managers–postgres {}", trouble.kind()),
            Fault::Network(one, other, trouble, _) => {
                format!("network {}–{} {}", role(one), role(other), trouble.kind())
            }
            Fault::Clients(of, trouble, _) => format!("network client–{} {}", role(of), trouble.kind()),
            Fault::Dropped(of, other, loss, _) => {
                format!("packets {}–{} dropped {}", role(of), role(other), told(*loss))
            }
            Fault::RollingRestart => "rolling restart".into(),
        }
    }

    /// How long it lasts.
    fn lasts(&self) -> Duration {
        match self {
            Fault::Killed(_, time)
            | Fault::Paused(_, time)
            | Fault::RedisKilled(time)
            | Fault::PostgresKilled(time)
            | Fault::PostgresApart(_, time)
            | Fault::Network(.., time)
            | Fault::Clients(.., time)
            | Fault::Dropped(.., time) => *time,
            Fault::RedisEmptied | Fault::RollingRestart => Duration::ZERO,
        }
    }

    /// Whether it can go wrong while this other thing is wrong.
    pub fn goes_with(&self, other: &Fault) -> bool {
        let (one, two) = (self.hits(), other.hits());
        ![one, two].contains(&Some("everything")) && (one.is_none() || one != two)
    }

    /// The process that it is about.
    fn hits(&self) -> Option<&str> {
        match self {
            Fault::Killed(part, _) | Fault::Paused(part, _) => Some(part),
            Fault::RedisKilled(_) | Fault::RedisEmptied => Some(REDIS),
            Fault::PostgresKilled(_) | Fault::PostgresApart(..) => Some(POSTGRES),
            Fault::RollingRestart => Some("everything"),
            Fault::Network(..) | Fault::Clients(..) | Fault::Dropped(..) => None,
        }
    }

    async fn begins(&self, system: &mut System) {
        match self {
            Fault::Killed(part, _) => system.kill(part),
            Fault::Paused(part, _) => system.pause(part),
            Fault::RedisKilled(_) => system.redis().kill(),
            Fault::RedisEmptied => system.redis().flush_all().await,
            Fault::PostgresKilled(_) => system.postgres().crash().await,
            Fault::PostgresApart(trouble, _) => {
                (1..=system.managers())
                    .for_each(|n| trouble.begins(system, &format!("manager-{n}"), POSTGRES));
            }
            Fault::Network(one, other, trouble, _) => trouble.begins(system, one, other),
            Fault::Clients(of, trouble, _) => {
                let flows = trouble.flows();
                let way = flows.map_or(Way::Closed, |(forth, back)| Way::Open { forth, back });
                system.network().clients(of, way);
            }
            Fault::Dropped(_, other, loss, _) => system.drops(other, *loss),
            Fault::RollingRestart => {
                for name in ["tracker".to_string()].into_iter().chain(system.components()) {
                    system.restarts(&name).await;
                }
            }
        }
    }

    async fn ends(&self, system: &mut System) {
        match self {
            Fault::Killed(part, _) => system.part(part).start_again(),
            Fault::Paused(part, _) => system.resume(part),
            Fault::RedisKilled(_) => system.redis().start_again().await,
            Fault::PostgresKilled(_) => system.postgres().start_again().await,
            Fault::PostgresApart(..) => {
                (1..=system.managers()).for_each(|n| heals(system, &format!("manager-{n}"), POSTGRES));
            }
            Fault::Network(one, other, ..) => heals(system, one, other),
            Fault::Clients(of, ..) => system.network().clients(of, Way::CLEAR),
            Fault::Dropped(_, other, loss, _) => system.passes(other, *loss),
            Fault::RedisEmptied | Fault::RollingRestart => {}
        }
    }

    /// Whether a manager stops, as a process.
    pub fn stops_manager(&self) -> bool {
        matches!(self, Fault::Killed(part, _) | Fault::Paused(part, _) if is_manager(part))
    }

    /// Whether it takes a manager from somebody.
    fn takes_manager(&self) -> bool {
        match self {
            Fault::Killed(..) | Fault::Paused(..) => self.stops_manager(),
            Fault::Network(one, other, ..) | Fault::Dropped(one, other, ..) => {
                is_manager(one) || is_manager(other)
            }
            _ => false,
        }
    }

    /// Which devices may wait longer while it lasts, and for so long after it. Nobody may because of anything for which there
    /// is a second one: another manager, another way to learn that a log has grown.
    fn excuses(&self) -> Option<(Place, Duration)> {
        let relay = |name: &str| Some(Place::Relay(name.strip_prefix("relay-")?.parse().ok()?));
        match self {
            // A new life, in which every connection is claimed again, by managers that are told of it.
            Fault::Paused(part, _) => Some((relay(part)?, Duration::from_secs(4))),
            Fault::PostgresKilled(_) | Fault::PostgresApart(..) => {
                Some((Place::Everywhere, Duration::from_secs(3)))
            }
            Fault::Clients(of, _, _) => Some((relay(of)?, Duration::from_secs(1))),
            // Whose packets were dropped sends again as long after as it has waited.
            Fault::Dropped(of, other, _, time) if other == CLIENTS => {
                Some((relay(of)?, *time + Duration::from_secs(1)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Killed(part, time) => write!(f, "{part} killed, back after {time:?}"),
            Fault::Paused(part, time) => write!(f, "{part} paused for {time:?}"),
            Fault::RedisKilled(time) | Fault::PostgresKilled(time) => {
                write!(f, "{}, back after {time:?}", self.kind())
            }
            Fault::RedisEmptied | Fault::RollingRestart => f.write_str(&self.kind()),
            Fault::PostgresApart(_, time) => write!(f, "{} for {time:?}", self.kind()),
            Fault::Network(one, other, trouble, time) => {
                write!(f, "network {one}–{other} {} for {time:?}", trouble.kind())
            }
            Fault::Clients(of, trouble, time) => {
                write!(f, "network clients–{of} {} for {time:?}", trouble.kind())
            }
            Fault::Dropped(of, other, loss, time) => {
                write!(f, "packets {of}–{other} dropped {} for {time:?}", told(*loss))
            }
        }
    }
}

fn is_manager(part: &str) -> bool {
    part.starts_with("manager")
}

fn heals(system: &System, one: &str, other: &str) {
    system.network().between(one, other, Flow::Pass, Flow::Pass);
}

fn told(loss: Loss) -> &'static str {
    match loss {
        Loss::BothWays => "both ways",
        Loss::Forth => "forth",
        Loss::Back => "back",
    }
}

impl Trouble {
    fn begins(self, system: &System, one: &str, other: &str) {
        match (self, self.flows()) {
            (Trouble::Forgotten, _) => system.network().forgets_between(one, other),
            (_, Some((forth, back))) => system.network().between(one, other, forth, back),
            (_, None) => system.network().cut_between(one, other),
        }
    }

    /// Also what only who dials a store is known to find out.
    fn of_a_store(dice: &mut Dice) -> Trouble {
        let any = Trouble::any(dice);
        if dice.once_in(3) { Trouble::Forgotten } else { any }
    }

    fn any(dice: &mut Dice) -> Trouble {
        let slow = Trouble::Slow(Duration::from_millis(dice.one_of(&[50, 300, 1000])));
        dice.one_of(&[Trouble::HalfOpen, Trouble::DeafForth, Trouble::DeafBack, slow, Trouble::Cut])
    }

    /// From the first to the second, and back; none where there is no connection any more.
    fn flows(self) -> Option<(Flow, Flow)> {
        match self {
            Trouble::HalfOpen | Trouble::Forgotten => Some((Flow::Stall, Flow::Stall)),
            Trouble::DeafForth => Some((Flow::Stall, Flow::Pass)),
            Trouble::DeafBack => Some((Flow::Pass, Flow::Stall)),
            Trouble::Slow(by) => Some((Flow::Delay(by), Flow::Delay(by))),
            Trouble::Cut => None,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Trouble::HalfOpen => "half-open",
            Trouble::DeafForth => "dropped forth",
            Trouble::DeafBack => "dropped back",
            Trouble::Slow(_) => "delayed",
            Trouble::Cut => "cut",
            Trouble::Forgotten => "forgotten",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts = Parts { managers: 2, relays: 3, island: Some(4) };

    #[test]
    fn a_seed_brings_the_same_faults_again_and_in_time_every_kind() {
        let faults = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000).map(|_| Fault::random(&mut dice, PARTS)).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        let kinds: Vec<String> = faults(1).iter().map(Fault::kind).collect();
        for fault in Fault::each(PARTS) {
            assert!(kinds.contains(&fault.kind()), "never: {fault}");
        }
    }

    #[test]
    fn without_an_island_no_packets_are_dropped() {
        let parts = Parts { island: None, ..PARTS };
        let mut dice = Dice::new(1);
        let mut faults = Fault::each(parts);
        faults.extend((0..500).map(|_| Fault::random(&mut dice, parts)));
        assert!(!faults.iter().any(|fault| matches!(fault, Fault::Dropped(..))));
        let of_the_island = faults.iter().find(|fault| fault.to_string().contains("relay-4"));
        assert_eq!(of_the_island, None);
    }

    #[test]
    fn what_hits_the_same_process_does_not_overlap() {
        let killed = |part: &str| Fault::Killed(part.into(), Duration::ZERO);
        let paused = Fault::Paused("relay-1".into(), Duration::ZERO);
        let network = Fault::Network("relay-1".into(), "relay-2".into(), Trouble::Cut, Duration::ZERO);
        assert!(!killed("relay-1").goes_with(&paused));
        assert!(killed("relay-2").goes_with(&paused));
        assert!(killed("relay-1").goes_with(&network) && network.goes_with(&network));
        let apart = Fault::PostgresApart(Trouble::Forgotten, Duration::ZERO);
        assert!(!apart.goes_with(&Fault::PostgresKilled(Duration::ZERO)) && apart.goes_with(&paused));
        assert!(!Fault::RedisEmptied.goes_with(&Fault::RedisKilled(Duration::ZERO)));
        assert!(!Fault::RollingRestart.goes_with(&network) && !network.goes_with(&Fault::RollingRestart));
    }
}
