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
        Self { max_auth_failures: 10, login_deadline: Duration::from_mins(10) }
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
    /// A request that needs a login: answer not-authorized ([`Condition::NotLoggedIn`] with `to` null,
    /// [`answer_before_login`]).
    ///
    /// [`Condition::NotLoggedIn`]: crate::iq::Condition::NotLoggedIn
    /// [`answer_before_login`]: crate::iq::Request::answer_before_login
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
        match (packet, self.logged_in) {
            (FromClient::Hello | FromClient::Ignored, _)
            | (FromClient::Auth(_), true)
            | (FromClient::GetRelay | FromClient::Presence(_), false) => Access::Ignored,
            (FromClient::Iq(request), _) if request.is_ping() => Access::Granted,
            (FromClient::Auth(_), false) | (_, true) => Access::Granted,
            (
                FromClient::Roster(_)
                | FromClient::Account(_)
                | FromClient::Archive(_)
                | FromClient::Explain(_)
                | FromClient::Iq(_),
                false,
            ) => Access::NotAuthorized,
        }
    }

    /// An attempt failed through the client's fault. Temporary failures are not counted.
    pub fn auth_failed(&mut self) -> AfterFailure {
        self.failures = self.failures.saturating_add(1);
        let limit = self.rules.max_auth_failures;
        if limit > 0 && self.failures >= limit { AfterFailure::Close } else { AfterFailure::TryAgain }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> FromClient {
        FromClient::parse(value).unwrap()
    }

    fn session() -> Session {
        Session::new(Rules::default(), Instant::now())
    }

    const ROSTER: &str =
        r#"{"stanza":"iq","namespace":"roster","from":"esa","type":"get","query":{"items":null}}"#;

    #[test]
    fn before_login_one_may_log_in_and_ping_and_nothing_else() {
        let session = session();
        assert_eq!(session.access(&parse(r#"{"type":"auth"}"#)), Access::Granted);
        assert_eq!(
            session.access(&parse(r#"{"stanza":"iq","namespace":"ping","type":"get"}"#)),
            Access::Granted
        );
        assert_eq!(session.access(&parse(ROSTER)), Access::NotAuthorized);
        assert_eq!(
            session.access(&parse(r#"{"stanza":"iq","namespace":"x","type":"get"}"#)),
            Access::NotAuthorized
        );
        assert_eq!(session.access(&parse(r#"{"stanza":"presence"}"#)), Access::Ignored);
        assert_eq!(session.access(&parse(r#"{"type":"get_relay_less_connection"}"#)), Access::Ignored);
    }

    #[test]
    fn after_login_everything_but_another_login_is_handled() {
        let mut session = session();
        session.logged_in();
        assert_eq!(session.access(&parse(r#"{"type":"auth"}"#)), Access::Ignored);
        for value in [ROSTER, r#"{"stanza":"presence"}"#, r#"{"type":"get_relay_less_connection"}"#] {
            assert_eq!(session.access(&parse(value)), Access::Granted, "{value}");
        }
    }

    #[test]
    fn the_tenth_failed_attempt_is_the_last() {
        let mut session = session();
        assert!((1..10).all(|_| session.auth_failed() == AfterFailure::TryAgain));
        assert_eq!(session.auth_failed(), AfterFailure::Close);
    }

    #[test]
    fn a_connection_that_never_logs_in_is_closed_after_ten_minutes_and_one_that_did_is_not() {
        let opened = Instant::now();
        let mut session = Session::new(Rules::default(), opened);
        assert_eq!(session.deadline(), Some(opened + Duration::from_mins(10)));
        session.logged_in();
        assert_eq!(session.deadline(), None);
    }
}
