//! Accounts' logs in a test's hands, as relays see them at a manager, and the trails that relays hand in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use kurir_rpc::v1::{
    AppendRequest, AppendResponse, Appended, GetHeadsRequest, Head, Heads, KeepRequest, KeepResponse,
    LogEntry, MoveCursorsRequest, MoveCursorsResponse, ReadRequest, ReadResponse, TrackedMessage, TrailEvent,
    appended::Outcome, log_server, read_request::From, trail_server,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Debug, Clone, Default)]
pub(crate) struct Logs {
    /// The database.
    state: Arc<Mutex<State>>,
    voice: Arc<watch::Sender<Voice>>,
}

/// Whether one manager answers who wants to have messages stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Voice {
    #[default]
    Answers,
    /// It keeps them to itself: those who ask wait, after their messages were stored or before.
    Silent { stores_first: bool },
    /// Somebody waits.
    Asked { stores_first: bool },
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is answered that needs the database.
    away: bool,
    logs: HashMap<String, Vec<LogEntry>>,
    /// By user and device.
    cursors: HashMap<(String, String), u64>,
    /// The first place that is still there, if it is not 1.
    first: HashMap<String, u64>,
    /// By user, device and id.
    sent: HashMap<(String, String, String), Appended>,
    kept: Vec<TrailEvent>,
}

impl Logs {
    /// The same database at another manager.
    pub(crate) fn at_another_manager(&self) -> Self {
        Self { state: Arc::clone(&self.state), voice: Arc::default() }
    }

    /// Nobody who wants messages stored is answered any more; they are stored at once all the same, or when it speaks again.
    pub(crate) fn fall_silent(&self, stores_first: bool) {
        self.voice.send_replace(Voice::Silent { stores_first });
    }

    /// Somebody waits for the silent manager.
    pub(crate) async fn is_asked(&self) {
        self.voice.subscribe().wait_for(|voice| matches!(voice, Voice::Asked { .. })).await.unwrap();
    }

    pub(crate) fn speak(&self) {
        self.voice.send_replace(Voice::Answers);
    }

    /// The stanza ids in a user's log.
    pub(crate) fn stored(&self, user: &str) -> Vec<String> {
        let state = self.lock();
        state.logs.get(user).into_iter().flatten().map(|entry| entry.stanza_id.clone()).collect()
    }

    /// Drops the entries of a user's log before that place.
    pub(crate) fn drop_before(&self, user: &str, first: u64) {
        self.lock().first.insert(user.to_owned(), first);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn store(&self, messages: &[TrackedMessage]) -> Result<AppendResponse, Status> {
        let mut state = self.lock();
        state.available()?;
        Ok(AppendResponse { appended: messages.iter().map(|message| state.append(message)).collect() })
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// What relays have handed in.
    pub(crate) fn kept(&self) -> Vec<TrailEvent> {
        self.lock().kept.clone()
    }

    /// Puts a message into a log and returns its stanza id. `sent_by`: the account's own device.
    pub(crate) fn put(&self, user: &str, stanza: &str, sent_by: Option<&str>) -> String {
        self.lock().put(user, Uuid::now_v7(), stanza, sent_by)
    }
}

impl State {
    fn put(&mut self, user: &str, stanza_id: Uuid, stanza: &str, sent_by: Option<&str>) -> String {
        let log = self.logs.entry(user.to_owned()).or_default();
        log.push(LogEntry {
            seq: log.len() as u64 + 1,
            stanza_id: stanza_id.to_string(),
            ts_ms: 1,
            stanza: stanza.to_owned(),
            sent_by: sent_by.map(str::to_owned),
        });
        stanza_id.to_string()
    }

    fn append(&mut self, message: &TrackedMessage) -> Appended {
        let sent_as = (message.from.clone(), message.device.clone(), message.id.clone());
        if let Some(appended) = self.sent.get(&sent_as) {
            return appended.clone();
        }
        let stanza_id = Uuid::now_v7();
        self.put(&message.from, stanza_id, &message.stanza, Some(&message.device));
        let sent = self.logs[&message.from].len() as u64;
        if message.from != message.to {
            self.put(&message.to, stanza_id, &message.stanza, None);
        }
        let appended = Appended { outcome: Outcome::Stored.into(), stanza_id: stanza_id.to_string(), sent };
        self.sent.insert(sent_as, appended.clone());
        appended
    }

    fn available(&self) -> Result<(), Status> {
        if self.away { Err(Status::unavailable("the database is away")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl log_server::Log for Logs {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let messages = request.into_inner().messages;
        let silent = match *self.voice.borrow() {
            Voice::Answers => None,
            Voice::Silent { stores_first } | Voice::Asked { stores_first } => Some(stores_first),
        };
        let Some(stores_first) = silent else { return Ok(Response::new(self.store(&messages)?)) };
        if stores_first {
            self.store(&messages)?;
        }
        // As a manager's: who does not wait any more stops nothing.
        let (logs, mut voice) = (self.clone(), self.voice.subscribe());
        self.voice.send_replace(Voice::Asked { stores_first });
        let answer = tokio::spawn(async move {
            voice.wait_for(|voice| *voice == Voice::Answers).await.unwrap();
            logs.store(&messages)
        });
        Ok(Response::new(answer.await.unwrap()?))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let state = self.lock();
        state.available()?;
        let ReadRequest { user, from, most } = request.into_inner();
        let after = match from {
            Some(From::After(seq)) => seq,
            Some(From::CursorOf(device)) => {
                state.cursors.get(&(user.clone(), device)).copied().unwrap_or_default()
            }
            None => 0,
        };
        let log = state.logs.get(&user).cloned().unwrap_or_default();
        let last = log.len() as u64;
        let first = state.first.get(&user).copied().unwrap_or(1);
        let there = log.into_iter().filter(|entry| entry.seq >= first.max(after + 1));
        let entries = there.take(most as usize).collect();
        Ok(Response::new(ReadResponse { log: "life".to_owned(), last, after, entries, first }))
    }

    async fn get_heads(&self, request: Request<GetHeadsRequest>) -> Result<Response<Heads>, Status> {
        let state = self.lock();
        state.available()?;
        let users = request.into_inner().users.into_iter();
        let head = |user: String| {
            let seq = state.logs.get(&user)?.len() as u64;
            Some(Head { user, seq })
        };
        Ok(Response::new(Heads { heads: users.filter_map(head).collect() }))
    }

    async fn move_cursors(
        &self,
        request: Request<MoveCursorsRequest>,
    ) -> Result<Response<MoveCursorsResponse>, Status> {
        let mut state = self.lock();
        state.available()?;
        for cursor in request.into_inner().cursors {
            state.cursors.insert((cursor.user, cursor.device), cursor.seq);
        }
        Ok(Response::new(MoveCursorsResponse {}))
    }
}

#[tonic::async_trait]
impl trail_server::Trail for Logs {
    async fn keep(&self, request: Request<KeepRequest>) -> Result<Response<KeepResponse>, Status> {
        let mut state = self.lock();
        state.available()?;
        state.kept.extend(request.into_inner().events);
        Ok(Response::new(KeepResponse {}))
    }
}
