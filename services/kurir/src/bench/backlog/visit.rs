//! The receiver's part: it comes, gets everything from the first message on, acknowledges, and goes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{interval, timeout},
};

use super::{
    super::{
        check::{Check, Findings},
        lines::{self, Lines, has},
        server::Server,
        tracked::{acknowledge, micros, write},
        users,
    },
    live::{Live, Sent},
};

/// Nothing that comes for so long comes at all: the check counts what is missing.
const SILENCE: Duration = Duration::from_secs(10);

/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A user who is away, and comes.
pub(super) struct Receiver {
    pub(super) manager: String,
    pub(super) name: String,
}

/// How many tracked messages of one sender are in the receiver's log.
pub(super) struct Expected {
    pub(super) label: String,
    pub(super) count: u64,
}

/// What came while the receiver was there. Times count from its hello.
pub(super) struct Visit {
    /// How many messages waited.
    pub(super) waiting: u64,
    pub(super) ready: Duration,
    pub(super) first: Duration,
    pub(super) last: Duration,
    pub(super) peak_rss_bytes: u64,
    /// What somebody else wrote meanwhile, and how many microseconds that took to come.
    pub(super) live: Option<Sent>,
    pub(super) untracked: Histogram<u64>,
    pub(super) tracked: Histogram<u64>,
    pub(super) findings: Findings,
}

impl Receiver {
    /// Makes the account and goes.
    pub(super) async fn register(&self) -> anyhow::Result<()> {
        let user = users::login(&self.manager, &self.name, true).await?;
        users::until_closed(users::logout(user, &self.name).await?).await
    }

    /// Comes, reads everything, and goes. What another user called `live` writes meanwhile is expected the next time.
    pub(super) async fn visit(
        &self,
        server: &Server,
        expected: &mut Vec<Expected>,
        live: Option<&str>,
    ) -> anyhow::Result<Visit> {
        let live = match live {
            Some(name) => Some(Live::connect(&self.manager, name, &self.name).await?),
            None => None,
        };
        let user = users::login(&self.manager, &self.name, false).await?;
        let mut relay = TcpStream::connect(&user.ticket.addr).await.context("cannot connect to the relay")?;
        relay.set_nodelay(true)?;
        let hello = format!("{}\n", users::resuming(&self.name, &user.ticket));
        let mut reading = Reading::new(expected, live)?;
        relay.write_all(hello.as_bytes()).await?;
        let mut peak_rss_bytes = 0;
        let mut look = interval(LOOK);
        let mut look_on = async || {
            loop {
                look.tick().await;
                peak_rss_bytes = peak_rss_bytes.max(server.usage()?.rss_bytes);
            }
        };
        tokio::select! {
            read = reading.read(&mut relay) => read?,
            failed = look_on() => return failed,
        }
        drop(relay);
        users::until_closed(users::logout(user, &self.name).await?).await?;
        reading.end(expected, peak_rss_bytes).await
    }
}

/// What has come so far.
struct Reading {
    began: Instant,
    lines: Lines,
    senders: HashMap<Vec<u8>, Check>,
    waiting: u64,
    came: u64,
    ready: Option<Duration>,
    first: Option<Duration>,
    last: Option<Duration>,
    live: Option<Live>,
    /// Microseconds.
    untracked: Histogram<u64>,
    tracked: Histogram<u64>,
}

impl Reading {
    fn new(expected: &[Expected], live: Option<Live>) -> anyhow::Result<Reading> {
        let sender = |of: &Expected| (of.label.clone().into_bytes(), Check::default());
        Ok(Reading {
            began: Instant::now(),
            lines: Lines::default(),
            senders: expected.iter().map(sender).collect(),
            waiting: expected.iter().map(|of| of.count).sum(),
            came: 0,
            ready: None,
            first: None,
            last: None,
            live,
            untracked: Histogram::new(3)?,
            tracked: Histogram::new(3)?,
        })
    }

    /// Until everything has come, or nothing more does.
    async fn read(&mut self, relay: &mut TcpStream) -> anyhow::Result<()> {
        let mut out = Vec::new();
        let mut shown = Instant::now();
        while !self.is_whole() {
            let Ok(open) = timeout(SILENCE, self.lines.read(relay)).await else { break };
            ensure!(open?, "the relay has closed the receiver's connection");
            let place = self.note()?;
            acknowledge(&mut out, place);
            write(relay, &mut out).await?;
            if shown.elapsed() > Duration::from_millis(200) {
                users::progress(&format!("delivered {}/{}", self.came, self.waiting));
                shown = Instant::now();
            }
        }
        users::end_progress();
        Ok(())
    }

    /// What waited has come, and after that what was live.
    fn is_whole(&mut self) -> bool {
        if self.ready.is_none() || self.came < self.waiting {
            return false;
        }
        self.live.as_mut().is_none_or(Live::is_whole)
    }

    /// The last place of what has been read.
    fn note(&mut self) -> anyhow::Result<Option<u64>> {
        let now = Instant::now();
        let since_hello = now.saturating_duration_since(self.began);
        let mut place = None;
        while let Some(line) = self.lines.next() {
            if has(line, r#""type":"ready""#) {
                self.ready = Some(since_hello);
                if let Some(live) = &mut self.live {
                    live.begin();
                }
                continue;
            }
            place = lines::seq(line).or(place);
            let label = lines::label(line);
            if let Some(check) = label.and_then(|label| self.senders.get_mut(label)) {
                if check.note(line).is_some() {
                    self.came += 1;
                    self.first.get_or_insert(since_hello);
                    self.last = Some(since_hello);
                }
                continue;
            }
            let (Some(live), Some(label)) = (&mut self.live, label) else {
                anyhow::bail!("the receiver was sent {}", String::from_utf8_lossy(line));
            };
            let since = live.came(label, line)?;
            let histogram = if lines::seq(line).is_some() { &mut self.tracked } else { &mut self.untracked };
            if let Some(since) = since {
                histogram.record(micros(now, since)?)?;
            }
        }
        Ok(place)
    }

    /// What has become of everything; what was written meanwhile is in the log from now on.
    async fn end(mut self, expected: &mut Vec<Expected>, peak_rss_bytes: u64) -> anyhow::Result<Visit> {
        let mut findings = Findings::default();
        for Expected { label, count } in &*expected {
            findings += self.senders.remove(label.as_bytes()).unwrap_or_default().findings(*count);
        }
        let live = match self.live {
            Some(live) => {
                let sent = live.end().await?;
                findings += sent.findings;
                expected.push(Expected { label: sent.label.clone(), count: sent.tracked });
                Some(sent)
            }
            None => None,
        };
        Ok(Visit {
            waiting: self.waiting,
            ready: self.ready.context("the receiver was not told that it is ready")?,
            first: self.first.context("nothing came")?,
            last: self.last.context("nothing came")?,
            peak_rss_bytes,
            live,
            untracked: self.untracked,
            tracked: self.tracked,
            findings,
        })
    }
}
