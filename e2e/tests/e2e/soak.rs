//! Nothing lost: devices write tracked messages to each other while one part of the system after the other fails, and
//! the checker judges what they saw.
//!
//! The short form takes three minutes and a half. The long one is as long as you say: `KURIR_SOAK_MINUTES=60 just soak`. What is
//! random follows from a seed that is printed: with `KURIR_SEED` the same faults come again in the same order, though not at
//! the same microsecond.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kurir_e2e::checker::device::{Phase, World};
use kurir_e2e::checker::fault::{Parts, happen};
use kurir_e2e::checker::people::{People, name_of};
use kurir_e2e::checker::{Dice, Fault, Journal, Verdict, judge};
use kurir_e2e::packets::{self, account_created};
use kurir_e2e::pattern::TEXT;
use kurir_e2e::{PATIENCE, Plan, System, Topology, until};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

kurir_e2e::shows! {
    soak: "";
}

const ACCOUNTS: usize = 12;

/// Each device writes this often: all 23 together about 55 messages a second, of which each is read by three devices.
const PACE: Duration = Duration::from_millis(400);

/// Between two faults, once everybody is back: so much goes its normal way.
const QUIET: Duration = Duration::from_secs(1);

/// So many messages are under way when a manager stops: all that the pair may have, as many as a relay's batch takes
/// (`kurir_delivery::storing`). At two relays that is half of one each.
const RUSH: usize = 512;

/// How many random faults the short form ends with.
const RANDOM: usize = 3;

/// Everybody is online again so soon after a fault's end.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// When nobody writes any more, everything is acked and read so soon.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let seed = number("KURIR_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        now.as_millis().try_into().expect("not in this age")
    });
    let long = number("KURIR_SOAK_MINUTES").map(|minutes| Duration::from_secs(minutes * 60));
    println!("KURIR_SEED={seed}");
    let mut soak = Soak::begins(seed).await;
    for fault in Fault::each(Parts::of(&soak.system)) {
        soak.suffers(&[fault], Duration::ZERO).await;
    }
    for (faults, apart) in Fault::pairs() {
        soak.suffers(&faults, apart).await;
    }
    let began = Instant::now();
    let mut random = 0;
    while long.map_or(random < RANDOM, |long| began.elapsed() < long) {
        random += 1;
        let (faults, apart) = soak.random_faults();
        soak.suffers(&faults, apart).await;
    }
    soak.ends(seed).await;
}

/// A system, its devices, and what has been done to it.
struct Soak {
    system: System,
    journal: Journal,
    phase: watch::Sender<Phase>,
    devices: JoinSet<()>,
    dice: Dice,
    began: Instant,
    faults: BTreeMap<String, usize>,
}

impl Soak {
    async fn begins(seed: u64) -> Soak {
        let system = Plan::new(Topology::Separate)
            .cheap_passwords()
            .with_an_island()
            .setting("log.level", "info,kurir_relay=debug,kurir_manager=debug")
            .start()
            .await;
        let mut dice = Dice::new(seed);
        let people = People::of(ACCOUNTS).and_a_pair();
        for account in 0..people.accounts() {
            registers(&system, &name_of(account)).await;
        }
        let accounts = people.accounts_of_devices();
        let many = accounts.len();
        let journal = Journal::of(accounts, people.plain());
        let (phase, watched) = watch::channel(Phase::Writing);
        let world = World {
            managers: (1..=system.managers()).map(|number| system.manager(number)).collect(),
            people: Arc::new(people),
            pace: PACE,
            journal: journal.clone(),
            phase: watched,
        };
        let mut devices = JoinSet::new();
        for device in 0..many {
            devices.spawn(world.clone().lives(device, dice.fork()));
        }
        let began = Instant::now();
        let mut soak = Soak { system, journal, phase, devices, dice, began, faults: BTreeMap::new() };
        soak.everybody_is_back("the beginning").await;
        soak
    }

    /// One, or two that overlap, and how far apart they begin.
    fn random_faults(&mut self) -> (Vec<Fault>, Duration) {
        let (parts, dice) = (Parts::of(&self.system), &mut self.dice);
        let mut faults = vec![Fault::random(dice, parts)];
        if dice.once_in(2) {
            let second = Fault::random(dice, parts);
            faults.extend(second.goes_with(&faults[0]).then_some(second));
        }
        let apart = dice.one_of(&[0, 100, 500, 2000]);
        (faults, Duration::from_millis(apart))
    }

    async fn suffers(&mut self, faults: &[Fault], apart: Duration) {
        let named: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let named = named.join(&format!(", and {apart:?} later "));
        println!("{:7.2} s  {named}", self.began.elapsed().as_secs_f64());
        if faults.iter().any(Fault::stops_manager) {
            self.phase.send_replace(Phase::Rush);
            let rushed = async || Some(self.journal.pending().0).filter(|under_way| *under_way >= RUSH);
            let (under_way, took) =
                until(BACK_WITHIN, "the pair has all under way that it may", rushed).await;
            println!("           {under_way} messages are under way after {took:.1?}");
        }
        happen(faults, apart, &mut self.system, &self.journal).await;
        self.phase.send_replace(Phase::Writing);
        for fault in faults {
            *self.faults.entry(fault.kind()).or_default() += 1;
        }
        self.everybody_is_back(&named).await;
        // Pacing, not waiting: the next fault hits a system at work.
        sleep(QUIET).await;
    }

    async fn everybody_is_back(&mut self, after: &str) {
        self.nobody_has_panicked();
        let online = async || (self.journal.offline() == 0).then_some(());
        let what = format!("everybody is online after: {after}");
        let (.., took) = until(BACK_WITHIN, &what, online).await;
        self.system.is_joined().await;
        if took > Duration::from_secs(1) {
            println!("           everybody is online again after {took:.1?}");
        }
    }

    fn nobody_has_panicked(&mut self) {
        if let Some(ended) = self.devices.try_join_next() {
            panic!("a device has ended: {ended:?}");
        }
    }

    async fn ends(mut self, seed: u64) {
        self.phase.send_replace(Phase::Settling);
        let settling = Instant::now();
        while self.journal.pending() != (0, 0) && settling.elapsed() < SETTLED_WITHIN {
            self.nobody_has_panicked();
            sleep(Duration::from_millis(50)).await;
        }
        let (unacked, undelivered) = self.journal.pending();
        println!("settled after {:.1?}: {unacked} not acked, {undelivered} not read", settling.elapsed());
        self.devices.shutdown().await;
        let verdict = judge(&self.journal.history());
        self.report(&verdict);
        if !verdict.wrongs.is_empty() {
            let kept = self.keep_evidence(seed);
            for (wrong, what) in verdict.wrongs.iter().take(40) {
                println!("{wrong:?}: {what}");
            }
            panic!(
                "KURIR_SEED={seed}: {} things are wrong; logs and history in {kept}",
                verdict.wrongs.len()
            );
        }
        self.system.stops().await;
    }

    fn report(&self, verdict: &Verdict) {
        println!("\n{:.0} s; faults:", self.began.elapsed().as_secs_f64());
        for (kind, count) in &self.faults {
            println!("{count:5}  {kind}");
        }
        println!("{verdict}");
    }

    /// Copies what a search for the cause needs out of the directory that goes with the system.
    fn keep_evidence(&self, seed: u64) -> String {
        let kept = std::env::temp_dir().join(format!("kurir-soak-{seed}"));
        std::fs::create_dir_all(&kept).expect("a directory");
        let logs = std::fs::read_dir(self.system.dir()).expect("the system's directory").flatten();
        for log in logs.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log")) {
            std::fs::copy(log.path(), kept.join(log.file_name())).expect("a copy");
        }
        self.journal.save(&kept.join("history")).expect("a history");
        kept.display().to_string()
    }
}

async fn registers(system: &System, name: &str) {
    let mut raw = system.at_manager(name, 1).await;
    raw.sends(json!({"type": "auth", "username": name, "password": "12345", "register": true})).await;
    let relay = packets::with(packets::relay(), "ip_local", TEXT);
    raw.receives(packets::with(account_created(), "component", vec![relay])).await;
    raw.sends(packets::unavailable(name)).await;
    raw.is_closed_in_the_end(PATIENCE).await;
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}
