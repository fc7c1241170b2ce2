//! The relays attached to this manager (rows M4, M6, M7): what they report, whom they are given, which sessions they
//! are told to end.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use kurir_directory::{ComponentId, Generation};
use kurir_protocol::name::{LoginId, Resource, UserKey};
use kurir_rpc::v1::{self, attach_response::Message};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    choice::{Choice, Chosen, ClientAddress, Report},
    metrics::Metrics,
    online::Online,
    ticket::{Bearer, Signer},
};

/// Messages waiting for one relay's stream. Full: the relay does not read, so its stream is ended, and it gets what
/// is left when it attaches again.
pub(crate) const STREAM: usize = 1024;

/// Sessions to end that wait for a relay to attach. Full: the oldest is dropped, and that connection lives until its client
/// goes.
const WAITING: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Relays {
    signer: Signer,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    choice: Choice,
    streams: HashMap<ComponentId, Stream>,
    /// For relays that are not attached at the moment.
    waiting: VecDeque<(ComponentId, v1::EndSession)>,
}

#[derive(Debug)]
struct Stream {
    generation: Generation,
    messages: mpsc::Sender<Result<v1::AttachResponse, Status>>,
    stop: CancellationToken,
}

/// A relay's place here, for as long as its stream lasts.
#[derive(Debug)]
pub(crate) struct Attached {
    id: ComponentId,
    generation: Generation,
    messages: mpsc::Sender<Result<v1::AttachResponse, Status>>,
    /// Ends the stream.
    pub(crate) stop: CancellationToken,
}

/// What a user is given.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) relay: Chosen,
    pub(crate) token: String,
}

impl Relays {
    pub(crate) fn new(choice: Choice, signer: Signer, metrics: Metrics) -> Self {
        let state = State { choice, streams: HashMap::new(), waiting: VecDeque::new() };
        Self { signer, metrics, state: Mutex::new(state) }
    }

    /// A relay attaches: it is sent the key first, and then whatever waits for it. The stream that it had before ends.
    pub(crate) fn attach(
        &self,
        id: ComponentId,
        generation: Generation,
        address: ClientAddress,
        messages: mpsc::Sender<Result<v1::AttachResponse, Status>>,
        stop: CancellationToken,
    ) -> Attached {
        let key = v1::TicketKey {
            key_id: self.signer.key_id().to_owned(),
            public_key: self.signer.public_key().to_vec(),
        };
        let mut state = self.lock();
        // The stream is new and has room.
        let _ = messages.try_send(Ok(v1::AttachResponse { message: Some(Message::Key(key)) }));
        let stream = Stream { generation, messages: messages.clone(), stop: stop.clone() };
        if let Some(older) = state.streams.insert(id.clone(), stream) {
            older.stop.cancel();
        }
        state.choice.attached(&id, generation, address);
        let (mine, others) =
            std::mem::take(&mut state.waiting).into_iter().partition(|(relay, _)| *relay == id);
        state.waiting = others;
        let mine: VecDeque<_> = mine;
        for (_, session) in mine {
            state.end_session(&id, session);
        }
        drop(state);
        Attached { id, generation, messages, stop }
    }

    /// The stream of a relay is over.
    pub(crate) fn detach(&self, attached: &Attached) {
        let mut state = self.lock();
        let is_this = state
            .streams
            .get(&attached.id)
            .is_some_and(|stream| stream.messages.same_channel(&attached.messages));
        if is_this {
            state.streams.remove(&attached.id);
            state.choice.detached(&attached.id, attached.generation);
        }
    }

    pub(crate) fn report(&self, attached: &Attached, report: Report) {
        self.lock().choice.report(&attached.id, attached.generation, report, Instant::now());
    }

    /// That generation of a relay is dead (M7).
    pub(crate) fn died(&self, id: &ComponentId, generation: Generation) {
        let mut state = self.lock();
        state.choice.died(id, generation);
        if state.streams.get(id).is_some_and(|stream| stream.generation == generation)
            && let Some(stream) = state.streams.remove(id)
        {
            stream.stop.cancel();
        }
        if !state.streams.contains_key(id) {
            // Its connections died with it; those at its next life have tickets of their own.
            state.waiting.retain(|(relay, _)| relay != id);
        }
    }

    /// Chooses a relay for a user and signs a ticket for it. None: no relay is alive.
    pub(crate) fn offer(&self, online: &Online, avoid: Option<&ComponentId>) -> Option<Offer> {
        let now = Instant::now();
        let relay = self.lock().choice.choose(avoid, now + self.signer.life(), now, &mut rand::rng());
        self.metrics.relay_offered(relay.is_some());
        let relay = relay?;
        let bearer =
            Bearer { user: &online.user, username: &online.username, login: online.login, relay: &relay.id };
        match self.signer.sign(&bearer, SystemTime::now()) {
            Ok(token) => Some(Offer { relay, token }),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no ticket for a relay");
                None
            }
        }
    }

    /// Has a relay, or without one all of them, close the connections of this login and of older ones.
    pub(crate) fn end_session(
        &self,
        relay: Option<&ComponentId>,
        user: &UserKey,
        device: &Resource,
        login: LoginId,
    ) {
        let session = v1::EndSession { user: user.to_string(), resource: device.to_string(), login: login.0 };
        let mut state = self.lock();
        let relays = match relay {
            Some(relay) => vec![relay.clone()],
            None => state.streams.keys().cloned().collect(),
        };
        for relay in relays {
            state.end_session(&relay, session.clone());
        }
    }

    pub(crate) fn alive(&self) -> usize {
        self.lock().choice.alive(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_session(&mut self, relay: &ComponentId, session: v1::EndSession) {
        let message = v1::AttachResponse { message: Some(Message::EndSession(session.clone())) };
        if let Some(stream) = self.streams.get(relay) {
            if stream.messages.try_send(Ok(message)).is_ok() {
                return;
            }
            stream.stop.cancel();
        }
        if self.waiting.len() == WAITING {
            tracing::warn!(%relay, "too many sessions wait to be ended at relays; the oldest is given up");
            self.waiting.pop_front();
        }
        self.waiting.push_back((relay.clone(), session));
    }
}
