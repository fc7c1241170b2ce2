//! The relay's side of a session: the connection in use, the one being made, the one being left.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use kurir_protocol::client::{FromServer, Relay, ToServer};
use kurir_protocol::relay::Resume;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::discovery::address;
use crate::error::Failure;
use crate::event::Ended;
use crate::options::Timing;
use crate::wire::{Next, Received, Wire};

/// Messages that wait, in bytes; beyond that, callers wait in the command channel.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Handed to a socket and not taken by the system yet. The rest stays where a lost connection does not lose it.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

/// A connection that was replaced is read for so long at most, for what was on its way.
const RETIRE: Duration = Duration::from_secs(2);

/// Echoed in the ping behind the hello: hello itself has no answer.
const HELLO_ID: &str = "hello";

/// A message on its way out, as a line.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) line: Vec<u8>,
    pub(crate) done: oneshot::Sender<Result<(), Ended>>,
}

/// The relay's side.
pub(crate) struct RelaySide {
    current: Option<Box<Wire>>,
    /// The number of the login that `current` is of.
    login: u64,
    /// `current` will be gone soon.
    moving: bool,
    coming: Coming,
    retiring: Option<(Box<Wire>, Instant)>,
    waiting: VecDeque<Outgoing>,
    waiting_bytes: usize,
    /// In `current`'s output, with what its [`Wire::written`] must reach.
    under_way: VecDeque<(u64, Outgoing)>,
}

/// How far the next connection is.
pub(crate) enum Coming {
    /// None is wanted, or there is no manager to ask.
    Nothing,
    /// Ask the manager then.
    Waiting(Instant),
    /// The manager was asked; give up then.
    Asked(Instant),
    Joining(Pin<Box<dyn Future<Output = Joined> + Send>>),
}

/// How an attempt at a relay ended.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The number of the login that has named the relay.
    pub(crate) login: u64,
    /// The connection, if the relay has accepted it.
    pub(crate) outcome: Result<Box<Wire>, Failure>,
    /// What came until then, the answer included.
    pub(crate) early: Vec<Received>,
}

/// What happened on this side.
#[derive(Debug)]
pub(crate) enum RelayEvent {
    Value(Received),
    /// The same from the connection being left.
    Late(Received),
    Written,
    /// The connection in use is gone.
    Lost {
        failure: Failure,
        lived: Duration,
        login: u64,
    },
    /// The connection being left is done with.
    Retired,
    Joined(Joined),
    /// Time to ask the manager for a relay.
    Due,
    /// The manager did not answer that.
    Unanswered,
}

impl RelaySide {
    pub(crate) fn new() -> Self {
        Self {
            current: None,
            login: 0,
            moving: false,
            coming: Coming::Nothing,
            retiring: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: VecDeque::new(),
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn current(&mut self) -> Option<&mut Wire> {
        self.current.as_deref_mut()
    }

    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.coming, Coming::Joining(_))
    }

    pub(crate) fn was_asked(&self) -> bool {
        matches!(self.coming, Coming::Asked(_))
    }

    pub(crate) fn coming(&mut self, coming: Coming) {
        self.coming = coming;
    }

    /// The manager named this relay, to whoever has this login.
    pub(crate) fn join(&mut self, relay: Relay, login: u64, hello: Hello, timing: &Timing) {
        let timing = timing.clone();
        self.coming = Coming::Joining(Box::pin(async move {
            let mut early = Vec::new();
            let outcome = join(&relay, &hello, &timing, &mut early).await;
            Joined { login, outcome, early }
        }));
    }

    /// The relay in use will be gone soon: ask for another one after that. What is under way already is as good.
    pub(crate) fn move_at(&mut self, then: Instant) {
        self.moving = true;
        if matches!(self.coming, Coming::Nothing) {
            self.coming = Coming::Waiting(then);
        }
    }

    /// Whether this is the relay in use, which will be gone soon.
    pub(crate) fn moves_from(&self, relay: &Relay) -> bool {
        let leaving = self.current.as_ref().filter(|_| self.moving);
        leaving.is_some_and(|wire| wire.address() == address(&relay.host, relay.port))
    }

    /// True: take no more messages.
    pub(crate) fn is_full(&mut self) -> bool {
        if self.waiting_bytes >= MAX_WAITING_BYTES {
            self.waiting.retain(|message| !message.done.is_closed());
            self.waiting_bytes = self.waiting.iter().map(|message| message.line.len()).sum();
        }
        self.waiting_bytes >= MAX_WAITING_BYTES
    }

    pub(crate) fn send(&mut self, message: Outgoing) {
        self.waiting_bytes += message.line.len();
        self.waiting.push_back(message);
        self.pump();
    }

    /// Moves waiting messages to the socket, and tells the senders of those that it took.
    pub(crate) fn pump(&mut self) {
        let Some(wire) = &mut self.current else { return };
        while let Some((_, sent)) = self.under_way.pop_front_if(|(end, _)| *end <= wire.written()) {
            // A sender that gave up does not want to know.
            let _ = sent.done.send(Ok(()));
        }
        while wire.unwritten() < MAX_UNWRITTEN_BYTES {
            let Some(message) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= message.line.len();
            // Its sender has been told that it was not sent.
            if !message.done.is_closed() {
                self.under_way.push_back((wire.queue_line(&message.line), message));
            }
        }
    }

    /// The relay has accepted a connection: it is the one in use now.
    pub(crate) fn replace(&mut self, joined: Box<Wire>, login: u64) {
        (self.login, self.moving) = (login, false);
        if let Some(mut old) = self.current.replace(joined) {
            old.stop_writing();
            self.retiring = Some((old, Instant::now() + RETIRE));
        }
        self.coming = Coming::Nothing;
        self.take_back();
        self.pump();
    }

    /// The connection in use, if it can take another tracked message.
    pub(crate) fn room(&mut self) -> Option<&mut Wire> {
        self.current.as_deref_mut().filter(|wire| wire.unwritten() < MAX_UNWRITTEN_BYTES)
    }

    /// Leaves the connection in use: its address.
    pub(crate) fn leave(&mut self) -> Option<String> {
        let left = self.current.take()?;
        self.take_back();
        Some(left.address().to_owned())
    }

    /// No message goes out any more.
    pub(crate) fn end(&mut self, ended: &Ended) {
        self.take_back();
        for message in self.waiting.drain(..) {
            let _ = message.done.send(Err(ended.clone()));
        }
        *self = Self::new();
    }

    /// What the former connection did not take waits again, in order. The server has nothing of these or the beginning
    /// of one, which it does not read as a message.
    fn take_back(&mut self) {
        for (_, message) in self.under_way.drain(..).rev() {
            self.waiting_bytes += message.line.len();
            self.waiting.push_front(message);
        }
    }

    /// What happens next on this side. Cancel-safe.
    pub(crate) async fn next(&mut self, read: bool) -> RelayEvent {
        let Self { current, login, coming, retiring, .. } = self;
        let event = tokio::select! {
            event = on_current(current.as_deref_mut(), *login, read) => event,
            event = on_retiring(retiring.as_mut(), read) => event,
            event = on_coming(coming) => event,
        };
        match &event {
            RelayEvent::Lost { .. } => {
                self.current = None;
                self.take_back();
            }
            RelayEvent::Retired => self.retiring = None,
            RelayEvent::Joined(_) | RelayEvent::Unanswered | RelayEvent::Due => {
                self.coming = Coming::Nothing;
            }
            RelayEvent::Value(_) | RelayEvent::Late(_) | RelayEvent::Written => {}
        }
        event
    }
}

async fn on_current(wire: Option<&mut Wire>, login: u64, read: bool) -> RelayEvent {
    let Some(wire) = wire else { return pending().await };
    match wire.next(read).await {
        Ok(Next::Value(received)) => RelayEvent::Value(received),
        Ok(Next::Written) => RelayEvent::Written,
        Err(failure) => RelayEvent::Lost { failure, lived: wire.since().elapsed(), login },
    }
}

async fn on_retiring(retiring: Option<&mut (Box<Wire>, Instant)>, read: bool) -> RelayEvent {
    let Some((wire, until)) = retiring else { return pending().await };
    tokio::select! {
        next = wire.next(read) => match next {
            Ok(Next::Value(received)) => RelayEvent::Late(received),
            Ok(Next::Written) => RelayEvent::Written,
            Err(_) => RelayEvent::Retired,
        },
        () = sleep_until(*until) => RelayEvent::Retired,
    }
}

async fn on_coming(coming: &mut Coming) -> RelayEvent {
    match coming {
        Coming::Nothing => pending().await,
        Coming::Waiting(until) => {
            sleep_until(*until).await;
            RelayEvent::Due
        }
        Coming::Asked(until) => {
            sleep_until(*until).await;
            RelayEvent::Unanswered
        }
        Coming::Joining(joining) => RelayEvent::Joined(joining.await),
    }
}

/// Who says hello, from which place on.
pub(crate) struct Hello {
    pub(crate) username: String,
    pub(crate) resume: Option<Resume>,
}

/// Connects and says hello (U5); done when the relay has answered the ping behind it.
async fn join(
    relay: &Relay,
    Hello { username, resume }: &Hello,
    timing: &Timing,
    early: &mut Vec<Received>,
) -> Result<Box<Wire>, Failure> {
    let address = address(&relay.host, relay.port);
    let mut wire = Wire::dial(&address, timing).await?;
    wire.queue(&ToServer::RelayHello { username, token: relay.token.as_deref(), resume: resume.as_ref() });
    wire.queue(&ToServer::Ping { id: HELLO_ID });
    let accepted = async {
        loop {
            let received = wire.value().await?;
            let answer = matches!(&received.packet, FromServer::Pong { id: Some(id) } if id == HELLO_ID);
            early.push(received);
            if answer {
                return Ok(());
            }
        }
    };
    timeout(timing.hello, accepted).await.map_err(|_| Failure::Silent { address })??;
    Ok(wire)
}
