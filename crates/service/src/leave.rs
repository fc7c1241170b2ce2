//! How a server that drains lets its users go: each in its turn, spread evenly, so that those who take them in are not
//! overrun.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often is looked for turns that have come, and for users who have.
const TICK: Duration = Duration::from_millis(50);

/// How long users may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Over how long the turns are spread; zero: all are closed at once.
    pub spread: Duration,
    /// How long they may stay in all.
    pub stay: Duration,
}

/// A user's connection.
pub trait Guest {
    /// Asks the client to connect elsewhere after this time. False: it knows no such thing, and is closed then.
    fn ask_to_move(&self, after: Duration) -> bool;

    /// Closes the connection, in order.
    fn send_away(&self);
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Connections that were there at the beginning, or have come since.
    pub users: usize,
    /// Those of them that are there.
    pub left: usize,
    /// How many were closed as the time was over.
    pub closed_at_deadline: usize,
}

/// Lets everybody go, and ends when nobody is left or the time is over; then all have been sent away. `guests` lists the open
/// connections, `report` is told how far it is, after each change.
pub async fn let_go<G: Guest>(
    times: Times,
    guests: impl Fn() -> Vec<Arc<G>>,
    mut report: impl FnMut(Progress),
) -> Progress {
    let mut turns = Turns { began: Instant::now(), times, given: HashMap::new() };
    let mut progress = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let here = guests();
        let over = turns.began.elapsed() >= times.stay;
        turns.give(&here);
        if over {
            for guest in &here {
                guest.send_away();
            }
        } else {
            turns.send_away();
        }
        let closed_at_deadline = if over && !times.stay.is_zero() { here.len() } else { 0 };
        let now = Progress { users: turns.given.len(), left: here.len(), closed_at_deadline };
        if progress.replace(now) != Some(now) {
            report(now);
        }
        if over || here.is_empty() {
            if closed_at_deadline > 0 {
                tracing::warn!(users = closed_at_deadline, "users who had not left in time were closed");
            }
            return now;
        }
    }
}

struct Turns<G> {
    began: Instant,
    times: Times,
    /// By the address of the connection, which is held so that no other has it.
    given: HashMap<usize, Turn<G>>,
}

struct Turn<G> {
    guest: Arc<G>,
    /// When it is to be closed; none: it moves by itself, or was closed.
    closed_at: Option<Instant>,
}

impl<G: Guest> Turns<G> {
    /// Gives everybody a turn who has none.
    fn give(&mut self, here: &[Arc<G>]) {
        let key = |guest: &Arc<G>| Arc::as_ptr(guest).addr();
        let new: Vec<_> = here.iter().filter(|guest| !self.given.contains_key(&key(guest))).collect();
        let now = Instant::now();
        let rest = (self.began + self.times.spread).saturating_duration_since(now);
        // Who comes while others leave is the first of those who come together.
        let step = rest / u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
        for (place, guest) in (0..).zip(new) {
            let after = step * place;
            let moves = !self.times.spread.is_zero() && guest.ask_to_move(after);
            let closed_at = (!moves).then_some(now + after);
            self.given.insert(key(guest), Turn { guest: Arc::clone(guest), closed_at });
        }
    }

    /// Closes those whose turn it is.
    fn send_away(&mut self) {
        let now = Instant::now();
        for turn in self.given.values_mut() {
            if turn.closed_at.take_if(|at| *at <= now).is_some() {
                turn.guest.send_away();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const TIMES: Times = Times { spread: Duration::from_secs(5), stay: Duration::from_secs(9) };

    /// A client: what it was told, and when it was closed.
    struct Client {
        part_two: bool,
        /// Of Part II, and goes when it is told to.
        obeys: bool,
        told: Mutex<Vec<(Instant, Duration)>>,
        closed: Mutex<Option<Instant>>,
    }

    impl Guest for Client {
        fn ask_to_move(&self, after: Duration) -> bool {
            if self.part_two {
                self.told.lock().unwrap().push((Instant::now(), after));
            }
            self.part_two
        }

        fn send_away(&self) {
            self.closed.lock().unwrap().get_or_insert_with(Instant::now);
        }
    }

    impl Client {
        fn new(part_two: bool, obeys: bool) -> Arc<Self> {
            Arc::new(Self { part_two, obeys, told: Mutex::default(), closed: Mutex::default() })
        }

        fn is_here(&self) -> bool {
            let gone = |(at, after): &(Instant, Duration)| self.obeys && Instant::now() >= *at + *after;
            self.closed.lock().unwrap().is_none() && !self.told.lock().unwrap().iter().any(gone)
        }
    }

    fn here(clients: &Mutex<Vec<Arc<Client>>>) -> Vec<Arc<Client>> {
        clients.lock().unwrap().iter().filter(|client| client.is_here()).cloned().collect()
    }

    /// The moments, in seconds since the beginning.
    fn seconds(moments: impl Iterator<Item = Duration>) -> Vec<f64> {
        let mut seconds: Vec<_> = moments.map(|at| at.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_the_original_are_closed_evenly_over_the_spread() {
        let began = Instant::now();
        let clients = Mutex::new((0..10).map(|_| Client::new(false, false)).collect());
        let mut lefts = Vec::new();
        let done = let_go(TIMES, || here(&clients), |progress| lefts.push(progress.left)).await;
        assert_eq!(done, Progress { users: 10, left: 0, closed_at_deadline: 0 });
        let closed = clients
            .lock()
            .unwrap()
            .iter()
            .filter_map(|client| *client.closed.lock().unwrap())
            .collect::<Vec<_>>();
        for (place, at) in (0_u32..).zip(seconds(closed.into_iter().map(|at| at - began))) {
            let due = f64::from(place) * 0.5;
            assert!((due..due + 0.11).contains(&at), "{place}: {at}");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(lefts.is_sorted_by(|before, after| before > after), "{lefts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_part_two_is_told_its_turn_at_once_and_goes_by_itself() {
        let clients = Mutex::new((0..10).map(|_| Client::new(true, true)).collect());
        let began = Instant::now();
        let done = let_go(TIMES, || here(&clients), |_| {}).await;
        assert_eq!((done.left, done.closed_at_deadline), (0, 0));
        let clients = clients.lock().unwrap();
        let told: Vec<_> = clients.iter().flat_map(|client| client.told.lock().unwrap().clone()).collect();
        assert!(told.iter().all(|(at, _)| *at == began) && told.len() == 10);
        let expected: Vec<_> = (0..10).map(|place| f64::from(place) * 0.5).collect();
        assert_eq!(seconds(told.into_iter().map(|(_, after)| after)), expected);
        assert!(clients.iter().all(|client| client.closed.lock().unwrap().is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_is_closed_when_the_time_is_over() {
        let clients = Mutex::new(vec![Client::new(true, false), Client::new(true, true)]);
        let began = Instant::now();
        let done = let_go(TIMES, || here(&clients), |_| {}).await;
        assert_eq!(done, Progress { users: 2, left: 1, closed_at_deadline: 1 });
        let closed = clients.lock().unwrap()[0].closed.lock().unwrap().unwrap();
        assert!((9.0..9.1).contains(&(closed - began).as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_meanwhile_is_sent_on_at_once() {
        let clients = Mutex::new(vec![Client::new(false, false); 2]);
        clients.lock().unwrap()[1] = Client::new(false, false);
        let late = Client::new(true, true);
        let coming = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clients.lock().unwrap().push(Arc::clone(&late));
        };
        let (done, ()) = tokio::join!(let_go(TIMES, || here(&clients), |_| {}), coming);
        assert_eq!(done.users, 3);
        assert_eq!(late.told.lock().unwrap()[0].1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_spread_all_are_closed_at_once() {
        let clients = Mutex::new(vec![Client::new(true, true), Client::new(false, false)]);
        let began = Instant::now();
        let done = let_go(Times::default(), || here(&clients), |_| {}).await;
        assert_eq!(done, Progress { users: 2, left: 2, closed_at_deadline: 0 });
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(clients.lock().unwrap().iter().all(|client| *client.closed.lock().unwrap() == Some(began)));
    }
}
