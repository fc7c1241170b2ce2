//! Whose question what became of a message is under way, and who may ask: each is one to every component.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kurir_protocol::name::UserKey;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// From an answer to the same user's next question. Whoever asks several at once, with a ping behind them, waits for one.
const PAUSE: Duration = Duration::from_secs(1);

/// The questions of one manager's users.
#[derive(Debug)]
pub(crate) struct Explaining {
    at_once: Semaphore,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    /// Who asks or has asked lately.
    asked: HashMap<UserKey, Asked>,
    /// When those were last forgotten who asked long ago.
    swept: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Now,
    /// And was answered then.
    Before(Instant),
}

/// A question under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    of: &'a Explaining,
    user: UserKey,
    _one: SemaphorePermit<'a>,
}

impl Explaining {
    pub(crate) fn new() -> Self {
        let users = Users { asked: HashMap::new(), swept: Instant::now() };
        Self { at_once: Semaphore::new(AT_ONCE), users: Mutex::new(users) }
    }

    /// Begins a question of this user. None: not now.
    pub(crate) fn begin(&self, user: &UserKey) -> Option<Question<'_>> {
        let one = self.at_once.try_acquire().ok()?;
        let now = Instant::now();
        let mut users = self.lock();
        users.sweep(now);
        if users.asked.get(user).is_some_and(|asked| asked.counts_at(now)) {
            return None;
        }
        users.asked.insert(user.clone(), Asked::Now);
        Some(Question { of: self, user: user.clone(), _one: one })
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// At most once a second, so that it costs little for each question.
    fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept) >= PAUSE {
            self.swept = now;
            self.asked.retain(|_, asked| asked.counts_at(now));
        }
    }
}

impl Asked {
    fn counts_at(self, now: Instant) -> bool {
        match self {
            Asked::Now => true,
            Asked::Before(at) => now.duration_since(at) < PAUSE,
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.of.lock().asked.insert(self.user.clone(), Asked::Before(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn user(number: u32) -> UserKey {
        UserKey::of(&format!("user{number}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_asks_again_a_second_after_its_answer() {
        let explaining = Explaining::new();
        let [esa, fajar] = [&user(1), &user(2)];
        let question = explaining.begin(esa).unwrap();
        advance(PAUSE * 5).await;
        assert!(explaining.begin(esa).is_none(), "the first is under way");
        assert!(explaining.begin(fajar).is_some(), "others ask meanwhile");
        drop(question);
        advance(PAUSE.mul_f64(0.99)).await;
        assert!(explaining.begin(esa).is_none());
        advance(PAUSE.mul_f64(0.01)).await;
        assert!(explaining.begin(esa).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_some_ask_at_once_and_who_asked_is_forgotten() {
        let explaining = Explaining::new();
        let asking: Vec<_> = (0..).map_while(|number| explaining.begin(&user(number))).collect();
        assert_eq!(asking.len(), AT_ONCE);
        drop(asking);
        for number in 100..1100 {
            assert!(explaining.begin(&user(number)).is_some());
        }
        assert_eq!(explaining.lock().asked.len(), AT_ONCE + 1000);
        advance(PAUSE).await;
        assert!(explaining.begin(&user(1)).is_some());
        assert_eq!(explaining.lock().asked.len(), 1);
    }
}
