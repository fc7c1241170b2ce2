//! Accounts' logs in a test's hands, as relays see them at a manager, and the trails that relays hand in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kurir_rpc::v1::{
    AppendRequest, AppendResponse, Appended, GetHeadsRequest, Head, Heads, KeepRequest, KeepResponse,
    LogEntry, MoveCursorsRequest, MoveCursorsResponse, ReadRequest, ReadResponse, TrackedMessage, TrailEvent,
    appended::Outcome, log_server, read_request::From, trail_server,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Debug, Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Nothing is answered that needs the database.
    away: bool,
    logs: HashMap<String, Vec<LogEntry>>,
    /// By user and device.
    cursors: HashMap<(String, String), u64>,
    kept: Vec<TrailEvent>,
}

impl Logs {
    pub(crate) fn go_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// What relays have handed in.
    pub(crate) fn kept(&self) -> Vec<TrailEvent> {
        self.0.lock().unwrap().kept.clone()
    }

    /// Puts a message into a log and returns its stanza id. `sent_by`: the account's own device.
    pub(crate) fn put(&self, user: &str, stanza: &str, sent_by: Option<&str>) -> String {
        self.0.lock().unwrap().put(user, Uuid::now_v7(), stanza, sent_by)
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
        let stanza_id = Uuid::now_v7();
        self.put(&message.from, stanza_id, &message.stanza, Some(&message.device));
        let sent = self.logs[&message.from].len() as u64;
        if message.from != message.to {
            self.put(&message.to, stanza_id, &message.stanza, None);
        }
        Appended { outcome: Outcome::Stored.into(), stanza_id: stanza_id.to_string(), sent }
    }

    fn available(&self) -> Result<(), Status> {
        if self.away { Err(Status::unavailable("the database is away")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl log_server::Log for Logs {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.available()?;
        let messages = request.into_inner().messages;
        let appended = messages.iter().map(|message| state.append(message)).collect();
        Ok(Response::new(AppendResponse { appended }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let state = self.0.lock().unwrap();
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
        let entries = log.into_iter().filter(|entry| entry.seq > after).take(most as usize).collect();
        Ok(Response::new(ReadResponse { log: "life".to_owned(), last, after, entries, first: 1 }))
    }

    async fn get_heads(&self, request: Request<GetHeadsRequest>) -> Result<Response<Heads>, Status> {
        let state = self.0.lock().unwrap();
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
        let mut state = self.0.lock().unwrap();
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
        let mut state = self.0.lock().unwrap();
        state.available()?;
        state.kept.extend(request.into_inner().events);
        Ok(Response::new(KeepResponse {}))
    }
}
