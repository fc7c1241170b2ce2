//! Users of the client library who write to each other while parts of the system are replaced, and what they saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kurir_client::{Client, Event, Events, NewMessage, Options, Socket};
use kurir_e2e::person::PASSWORD;
use kurir_e2e::{PATIENCE, System, until, within};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// Everybody is connected to the next relay or manager so soon after the time that `move` named.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// What was on its way when the last message was sent may take so long.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// Pairs of users, each of whom writes to the other, tracked and untracked in turn.
pub(super) struct Traffic {
    users: Vec<User>,
    stop: watch::Sender<bool>,
    began: Instant,
}

struct User {
    name: String,
    client: Client,
    writes: JoinHandle<Sent>,
    seen: watch::Receiver<Seen>,
}

/// How many of each kind a user has written.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    tracked: u64,
    untracked: u64,
}

/// What a user has seen so far.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Numbers of the messages of the other one, in the order in which they came.
    tracked: Vec<u64>,
    untracked: Vec<u64>,
    /// R15 for an untracked message.
    failed: u64,
    stored: u64,
    /// What else became of tracked messages.
    refused: Vec<String>,
    turns: Vec<Turn>,
    offline: Option<Instant>,
    /// Without one of its two connections, longest.
    longest_absence: Duration,
}

/// A `move`, and what followed.
#[derive(Clone, Copy, Debug)]
struct Turn {
    socket: Socket,
    due: Instant,
    back: Option<Instant>,
}

impl Traffic {
    /// `pairs` pairs register and begin to write, `per_second` messages all together. Every other pair keeps its state in a file,
    /// and goes by places; every third pair's devices have names.
    pub(super) async fn begins(system: &System, pairs: usize, per_second: u32) -> Traffic {
        let mut joining = JoinSet::new();
        for number in 0..2 * pairs {
            let mut options = Options::new([system.tracker().to_string()], name(number), PASSWORD).register();
            options.packets = true;
            options.state =
                (number / 2 % 2 == 0).then(|| system.dir().join(format!("{}.state", name(number))));
            options.resource = (number / 2 % 3 == 0).then(|| "laptop".into());
            joining.spawn(async move { (number, Client::connect(options).await) });
        }
        let mut joined = BTreeMap::new();
        for (number, connected) in within(PATIENCE * 2, "everybody is online", joining.join_all()).await {
            joined.insert(number, connected.unwrap_or_else(|error| panic!("{}: {error}", name(number))));
        }
        let (stop, stopped) = watch::channel(false);
        let pace = Duration::from_secs(1) * u32::try_from(2 * pairs).expect("few") / per_second;
        let users = joined.into_iter().map(|(number, (client, events))| {
            let (tx, seen) = watch::channel(Seen::default());
            tokio::spawn(reads(events, tx));
            let writes = tokio::spawn(writes(client.clone(), name(number ^ 1), pace, stopped.clone()));
            User { name: name(number), client, writes, seen }
        });
        Traffic { users: users.collect(), stop, began: Instant::now() }
    }

    /// Everybody has read something of their partner.
    pub(super) async fn flows(&self) {
        for user in &self.users {
            let flows = |seen: &Seen| !seen.tracked.is_empty() && !seen.untracked.is_empty();
            let mut seen = user.seen.clone();
            within(PATIENCE, &format!("{} reads", user.name), seen.wait_for(flows)).await.expect("a session");
        }
    }

    /// Everybody stops writing, and what was written is held against what was read. Somebody was told to move on this socket.
    pub(super) async fn ends(self, socket: Socket) {
        self.stop.send_replace(true);
        let lasted = self.began.elapsed();
        let mut ledger = Ledger { users: Vec::new() };
        for user in self.users {
            let sent =
                within(PATIENCE, &format!("{} stops", user.name), user.writes).await.expect("no panic");
            ledger.users.push((user.name, user.client, sent, user.seen));
        }
        ledger.settles().await;
        ledger.is_judged(socket, lasted);
        for (_, client, ..) in ledger.users {
            client.logout().await;
        }
    }
}

/// What each wrote and saw; partners stand beside each other.
struct Ledger {
    users: Vec<(String, Client, Sent, watch::Receiver<Seen>)>,
}

/// What became of the messages of one user.
struct Account {
    name: String,
    sent: Sent,
    /// What the writer has seen.
    writer: Seen,
    /// And the partner.
    reader: Seen,
}

impl Ledger {
    fn accounts(&self) -> impl Iterator<Item = Account> + '_ {
        self.users.iter().enumerate().map(|(number, (name, _, sent, seen))| {
            let (_, _, _, partner) = &self.users[number ^ 1];
            let (writer, reader) = (seen.borrow().clone(), partner.borrow().clone());
            Account { name: name.clone(), sent: *sent, writer, reader }
        })
    }

    /// Waits until everything is accounted for, if that is to be.
    async fn settles(&self) {
        let settled = async || self.accounts().all(|account| account.is_settled()).then_some(());
        let waiting = until(SETTLES_WITHIN * 2, "everything is accounted for", settled);
        let _ = tokio::time::timeout(SETTLES_WITHIN, waiting).await;
    }

    fn is_judged(&self, socket: Socket, lasted: Duration) {
        let (mut tracked, mut untracked, mut failed, mut moved) = (0, 0, 0, 0);
        let (mut absence, mut latest) = (Duration::ZERO, Duration::ZERO);
        let mut complaints = Vec::new();
        for account in self.accounts() {
            let Account { name, sent, writer, .. } = &account;
            tracked += sent.tracked;
            untracked += sent.untracked;
            failed += writer.failed;
            absence = absence.max(writer.longest_absence);
            for turn in writer.turns.iter().filter(|turn| turn.socket == socket) {
                moved += 1;
                match turn.back.map(|back| back.saturating_duration_since(turn.due)) {
                    Some(late) => latest = latest.max(late),
                    None => complaints.push(format!("{name} was told to move and did not")),
                }
            }
            complaints.extend(account.complaints());
        }
        let all = tracked + untracked;
        println!(
            "{all} messages in {:.1} s, {tracked} of them tracked; {failed} untracked answered with R15; {moved} times \
             somebody was told to move, and was elsewhere {:.2} s after their turn at the latest; longest absence {:.2} s",
            lasted.as_secs_f64(),
            latest.as_secs_f64(),
            absence.as_secs_f64()
        );
        assert!(moved > 0, "nobody was told to move");
        assert!(latest <= BACK_WITHIN && absence <= BACK_WITHIN, "{latest:?}, {absence:?}");
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

impl Account {
    fn is_settled(&self) -> bool {
        let Account { sent, writer, reader, .. } = self;
        let told = reader.untracked.len() as u64 + writer.failed;
        reader.tracked.len() as u64 >= sent.tracked && writer.stored >= sent.tracked && told >= sent.untracked
    }

    fn complaints(&self) -> Vec<String> {
        let Account { name, sent, writer, reader } = self;
        let mut complaints: Vec<_> =
            writer.refused.iter().map(|refused| format!("{name}: {refused}")).collect();
        if !reader.tracked.iter().copied().eq(0..sent.tracked) {
            let wrong = (0..).zip(&reader.tracked).find(|(expected, read)| expected != *read);
            let count = reader.tracked.len();
            complaints
                .push(format!("{name}: {} tracked, {count} read, first wrong at {wrong:?}", sent.tracked));
        }
        if writer.stored != sent.tracked {
            complaints.push(format!("{name}: {} of {} tracked acknowledged", writer.stored, sent.tracked));
        }
        let mut untracked = reader.untracked.clone();
        untracked.sort_unstable();
        untracked.dedup();
        if untracked.len() != reader.untracked.len() {
            complaints.push(format!("{name}: an untracked message came twice"));
        }
        if untracked.len() as u64 + writer.failed < sent.untracked {
            let missing: Vec<_> =
                (0..sent.untracked).filter(|n| untracked.binary_search(n).is_err()).collect();
            complaints.push(format!("{name}: untracked {missing:?} are missing, {} answered", writer.failed));
        }
        complaints
    }
}

async fn writes(client: Client, to: String, pace: Duration, mut stopped: watch::Receiver<bool>) -> Sent {
    let mut sent = Sent::default();
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.changed() => return sent,
            _ = ticks.tick() => {}
        }
        if sent.tracked <= sent.untracked {
            let message = NewMessage::text(to.clone(), format!("t {}", sent.tracked));
            client.send(message).await.expect("a message that is kept");
            sent.tracked += 1;
        } else {
            client
                .send_untracked(&to, &format!("u {}", sent.untracked))
                .await
                .expect("a message that is sent");
            sent.untracked += 1;
        }
    }
}

async fn reads(mut events: Events, seen: watch::Sender<Seen>) {
    while let Some(event) = events.next().await {
        seen.send_modify(|seen| seen.note(event));
    }
}

impl Seen {
    fn note(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let body = message.body.unwrap_or_default();
                let (kind, number) = body.split_once(' ').expect("a body of ours");
                let number = number.parse().expect("its number");
                if kind == "t" { self.tracked.push(number) } else { self.untracked.push(number) }
            }
            Event::MessageFailed => self.failed += 1,
            Event::Stored { .. } => self.stored += 1,
            Event::Refused { refusal, .. } => self.refused.push(format!("{refusal:?}")),
            Event::Expired(waiting) => self.refused.push(format!("{waiting:?}")),
            Event::Offline { .. } => {
                self.offline.get_or_insert_with(Instant::now);
            }
            Event::Online => {
                let absence = self.offline.take().map(|since| since.elapsed());
                self.longest_absence = self.longest_absence.max(absence.unwrap_or_default());
            }
            Event::Packet { socket, value } => self.packet(socket, &value),
            _ => {}
        }
    }

    fn packet(&mut self, socket: Socket, value: &str) {
        let packet: Value = serde_json::from_str(value).expect("a packet");
        if packet["stanza"] == "stream" && packet["type"] == "move" {
            let after = Duration::from_millis(packet["after_ms"].as_u64().expect("a time"));
            self.turns.push(Turn { socket, due: Instant::now() + after, back: None });
        }
        let arrived = match socket {
            Socket::Manager => packet["code"] == 200,
            Socket::Relay => packet["id"] == "hello" && packet["type"] == "result",
            Socket::Tracker => false,
        };
        if arrived {
            for turn in self.turns.iter_mut().filter(|turn| turn.socket == socket) {
                turn.back.get_or_insert_with(Instant::now);
            }
        }
    }
}

fn name(number: usize) -> String {
    format!("orang{number}")
}
