//! What this relay reports of itself: connections, redeemed tickets, and how late its own tasks run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kurir_rpc::v1::LoadReport;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::tickets::Ticket;

/// How often the loop's delay is measured, and over how many measurements the worst is reported: one second.
const SAMPLE: Duration = Duration::from_millis(50);
const SAMPLES: usize = 20;

/// tokio's timer goes by whole milliseconds, so a sleep that ends up to one late tells nothing.
const TIMER_STEP: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct Load {
    state: Mutex<State>,
    loop_delay_us: AtomicU64,
    draining: AtomicBool,
    changed: watch::Sender<()>,
}

/// Connections and redeemed tickets change together: a report that had one without the other would count a user
/// twice, as promised and as there.
#[derive(Debug, Default)]
struct State {
    connections: u64,
    /// By the key of a manager: each life of a manager counts its own promises.
    redeemed: HashMap<String, Redeemed>,
}

#[derive(Debug, Default)]
struct Redeemed {
    count: u64,
    /// Tickets that could come again, with their end: each counts once.
    seen: HashMap<String, u64>,
    /// When `seen` is swept next.
    sweep_at: usize,
}

impl Load {
    /// A hello was admitted; `promised` is its ticket if that was made out for this relay, at `now` in seconds since the
    /// Unix epoch.
    pub(crate) fn connected(&self, promised: Option<&Ticket>, now: u64) {
        let mut state = self.lock();
        state.connections += 1;
        if let Some(ticket) = promised {
            state.redeemed.entry(ticket.key_id.clone()).or_default().redeem(ticket, now);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// An admitted connection is over.
    pub(crate) fn disconnected(&self) {
        let mut state = self.lock();
        state.connections = state.connections.saturating_sub(1);
        drop(state);
        self.changed.send_replace(());
    }

    /// A new life: managers count its tickets from none.
    pub(crate) fn begin_again(&self) {
        self.lock().redeemed.clear();
    }

    /// What the manager with that key is told.
    pub(crate) fn report(&self, key_id: Option<&str>) -> LoadReport {
        let state = self.lock();
        LoadReport {
            connections: state.connections,
            redeemed: key_id.and_then(|id| state.redeemed.get(id)).map_or(0, |redeemed| redeemed.count),
            loop_delay_us: self.loop_delay_us.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    /// No manager is to send anybody here any more.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.changed.send_replace(());
    }

    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Measures for as long as it is polled.
    pub(crate) async fn measure_loop_delay(&self) {
        let mut latest = VecDeque::with_capacity(SAMPLES);
        loop {
            let due = Instant::now() + SAMPLE;
            sleep(SAMPLE).await;
            let late = due.elapsed().saturating_sub(TIMER_STEP);
            if latest.len() == SAMPLES {
                latest.pop_front();
            }
            latest.push_back(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
            self.loop_delay_us.store(latest.iter().copied().max().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redeemed {
    fn redeem(&mut self, ticket: &Ticket, now: u64) {
        if self.seen.len() >= self.sweep_at {
            // An ended ticket is refused before it is counted. A minute is more than clocks may differ.
            self.seen.retain(|_, end| end.saturating_add(60) > now);
            self.sweep_at = (self.seen.len() * 2).max(1024);
        }
        if self.seen.insert(ticket.claims.jti.clone(), ticket.claims.exp).is_none() {
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use kurir_protocol::{
        name::{LoginId, Resource, UserKey},
        ticket::Claims,
    };

    use super::*;

    fn ticket(key_id: &str, jti: &str, exp: u64) -> Ticket {
        let claims = Claims {
            sub: UserKey::of("esa").unwrap(),
            name: "esa".to_owned(),
            res: Resource::default_device(),
            login: LoginId(1),
            relay: "relay-1".to_owned(),
            mgr: "manager-1".to_owned(),
            jti: jti.to_owned(),
            iat: 0,
            exp,
            trace: None,
        };
        Ticket { claims, key_id: key_id.to_owned() }
    }

    /// R7, R10.
    #[test]
    fn each_ticket_counts_once_for_its_key_and_every_connection_as_it_comes_and_goes() {
        let load = Load::default();
        load.connected(Some(&ticket("one", "a", 100)), 50);
        load.connected(Some(&ticket("one", "a", 100)), 50);
        load.connected(Some(&ticket("one", "b", 100)), 50);
        load.connected(Some(&ticket("two", "a", 100)), 50);
        load.connected(None, 50);
        load.disconnected();
        let counts = |key| (load.report(key).connections, load.report(key).redeemed);
        assert_eq!(counts(Some("one")), (4, 2));
        assert_eq!(counts(Some("two")), (4, 1));
        assert_eq!(counts(None), (4, 0));
        load.begin_again();
        assert_eq!(counts(Some("one")), (4, 0));
    }

    #[test]
    fn a_draining_relay_says_so_at_once() {
        let load = Load::default();
        let changes = load.changes();
        assert!(!load.report(None).draining);
        load.set_draining();
        assert!(load.report(None).draining && changes.has_changed().unwrap());
    }

    #[test]
    fn tickets_that_have_ended_are_forgotten() {
        let load = Load::default();
        for number in 0..5000 {
            load.connected(Some(&ticket("one", &number.to_string(), number)), number);
        }
        let remembered = load.lock().redeemed["one"].seen.len();
        assert!(remembered < 2000, "{remembered}");
        assert_eq!(load.report(Some("one")).redeemed, 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_late_says_so_for_a_second() {
        let load = Load::default();
        let late = async {
            sleep(Duration::from_millis(100)).await;
            // Nothing else of this task runs meanwhile.
            tokio::time::advance(Duration::from_millis(250)).await;
            sleep(Duration::from_millis(100)).await;
        };
        tokio::select! {
            () = load.measure_loop_delay() => {}
            () = late => {}
        }
        let delay = load.report(None).loop_delay_us;
        assert!((190_000..=250_000).contains(&delay), "{delay}");
    }
}
