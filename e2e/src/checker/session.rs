//! The half of a device that keeps it logged in at a manager, whichever answers, and asks there for relays.
//!
//! A device like the original's shows the password each time. Any other has that for its first login; from then on it shows the session that its last login has brought (PROTOCOL Part
//! II, `session`), the same one again where no answer came.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::dice::Dice;
use super::history::{Device, Event, Shown};
use super::journal::Journal;
use super::people::Kind;
use crate::packets;
use crate::person::PASSWORD;
use crate::raw::Raw;

/// A connection that was silent for so long is asked whether it is still there, and is over if it does not answer: as the
/// client library does (PROTOCOL Part II, `ping`).
pub const SILENT: Duration = Duration::from_secs(5);
/// See [`SILENT`].
pub const GONE: Duration = Duration::from_secs(8);

/// How often a device looks at the clock.
pub const LOOK: Duration = Duration::from_millis(500);

/// How long one step of a connection may take before another way is tried.
pub const STEP: Duration = Duration::from_secs(3);

/// A login takes longer: a database that is away is waited for.
const LOGIN: Duration = Duration::from_secs(6);

/// Between two tries in vain, in milliseconds: at least, and at most so much more.
const PAUSE_MS: (usize, usize) = (100, 300);

/// What came with a login is good for at least a minute (PROTOCOL Part II, `token`).
const FRESH: Duration = Duration::from_secs(30);

/// A relay and the ticket for it.
#[derive(Debug)]
pub struct Offer {
    /// Where it is.
    pub relay: SocketAddr,
    /// Which it is.
    pub number: u16,
    /// Its ticket.
    pub token: Value,
}

/// Who is logged in.
#[derive(Debug)]
pub struct Session {
    /// For the journal.
    pub device: Device,
    /// The account.
    pub name: String,
    /// What sort of device it is.
    pub kind: Kind,
    /// Where managers are.
    pub managers: Vec<SocketAddr>,
    /// Whoever wants an offer. It is dropped where there is none now.
    pub wanted: mpsc::Receiver<oneshot::Sender<Offer>>,
    /// Which of the managers is tried next, and when.
    pub dice: Dice,
    /// Where logins are noted, and what is strange.
    pub journal: Journal,
    /// What the next login shows; none: the password.
    pub session: Option<String>,
}

impl Session {
    /// Stays logged in for as long as it is polled.
    pub async fn keep(mut self) {
        let mut next = self.device;
        loop {
            let manager = self.managers[next % self.managers.len()];
            if let Ok(Some((raw, offer))) = timeout(LOGIN, self.logs_in(manager)).await {
                self.serves(raw, offer).await;
            }
            next += 1;
            pause(&mut self.dice).await;
        }
    }

    async fn logs_in(&mut self, manager: SocketAddr) -> Option<(Raw, Value)> {
        let who = format!("{} at manager {manager}", self.name);
        let mut raw = timeout(STEP, Raw::try_connect(&who, manager, self.kind.speaks())).await.ok()?.ok()?;
        let (shown, mut auth) = match &self.session {
            Some(session) => {
                (Shown::Session, json!({"type": "auth", "username": self.name, "session": session}))
            }
            None => (Shown::Password, json!({"type": "auth", "username": self.name, "password": PASSWORD})),
        };
        if let Some(resource) = self.kind.resource() {
            auth["resource"] = json!(resource);
        }
        raw.try_send(&auth).await.ok()?;
        let reply = raw.next_whole_packet().await?;
        match (reply["code"].as_u64(), reply["session"].as_str()) {
            (Some(200), Some(next)) => {
                self.session = (self.kind != Kind::Original).then(|| next.to_owned());
                self.journal.record(Event::LoggedIn { device: self.device, with: shown });
                Some((raw, reply["component"][0].clone()))
            }
            // Not yet given up by the manager that had it, or nobody can say now.
            (Some(409 | 503), _) => None,
            (Some(401), _) if shown == Shown::Session => {
                self.is_refused();
                None
            }
            _ => {
                let what = format!("a login was answered {reply}");
                self.journal.record(Event::Strange { device: self.device, what });
                None
            }
        }
    }

    /// There is only the password left.
    fn is_refused(&mut self) {
        self.session = None;
        self.journal.record(Event::Unauthorized { device: self.device });
    }

    /// Until the connection is over. `offer` came with the login.
    async fn serves(&mut self, mut raw: Raw, offer: Value) {
        let (mut offer, since) = (Some(offer), Instant::now());
        let mut heard = Instant::now();
        let mut waiting: Option<(oneshot::Sender<Offer>, Instant)> = None;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                packet = raw.next_whole_packet() => {
                    let Some(packet) = packet else { return };
                    heard = Instant::now();
                    if packet["code"] == 401 {
                        return self.is_refused();
                    }
                    let answers = packet.is_array() || packet["code"] == 503;
                    if answers && let Some((wanted, _)) = waiting.take()
                        && let Some(offer) = read(&packet[0]["component"][0])
                    {
                        // Whoever asked may have given up.
                        let _ = wanted.send(offer);
                    }
                }
                wanted = self.wanted.recv(), if waiting.is_none() => {
                    let Some(wanted) = wanted else { return };
                    let first = offer.take().filter(|_| since.elapsed() < FRESH);
                    if let Some(offer) = first.as_ref().and_then(read) {
                        let _ = wanted.send(offer);
                    } else if sends(&mut raw, &json!({"type": "get_relay_less_connection"})).await {
                        waiting = Some((wanted, Instant::now()));
                    } else {
                        return;
                    }
                }
                _ = looks.tick() => {
                    let unanswered = waiting.as_ref().is_some_and(|(_, since)| since.elapsed() > STEP);
                    if heard.elapsed() > GONE || unanswered {
                        return;
                    }
                    if heard.elapsed() > SILENT && !sends(&mut raw, &packets::ping("manager")).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Whether it went out.
pub async fn sends(raw: &mut Raw, packet: &Value) -> bool {
    matches!(timeout(STEP, raw.try_send(packet)).await, Ok(Ok(())))
}

/// Before the next try: many that try at once are spread.
pub async fn pause(dice: &mut Dice) {
    let ms = PAUSE_MS.0 + dice.below(PAUSE_MS.1);
    sleep(Duration::from_millis(u64::try_from(ms).expect("less than a second"))).await;
}

fn read(component: &Value) -> Option<Offer> {
    let port = u16::try_from(component["port"].as_u64()?).ok()?;
    let address: IpAddr = component["ip_local"].as_str()?.parse().ok()?;
    let number = component["username"].as_str()?.strip_prefix("relay-")?.parse().ok()?;
    Some(Offer { relay: (address, port).into(), number, token: component["token"].clone() })
}
