//! The court: hears what happened, event by event, and says what of it is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::sockets::{Again, Sockets};
use super::{ACKED_WITHIN, ANSWERED_WITHIN, DELIVERED_WITHIN, Verdict, Wrong};
use crate::checker::history::{Device, Event, History, Message, Shown};
use crate::checker::quiet::Quiet;

/// One message's life.
#[derive(Debug)]
struct Life {
    to: usize,
    sent: Duration,
    /// When it was sent first since the last answer.
    waits_since: Option<Duration>,
    /// Its sender's connections, as [`Court::connections`] counts them: the one on which it was first sent, and the last on which
    /// its sender was told or shown that it is stored.
    first_on: usize,
    known_on: Option<usize>,
    acked: Option<Duration>,
    stanza_id: Option<String>,
    delivered: BTreeMap<Device, Duration>,
}

pub(super) struct Court<'a> {
    history: &'a History,
    quiet: Quiet,
    lives: HashMap<Message, Life>,
    /// The last number that a device read of a sender.
    last_read: HashMap<(Device, Device), u64>,
    /// The last place in its log that a device read, or was told by an ack.
    last_seq: HashMap<Device, u64>,
    /// Where each device is connected.
    relays: HashMap<Device, u16>,
    /// How many connections each device has had.
    connections: HashMap<Device, usize>,
    /// What devices without places read.
    sockets: Sockets,
    /// Who has a session that is good.
    sessions: HashSet<Device>,
    /// What is where in an account's log.
    logs: HashMap<usize, BTreeMap<u64, Message>>,
    /// Which message each name is of.
    names: HashMap<String, Message>,
    /// Which places a device has read, or knows by an ack.
    seen: HashMap<Device, BTreeSet<u64>>,
    verdict: Verdict,
}

impl<'a> Court<'a> {
    pub(super) fn new(history: &'a History) -> Court<'a> {
        Court {
            history,
            quiet: Quiet::of(history),
            lives: HashMap::new(),
            last_read: HashMap::new(),
            last_seq: HashMap::new(),
            relays: HashMap::new(),
            connections: HashMap::new(),
            sockets: Sockets::default(),
            sessions: HashSet::new(),
            logs: HashMap::new(),
            names: HashMap::new(),
            seen: HashMap::new(),
            verdict: Verdict::default(),
        }
    }

    pub(super) fn hears(&mut self, at: Duration, event: &Event) {
        match event {
            Event::LoggedIn { device, with } => self.logged_in(at, *device, *with),
            Event::Unauthorized { device } => {
                if self.sessions.remove(device) {
                    self.wrong(
                        Wrong::LoggedOut,
                        format!("device {device}'s session was refused at {at:.2?}"),
                    );
                }
            }
            Event::Online { device, relay } => {
                self.verdict.figures.came_online += 1;
                self.sockets.began(*device, at);
                self.relays.insert(*device, *relay);
                *self.connections.entry(*device).or_default() += 1;
            }
            Event::Offline { device } => {
                let relay = self.relays.remove(device);
                let unheard = relay.is_some_and(|relay| self.history.is_disturbed(at, relay));
                self.sockets.ended(*device, at, unheard);
            }
            Event::Sent { message, to } => self.sent(at, *message, *to),
            Event::Refused { message } => {
                self.verdict.figures.refused += 1;
                self.is_answered(at, *message);
            }
            Event::Acked { message, stanza_id, seq } => {
                self.acked(at, *message, stanza_id);
                // What comes after it has its place behind it. An ack that is repeated comes any time.
                let last = self.last_seq.entry(message.from).or_default();
                *last = (*last).max(*seq);
                self.is_at(message.from, *message, *seq);
            }
            Event::Delivered { device, message, stanza_id, seq } => {
                self.delivered(at, *device, *message, stanza_id);
                let last = self.last_seq.insert(*device, *seq).unwrap_or_default();
                if *seq <= last {
                    self.wrong(
                        Wrong::Reordered,
                        format!("device {device} read {message} at {seq} after {last}"),
                    );
                }
                self.is_at(*device, *message, *seq);
            }
            Event::Stored { message, stanza_id } => self.acked(at, *message, stanza_id),
            Event::Read { device, message } => self.read(at, *device, *message),
            Event::Strange { device, what } => {
                self.wrong(Wrong::Strange, format!("device {device} at {at:.2?}: {what}"));
            }
        }
    }

    /// Whatever has failed, a session is good until its device is told otherwise.
    fn logged_in(&mut self, at: Duration, device: Device, with: Shown) {
        let had = !self.sessions.insert(device);
        let figures = &mut self.verdict.figures;
        match with {
            Shown::Session => figures.by_session += 1,
            Shown::Password => figures.by_password += 1,
        }
        if had && with == Shown::Password && !self.history.plain.contains(&device) {
            self.wrong(Wrong::LoggedOut, format!("device {device} needed its password again at {at:.2?}"));
        }
        if !had && with == Shown::Session {
            self.wrong(Wrong::Strange, format!("device {device} logged in with no session at {at:.2?}"));
        }
    }

    fn sent(&mut self, at: Duration, message: Message, to: usize) {
        if self.lives.contains_key(&message) {
            self.verdict.figures.again += 1;
        } else {
            self.verdict.figures.sent += 1;
        }
        let connection = self.connection(message.from);
        let life = self.lives.entry(message).or_insert_with(|| Life {
            to,
            sent: at,
            waits_since: None,
            first_on: connection,
            known_on: None,
            acked: None,
            stanza_id: None,
            delivered: BTreeMap::new(),
        });
        life.waits_since.get_or_insert(at);
    }

    /// The wait for an answer is over: was it too long?
    fn is_answered(&mut self, at: Duration, message: Message) {
        let Some(since) = self.lives.get_mut(&message).and_then(|life| life.waits_since.take()) else {
            return;
        };
        let waited = self.quiet.waited(message.from, since, at);
        if waited.is_over(ANSWERED_WITHIN) {
            let what = format!("{message}, sent at {since:.2?}, had no answer for {waited}");
            self.wrong(Wrong::Limbo, what);
        }
    }

    fn acked(&mut self, at: Duration, message: Message, stanza_id: &str) {
        self.is_answered(at, message);
        self.is_called(message, stanza_id);
        let connection = self.connection(message.from);
        let Some(life) = self.lives.get_mut(&message) else {
            self.wrong(Wrong::Strange, format!("{message} was acked and never sent"));
            return;
        };
        life.known_on = Some(connection);
        if life.acked.is_none() {
            life.acked = Some(at);
            let took = at.saturating_sub(life.sent);
            let figures = &mut self.verdict.figures;
            figures.acked += 1;
            figures.longest_ack = figures.longest_ack.max(took);
            self.is_acked_in_time(at, message);
        }
    }

    /// However often it was answered otherwise before.
    fn is_acked_in_time(&mut self, at: Duration, message: Message) {
        let sent = self.lives[&message].sent;
        let waited = self.quiet.waited(message.from, sent, at).in_all;
        let longest = &mut self.verdict.figures.longest_quiet_ack;
        *longest = (*longest).max(waited);
        if waited > ACKED_WITHIN {
            let what = format!("{message}, sent at {sent:.2?}, was not acked for {waited:.2?}");
            self.wrong(Wrong::Unacked, what);
        }
    }

    fn delivered(&mut self, at: Duration, device: Device, message: Message, stanza_id: &str) {
        self.verdict.figures.delivered += 1;
        self.is_called(message, stanza_id);
        let is_for = |life: &Life| {
            // A device that goes by its log is shown there what it sent itself on an earlier connection.
            device == message.from
                || self.history.receivers(message, life.to).any(|receiver| receiver == device)
        };
        let wanted = self.lives.get(&message).is_some_and(is_for);
        if !wanted {
            self.wrong(Wrong::Strange, format!("device {device} got {message}, which is not for it"));
            return;
        }
        let connection = self.connection(device);
        let Some(life) = self.lives.get_mut(&message) else { return };
        if device == message.from {
            let own = life.first_on == connection || life.known_on == Some(connection);
            life.known_on = Some(connection);
            if own {
                let what =
                    format!("device {device} was shown its own {message} at {at:.2?}, still connected");
                self.wrong(Wrong::Duplicated, what);
                return;
            }
        }
        if life.delivered.insert(device, at).is_some() {
            self.wrong(Wrong::Duplicated, format!("device {device} got {message} again at {at:.2?}"));
            return;
        }
        self.is_behind_none(at, device, message);
    }

    /// A device without places reads one.
    fn read(&mut self, at: Duration, device: Device, message: Message) {
        self.verdict.figures.delivered += 1;
        let is_for = |life: &Life| self.history.receivers(message, life.to).any(|one| one == device);
        if !self.lives.get(&message).is_some_and(is_for) {
            self.wrong(Wrong::Strange, format!("device {device} read {message}, which is not for it"));
            return;
        }
        let connection = self.connection(device);
        let kept = |from, to| self.quiet.waited(device, from, to).longest > DELIVERED_WITHIN;
        match self.sockets.reads((device, connection), message, at, kept) {
            None => {
                if let Some(life) = self.lives.get_mut(&message) {
                    life.delivered.insert(device, at);
                }
                self.is_behind_none(at, device, message);
            }
            Some(Again::Excused) => self.verdict.figures.repeated += 1,
            Some(Again::Duplicated) => {
                self.wrong(Wrong::Duplicated, format!("device {device} read {message} again at {at:.2?}"));
            }
            Some(Again::Reordered) => {
                let what = format!("device {device} read {message} again at {at:.2?}, behind a later one");
                self.wrong(Wrong::Reordered, what);
            }
        }
    }

    /// Nor is any of its sender's later ones there before it.
    fn is_behind_none(&mut self, at: Duration, device: Device, message: Message) {
        let last = self.last_read.entry((device, message.from)).or_default();
        if message.number < *last {
            let what = format!("device {device} got {message} at {at:.2?} after number {last}");
            self.wrong(Wrong::Reordered, what);
        } else {
            *last = message.number;
        }
    }

    fn connection(&self, device: Device) -> usize {
        self.connections.get(&device).copied().unwrap_or_default()
    }

    /// A message has one name, however often it was sent, and no other has that.
    fn is_called(&mut self, message: Message, stanza_id: &str) {
        let Some(life) = self.lives.get_mut(&message) else { return };
        let named = *self.names.entry(stanza_id.to_string()).or_insert(message);
        if named != message {
            self.wrong(Wrong::Strange, format!("{named} and {message} are both called {stanza_id}"));
            return;
        }
        let known = life.stanza_id.get_or_insert_with(|| stanza_id.to_string());
        if known != stanza_id {
            let what = format!("{message} is called {known} and {stanza_id}");
            self.wrong(Wrong::Strange, what);
        }
    }

    /// A place in a log holds one message.
    fn is_at(&mut self, device: Device, message: Message, seq: u64) {
        self.seen.entry(device).or_default().insert(seq);
        let account = self.history.devices[device];
        let there = *self.logs.entry(account).or_default().entry(seq).or_insert(message);
        if there != message {
            let what = format!("account {account} has {there} and {message} at {seq}");
            self.wrong(Wrong::Strange, what);
        }
    }

    pub(super) fn closes(mut self) -> Verdict {
        let mut messages: Vec<Message> = self.lives.keys().copied().collect();
        messages.sort();
        for message in messages {
            self.reaches_everybody(message);
        }
        self.places_are_in_order();
        self.verdict.wrongs.sort();
        self.verdict
    }

    fn reaches_everybody(&mut self, message: Message) {
        self.is_answered(self.history.end, message);
        let life = &self.lives[&message];
        let mut wrongs = Vec::new();
        let Some(acked) = life.acked else {
            let fate = if life.delivered.is_empty() { "nobody got it" } else { "it was delivered" };
            self.wrong(Wrong::Limbo, format!("{message} was never acked; {fate}"));
            self.is_acked_in_time(self.history.end, message);
            return;
        };
        for device in self.history.receivers(message, life.to) {
            let delivered = life.delivered.get(&device).copied();
            let plain = delivered.is_none() && self.history.plain.contains(&device);
            let gone = self.sockets.may_lose(device, life.sent).filter(|_| plain);
            if gone.is_some() {
                self.verdict.figures.gone += 1;
            } else if delivered.is_none() {
                wrongs.push((
                    Wrong::Lost,
                    format!("device {device} never got {message}, acked at {acked:.2?}"),
                ));
            }
            let got = delivered.or(gone).unwrap_or(self.history.end);
            let waited = self.quiet.waited(device, acked, got);
            let figures = &mut self.verdict.figures;
            figures.longest_delivery = figures.longest_delivery.max(got.saturating_sub(acked));
            figures.longest_quiet_delivery = figures.longest_quiet_delivery.max(waited);
            if waited.is_over(DELIVERED_WITHIN) {
                let what = format!("device {device} waited {waited} for {message}, acked at {acked:.2?}");
                wrongs.push((Wrong::Late, what));
            }
        }
        self.verdict.wrongs.extend(wrongs);
    }

    /// A log has no holes, and of each sender a prefix is stored: its places grow with its numbers.
    fn places_are_in_order(&mut self) {
        let mut wrongs = Vec::new();
        for (device, seen) in &self.seen {
            let last = seen.last().copied().unwrap_or_default();
            let missing: Vec<u64> = (1..=last).filter(|seq| !seen.contains(seq)).collect();
            if !missing.is_empty() {
                wrongs
                    .push((Wrong::Lost, format!("device {device} never saw places {missing:?} of its log")));
            }
        }
        for (account, log) in &self.logs {
            let mut last: HashMap<Device, u64> = HashMap::new();
            for (seq, message) in log {
                let before = last.insert(message.from, message.number).unwrap_or_default();
                if message.number <= before {
                    let what = format!("account {account} has {message} at {seq}, behind number {before}");
                    wrongs.push((Wrong::Reordered, what));
                }
            }
        }
        self.verdict.wrongs.extend(wrongs);
    }

    fn wrong(&mut self, wrong: Wrong, what: String) {
        self.verdict.wrongs.push((wrong, what));
    }
}
