//! Somebody who writes to the receiver while the backlog comes: tracked messages, whose place is behind all that waits,
//! and untracked ones, which pass between.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    super::{
        check::{self, Check, Findings},
        lines::{self, Lines},
        sending::Sending,
        tracked::{acknowledge, micros, write},
        users,
    },
    ANSWER, PAUSE,
};

/// One message of each kind is written every so often.
const EVERY: Duration = Duration::from_millis(20);

/// Bytes of a tracked message.
const BYTES: usize = 100;

/// What untracked messages carry before their number.
const UNTRACKED: &[u8] = b"u";

/// A user who writes, and what came of that.
pub(super) struct Live {
    label: String,
    state: Arc<Mutex<State>>,
    begin: Arc<Notify>,
    task: JoinHandle<anyhow::Result<Histogram<u64>>>,
    tracked: Check,
    untracked: Check,
}

/// What was written, and what became of it.
pub(super) struct Sent {
    pub(super) label: String,
    /// Messages.
    pub(super) untracked: u64,
    pub(super) tracked: u64,
    /// Microseconds until they were acknowledged.
    pub(super) acknowledged: Histogram<u64>,
    pub(super) findings: Findings,
}

struct State {
    sending: Sending,
    /// When each untracked message was sent.
    untracked: Vec<Instant>,
    stopped: bool,
}

impl Live {
    /// Comes, and writes nothing before [`Live::begin`].
    pub(super) async fn connect(manager: &str, name: &str, to: &str) -> anyhow::Result<Live> {
        let user = users::login(manager, name, true).await?;
        let mut relay = users::resume(name, &user.ticket).await?;
        let sending = Sending::new(to, name, BYTES);
        let state = Arc::new(Mutex::new(State { sending, untracked: Vec::new(), stopped: false }));
        let (begin, to) = (Arc::new(Notify::new()), to.to_owned());
        let (shared, begun) = (Arc::clone(&state), Arc::clone(&begin));
        let task = tokio::spawn(async move {
            let _online = user;
            begun.notified().await;
            talk(&mut relay, &shared, &to).await
        });
        let (tracked, untracked) = (Check::default(), Check::default());
        Ok(Live { label: name.to_owned(), state, begin, task, tracked, untracked })
    }

    /// The receiver is there.
    pub(super) fn begin(&self) {
        self.begin.notify_one();
    }

    /// Notes what the receiver was sent; when it was written, the first time that it comes.
    pub(super) fn came(&mut self, label: &[u8], line: &[u8]) -> anyhow::Result<Option<Instant>> {
        let state = lock(&self.state);
        let since = if label == UNTRACKED {
            let number = self.untracked.note(line).and_then(|number| usize::try_from(number).ok());
            number.map(|number| state.untracked.get(number).copied())
        } else if label == self.label.as_bytes() {
            self.tracked.note(line).map(|number| state.sending.since(number))
        } else {
            bail!("the receiver was sent {}", String::from_utf8_lossy(line));
        };
        since.map(|since| since.context("a message came that was not sent")).transpose()
    }

    /// Writes nothing more. Whether all that was written has come.
    pub(super) fn is_whole(&mut self) -> bool {
        let mut state = lock(&self.state);
        state.stopped = true;
        self.tracked.received() == state.sending.sent()
            && self.untracked.received() == state.untracked.len() as u64
    }

    /// Waits for the last acknowledgement.
    pub(super) async fn end(self) -> anyhow::Result<Sent> {
        lock(&self.state).stopped = true;
        self.begin.notify_one();
        let acknowledged = self.task.await??;
        let state = lock(&self.state);
        let (tracked, untracked) = (state.sending.sent(), state.untracked.len() as u64);
        let mut findings = Findings::of_both(state.sending.findings(), self.tracked.findings(tracked));
        findings += self.untracked.findings(untracked);
        Ok(Sent { label: self.label, untracked, tracked, acknowledged, findings })
    }
}

/// Until it is stopped and everything tracked is acknowledged.
async fn talk(relay: &mut TcpStream, state: &Mutex<State>, to: &str) -> anyhow::Result<Histogram<u64>> {
    let mut acknowledged = Histogram::new(3)?;
    let (mut answers, mut out) = (Lines::default(), Vec::new());
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut again = interval(PAUSE);
    loop {
        let (stopped, held) = {
            let state = lock(state);
            if state.stopped && state.sending.unsettled() == 0 {
                return Ok(acknowledged);
            }
            (state.stopped, state.sending.is_held())
        };
        tokio::select! {
            _ = tick.tick(), if !stopped => lock(state).fill(&mut out, to),
            _ = again.tick(), if held => lock(state).sending.send_again(&mut out),
            open = timeout(ANSWER, answers.read(relay)) => {
                ensure!(open.context("a message gets no answer")??, "the relay has closed a sender's connection");
                let place = note(&mut answers, &mut lock(state).sending, &mut acknowledged)?;
                acknowledge(&mut out, place);
            }
        }
        write(relay, &mut out).await?;
    }
}

impl State {
    /// Appends one message of each kind.
    fn fill(&mut self, out: &mut Vec<u8>, to: &str) {
        let now = Instant::now();
        // With the lock held: once it is stopped the numbers stay.
        if self.stopped || !self.sending.send(out, now) {
            return;
        }
        let number = self.untracked.len();
        self.untracked.push(now);
        let label = String::from_utf8_lossy(UNTRACKED);
        let message = format!(
            "{{\"stanza\":\"message\",\"to\":\"{to}\",\"body\":\"{label}{}\"}}\n",
            check::payload(number as u64, 40)
        );
        out.extend_from_slice(message.as_bytes());
    }
}

/// The last place in the sender's log that came.
fn note(
    answers: &mut Lines,
    sending: &mut Sending,
    acknowledged: &mut Histogram<u64>,
) -> anyhow::Result<Option<u64>> {
    let now = Instant::now();
    let mut place = None;
    while let Some(line) = answers.next() {
        let Some(number) = sending.note(line)? else { continue };
        place = lines::seq(line).or(place);
        if let Some(since) = sending.since(number) {
            acknowledged.record(micros(now, since)?)?;
        }
    }
    Ok(place)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
