//! What relays are offered of the logs (`kurir.v1.Log`): decode, call, encode.

use std::sync::Arc;

use kurir_protocol::name::{Resource, UserKey};
use kurir_rpc::v1::{self, appended::Outcome as Code, log_server, read_request};
use tonic::{Request, Response, Status};

use crate::{
    log::{AppendError, Outcome, Tracked},
    manager::Manager,
    store::{
        StoreError,
        device::Cursor,
        log::{Appended, Logged, MOST_MESSAGES},
    },
};

/// Entries of one answer at most, and about their bytes: well below what a gRPC message may have.
const PAGE_ENTRIES: u32 = 256;
const PAGE_BYTES: usize = 1024 * 1024;

/// The gRPC service of the logs.
pub(crate) struct Service {
    pub(crate) manager: Arc<Manager>,
}

#[tonic::async_trait]
impl log_server::Log for Service {
    async fn append(
        &self,
        request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let messages = request.into_inner().messages;
        if messages.len() > MOST_MESSAGES {
            return Err(Status::invalid_argument("too many messages at once"));
        }
        let messages = messages.into_iter().map(tracked).collect::<Result<_, _>>()?;
        let outcomes = self.manager.log.append(messages).await.map_err(|error| match error {
            AppendError::Busy => Status::resource_exhausted(error.to_string()),
            AppendError::Unknown => Status::unavailable(error.to_string()),
        })?;
        let appended = outcomes.into_iter().map(appended).collect();
        Ok(Response::new(v1::AppendResponse { appended }))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<v1::ReadResponse>, Status> {
        let v1::ReadRequest { user, from, most } = request.into_inner();
        let user = name(user)?;
        let store = &self.manager.store;
        let after = match from {
            Some(read_request::From::After(seq)) => seq,
            Some(read_request::From::CursorOf(device)) => {
                store.cursor(&user, &resource(device)?).await.map_err(unavailable)?
            }
            None => 0,
        };
        let page = store.read_log(&user, after, most.min(PAGE_ENTRIES).into()).await.map_err(unavailable)?;
        let page = page.ok_or_else(|| Status::not_found("no such account"))?;
        Ok(Response::new(v1::ReadResponse {
            log: page.life.to_string(),
            last: page.last,
            first: page.first,
            after,
            entries: bounded(page.entries).map(entry).collect(),
        }))
    }

    async fn get_heads(&self, request: Request<v1::GetHeadsRequest>) -> Result<Response<v1::Heads>, Status> {
        let users = request.into_inner().users;
        if users.len() > MOST_MESSAGES {
            return Err(Status::invalid_argument("too many users at once"));
        }
        let heads = self.manager.store.heads(&users).await.map_err(unavailable)?;
        let heads = heads.into_iter().map(|(user, seq)| v1::Head { user, seq }).collect();
        Ok(Response::new(v1::Heads { heads }))
    }

    async fn move_cursors(
        &self,
        request: Request<v1::MoveCursorsRequest>,
    ) -> Result<Response<v1::MoveCursorsResponse>, Status> {
        let cursor = |cursor: v1::Cursor| {
            let (user, device) = (name(cursor.user)?, resource(cursor.device)?);
            Ok::<_, Status>(Cursor { user, device, seq: cursor.seq })
        };
        let cursors = request.into_inner().cursors.into_iter().map(cursor).collect::<Result<Vec<_>, _>>()?;
        self.manager.store.move_cursors(&cursors).await.map_err(unavailable)?;
        Ok(Response::new(v1::MoveCursorsResponse {}))
    }
}

fn tracked(message: v1::TrackedMessage) -> Result<Tracked, Status> {
    let v1::TrackedMessage { from, device, id, to, stanza } = message;
    Ok(Tracked { from: name(from)?, device: resource(device)?, id, to: name(to)?, stanza })
}

fn appended(outcome: Outcome) -> v1::Appended {
    let (code, sent) = match outcome.appended {
        Appended::Stored { sent, .. } => (Code::Stored, sent),
        Appended::Repeated { sent, .. } => (Code::Repeated, sent),
        Appended::Conflict => (Code::Conflict, 0),
        Appended::NoAccount => (Code::NoAccount, 0),
    };
    v1::Appended { outcome: code.into(), stanza_id: outcome.stanza_id.to_string(), sent }
}

/// As many as fit, one at least.
fn bounded(entries: Vec<Logged>) -> impl Iterator<Item = Logged> {
    let mut bytes = 0;
    entries.into_iter().take_while(move |entry| {
        let fits = bytes < PAGE_BYTES;
        bytes += entry.stanza.len();
        fits
    })
}

fn entry(entry: Logged) -> v1::LogEntry {
    let Logged { seq, stanza_id, ts_ms, stanza, sent_by } = entry;
    v1::LogEntry { seq, stanza_id: stanza_id.to_string(), ts_ms, stanza, sent_by }
}

fn name(name: String) -> Result<UserKey, Status> {
    UserKey::try_from(name).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn resource(resource: String) -> Result<Resource, Status> {
    Resource::try_from(resource).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: StoreError) -> Status {
    tracing::warn!(error = &error as &dyn std::error::Error, "a log was not read");
    Status::unavailable("the database gave no answer")
}
