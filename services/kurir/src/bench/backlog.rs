//! `kurir bench backlog`: a receiver who was away comes back to many waiting messages.

mod live;
mod visit;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::visit::{Expected, Receiver, Visit};
use super::{
    Common, Stores,
    check::Findings,
    lines::Lines,
    report::{Report, quantile_ms, rounded},
    sending::Sending,
    server::{PasswordCost, Server, Usage},
    tracked::{new_names, write},
    users,
};

/// Messages of one sender under way, so that together they fill the relay's batches.
const WINDOW: u64 = 256;

/// A sender whose messages get no answer for so long waits for nothing.
const ANSWER: Duration = Duration::from_secs(30);

/// What was refused goes again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// For buffers to be given back before memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// `kurir bench backlog`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    stores: Stores,
    /// Messages that wait.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    messages: u64,
    /// Users who have sent them.
    #[arg(long, default_value_t = 8, value_name = "N")]
    senders: usize,
    /// Bytes of one message as the sender writes it.
    #[arg(long, default_value_t = 100, value_name = "N")]
    bytes: usize,
    /// How often the receiver comes, each time to all of them.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Meanwhile another user writes to the receiver, 50 tracked and 50 untracked messages per second.
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(
        args.messages > 0 && args.senders > 0 && args.rounds > 0,
        "messages, senders and rounds must be at least 1"
    );
    let server = Server::up_with(&args.common, &args.stores, PasswordCost::Least).await?;
    let names = new_names()?;
    let receiver =
        Receiver { manager: users::manager_addr(args.common.port_base), name: format!("b{names}") };
    receiver.register().await?;
    let began = Instant::now();
    let mut expected = store(&args, &names, &receiver).await?;
    let stored_per_second = args.messages as f64 / began.elapsed().as_secs_f64();

    let mut report = Report::default();
    for round in 1..=args.rounds {
        sleep(SETTLE).await;
        let before = server.usage()?;
        let live = args.live.then(|| format!("l{round}{names}"));
        let visit = receiver.visit(&server, &mut expected, live.as_deref()).await?;
        sleep(SETTLE).await;
        let after = server.usage()?;
        report.found(visit.findings);
        let mut row = vec![
            ("database", Value::from(args.stores.name())),
            ("round", Value::from(round)),
            ("messages", Value::from(visit.waiting)),
            ("stored_per_second", rounded(stored_per_second)),
        ];
        row.extend(visit.row(before, after));
        report.row(row);
    }
    report.finish(args.common.json)?;
    server.stop().await
}

impl Visit {
    fn row(&self, before: Usage, after: Usage) -> Vec<(&'static str, Value)> {
        let ms = |time: Duration| rounded(time.as_secs_f64() * 1000.0);
        let mib = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 20));
        let mut row = vec![
            ("ready_ms", ms(self.ready)),
            ("first_ms", ms(self.first)),
            ("last_ms", ms(self.last)),
            ("per_second", rounded(self.waiting as f64 / self.last.as_secs_f64())),
            ("rss_before_mib", mib(before.rss_bytes)),
            ("rss_peak_mib", mib(self.peak_rss_bytes)),
            ("rss_after_mib", mib(after.rss_bytes)),
        ];
        if let Some(live) = &self.live {
            let quantile = |histogram, quantile| rounded(quantile_ms(histogram, quantile));
            row.extend([
                ("live_messages", Value::from(live.tracked + live.untracked)),
                ("live_untracked_p50_ms", quantile(&self.untracked, 0.5)),
                ("live_untracked_p99_ms", quantile(&self.untracked, 0.99)),
                ("live_ack_p50_ms", quantile(&live.acknowledged, 0.5)),
                ("live_ack_p99_ms", quantile(&live.acknowledged, 0.99)),
                // In the log it is behind all that waits.
                ("live_tracked_max_ms", quantile(&self.tracked, 1.0)),
            ]);
        }
        row.extend([
            ("lost", Value::from(self.findings.lost)),
            ("duplicated", Value::from(self.findings.duplicated)),
            ("reordered", Value::from(self.findings.reordered)),
        ]);
        row
    }
}

/// Has the messages stored, by several senders; what the receiver is to get of whom.
async fn store(args: &Args, names: &str, receiver: &Receiver) -> anyhow::Result<Vec<Expected>> {
    let (base, managers) = (args.common.port_base, args.stores.managers);
    let senders = users::many("senders connected", args.senders, |index| {
        let (manager, name) = (users::manager_in_turn(base, managers, index), format!("a{index}{names}"));
        async move {
            let user = users::login(&manager, &name, true).await?;
            let relay = users::resume(&name, &user.ticket).await?;
            anyhow::Ok((user, relay))
        }
    })
    .await?;
    let mut expected = Vec::new();
    let mut tasks = JoinSet::new();
    let (progress, mut stored) = unbounded_channel();
    for (index, (user, mut relay)) in senders.into_iter().enumerate() {
        let label = format!("s{index}");
        let count = (args.messages + args.senders as u64 - 1 - index as u64) / args.senders as u64;
        let mut sending = Sending::new(&receiver.name, &label, args.bytes);
        expected.push(Expected { label, count });
        let progress = progress.clone();
        tasks.spawn(async move {
            let _online = user;
            send_all(&mut relay, &mut sending, count, &progress).await?;
            let findings = sending.findings();
            ensure!(findings == Findings::default(), "acknowledgements: {findings:?}");
            Ok(())
        });
    }
    drop(progress);
    let (mut done, mut shown) = (0, Instant::now());
    while let Some(more) = stored.recv().await {
        done += more;
        if shown.elapsed() > Duration::from_millis(500) || done == args.messages {
            users::progress(&format!("stored {done}/{}", args.messages));
            shown = Instant::now();
        }
    }
    users::end_progress();
    while let Some(sent) = tasks.join_next().await {
        sent??;
    }
    Ok(expected)
}

async fn send_all(
    relay: &mut TcpStream,
    sending: &mut Sending,
    count: u64,
    progress: &UnboundedSender<u64>,
) -> anyhow::Result<()> {
    let (mut answers, mut out) = (Lines::default(), Vec::new());
    while sending.sent() < count || sending.unsettled() > 0 {
        if sending.is_held() {
            sleep(PAUSE).await;
            sending.send_again(&mut out);
        }
        let now = Instant::now();
        while sending.sent() < count && sending.unsettled() < WINDOW && sending.send(&mut out, now) {}
        write(relay, &mut out).await?;
        let open = timeout(ANSWER, answers.read(relay)).await.context("a message gets no answer")??;
        ensure!(open, "the relay has closed a sender's connection");
        let mut stored = 0;
        while let Some(line) = answers.next() {
            stored += u64::from(sending.note(line)?.is_some());
        }
        let _ = progress.send(stored);
    }
    Ok(())
}
