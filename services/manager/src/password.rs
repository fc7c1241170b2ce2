//! Passwords as argon2id hashes, computed off the async threads behind a bounded queue (M10, M12).

use std::{fmt, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, phc},
};
use kurir_metrics::Requests;
use sea_orm::DeriveValueType;
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;

/// How long a request waits for its turn. Its client waits with everything else that it has sent, pings too.
const TURN_WAIT: Duration = Duration::from_secs(3);

const SALT_BYTES: usize = 16;

/// One hash is computed by one thread: more would only make a login's cost burst.
const LANES: u32 = 1;

/// What hashing costs, and how much of it is done at once.
#[derive(Debug, Clone)]
pub struct PasswordConfig {
    /// Memory of one hash, KiB. Stored hashes are checked with what they were made with.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Hashes computed at once; 0: as many as there are cores. Each takes `memory_kib` meanwhile.
    pub threads: usize,
    /// Requests that may wait for their turn. One more is refused at once with [`PasswordError::Busy`], as is one that has
    /// waited for 3 s.
    pub queue: usize,
}

impl Default for PasswordConfig {
    fn default() -> Self {
        PasswordConfig { memory_kib: 19_456, iterations: 2, threads: 0, queue: 256 }
    }
}

/// A password's hash as a PHC string. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting, or the turn did not come in time: try again later.
    #[error("too many passwords are waiting to be checked")]
    Busy,
    /// `memory_kib` or `iterations` outside what argon2 allows.
    #[error("argon2 refuses its parameters")]
    Parameters(#[source] argon2::Error),
    /// A stored hash that is none.
    #[error("a stored password hash cannot be read")]
    Unreadable,
    /// A password longer than 4 GiB, or a stored hash of another kind.
    #[error("argon2 failed")]
    Hash(#[source] password_hash::Error),
    #[error("the hashing thread died")]
    Thread(#[source] tokio::task::JoinError),
}

/// Hashes and checks passwords. Cheap to clone; clones share the queue.
#[derive(Debug, Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// One for each request that is let in: those being worked on and those waiting.
    places: Arc<Semaphore>,
    /// One for each that is being worked on; given out in the order of asking.
    turns: Arc<Semaphore>,
    limits: Limits,
    /// From asking to the answer, waiting for a turn included; those that were refused failed.
    requests: Requests,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    places: usize,
    turns: usize,
}

impl Passwords {
    pub fn new(config: &PasswordConfig) -> Result<Passwords, PasswordError> {
        let params = Params::new(config.memory_kib, config.iterations, LANES, None)
            .map_err(PasswordError::Parameters)?;
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            threads => threads.min(Semaphore::MAX_PERMITS),
        };
        let places = threads.saturating_add(config.queue).min(Semaphore::MAX_PERMITS);
        Ok(Passwords {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            places: Arc::new(Semaphore::new(places)),
            turns: Arc::new(Semaphore::new(threads)),
            limits: Limits { places, turns: threads },
            requests: Requests::default(),
        })
    }

    /// How long they take, and how many are refused.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// How many are being worked on now.
    pub(crate) fn hashing(&self) -> usize {
        self.limits.turns.saturating_sub(self.turns.available_permits())
    }

    /// How many wait for their turn now.
    pub(crate) fn waiting(&self) -> usize {
        let places = self.limits.places.saturating_sub(self.places.available_permits());
        places.saturating_sub(self.hashing())
    }

    /// Hashes a new password with a random salt.
    ///
    /// Dropped while it waits, it gives its place back; dropped while it is worked on, it keeps it to the end.
    pub async fn hash(&self, password: &str) -> Result<PasswordHash, PasswordError> {
        let password = password.to_owned();
        let salt: [u8; SALT_BYTES] = rand::random();
        let hash = self
            .work(move |argon2| argon2.hash_password_with_salt(password.as_bytes(), &salt))
            .await?
            .map_err(PasswordError::Hash)?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// Whether `password` is what `hash` was made of. An error is never a wrong password.
    ///
    /// Dropped, it behaves as [`hash`](Self::hash).
    pub async fn verify(&self, password: &str, hash: &PasswordHash) -> Result<bool, PasswordError> {
        let stored = phc::PasswordHash::new(&hash.0).map_err(|_| PasswordError::Unreadable)?;
        // Argon2 takes a stored hash without its salt or its end for a wrong password.
        if stored.salt.is_none() || stored.hash.is_none() {
            return Err(PasswordError::Unreadable);
        }
        let password = password.to_owned();
        match self.work(move |argon2| argon2.verify_password(password.as_bytes(), &stored)).await? {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(PasswordError::Hash(error)),
        }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let working = self.work_in_turn(work).instrument(kurir_trace::step!("password"));
        self.requests.timed(working, Result::is_err).await
    }

    async fn work_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let turn = timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| PasswordError::Busy)?.map_err(|_| PasswordError::Busy)?;
        let argon2 = self.argon2.clone();
        tokio::task::spawn_blocking(move || {
            // Moved along: a caller that goes away doesn't make the thread stop.
            let _held = (place, turn);
            work(&argon2)
        })
        .await
        .map_err(PasswordError::Thread)
    }
}

#[cfg(test)]
impl Passwords {
    /// Nobody has a turn for as long as the answer is held.
    pub(crate) async fn stand_still(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.turns).acquire_owned().await.unwrap()
    }

    /// Waits until somebody waits for a turn.
    pub(crate) async fn somebody_waits(&self) {
        let places = self.places.available_permits();
        while self.places.available_permits() == places {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn cheap(threads: usize, queue: usize) -> Passwords {
        Passwords::new(&PasswordConfig { memory_kib: 64, iterations: 1, threads, queue }).unwrap()
    }

    #[tokio::test]
    async fn m12_a_password_is_accepted_and_another_one_is_not() {
        let passwords = cheap(1, 1);
        let hash = passwords.hash("12345").await.unwrap();
        assert!(passwords.verify("12345", &hash).await.unwrap());
        assert!(!passwords.verify("12346", &hash).await.unwrap());
        assert!(!passwords.verify("", &hash).await.unwrap());
    }

    #[tokio::test]
    async fn m10_hashes_are_argon2id_salted_and_carry_their_parameters() {
        let passwords = cheap(1, 1);
        let hash = passwords.hash("12345").await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.0);
        assert_ne!(hash, passwords.hash("12345").await.unwrap());
    }

    #[tokio::test]
    async fn a_stored_hash_is_checked_with_the_parameters_it_was_made_with() {
        let hash = cheap(1, 1).hash("12345").await.unwrap();
        let dearer =
            Passwords::new(&PasswordConfig { memory_kib: 128, iterations: 3, ..PasswordConfig::default() });
        assert!(dearer.unwrap().verify("12345", &hash).await.unwrap());
    }

    #[tokio::test]
    async fn a_broken_stored_hash_is_an_error_and_no_wrong_password() {
        let passwords = cheap(1, 1);
        let whole = passwords.hash("12345").await.unwrap().0;
        let without_end = &whole[..whole.rfind('$').unwrap()];
        for broken in [
            "",
            "12345",
            "$argon2id$v=19$m=64,t=1,p=1",
            without_end,
            "$scrypt$ln=1,r=8,p=1$c2FsdHNhbHQ$aGFzaA",
        ] {
            let result = passwords.verify("12345", &PasswordHash(broken.to_owned())).await;
            assert!(result.is_err(), "{broken} {result:?}");
        }
    }

    #[test]
    fn impossible_parameters_are_refused_at_start() {
        let config = PasswordConfig { memory_kib: 1, ..PasswordConfig::default() };
        assert!(matches!(Passwords::new(&config), Err(PasswordError::Parameters(_))));
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once_and_open_again_afterwards() {
        let passwords = cheap(1, 1);
        let (let_go, hold) = mpsc::channel::<()>();
        let working = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.work(move |_| hold.recv()).await }
        });
        while passwords.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut waiting = Box::pin(passwords.hash("12345"));
        assert!(futures_are_pending(&mut waiting).await);
        assert_eq!((passwords.hashing(), passwords.waiting()), (1, 1));
        assert!(matches!(passwords.hash("12345").await, Err(PasswordError::Busy)));
        assert!(matches!(passwords.verify("12345", &stored()).await, Err(PasswordError::Busy)));

        let_go.send(()).unwrap();
        waiting.await.unwrap();
        working.await.unwrap().unwrap().unwrap();
        passwords.hash("12345").await.unwrap();
        assert_eq!((passwords.hashing(), passwords.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_too_long_is_told_busy() {
        let passwords = cheap(1, 1);
        let _still = passwords.stand_still().await;
        assert!(matches!(passwords.hash("12345").await, Err(PasswordError::Busy)));
        assert_eq!(passwords.places.available_permits(), 2);
    }

    #[tokio::test]
    async fn who_stops_waiting_gives_the_place_back() {
        let passwords = cheap(1, 1);
        let _working = Arc::clone(&passwords.turns).acquire_owned().await.unwrap();
        let _place = Arc::clone(&passwords.places).acquire_owned().await.unwrap();
        let mut waiting = Box::pin(passwords.hash("12345"));
        assert!(futures_are_pending(&mut waiting).await);
        assert_eq!(passwords.places.available_permits(), 0);
        drop(waiting);
        assert_eq!(passwords.places.available_permits(), 1);
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", stored()), "PasswordHash(…)");
    }

    fn stored() -> PasswordHash {
        PasswordHash("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA".to_owned())
    }

    async fn futures_are_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
