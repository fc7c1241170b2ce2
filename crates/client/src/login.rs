//! Registration and login (U2–U4): what to send next, and what an answer means.

use std::time::Duration;

use kurir_protocol::client::{FromServer, ToServer};
use kurir_protocol::manager::Session as Token;
use tokio::time::{Instant, timeout};

use crate::discovery;
use crate::error::{Failure, Refusal};
use crate::event::Socket;
use crate::options::{Options, Timing};
use crate::wire::Wire;

/// The account, and how far it got.
#[derive(Debug)]
pub(crate) struct Account {
    username: String,
    password: String,
    resource: Option<String>,
    /// From the last login, once it is kept: what is used takes the place of what is on disk.
    token: Option<Token>,
    step: Step,
    /// A login has worked.
    was_online: bool,
    /// When an own session that a server may still count as online was lost.
    lost: Option<Instant>,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Register,
    /// A registration was sent and nothing is known of its outcome: the account exists if a login works.
    Unsure,
    LogIn,
}

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Verdict {
    Online,
    Again(Failure),
    Refused(Refusal),
}

impl Account {
    pub(crate) fn new(options: &Options, token: Option<Token>) -> Self {
        Self {
            username: options.username.clone(),
            password: options.password.clone(),
            resource: options.resource.clone(),
            token: token.filter(|_| !options.register),
            step: if options.register { Step::Register } else { Step::LogIn },
            was_online: false,
            lost: None,
            patience: options.timing.already_logged_in,
        }
    }

    /// The packet to send now, as a line.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let (username, password) = (self.username.as_str(), self.password.as_str());
        let resource = self.resource.as_deref();
        let packet = match (self.step, &self.token) {
            (Step::Register, _) => ToServer::Register { username, password, resource },
            (Step::LogIn, Some(session)) => ToServer::ComeBack { username, session },
            (Step::Unsure | Step::LogIn, _) => ToServer::Login { username, password, resource },
        };
        let mut line = Vec::new();
        packet.write(&mut line);
        line
    }

    /// Whether a login takes the place of this device's older one, which others are refused for.
    pub(crate) fn displaces(&self) -> bool {
        self.token.is_some() || self.resource.is_some()
    }

    /// What the last login gave is kept.
    pub(crate) fn kept(&mut self, token: Token) {
        self.token = Some(token);
    }

    /// The packet went out and no answer came: it may have worked.
    pub(crate) fn unanswered(&mut self, now: Instant) {
        if self.step == Step::Register {
            self.step = Step::Unsure;
        }
        self.lost = Some(now);
    }

    /// The manager connection of a session that was online is lost.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.lost = Some(now);
    }

    pub(crate) fn answered(&mut self, answer: &FromServer, now: Instant) -> Verdict {
        let (code, text) = match answer {
            FromServer::AccountCreated { .. } | FromServer::LoggedIn { .. } => {
                self.step = Step::LogIn;
                self.lost = None;
                self.was_online = true;
                return Verdict::Online;
            }
            FromServer::Refused { code, msg } => (*code, msg.clone()),
            other => return Verdict::Refused(Refusal::Other { code: 0, text: format!("{other:?}") }),
        };
        if code == 401 && self.token.take().is_some() {
            // Too old, or ended by a removal that was not heard: the answer is the same, and the password would undo the
            // removal. Only whoever starts the device with it has said that it may.
            return if self.was_online || self.password.is_empty() {
                Verdict::Refused(Refusal::SessionOver)
            } else {
                Verdict::Again(Failure::SessionOver)
            };
        }
        match (code, self.step) {
            // A manager that ran out of time may have created the account all the same.
            (503, Step::Register) => {
                self.step = Step::Unsure;
                Verdict::Again(Failure::Temporary)
            }
            (503, _) => Verdict::Again(Failure::Temporary),
            (404, Step::Unsure) => {
                self.step = Step::Register;
                Verdict::Again(Failure::Temporary)
            }
            (404, _) => Verdict::Refused(Refusal::UserNotFound),
            // Unsure: the name is somebody's, and was before our registration.
            (409, Step::Register) | (400, Step::Unsure) => Verdict::Refused(Refusal::UsernameUsed),
            (400, _) => Verdict::Refused(Refusal::BadCredentials),
            (409, _) if self.lost.is_some_and(|lost| now.duration_since(lost) < self.patience) => {
                Verdict::Again(Failure::StillLoggedIn)
            }
            (409, _) => Verdict::Refused(Refusal::AlreadyLoggedIn),
            _ => Verdict::Refused(Refusal::Other { code, text }),
        }
    }
}

/// How one attempt ended.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) outcome: Outcome,
    /// The managers known now.
    pub(crate) managers: Vec<String>,
    /// What the servers sent meanwhile.
    pub(crate) values: Vec<(Socket, String)>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Answered {
        wire: Box<Wire>,
        answer: FromServer,
    },
    /// The packet went out.
    Unanswered {
        address: String,
        failure: Failure,
    },
    /// No manager took the packet.
    Unreachable(Failure),
}

/// One attempt: discovery, a manager, registration or login.
pub(crate) struct Attempt {
    pub(crate) trackers: Vec<String>,
    /// The managers known from before, for when no tracker answers.
    pub(crate) managers: Vec<String>,
    /// The manager that failed last: another one is better.
    pub(crate) avoid: Option<String>,
    /// The manager that this is to lead away from.
    pub(crate) leave: Option<String>,
    /// [`Account::packet`].
    pub(crate) packet: Vec<u8>,
    pub(crate) timing: Timing,
}

impl Attempt {
    pub(crate) async fn run(mut self) -> Attempted {
        let mut values = Vec::new();
        let outcome = self.outcome(&mut values).await;
        Attempted { outcome, managers: self.managers, values }
    }

    async fn outcome(&mut self, values: &mut Vec<(Socket, String)>) -> Outcome {
        let gone = match discovery::managers(&self.trackers, &self.timing, values).await {
            // It names no manager that will be gone: where it names that one's address, another one has it, too, behind a load
            // balancer.
            Ok(managers) => {
                self.managers = managers;
                None
            }
            // Trackers are for newcomers: who was here before knows where managers are.
            Err(Failure::NoTracker(_)) if !self.managers.is_empty() => self.leave.as_deref(),
            Err(failure) => return Outcome::Unreachable(failure),
        };
        let (avoid, leave) = (self.avoid.as_deref(), self.leave.as_deref());
        self.managers.sort_by_key(|address| {
            let address = Some(address.as_str());
            (address == leave, address == avoid)
        });
        let mut failure = Failure::NoManager;
        let others = self.managers.iter().filter(|address| gone != Some(address.as_str()));
        for address in others {
            match Wire::dial(address, &self.timing).await {
                Ok(wire) => return self.authenticate(wire, values).await,
                Err(error) => failure = error,
            }
        }
        Outcome::Unreachable(failure)
    }

    async fn authenticate(&self, mut wire: Box<Wire>, values: &mut Vec<(Socket, String)>) -> Outcome {
        wire.hello();
        wire.queue_line(&self.packet);
        let answer = async {
            loop {
                let received = wire.value().await?;
                values.push((Socket::Manager, received.value));
                if let answer @ (FromServer::AccountCreated { .. }
                | FromServer::LoggedIn { .. }
                | FromServer::Refused { .. }) = received.packet
                {
                    return Ok(answer);
                }
                tracing::debug!("a packet before the answer to the login");
            }
        };
        let answer = timeout(self.timing.login, answer).await;
        let address = wire.address().to_owned();
        match answer {
            Ok(Ok(answer)) => Outcome::Answered { wire, answer },
            Ok(Err(failure)) => Outcome::Unanswered { address, failure },
            Err(_) => Outcome::Unanswered { failure: Failure::Silent { address: address.clone() }, address },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(register: bool) -> Account {
        Account::new(&Options { register, ..Options::new(["localhost:5000"], "esa", "12345") }, None)
    }

    fn packet(account: &Account) -> String {
        String::from_utf8(account.packet()).unwrap()
    }

    fn refused(code: u16) -> FromServer {
        FromServer::Refused { code, msg: String::new() }
    }

    #[test]
    fn a_device_comes_back_with_its_session_and_without_one_with_the_password() {
        let options = Options { resource: Some("phone".into()), ..Options::new(["t"], "esa", "12345") };
        let mut account = Account::new(&options, Some(Token::new("s1")));
        assert!(packet(&account).contains(r#""session":"s1""#) && !packet(&account).contains("12345"));
        let again = FromServer::LoggedIn { relay: None, session: Some(Token::new("s2")) };
        assert!(matches!(account.answered(&again, Instant::now()), Verdict::Online));
        assert!(packet(&account).contains("s1"), "until the next one is kept");
        account.kept(Token::new("s2"));
        assert!(packet(&account).contains("s2"));
        // However long ago that login was: it may have been removed since.
        let late = Instant::now() + Duration::from_hours(365 * 24);
        let over = account.answered(&refused(401), late);
        assert!(matches!(over, Verdict::Refused(Refusal::SessionOver)));
        let mut started = Account::new(&options, Some(Token::new("s1")));
        let over = started.answered(&refused(401), Instant::now());
        assert!(matches!(over, Verdict::Again(Failure::SessionOver)));
        assert!(packet(&started).contains("12345") && packet(&started).contains("phone"));
        let mut forgetful = Account::new(&Options::new(["t"], "esa", ""), Some(Token::new("s1")));
        let over = forgetful.answered(&refused(401), Instant::now());
        assert!(matches!(over, Verdict::Refused(Refusal::SessionOver)));
    }

    #[test]
    fn only_the_first_login_registers() {
        let mut account = account(true);
        assert!(String::from_utf8(account.packet()).unwrap().contains("register"));
        let created = FromServer::AccountCreated { relay: None, session: None };
        assert!(matches!(account.answered(&created, Instant::now()), Verdict::Online));
        assert!(!String::from_utf8(account.packet()).unwrap().contains("register"));
    }

    #[test]
    fn a_registration_whose_answer_was_lost_is_found_out_by_a_login() {
        let mut account = account(true);
        account.unanswered(Instant::now());
        assert!(!String::from_utf8(account.packet()).unwrap().contains("register"));
        assert!(matches!(account.answered(&refused(404), Instant::now()), Verdict::Again(_)));
        assert!(String::from_utf8(account.packet()).unwrap().contains("register"));
        account.unanswered(Instant::now());
        let verdict = account.answered(&refused(400), Instant::now());
        assert!(matches!(verdict, Verdict::Refused(Refusal::UsernameUsed)), "{verdict:?}");
    }

    #[test]
    fn a_registration_that_failed_for_a_time_may_have_created_the_account() {
        let mut account = account(true);
        assert!(matches!(
            account.answered(&refused(503), Instant::now()),
            Verdict::Again(Failure::Temporary)
        ));
        assert!(!String::from_utf8(account.packet()).unwrap().contains("register"));
        assert!(matches!(
            account.answered(&refused(503), Instant::now()),
            Verdict::Again(Failure::Temporary)
        ));
        let found = FromServer::LoggedIn { relay: None, session: None };
        assert!(matches!(account.answered(&found, Instant::now()), Verdict::Online));
    }

    #[test]
    fn already_logged_in_is_final_at_first_and_retried_after_an_own_session_was_lost() {
        let mut account = account(false);
        let now = Instant::now();
        assert!(matches!(account.answered(&refused(409), now), Verdict::Refused(Refusal::AlreadyLoggedIn)));
        account.lost(now);
        let soon = now + Duration::from_secs(30);
        assert!(matches!(account.answered(&refused(409), soon), Verdict::Again(Failure::StillLoggedIn)));
        let late = now + Duration::from_secs(61);
        assert!(matches!(account.answered(&refused(409), late), Verdict::Refused(Refusal::AlreadyLoggedIn)));
    }

    #[test]
    fn a_busy_manager_blames_nobody() {
        assert!(matches!(
            account(false).answered(&refused(503), Instant::now()),
            Verdict::Again(Failure::Temporary)
        ));
    }
}
