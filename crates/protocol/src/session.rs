//! What a connection may do, how often, and until when. Time is an argument.

use std::time::{Duration, Instant};

use crate::manager::FromClient;

/// The bounds of a connection to a manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failed attempts to register or log in after which the last one is answered and the connection closed; 0 never.
    pub max_auth_failures: u32,
    /// How long a connection may take to log in.
    pub login_deadline: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_auth_failures: 10, login_deadline: Duration::from_secs(600) }
    }
}

/// How far a connection to a manager has come.
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    opened: Instant,
    failures: u32,
    logged_in: bool,
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Handle it.
    Granted,
    /// No answer: not now.
    Ignored,
    /// A request that needs a login: answer not-authorized, with `to` null.
    NotAuthorized,
}

/// What a failed attempt leads to, once it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Open for another try.
    TryAgain,
    /// That was the last one.
    Close,
}

impl Session {
    /// A connection opened at `now`.
    pub fn new(rules: Rules, now: Instant) -> Self {
        Self { rules, opened: now, failures: 0, logged_in: false }
    }
    /// Whether this packet is for now.
    pub fn access(&self, packet: &FromClient) -> Access {
        let _ = packet;
        todo!()
    }
    /// An attempt failed through the client's fault. Temporary failures are not counted.
    pub fn auth_failed(&mut self) -> AfterFailure {
        self.failures += 1;
        let _ = self.rules.max_auth_failures;
        todo!()
    }
    /// Registered or logged in.
    pub fn logged_in(&mut self) {
        self.logged_in = true;
    }
    /// Whether [`logged_in`](Self::logged_in) has happened.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }
    /// When to close this connection unless it has logged in by then.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.logged_in).then(|| self.opened + self.rules.login_deadline)
    }
}
