//! `kurir bench tracked`: pairs of users, one sends tracked messages, the other reads its log and acknowledges.
//!
//! Closed loop (a window in each pair) says how many are stored per second; open loop (`--rate`) how long one takes while
//! the server is not saturated, counted from the moment it was due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    Common, Stores,
    check::{Check, Findings},
    latency::Schedule,
    lines::{self, Lines},
    report::{Report, quantile_ms, rounded},
    sending::Sending,
    server::{PasswordCost, Server, Usage},
    users,
};

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is under way when the time is over has this long to be acknowledged and to arrive.
const TAIL: Duration = Duration::from_secs(10);

/// What was refused goes again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// `kurir bench tracked`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    stores: Stores,
    /// Pairs of users.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pairs: usize,
    /// Messages in each pair that wait for their acknowledgement.
    #[arg(long, default_value_t = 16, value_name = "N")]
    window: u64,
    /// Messages per second over all pairs, open loop, instead of a window.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Bytes of one message as the sender writes it.
    #[arg(long, default_value_t = 100, value_name = "N")]
    bytes: usize,
    /// Seconds measured, after one of warm-up.
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u64,
    /// How often it is measured.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(
        args.pairs > 0 && args.window > 0 && args.seconds > 0 && args.rounds > 0,
        "pairs, window, seconds and rounds must be at least 1"
    );
    let mut report = Report::default();
    for round in 1..=args.rounds {
        let run = measure(&args).await?;
        report.found(run.seen.findings);
        report.row(run.row(&args, round));
    }
    report.finish(args.common.json)
}

/// One run's figures.
struct Run {
    /// Messages acknowledged in the time measured, and that time.
    stored: u64,
    seconds: f64,
    cpu_seconds: f64,
    rss_bytes: u64,
    seen: Seen,
}

impl Run {
    fn row(&self, args: &Args, round: usize) -> Vec<(&'static str, Value)> {
        let Seen { acknowledged, delivered, refusals, findings } = &self.seen;
        let per_second = self.stored as f64 / self.seconds;
        let per_cpu_second = self.stored as f64 / self.cpu_seconds.max(0.01);
        let ms = |histogram, quantile| rounded(quantile_ms(histogram, quantile));
        vec![
            ("database", Value::from(args.stores.name())),
            ("round", Value::from(round)),
            ("pairs", Value::from(args.pairs)),
            args.rate.map_or(("window", args.window.into()), |rate| ("rate", rate.into())),
            ("messages", Value::from(self.stored)),
            ("per_second", rounded(per_second)),
            ("per_cpu_second", rounded(per_cpu_second)),
            ("ack_p50_ms", ms(acknowledged, 0.5)),
            ("ack_p99_ms", ms(acknowledged, 0.99)),
            ("ack_p999_ms", ms(acknowledged, 0.999)),
            ("delivery_p50_ms", ms(delivered, 0.5)),
            ("delivery_p99_ms", ms(delivered, 0.99)),
            ("rss_mib", rounded(self.rss_bytes as f64 / f64::from(1 << 20))),
            ("refusals", Value::from(*refusals)),
            ("lost", Value::from(findings.lost)),
            ("duplicated", Value::from(findings.duplicated)),
            ("reordered", Value::from(findings.reordered)),
        ]
    }
}

async fn measure(args: &Args) -> anyhow::Result<Run> {
    let server = Server::up_with(&args.common, &args.stores, PasswordCost::Least).await?;
    let names = new_names()?;
    let (base, managers) = (args.common.port_base, args.stores.managers);
    let pairs = users::many("pairs connected", args.pairs, |index| {
        let (manager, names) = (users::manager_in_turn(base, managers, index), names.clone());
        async move { Pair::connect(&manager, &names, index).await }
    })
    .await?;

    let begin = Instant::now() + Duration::from_millis(100);
    let load = Arc::new(Load::new(args, begin));
    let mut tasks = JoinSet::new();
    for pair in pairs {
        tasks.spawn(pair.drive(Arc::clone(&load), args.bytes));
    }
    let pacing = Arc::clone(&load);
    let pacer = tokio::task::spawn_blocking(move || pacing.pace());

    sleep_until(load.start.into()).await;
    let before = server.usage()?;
    let count = load.stored.load(Ordering::Relaxed);
    let mut rss_bytes = 0;
    let mut after: Usage = before;
    for second in 1..=args.seconds {
        sleep_until((load.start + Duration::from_secs(second)).into()).await;
        after = server.usage()?;
        rss_bytes = rss_bytes.max(after.rss_bytes);
        let so_far = load.stored.load(Ordering::Relaxed) - count;
        users::progress(&format!("tracked: {second}/{} s, {so_far} messages stored", args.seconds));
    }
    let stored = load.stored.load(Ordering::Relaxed) - count;
    let seconds = load.start.elapsed().as_secs_f64();
    users::end_progress();
    pacer.await?;
    let mut seen = Seen::new()?;
    while let Some(of_pair) = tasks.join_next().await {
        seen.add(&of_pair??)?;
    }
    server.stop().await?;
    Ok(Run { stored, seconds, cpu_seconds: after.cpu_seconds - before.cpu_seconds, rss_bytes, seen })
}

/// What names end with: a database that is given may have those of an earlier run.
pub(super) fn new_names() -> anyhow::Result<String> {
    Ok(format!("t{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis()))
}

/// What all pairs do, and how far they are.
struct Load {
    /// What is sent from here on counts, until the end, when nothing more is sent.
    start: Instant,
    end: Instant,
    loops: Loop,
    stored: AtomicU64,
}

enum Loop {
    /// So many under way in each pair.
    Closed(u64),
    /// Each when it is due; one bell for each pair.
    Open { schedule: Schedule, due: Vec<Notify> },
}

impl Load {
    fn new(args: &Args, begin: Instant) -> Load {
        let start = begin + WARM_UP;
        let loops = match args.rate {
            None => Loop::Closed(args.window),
            Some(rate) => Loop::Open {
                schedule: Schedule { start: begin, rate, pairs: args.pairs as u64 },
                due: (0..args.pairs).map(|_| Notify::new()).collect(),
            },
        };
        let end = start + Duration::from_secs(args.seconds);
        Load { start, end, loops, stored: AtomicU64::new(0) }
    }

    /// Rings each pair's bell when a message of it is due. In a thread of its own: a runtime's clock has milliseconds.
    fn pace(&self) {
        let Loop::Open { schedule, due } = &self.loops else { return };
        for number in 0.. {
            for (index, bell) in (0_u64..).zip(due) {
                let at = schedule.due(index, number);
                if at >= self.end {
                    return;
                }
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                bell.notify_one();
            }
        }
    }

    /// Waits until a message of this pair may be due.
    async fn bell(&self, index: usize) {
        let Loop::Open { due, .. } = &self.loops else { return std::future::pending().await };
        match due.get(index) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Appends what this pair sends now.
    fn fill(&self, index: usize, sending: &mut Sending, out: &mut Vec<u8>) {
        let now = Instant::now();
        match &self.loops {
            Loop::Closed(window) => {
                while now < self.end && sending.unsettled() < *window && sending.send(out, now) {}
            }
            Loop::Open { schedule, .. } => loop {
                let due = schedule.due(index as u64, sending.sent());
                if due > now || due >= self.end || !sending.send(out, due) {
                    break;
                }
            },
        }
    }

    fn is_measured(&self, since: Instant) -> bool {
        (self.start..self.end).contains(&since)
    }
}

/// What one pair has seen, or all of them.
struct Seen {
    /// Microseconds.
    acknowledged: Histogram<u64>,
    delivered: Histogram<u64>,
    refusals: u64,
    findings: Findings,
}

impl Seen {
    fn new() -> anyhow::Result<Seen> {
        let (acknowledged, delivered) = (Histogram::new(3)?, Histogram::new(3)?);
        Ok(Seen { acknowledged, delivered, refusals: 0, findings: Findings::default() })
    }

    fn add(&mut self, other: &Seen) -> anyhow::Result<()> {
        self.acknowledged.add(&other.acknowledged)?;
        self.delivered.add(&other.delivered)?;
        self.refusals += other.refusals;
        self.findings += other.findings;
        Ok(())
    }
}

/// A sender's and its receiver's connection, both reading their logs.
struct Pair {
    index: usize,
    receiver_name: String,
    sender: TcpStream,
    receiver: TcpStream,
    /// They are online as long as these are open.
    _managers: [TcpStream; 2],
}

impl Pair {
    async fn connect(manager: &str, names: &str, index: usize) -> anyhow::Result<Pair> {
        let (a, b) = (format!("a{index}{names}"), format!("b{index}{names}"));
        let first = users::login(manager, &a, true).await?;
        let second = users::login(manager, &b, true).await?;
        let sender = users::resume(&a, &first.ticket).await?;
        let receiver = users::resume(&b, &second.ticket).await?;
        let managers = [first.manager, second.manager];
        Ok(Pair { index, receiver_name: b, sender, receiver, _managers: managers })
    }

    async fn drive(mut self, load: Arc<Load>, bytes: usize) -> anyhow::Result<Seen> {
        let mut seen = Seen::new()?;
        let mut sending = Sending::new(&self.receiver_name, "s", bytes);
        let mut check = Check::default();
        let whole = self.exchange(&load, &mut sending, &mut check, &mut seen);
        // A message that is lost leaves its pair waiting: the check below counts it.
        let limit = sleep_until((load.end + TAIL).into());
        tokio::select! {
            result = whole => result?,
            () = limit => {}
        }
        seen.refusals = sending.refusals();
        seen.findings = Findings::of_both(sending.findings(), check.findings(sending.sent()));
        Ok(seen)
    }

    /// Until everything is sent, acknowledged and delivered.
    async fn exchange(
        &mut self,
        load: &Load,
        sending: &mut Sending,
        check: &mut Check,
        seen: &mut Seen,
    ) -> anyhow::Result<()> {
        let (mut answers, mut deliveries) = (Lines::default(), Lines::default());
        let mut out = Vec::new();
        load.fill(self.index, sending, &mut out);
        write(&mut self.sender, &mut out).await?;
        while Instant::now() < load.end || sending.unsettled() > 0 || check.received() < sending.sent() {
            tokio::select! {
                open = answers.read(&mut self.sender) => {
                    ensure!(open?, "the relay has closed a sender's connection");
                    let place = note_answers(&mut answers, load, sending, seen)?;
                    acknowledge(&mut out, place);
                    load.fill(self.index, sending, &mut out);
                    write(&mut self.sender, &mut out).await?;
                }
                open = deliveries.read(&mut self.receiver) => {
                    ensure!(open?, "the relay has closed a receiver's connection");
                    let place = note_deliveries(&mut deliveries, load, sending, check, seen)?;
                    acknowledge(&mut out, place);
                    write(&mut self.receiver, &mut out).await?;
                }
                () = load.bell(self.index) => {
                    load.fill(self.index, sending, &mut out);
                    write(&mut self.sender, &mut out).await?;
                }
                () = sleep(PAUSE), if sending.is_held() => {
                    sending.send_again(&mut out);
                    load.fill(self.index, sending, &mut out);
                    write(&mut self.sender, &mut out).await?;
                }
                // Nothing may be under way when the time is over.
                () = sleep_until(load.end.into()), if Instant::now() < load.end => {}
            }
        }
        Ok(())
    }
}

/// The last place in the sender's log that came.
fn note_answers(
    answers: &mut Lines,
    load: &Load,
    sending: &mut Sending,
    seen: &mut Seen,
) -> anyhow::Result<Option<u64>> {
    let now = Instant::now();
    let mut place = None;
    while let Some(line) = answers.next() {
        let Some(number) = sending.note(line)? else { continue };
        place = lines::seq(line).or(place);
        load.stored.fetch_add(1, Ordering::Relaxed);
        if let Some(since) = sending.since(number).filter(|since| load.is_measured(*since)) {
            seen.acknowledged.record(micros(now, since)?)?;
        }
    }
    Ok(place)
}

/// The last place in the receiver's log that came.
fn note_deliveries(
    deliveries: &mut Lines,
    load: &Load,
    sending: &Sending,
    check: &mut Check,
    seen: &mut Seen,
) -> anyhow::Result<Option<u64>> {
    let now = Instant::now();
    let mut place = None;
    while let Some(line) = deliveries.next() {
        let Some(number) = check.note(line) else { continue };
        place = lines::seq(line).or(place);
        if let Some(since) = sending.since(number).filter(|since| load.is_measured(*since)) {
            seen.delivered.record(micros(now, since)?)?;
        }
    }
    Ok(place)
}

pub(super) fn micros(now: Instant, since: Instant) -> anyhow::Result<u64> {
    Ok(u64::try_from(now.saturating_duration_since(since).as_micros())?)
}

/// The device has everything up to this place.
pub(super) fn acknowledge(out: &mut Vec<u8>, place: Option<u64>) {
    if let Some(place) = place {
        out.extend_from_slice(format!("{{\"stanza\":\"ack\",\"seq\":{place}}}\n").as_bytes());
    }
}

/// Writes and empties `out`.
pub(super) async fn write(stream: &mut TcpStream, out: &mut Vec<u8>) -> anyhow::Result<()> {
    if !out.is_empty() {
        timeout(TAIL, stream.write_all(out)).await.context("the relay does not read")??;
        out.clear();
    }
    Ok(())
}
