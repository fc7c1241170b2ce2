//! A device: it writes to others and reads what is written to it, whatever happens to the parts that it talks to.
//!
//! It does what PROTOCOL Part II asks of a client that loses nothing: it sends every message with the same id until that is
//! acknowledged, and comes back with the last `seq` that it has. One that is like the original's has no `seq`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::dice::Dice;
use super::history::{self, Event, Message};
use super::journal::Journal;
use super::outgoing::Outgoing;
use super::people::{Kind, People, name_of};
use super::session::{GONE, LOOK, Offer, SILENT, STEP, Session, pause, sends};
use crate::packets::{self, with};
use crate::raw::Raw;

/// A device that has so many messages without an ack writes no new one.
const MOST_UNACKED: usize = 40;

/// One that is in a hurry has so many under way: two of them fill a relay's batch (`kurir_delivery::storing`, 512 messages).
const RUSH_UNACKED: usize = 256;

/// After a refusal the messages are sent again.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// A relay that answers pings but no message for so long is left: longer than the verdict's bound, or that would never be
/// broken.
const NO_ANSWER: Duration = Duration::from_secs(15);

/// How long a hello is waited for to be answered.
const READY: Duration = Duration::from_secs(6);

/// A device leaves its relay by itself once in so many looks at the clock.
const LEAVES: usize = 60;

/// One without places then stays away so long, and at most as long again: what is written meanwhile waits for it.
const AWAY: Duration = Duration::from_secs(2);

/// It says how far it has read after so many messages.
const ACK_EVERY: u64 = 8;

/// What the devices are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Write to each other.
    Writing,
    /// The same, and the pair ([`People::and_a_pair`]) as fast as acks allow.
    Rush,
    /// Only what is not acked yet, and read.
    Settling,
}

/// One device, from its first login on.
#[derive(Debug)]
pub struct Device {
    me: history::Device,
    name: String,
    /// Who there is to write to.
    people: Arc<People>,
    journal: Journal,
    phase: watch::Receiver<Phase>,
    dice: Dice,
    /// Between two messages, on the average.
    pace: Duration,
    outgoing: Outgoing,
    /// The last place in the log that it has, and the log.
    seq: u64,
    log: Option<String>,
    wants: mpsc::Sender<oneshot::Sender<Offer>>,
}

/// What all devices share.
#[derive(Clone, Debug)]
pub struct World {
    /// Where managers are.
    pub managers: Vec<SocketAddr>,
    /// Who there is.
    pub people: Arc<People>,
    /// Between two messages of one device, on the average.
    pub pace: Duration,
    /// The history.
    pub journal: Journal,
    /// What is to be done.
    pub phase: watch::Receiver<Phase>,
}

impl World {
    /// Lives one device's life for as long as it is polled.
    pub async fn lives(self, device: history::Device, mut dice: Dice) {
        let (wants, wanted) = mpsc::channel(1);
        let World { managers, people, pace, journal, phase } = self;
        let name = name_of(people.account(device));
        let session = Session {
            device,
            name: name.clone(),
            kind: people.kind(device),
            managers,
            wanted,
            dice: dice.fork(),
            journal: journal.clone(),
            session: None,
        };
        let outgoing = Outgoing::of(device);
        let device = Device {
            me: device,
            name,
            people,
            journal,
            phase,
            dice,
            pace,
            outgoing,
            seq: 0,
            log: None,
            wants,
        };
        tokio::join!(session.keep(), device.keeps_online());
    }
}

impl Device {
    async fn keeps_online(mut self) {
        loop {
            if let Some(mut raw) = self.comes_online().await {
                self.outgoing.connected();
                let left = self.talks(&mut raw).await;
                self.journal.record(Event::Offline { device: self.me });
                if self.dice.once_in(2) {
                    raw.cut();
                } else {
                    drop(raw);
                }
                if left && self.people.kind(self.me) == Kind::Original {
                    self.journal.stays_away(self.me);
                    let longer = u32::try_from(self.dice.below(100)).expect("less than 100");
                    sleep(AWAY + AWAY * longer / 100).await;
                    self.journal.comes_back(self.me);
                }
            }
            pause(&mut self.dice).await;
        }
    }

    async fn comes_online(&mut self) -> Option<Raw> {
        let (wanted, offer) = oneshot::channel();
        self.wants.send(wanted).await.ok()?;
        let Offer { relay, number, token } = offer.await.ok()?;
        let who = format!("{} at relay {number}", self.name);
        let kind = self.people.kind(self.me);
        let mut raw = timeout(STEP, Raw::try_connect(&who, relay, kind.speaks())).await.ok()?.ok()?;
        let hello = json!({"username": self.name, "message": "hello!", "token": token});
        if kind == Kind::Original {
            return self.is_let_in(raw, hello, number).await;
        }
        let mut hello = with(hello, "resume", self.seq);
        if let Some(log) = &self.log {
            hello["log"] = json!(log);
        }
        raw.try_send(&hello).await.ok()?;
        let ready = timeout(READY, raw.next_whole_packet()).await.ok()??;
        if ready["type"] != "ready" {
            // 401 or 503: with another ticket, or in a moment.
            return None;
        }
        let (end, log) = (ready["seq"].as_u64().unwrap_or_default(), ready["log"].as_str());
        let same = self.log.is_none() || self.log.as_deref() == log;
        if ready["reset"] == true || end < self.seq || !same {
            self.strange(format!("after {} of {:?} the relay was ready with {ready}", self.seq, self.log));
        }
        self.log = log.map(String::from);
        self.journal.record(Event::Online { device: self.me, relay: number });
        Some(raw)
    }

    /// The original's hello is not answered. What comes next is what waited, or the answer to a ping, or a refusal.
    async fn is_let_in(&mut self, mut raw: Raw, hello: Value, relay: u16) -> Option<Raw> {
        raw.try_send(&hello).await.ok()?;
        raw.try_send(&packets::ping("hello")).await.ok()?;
        let first = timeout(READY, raw.next_whole_packet()).await.ok()??;
        if first["error"] == true && first["code"].is_u64() {
            return None;
        }
        self.journal.record(Event::Online { device: self.me, relay });
        self.reads(&first);
        Some(raw)
    }

    /// Until the connection is over. True: it has left by itself.
    async fn talks(&mut self, raw: &mut Raw) -> bool {
        let mut heard = Instant::now();
        // When the relay last said something of a message, or had nothing to say.
        let mut answered = Instant::now();
        let mut retry = Instant::now();
        let mut next = Instant::now() + self.until_next();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = self.seq;
        loop {
            let partner = self.rushes_to();
            let most = if partner.is_some() { RUSH_UNACKED } else { MOST_UNACKED };
            let writes = *self.phase.borrow() != Phase::Settling && self.outgoing.len() < most;
            if partner.is_some() {
                next = Instant::now();
            }
            let held = self.outgoing.is_held();
            tokio::select! {
                packet = raw.next_whole_packet() => {
                    let Some(packet) = packet else { return false };
                    heard = Instant::now();
                    if self.reads(&packet) {
                        answered = heard;
                    }
                    if !held && self.outgoing.is_held() {
                        retry = heard + REFUSED_PAUSE;
                    }
                }
                () = sleep_until(next), if writes => {
                    match partner {
                        // At once, or it would have no more under way than come between two acks.
                        Some(to) => (self.outgoing.len()..most).for_each(|_| self.outgoing.push(to)),
                        // Oneself too: a note for one's other devices.
                        None => self.outgoing.push(self.dice.below(self.people.accounts())),
                    }
                    next = Instant::now() + self.until_next();
                }
                () = sleep_until(retry), if held => self.outgoing.retry(),
                Ok(()) = self.phase.changed() => {}
                _ = looks.tick() => {
                    let unanswered = self.outgoing.waits() && answered.elapsed() > NO_ANSWER;
                    let leaves = *self.phase.borrow() != Phase::Settling && self.dice.once_in(LEAVES);
                    if heard.elapsed() > GONE || unanswered || leaves {
                        return leaves;
                    }
                    if heard.elapsed() > SILENT && !sends(raw, &packets::ping("relay")).await {
                        return false;
                    }
                }
            }
            if !self.outgoing.waits() {
                answered = Instant::now();
            }
            if !self.writes(raw).await {
                return false;
            }
            if self.seq >= told + ACK_EVERY {
                told = self.seq;
                if !sends(raw, &json!({"stanza": "ack", "seq": told})).await {
                    return false;
                }
            }
        }
    }

    /// To whom it writes as fast as it can, now.
    fn rushes_to(&self) -> Option<usize> {
        self.people.partner(self.me).filter(|_| *self.phase.borrow() == Phase::Rush)
    }

    /// What waits to be written. False: the connection is over.
    async fn writes(&mut self, raw: &mut Raw) -> bool {
        for (message, to) in self.outgoing.take() {
            let packet = packets::message(&self.name, &name_of(to), &body(message, to));
            // Before it is written, or its ack could come first.
            self.journal.record(Event::Sent { message, to });
            if !sends(raw, &with(packet, "id", message.id())).await {
                return false;
            }
        }
        true
    }

    /// What a packet says. True: it says what became of a message of this device.
    fn reads(&mut self, packet: &Value) -> bool {
        let device = self.me;
        match (packet["stanza"].as_str(), packet["type"].as_str()) {
            (Some("message"), Some("ack")) => self.acked(packet),
            (Some("message"), Some("error")) => {
                let waits =
                    packet["from"] == "relay" && packet["error"]["condition"] == "resource-constraint";
                match self.own(packet).filter(|_| waits) {
                    Some(message) => {
                        self.outgoing.refused(message);
                        self.journal.record(Event::Refused { message });
                    }
                    None => self.strange(packet.to_string()),
                }
                return true;
            }
            (Some("message"), _) => {
                self.delivered(packet);
                return false;
            }
            (Some("iq" | "stream"), _) => return false,
            // What comes before the end of a connection.
            _ if matches!(packet["code"].as_u64(), Some(401 | 409 | 503)) => return false,
            _ => self.journal.record(Event::Strange { device, what: packet.to_string() }),
        }
        true
    }

    fn acked(&mut self, packet: &Value) {
        if self.is_plain(packet) {
            let (Some(message), Some(stanza_id)) = (self.own(packet), packet["stanza_id"].as_str()) else {
                return self.strange(packet.to_string());
            };
            self.outgoing.acked(message);
            return self.journal.record(Event::Stored { message, stanza_id: stanza_id.into() });
        }
        let (Some(message), Some(stanza_id), Some(seq)) =
            (self.own(packet), packet["stanza_id"].as_str(), packet["seq"].as_u64())
        else {
            return self.strange(packet.to_string());
        };
        self.outgoing.acked(message);
        self.seq = self.seq.max(seq);
        self.journal.record(Event::Acked { message, stanza_id: stanza_id.into(), seq });
    }

    fn delivered(&mut self, packet: &Value) {
        let device = self.me;
        if self.is_plain(packet) {
            let message = named(packet).filter(|message| self.is_whole(packet, *message));
            let as_written = packet["stanza_id"].is_null() && packet["ts"].is_null();
            let Some(message) = message.filter(|_| as_written) else {
                return self.strange(packet.to_string());
            };
            return self.journal.record(Event::Read { device, message });
        }
        let (Some(message), Some(stanza_id), Some(seq)) =
            (named(packet), packet["stanza_id"].as_str(), packet["seq"].as_u64())
        else {
            return self.strange(packet.to_string());
        };
        if !self.is_whole(packet, message) {
            self.strange(packet.to_string());
        }
        self.seq = self.seq.max(seq);
        self.journal.record(Event::Delivered { device, message, stanza_id: stanza_id.into(), seq });
    }

    /// Whether it has no place, and is for a device that does not go by places.
    fn is_plain(&self, packet: &Value) -> bool {
        self.people.kind(self.me) == Kind::Original && packet["seq"].is_null()
    }

    /// Whether it is as it was sent, from and to whom it was sent, and for this account.
    fn is_whole(&self, packet: &Value, message: Message) -> bool {
        let (from, own) = (self.people.account(message.from), self.people.account(self.me));
        let Some(to) = packet["to"].as_str().and_then(|to| self.people.addressed(to)) else { return false };
        packet["from"] == self.people.writes(message.from, self.me)
            && packet["id"] == message.id()
            && packet["body"] == body(message, to)
            && (to == own || from == own)
    }

    /// Which of its own messages a packet is about.
    fn own(&self, packet: &Value) -> Option<Message> {
        Message::of_id(self.me, packet["id"].as_str()?)
    }

    fn strange(&self, what: String) {
        self.journal.record(Event::Strange { device: self.me, what });
    }

    /// Half the pace to one and a half of it.
    fn until_next(&mut self) -> Duration {
        self.pace * u32::try_from(50 + self.dice.below(100)).expect("less than 150") / 100
    }
}

/// Which message a delivery is, by what it says: devices of one account use the same ids.
fn named(packet: &Value) -> Option<Message> {
    Message::of_name(packet["body"].as_str()?.split(' ').next()?)
}

/// Each message says something else, of which both sides know what it is: short for most, long for some.
fn body(message: Message, to: usize) -> String {
    let long = if message.number.is_multiple_of(50) {
        8000
    } else {
        usize::try_from(message.number % 200).unwrap_or(0)
    };
    format!("{message} untuk {to}\n“\u{80}”{}", "x".repeat(long))
}
