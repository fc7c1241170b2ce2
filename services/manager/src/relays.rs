//! The relays attached to this manager (rows M4, M6, M7): what they report, whom they are given, which sessions they
//! are told to end.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
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

/// Messages waiting for one relay's stream. Full: the relay does not read, so its stream is ended, and it is told again
/// when it attaches.
pub(crate) const STREAM: usize = 1024;

/// A relay that attaches is told again of the sessions ended in this time: it may have been away, or its stream may
/// have died with them. A relay that is away for longer is dead, and its connections with it.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How many of them are remembered; a new stream has room for all. Full: the oldest is forgotten, and its connection may
/// live until the client goes.
const MOST_REMEMBERED: usize = STREAM - 24;

#[derive(Debug)]
pub(crate) struct Relays {
    signer: Signer,
    /// What addresses have after their `@`.
    domain: Arc<str>,
    /// Trails are kept in the database.
    keeps_trail: bool,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    choice: Choice,
    streams: HashMap<ComponentId, Stream>,
    /// The sessions ended lately, in that order.
    ended: VecDeque<Ended>,
}

#[derive(Debug)]
struct Ended {
    relay: ComponentId,
    session: v1::EndSession,
    at: Instant,
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
    pub(crate) fn new(
        choice: Choice,
        signer: Signer,
        domain: Arc<str>,
        keeps_trail: bool,
        metrics: Metrics,
    ) -> Self {
        let state = State { choice, streams: HashMap::new(), ended: VecDeque::new() };
        Self { signer, domain, keeps_trail, metrics, state: Mutex::new(state) }
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
            domain: self.domain.to_string(),
            keeps_trail: self.keeps_trail,
        };
        let mut state = self.lock();
        // The stream is new and has room.
        let _ = messages.try_send(Ok(v1::AttachResponse { message: Some(Message::Key(key)) }));
        let stream = Stream { generation, messages: messages.clone(), stop: stop.clone() };
        if let Some(older) = state.streams.insert(id.clone(), stream) {
            older.stop.cancel();
        }
        state.choice.attached(&id, generation, address);
        state.tell_ended(&id);
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
    }

    /// How many other managers give relays out.
    pub(crate) fn set_other_managers(&self, count: usize) {
        self.lock().choice.set_others(count);
    }

    /// Chooses a relay for a user and signs a ticket for it. `failed` is the one that the user was given before and asks
    /// for another instead of. None: no relay is alive.
    pub(crate) fn offer(
        &self,
        online: &Online,
        failed: Option<&Chosen>,
        avoid: Option<&ComponentId>,
    ) -> Option<Offer> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(failed) = failed {
            state.choice.take_back(failed);
        }
        let relay = state.choice.choose(avoid, now + self.signer.life(), now, &mut rand::rng());
        drop(state);
        self.metrics.relay_offered(relay.is_some());
        let relay = relay?;
        let bearer = Bearer {
            user: &online.user,
            username: &online.username,
            device: &online.device,
            login: online.login,
            relay: &relay.id,
        };
        match self.signer.sign(&bearer, SystemTime::now()) {
            Ok(token) => Some(Offer { relay, token }),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no ticket for a relay");
                None
            }
        }
    }

    /// Has a relay, or without one all of them, close the device's connections of this login and of older ones. `conflict`: a
    /// newer login has the device.
    pub(crate) fn end_session(
        &self,
        relay: Option<&ComponentId>,
        user: &UserKey,
        device: &Resource,
        login: LoginId,
        conflict: bool,
    ) {
        let (user, resource, login) = (user.to_string(), device.to_string(), login.0);
        let session = v1::EndSession { user, resource, login, conflict };
        let mut state = self.lock();
        let relays = match relay {
            Some(relay) => vec![relay.clone()],
            None => state.streams.keys().cloned().collect(),
        };
        for relay in relays {
            state.end_session(&relay, session.clone());
        }
    }

    /// The load of each relay that users are given: what they are compared by.
    pub(crate) fn loads(&self) -> Vec<(ComponentId, i128)> {
        self.lock().choice.loads(Instant::now())
    }

    /// Tells every relay which logs have grown, and says how many were told. One that does not keep up is told nothing: it
    /// asks by itself.
    pub(crate) fn announce(&self, heads: HashMap<UserKey, u64>) -> u32 {
        if heads.is_empty() {
            return 0;
        }
        let mut told = 0;
        let heads = heads.into_iter().map(|(user, seq)| v1::Head { user: user.into(), seq }).collect();
        let message = v1::AttachResponse { message: Some(Message::Heads(v1::Heads { heads })) };
        // The other half is for what a relay must be told.
        for stream in self.lock().streams.values().filter(|stream| stream.messages.capacity() > STREAM / 2) {
            told += u32::from(stream.messages.try_send(Ok(message.clone())).is_ok());
        }
        told
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_session(&mut self, relay: &ComponentId, session: v1::EndSession) {
        self.send(relay, session.clone());
        let now = Instant::now();
        while self.ended.front().is_some_and(|ended| now.duration_since(ended.at) > REMEMBERED) {
            self.ended.pop_front();
        }
        if self.ended.len() == MOST_REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { relay: relay.clone(), session, at: now });
    }

    /// Ending a session twice is ending it once.
    fn tell_ended(&self, relay: &ComponentId) {
        for ended in self.ended.iter().filter(|ended| ended.relay == *relay) {
            self.send(relay, ended.session.clone());
        }
    }

    fn send(&self, relay: &ComponentId, session: v1::EndSession) {
        let Some(stream) = self.streams.get(relay) else { return };
        let message = v1::AttachResponse { message: Some(Message::EndSession(session)) };
        if stream.messages.try_send(Ok(message)).is_err() {
            stream.stop.cancel();
        }
    }
}
