//! `kurir bench flood`: messages per server CPU second, with a window of messages in flight in every pair.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Common, Reference,
    check::{Check, Findings},
    pairs::{Pair, Stage, Target},
    report::{Report, rounded},
    users,
};

/// What is under way when the time is over has this long to arrive.
const TAIL: Duration = Duration::from_secs(10);

const READ_BYTES: usize = 16 * 1024;

/// `kurir bench flood`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Pairs of users.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pairs: usize,
    /// Messages in flight in each pair.
    #[arg(long, default_value_t = 8, value_name = "N")]
    window: u64,
    /// Bytes of one message as the sender writes it.
    #[arg(long, default_value_t = 100, value_name = "N")]
    bytes: usize,
    /// Seconds measured, after one of warm-up.
    #[arg(long, default_value_t = 5, value_name = "S")]
    seconds: u64,
    /// How often each target is measured; the table shows each run and the medians' ratio.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Measure this too, in turn, for the ratio.
    #[arg(long, value_enum)]
    vs: Option<Reference>,
}

/// One run's figures.
struct Run {
    messages: u64,
    seconds: f64,
    cpu_seconds: f64,
    rss_bytes: u64,
    findings: Findings,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(
        args.pairs > 0 && args.window > 0 && args.rounds > 0,
        "pairs, window and rounds must be at least 1"
    );
    let mut report = Report::default();
    let mut relay = Vec::new();
    let mut reference = Vec::new();
    for round in 1..=args.rounds {
        if args.vs == Some(Reference::Forwarder) {
            reference.push(measure(Target::Forwarder, &args, round, &mut report).await?);
        }
        relay.push(measure(Target::Relay, &args, round, &mut report).await?);
    }
    if !reference.is_empty() {
        report.ratio("per_cpu_second", relay, reference);
    }
    report.finish(args.common.json)
}

async fn measure(target: Target, args: &Args, round: usize, report: &mut Report) -> anyhow::Result<f64> {
    let stage = Stage::set(target, &args.common, args.pairs).await?;
    let run = flood(stage, args).await?;
    if target == Target::Relay {
        report.found(run.findings);
    }
    let per_cpu_second = run.messages as f64 / run.cpu_seconds.max(0.01);
    report.row(vec![
        ("target", Value::from(target.name())),
        ("round", Value::from(round)),
        ("pairs", Value::from(args.pairs)),
        ("window", Value::from(args.window)),
        ("messages", Value::from(run.messages)),
        ("per_second", rounded(run.messages as f64 / run.seconds)),
        ("per_cpu_second", rounded(per_cpu_second)),
        ("cpu_us_per_message", rounded(1e6 / per_cpu_second)),
        ("rss_mib", rounded(run.rss_bytes as f64 / f64::from(1 << 20))),
        ("lost", Value::from(run.findings.lost)),
        ("duplicated", Value::from(run.findings.duplicated)),
        ("reordered", Value::from(run.findings.reordered)),
    ]);
    Ok(per_cpu_second)
}

async fn flood(mut stage: Stage, args: &Args) -> anyhow::Result<Run> {
    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for pair in std::mem::take(&mut stage.pairs) {
        let load = Load {
            target: stage.target,
            window: args.window,
            bytes: args.bytes,
            stop: Arc::clone(&stop),
            received: Arc::clone(&received),
        };
        tasks.spawn(load.drive(pair));
    }
    sleep(Duration::from_secs(1)).await;
    let (usage, count, began) = (stage.usage()?, received.load(Ordering::Relaxed), Instant::now());
    for second in 1..=args.seconds {
        sleep(Duration::from_secs(1)).await;
        let so_far = received.load(Ordering::Relaxed) - count;
        users::progress(&format!("{}: {second}/{} s, {so_far} messages", stage.target.name(), args.seconds));
    }
    let after = stage.usage()?;
    let run = Run {
        messages: received.load(Ordering::Relaxed) - count,
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: after.cpu_seconds - usage.cpu_seconds,
        rss_bytes: after.rss_bytes,
        findings: Findings::default(),
    };
    users::end_progress();
    stop.store(true, Ordering::Relaxed);
    let mut findings = Findings::default();
    while let Some(found) = tasks.join_next().await {
        findings += found??;
    }
    stage.server.stop().await?;
    Ok(Run { findings, ..run })
}

/// What one pair does.
struct Load {
    target: Target,
    window: u64,
    bytes: usize,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
}

impl Load {
    async fn drive(self, mut pair: Pair) -> anyhow::Result<Findings> {
        let mut check = Check::default();
        let mut sent = 0;
        let mut input = Vec::with_capacity(READ_BYTES);
        self.send(&mut pair, &mut sent, self.window).await?;
        let whole = async {
            while check.received() < sent {
                if pair.receiver.read_buf(&mut input).await? == 0 {
                    break;
                }
                let mut arrived = 0;
                let mut done = 0;
                while let Some(end) = memchr::memchr(b'\n', input.get(done..).unwrap_or_default()) {
                    if check.note(input.get(done..done + end).unwrap_or_default()).is_some() {
                        arrived += 1;
                    }
                    done += end + 1;
                }
                input.drain(..done);
                input.reserve(READ_BYTES);
                self.received.fetch_add(arrived, Ordering::Relaxed);
                if !self.stop.load(Ordering::Relaxed) {
                    self.send(&mut pair, &mut sent, arrived).await?;
                }
            }
            anyhow::Ok(())
        };
        // A message that is lost leaves its pair waiting: the check below counts it.
        let limit = async {
            while !self.stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
            sleep(TAIL).await;
        };
        tokio::select! {
            result = whole => result?,
            () = limit => {}
        }
        Ok(check.findings(sent))
    }

    async fn send(&self, pair: &mut Pair, sent: &mut u64, count: u64) -> anyhow::Result<()> {
        let mut batch = String::new();
        for _ in 0..count {
            batch.push_str(&self.target.message(pair.index, *sent, self.bytes));
            *sent += 1;
        }
        timeout(TAIL, pair.sender.write_all(batch.as_bytes())).await??;
        Ok(())
    }
}
