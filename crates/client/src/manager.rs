//! The manager's side of a session: the connection in use, and the way to the next one.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::error::Failure;
use crate::login::Attempted;
use crate::wire::{Next, Received, Wire};

/// The manager's side.
pub(crate) struct ManagerSide {
    current: Option<Box<Wire>>,
    /// The number of the login that `current` is of.
    login: u64,
    coming: Coming,
}

/// How far the next connection is.
enum Coming {
    /// None is wanted.
    Nothing,
    /// Log in then.
    Waiting(Instant),
    Connecting(Pin<Box<dyn Future<Output = Attempted> + Send>>),
}

/// What happened on this side.
#[derive(Debug)]
pub(crate) enum ManagerEvent {
    Value(Received),
    Written,
    /// The connection in use is gone.
    Lost {
        address: String,
        failure: Failure,
        lived: Duration,
        login: u64,
    },
    Attempted(Box<Attempted>),
    /// Time to log in.
    Due,
}

impl ManagerSide {
    /// Logs in at once.
    pub(crate) fn new() -> Self {
        Self { current: None, login: 0, coming: Coming::Waiting(Instant::now()) }
    }

    pub(crate) fn online(&mut self) -> Option<&mut Wire> {
        self.current.as_deref_mut()
    }

    pub(crate) fn is_online(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.coming, Coming::Connecting(_))
    }

    /// Whether there is a connection, and no other is to take its place.
    pub(crate) fn is_settled(&self) -> bool {
        self.current.is_some() && matches!(self.coming, Coming::Nothing)
    }

    /// The next login is then. The connection in use, if there is one, is kept until it has worked.
    pub(crate) fn wait_until(&mut self, then: Instant) {
        self.coming = Coming::Waiting(then);
    }

    /// The next login is then, unless it is sooner or under way.
    pub(crate) fn wait_at_most_until(&mut self, then: Instant) {
        match &mut self.coming {
            Coming::Nothing => self.coming = Coming::Waiting(then),
            Coming::Waiting(until) => *until = then.min(*until),
            Coming::Connecting(_) => {}
        }
    }

    pub(crate) fn connect(&mut self, attempt: impl Future<Output = Attempted> + Send + 'static) {
        self.coming = Coming::Connecting(Box::pin(attempt));
    }

    /// A login has worked: its connection is the one in use now.
    pub(crate) fn replace(&mut self, wire: Box<Wire>, login: u64) {
        (self.current, self.login, self.coming) = (Some(wire), login, Coming::Nothing);
    }

    /// Leaves the connection in use: its address.
    pub(crate) fn leave(&mut self) -> Option<String> {
        self.current.take().map(|left| left.address().to_owned())
    }

    /// Keeps the connection in use, if there is one, and gives up its successor.
    pub(crate) fn stay(&mut self) {
        if self.current.is_some() {
            self.coming = Coming::Nothing;
        }
    }

    /// Closes everything.
    pub(crate) fn end(&mut self) {
        (self.current, self.coming) = (None, Coming::Nothing);
    }

    /// What happens next on this side. After `Lost` without a successor under way, `Attempted` and `Due` the caller says what
    /// comes. Cancel-safe.
    pub(crate) async fn next(&mut self, read: bool) -> ManagerEvent {
        let Self { current, login, coming } = self;
        let event = tokio::select! {
            event = on_current(current.as_deref_mut(), *login, read) => event,
            event = on_coming(coming) => event,
        };
        match &event {
            ManagerEvent::Lost { .. } => self.current = None,
            ManagerEvent::Attempted(_) | ManagerEvent::Due => self.coming = Coming::Nothing,
            ManagerEvent::Value(_) | ManagerEvent::Written => {}
        }
        event
    }
}

async fn on_current(wire: Option<&mut Wire>, login: u64, read: bool) -> ManagerEvent {
    let Some(wire) = wire else { return pending().await };
    match wire.next(read).await {
        Ok(Next::Value(received)) => ManagerEvent::Value(received),
        Ok(Next::Written) => ManagerEvent::Written,
        Err(failure) => {
            let (address, lived) = (wire.address().to_owned(), wire.since().elapsed());
            ManagerEvent::Lost { address, failure, lived, login }
        }
    }
}

async fn on_coming(coming: &mut Coming) -> ManagerEvent {
    match coming {
        Coming::Nothing => pending().await,
        Coming::Waiting(until) => {
            sleep_until(*until).await;
            ManagerEvent::Due
        }
        Coming::Connecting(attempt) => ManagerEvent::Attempted(Box::new(attempt.await)),
    }
}
