//! Passwords as argon2id hashes, computed off the async threads behind a bounded queue (M10, M12).

use std::fmt;

/// What hashing costs, and how much of it is done at once.
#[derive(Debug, Clone)]
pub struct PasswordConfig {
    /// Memory of one hash, KiB. Stored hashes are checked with what they were made with.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Hashes computed at once; 0: as many as there are cores. Each takes `memory_kib` meanwhile.
    pub threads: usize,
    /// Requests that may wait for their turn. One more is refused at once with [`PasswordError::Busy`].
    pub queue: usize,
}

impl Default for PasswordConfig {
    fn default() -> Self {
        PasswordConfig { memory_kib: 19_456, iterations: 2, threads: 0, queue: 256 }
    }
}

/// A password's hash as a PHC string. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting: try again later.
    #[error("too many passwords are waiting to be checked")]
    Busy,
    /// `memory_kib` or `iterations` outside what argon2 allows.
    #[error("argon2 refuses its parameters")]
    Parameters(#[source] argon2::Error),
    /// A stored hash that cannot be read, or a password longer than 4 GiB.
    #[error("argon2 failed")]
    Hash(#[source] argon2::password_hash::Error),
    #[error("the hashing thread died")]
    Thread(#[source] tokio::task::JoinError),
}

/// Hashes and checks passwords. Cheap to clone; clones share the queue.
#[derive(Debug, Clone)]
pub struct Passwords {}

impl Passwords {
    pub fn new(_config: &PasswordConfig) -> Result<Passwords, PasswordError> {
        todo!()
    }

    /// Hashes a new password with a random salt.
    pub async fn hash(&self, _password: &str) -> Result<PasswordHash, PasswordError> {
        todo!()
    }

    /// Whether `password` is what `hash` was made of. An error is never a wrong password.
    pub async fn verify(&self, _password: &str, _hash: &PasswordHash) -> Result<bool, PasswordError> {
        todo!()
    }
}
