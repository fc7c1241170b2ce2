//! Many people who keep coming back, for faults.
//!
//! They are as stubborn as a good client: whatever does not answer is connected anew, at whichever manager the tracker
//! names and whichever relay the manager names. But an answer that blames the user for a fault of ours fails the scenario.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::deadline::{PATIENCE, within};
use crate::packets;
use crate::person::{PASSWORD, offered};
use crate::ports::random;
use crate::raw::{Raw, Speaks};
use crate::system::System;

/// Everybody must be able to log in and exchange messages again so soon after a fault's end.
pub const BACK_WITHIN: Duration = Duration::from_secs(10);

/// How long one of the crowd waits for one answer before it tries elsewhere.
const ONE_ANSWER: Duration = Duration::from_secs(2);

/// A login's answer takes longer: passwords are hashed in a queue.
const ONE_LOGIN: Duration = Duration::from_secs(5);

/// The shortest and the longest pause after a try in vain. Each login costs its manager a whole password, right or wrong: a
/// crowd that tried without pause would keep itself out.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// Pairs of people who write to each other.
#[derive(Debug)]
pub struct Crowd {
    pairs: Vec<Pair>,
    places: Places,
}

/// Where everything is. The managers are the last known ones, for when the tracker is away.
#[derive(Clone, Debug)]
struct Places {
    tracker: SocketAddr,
    managers: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Pair {
    people: [Someone; 2],
    /// Numbers the messages, so that none counts twice.
    tries: u64,
}

#[derive(Debug)]
struct Someone {
    name: String,
    manager: Option<Raw>,
    relay: Option<Raw>,
    /// The longest pause before the next try.
    pause: Duration,
}

impl Crowd {
    /// Registers `count` people (an even number); they are spread over managers and relays, and all are connected. The two of
    /// each pair are contacts, at different managers where there are two.
    pub async fn gather(system: &System, count: usize) -> Crowd {
        let managers = (1..=system.managers()).map(|number| system.manager(number)).collect();
        let places = Places { tracker: system.tracker(), managers };
        let someone = |number: usize| Someone {
            name: format!("orang{number}"),
            manager: None,
            relay: None,
            pause: PAUSE.0,
        };
        let pairs = (0..count / 2).map(|n| Pair { people: [someone(2 * n), someone(2 * n + 1)], tries: 0 });
        let mut crowd = Crowd { pairs: pairs.collect(), places };
        for (number, someone) in crowd.pairs.iter_mut().flat_map(|pair| &mut pair.people).enumerate() {
            let manager = crowd.places.managers[number % crowd.places.managers.len()];
            someone.register(manager).await;
        }
        for pair in &mut crowd.pairs {
            pair.befriend().await;
        }
        crowd.everybody_is_back(PATIENCE, Instant::now(), "before the fault").await;
        crowd
    }

    /// Sends the last `pairs` pairs away: they log in only after the fault.
    pub async fn goes_partly(&mut self, pairs: usize) {
        let staying = self.pairs.len() - pairs;
        for someone in self.pairs[staying..].iter_mut().flat_map(|pair| &mut pair.people) {
            let mut relay = someone.relay.take().expect("everybody is connected");
            let mut manager = someone.manager.take().expect("everybody is connected");
            manager.sends(packets::unavailable(&someone.name)).await;
            manager.is_closed_in_the_end(PATIENCE).await;
            relay.is_closed_in_the_end(PATIENCE).await;
        }
    }

    /// Everybody is logged in, reachable and has exchanged a message with their partner within `limit` of the fault's
    /// end. Prints how long it took.
    pub async fn everybody_is_back(&mut self, limit: Duration, since: Instant, what: &str) {
        let mut tasks = JoinSet::new();
        for pair in self.pairs.drain(..) {
            tasks.spawn(pair.exchange(self.places.clone()));
        }
        let patience = limit * 3;
        let all = async {
            let mut latest = since;
            while let Some(done) = tasks.join_next().await {
                let (pair, at) = match done {
                    Ok(done) => done,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
                latest = latest.max(at);
                self.pairs.push(pair);
            }
            latest - since
        };
        // A miss is measured too, up to a point: by how much says more than that.
        let took = within(patience, &format!("everybody is back ({what})"), all).await;
        println!(
            "{what}: {} people exchange messages again after {:.1} s",
            self.pairs.len() * 2,
            took.as_secs_f64()
        );
        assert!(took <= limit, "{what}: everybody was back only after {took:?}, not {limit:?}");
    }

    /// One of each of the first `pairs` pairs loses both connections. The other one is told so once, and nobody is told
    /// anything else.
    pub async fn loses_partners(&mut self, pairs: usize) {
        for pair in &mut self.pairs[..pairs] {
            let lost = &mut pair.people[0];
            for raw in [lost.manager.take(), lost.relay.take()].into_iter().flatten() {
                raw.cut();
            }
        }
        for pair in &mut self.pairs[..pairs] {
            let [lost, left] = &mut pair.people;
            let manager = left.manager.as_mut().expect("everybody is connected");
            manager.receives(packets::unavailable(&lost.name)).await;
        }
        self.hears_nothing().await;
    }

    /// Whoever is connected still is, and has heard nothing since the last message.
    pub async fn hears_nothing(&mut self) {
        for someone in self.pairs.iter_mut().flat_map(|pair| &mut pair.people) {
            for raw in [&mut someone.manager, &mut someone.relay].into_iter().flatten() {
                raw.hears_nothing_else().await;
            }
        }
    }
}

impl Pair {
    /// Each adds the other; both have received everything that follows from it.
    async fn befriend(&mut self) {
        let names = self.people.each_ref().map(|someone| someone.name.clone());
        let [one, other] =
            self.people.each_mut().map(|someone| someone.manager.as_mut().expect("registered"));
        for (adds, raw, added) in [(0, &mut *one, 1), (1, &mut *other, 0)] {
            let (me, you) = (&names[adds], &names[added]);
            raw.sends(packets::add_contact(me, you, you)).await;
            raw.receives_in_the_end(packets::roster_set(me), PATIENCE).await;
        }
        let item = packets::item(&names[1], &names[1], "both");
        one.receives(packets::subscribed(&names[1], &names[0], &item)).await;
    }

    /// Tries until each has read a message of the other.
    async fn exchange(mut self, places: Places) -> (Pair, Instant) {
        loop {
            self.tries += 1;
            let [one, other] = &mut self.people;
            tokio::join!(one.connects(&places), other.connects(&places));
            let body = format!("percobaan {}", self.tries);
            if one.reaches(other, &body).await && other.reaches(one, &body).await {
                return (self, Instant::now());
            }
        }
    }
}

impl Someone {
    async fn register(&mut self, manager: SocketAddr) {
        let mut raw = Raw::connect(format!("{} at a manager", self.name), manager, Speaks::Lines).await;
        raw.sends(json!({"type": "auth", "username": self.name, "password": PASSWORD, "register": true}))
            .await;
        let reply = within(PATIENCE, "registration", raw.next_packet()).await.unwrap_or_default();
        assert_eq!(reply["code"], 201, "{} got {reply}", self.name);
        self.manager = Some(raw);
    }

    /// Tries until both connections answer.
    async fn connects(&mut self, places: &Places) {
        while self.is_connected(places).await.is_none() {
            tokio::time::sleep(random_between(PAUSE.0, self.pause)).await;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        self.pause = PAUSE.0;
    }

    /// Both connections answer, connected anew where they did not.
    async fn is_connected(&mut self, places: &Places) -> Option<()> {
        if !alive(&mut self.manager).await {
            self.manager = None;
            self.manager = Some(self.log_in(places).await?);
        }
        if !alive(&mut self.relay).await {
            self.relay = None;
            self.relay = Some(self.join_relay().await?);
        }
        Some(())
    }

    async fn log_in(&self, places: &Places) -> Option<Raw> {
        for manager in places.ask_tracker(&self.name).await {
            let Ok(Ok(mut raw)) =
                tokio::time::timeout(ONE_ANSWER, Raw::try_connect(&self.name, manager, Speaks::Lines)).await
            else {
                continue;
            };
            let auth = json!({"type": "auth", "username": self.name, "password": PASSWORD});
            raw.try_send(&auth).await.ok()?;
            let reply = tokio::time::timeout(ONE_LOGIN, raw.next_packet()).await.ok()??;
            match reply["code"].as_u64() {
                Some(200) => return Some(raw),
                Some(409 | 503) => return None,
                _ => panic!("{} is blamed for a fault: {reply}", self.name),
            }
        }
        None
    }

    async fn join_relay(&mut self) -> Option<Raw> {
        let manager = self.manager.as_mut()?;
        manager.try_send(&json!({"type": "get_relay_less_connection"})).await.ok()?;
        let offer = async {
            loop {
                let packet = manager.next_packet().await?;
                if packet.is_array() {
                    return packet[0]["component"].get(0).cloned();
                }
            }
        };
        let offer = tokio::time::timeout(ONE_ANSWER, offer).await.ok()??;
        let address = offered(&offer);
        let connected =
            tokio::time::timeout(ONE_ANSWER, Raw::try_connect(&self.name, address, Speaks::Lines)).await;
        let mut raw = connected.ok()?.ok()?;
        let hello = json!({"username": self.name, "message": "hello!", "token": offer["token"]});
        raw.try_send(&hello).await.ok()?;
        raw.answers_ping(ONE_ANSWER).await.then_some(raw)
    }

    /// Writes a message that the other one reads.
    async fn reaches(&mut self, other: &mut Someone, body: &str) -> bool {
        let (Some(from), Some(to)) = (&mut self.relay, &mut other.relay) else { return false };
        let message = packets::message(&self.name, &other.name, body);
        if from.try_send(&message).await.is_err() {
            return false;
        }
        let read = async {
            while let Some(packet) = to.next_packet().await {
                if packet == message {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(ONE_ANSWER / 2, read).await.unwrap_or(false)
    }
}

impl Places {
    /// The managers that the tracker names, or the last known ones.
    async fn ask_tracker(&self, who: &str) -> Vec<SocketAddr> {
        let ask = async {
            let mut raw = Raw::try_connect(who, self.tracker, Speaks::Lines).await.ok()?;
            raw.try_send(&json!({"type": "client"})).await.ok()?;
            raw.next_packet().await
        };
        let answer = tokio::time::timeout(ONE_ANSWER, ask).await.ok().flatten().unwrap_or_default();
        let managers =
            answer.as_array().into_iter().flatten().filter(|component| component["type"] == "manager");
        let named: Vec<SocketAddr> = managers.map(offered).collect();
        if named.is_empty() { self.managers.clone() } else { named }
    }
}

fn random_between(least: Duration, most: Duration) -> Duration {
    let beyond = u64::try_from(most.saturating_sub(least).as_millis()).expect("a short time");
    least + Duration::from_millis(random(beyond + 1))
}

async fn alive(raw: &mut Option<Raw>) -> bool {
    match raw {
        Some(raw) => raw.answers_ping(ONE_ANSWER).await,
        None => false,
    }
}
