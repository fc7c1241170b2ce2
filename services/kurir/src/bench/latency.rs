//! `kurir bench latency`: open loop at a fixed rate; a message's latency counts from the moment it was due, so a
//! stall is felt by every message that should have been sent during it.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{interval, sleep},
};

use super::{
    Common, Reference,
    check::{Check, Findings},
    pairs::{Stage, Target},
    report::{Report, quantile_ms, rounded},
    users,
};

/// What is under way when the time is over has this long to arrive.
const TAIL: Duration = Duration::from_secs(5);

/// `kurir bench latency`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Messages per second over all pairs.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    rate: u64,
    /// Pairs of users, sending in turn.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pairs: usize,
    /// Bytes of one message as the sender writes it.
    #[arg(long, default_value_t = 100, value_name = "N")]
    bytes: usize,
    /// Seconds measured.
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u64,
    /// How often each target is measured; the table shows each run and the medians' ratios.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Measure this too, in turn, for the ratio.
    #[arg(long, value_enum)]
    vs: Option<Reference>,
}

/// Messages per server CPU second and p99 in milliseconds of one run.
type Figures = (f64, f64);

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(
        args.rate > 0 && args.pairs > 0 && args.seconds > 0 && args.rounds > 0,
        "rate, pairs, seconds and rounds must be at least 1"
    );
    let mut report = Report::default();
    let (mut relay, mut reference): (Vec<Figures>, Vec<Figures>) = Default::default();
    for round in 1..=args.rounds {
        if args.vs == Some(Reference::Forwarder) {
            reference.push(measure(Target::Forwarder, &args, round, &mut report).await?);
        }
        relay.push(measure(Target::Relay, &args, round, &mut report).await?);
    }
    if !reference.is_empty() {
        let (relay_work, relay_p99) = relay.into_iter().unzip();
        let (work, p99) = reference.into_iter().unzip();
        report.ratio("per_cpu_second", relay_work, work);
        report.ratio("p99_ms", relay_p99, p99);
    }
    report.finish(args.common.json)
}

async fn measure(target: Target, args: &Args, round: usize, report: &mut Report) -> anyhow::Result<Figures> {
    let mut stage = Stage::set(target, &args.common, args.pairs).await?;
    let total = args.rate * args.seconds;
    let start = Instant::now() + Duration::from_millis(500);
    let schedule = Arc::new(Schedule { start, rate: args.rate, pairs: args.pairs as u64 });

    let (paced, _) = watch::channel(false);
    let mut senders = Vec::new();
    // Whose manager connection is gone is offline, and loses the relay's with it before long.
    let mut online = Vec::new();
    let mut receivers = JoinSet::new();
    for pair in std::mem::take(&mut stage.pairs) {
        // A blocking socket: the pacing thread writes it directly, so that no scheduler stands between the moment a
        // message is due and its system call.
        let sender = pair.sender.into_std()?;
        sender.set_nonblocking(false)?;
        sender.set_write_timeout(Some(TAIL))?;
        senders.push(sender);
        online.push(pair.managers);
        let expected = schedule.count_of(pair.index as u64, total);
        let schedule = Arc::clone(&schedule);
        receivers.spawn(receive(pair.receiver, pair.index as u64, expected, schedule, paced.subscribe()));
    }
    let before = stage.usage()?;
    let load =
        Load { target, bytes: args.bytes, total, sent: AtomicU64::new(0), schedule: Arc::clone(&schedule) };
    let load = Arc::new(load);
    let pacing = Arc::clone(&load);
    let mut pacer = tokio::task::spawn_blocking(move || pacing.pace(&mut senders));
    let mut second = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = &mut pacer => break ended??,
            _ = second.tick() => {
                let sent = load.sent.load(Ordering::Relaxed);
                users::progress(&format!("{}: {sent}/{total} messages at {}/s", target.name(), args.rate));
            }
        }
    }
    let took = start.elapsed().as_secs_f64().max(args.seconds as f64);
    let after = stage.usage()?;
    paced.send_replace(true);
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut findings = Findings::default();
    while let Some(result) = receivers.join_next().await {
        let (part, found) = result??;
        histogram.add(&part)?;
        findings += found;
    }
    users::end_progress();
    stage.server.stop().await?;
    drop(online);
    if target == Target::Relay {
        report.found(findings);
    }

    let per_cpu_second = total as f64 / (after.cpu_seconds - before.cpu_seconds).max(0.01);
    let p99 = quantile_ms(&histogram, 0.99);
    report.row(vec![
        ("target", Value::from(target.name())),
        ("round", Value::from(round)),
        ("rate", Value::from(args.rate)),
        ("per_second", rounded(total as f64 / took)),
        ("messages", Value::from(total)),
        ("per_cpu_second", rounded(per_cpu_second)),
        ("cpu_us_per_message", rounded(1e6 / per_cpu_second)),
        ("p50_ms", rounded(quantile_ms(&histogram, 0.5))),
        ("p99_ms", rounded(p99)),
        ("p999_ms", rounded(quantile_ms(&histogram, 0.999))),
        ("max_ms", rounded(histogram.max() as f64 / 1000.0)),
        ("rss_mib", rounded(after.rss_bytes as f64 / f64::from(1 << 20))),
        ("lost", Value::from(findings.lost)),
        ("duplicated", Value::from(findings.duplicated)),
        ("reordered", Value::from(findings.reordered)),
    ]);
    Ok((per_cpu_second, p99))
}

/// When each message is due: message n of all goes to pair n mod pairs.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    /// Messages per second over all pairs.
    pub(super) rate: u64,
    pub(super) pairs: u64,
}

impl Schedule {
    /// When message `number` of pair `index` is due.
    pub(super) fn due(&self, index: u64, number: u64) -> Instant {
        let overall = number * self.pairs + index;
        self.start + Duration::from_nanos(overall * 1_000_000_000 / self.rate)
    }

    /// How many of `total` messages pair `index` sends.
    fn count_of(&self, index: u64, total: u64) -> u64 {
        (total + self.pairs - 1 - index) / self.pairs
    }
}

/// What is sent, and how far that is.
struct Load {
    target: Target,
    bytes: usize,
    total: u64,
    sent: AtomicU64,
    schedule: Arc<Schedule>,
}

impl Load {
    /// Sends every message when it is due, or as soon after that as it can.
    fn pace(&self, senders: &mut [std::net::TcpStream]) -> anyhow::Result<()> {
        for overall in 0..self.total {
            let (index, number) = (overall % self.schedule.pairs, overall / self.schedule.pairs);
            let message = self.target.message(usize::try_from(index)?, number, self.bytes);
            let wait = self.schedule.due(index, number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if let Some(sender) = senders.get_mut(usize::try_from(index)?) {
                sender.write_all(message.as_bytes()).context("the server does not take a message")?;
            }
            self.sent.store(overall + 1, Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn receive(
    mut stream: TcpStream,
    index: u64,
    expected: u64,
    schedule: Arc<Schedule>,
    mut paced: watch::Receiver<bool>,
) -> anyhow::Result<(Histogram<u64>, Findings)> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut check = Check::default();
    let mut input = Vec::new();
    let whole = async {
        while check.received() < expected && stream.read_buf(&mut input).await? != 0 {
            let now = Instant::now();
            let mut done = 0;
            while let Some(end) = memchr::memchr(b'\n', input.get(done..).unwrap_or_default()) {
                if let Some(number) = check.note(input.get(done..done + end).unwrap_or_default()) {
                    let late = now.saturating_duration_since(schedule.due(index, number));
                    histogram.record(u64::try_from(late.as_micros())?)?;
                }
                done += end + 1;
            }
            input.drain(..done);
        }
        anyhow::Ok(())
    };
    // A lost message leaves its receiver waiting: the check counts it. A late one is not lost before it was sent.
    let tail = async {
        let _ = paced.wait_for(|paced| *paced).await;
        sleep(TAIL).await;
    };
    tokio::select! {
        result = whole => result?,
        () = tail => {}
    }
    Ok((histogram, check.findings(expected)))
}
