//! The manager's side of a session: the connection, or the way to the next one.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::error::Failure;
use crate::login::Attempted;
use crate::wire::{Next, Received, Wire};

/// The manager's side.
pub(crate) enum ManagerSide {
    /// Try again then.
    Waiting(Instant),
    Connecting(Pin<Box<dyn Future<Output = Attempted> + Send>>),
    Online(Box<Wire>),
}

/// What happened on this side.
#[derive(Debug)]
pub(crate) enum ManagerEvent {
    Value(Received),
    Written,
    Lost {
        address: String,
        failure: Failure,
        lived: Duration,
    },
    Attempted(Box<Attempted>),
    /// Time to try again.
    Due,
}

impl ManagerSide {
    pub(crate) fn online(&mut self) -> Option<&mut Wire> {
        match self {
            Self::Online(wire) => Some(wire),
            Self::Waiting(_) | Self::Connecting(_) => None,
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        matches!(self, Self::Online(_))
    }

    /// What happens next on this side. After `Lost`, `Attempted` and `Due` the caller says what it is from then on.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self, read: bool) -> ManagerEvent {
        match self {
            Self::Waiting(until) => {
                sleep_until(*until).await;
                ManagerEvent::Due
            }
            Self::Connecting(attempt) => ManagerEvent::Attempted(Box::new(attempt.await)),
            Self::Online(wire) => match wire.next(read).await {
                Ok(Next::Value(received)) => ManagerEvent::Value(received),
                Ok(Next::Written) => ManagerEvent::Written,
                Err(failure) => ManagerEvent::Lost {
                    address: wire.address().to_owned(),
                    failure,
                    lived: wire.since().elapsed(),
                },
            },
        }
    }
}
