//! `kurir.v1.Tracker`: components join and stay, `kurir status` looks.

use std::sync::Arc;
use std::time::Duration;

use kurir_rpc::v1::tracker_server::Tracker;
use kurir_rpc::v1::{
    Component, ComponentKind, JoinRequest, JoinResponse, StatusRequest, StatusResponse, join_request::Message,
};
use kurir_service::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use crate::roll::{Membership, Roll};

/// A stream that has not registered by then is ended.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);

/// Between two lists to one component: a burst of changes is one list.
const COALESCE: Duration = Duration::from_millis(20);

/// Lists waiting for HTTP/2. The list after that waits here, always as the latest.
const LISTS: usize = 1;

/// The service.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) roll: Roll,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl Tracker for Rpc {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<JoinRequest>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (lists, stream) = mpsc::channel(LISTS);
        let joined = Joined {
            roll: self.roll.clone(),
            metrics: self.metrics.clone(),
            requests: request.into_inner(),
            lists,
        };
        let token = self.shutdown.token.clone();
        self.shutdown.tracker.spawn(async move {
            // Leaving the future drops the membership, which makes the component inactive.
            let _ = token.run_until_cancelled(joined.run()).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse { rows: self.roll.rows() }))
    }
}

/// One component's stream.
struct Joined {
    roll: Roll,
    metrics: Metrics,
    requests: Streaming<JoinRequest>,
    lists: mpsc::Sender<Result<JoinResponse, Status>>,
}

impl Joined {
    async fn run(mut self) {
        let ended = match self.register().await {
            Ok((component, membership)) => {
                let id = component.id.clone();
                tracing::info!(kind = component.kind().as_str_name(), id, "joined");
                let ended = self.stay(membership).await;
                tracing::info!(kind = component.kind().as_str_name(), id, "left");
                ended
            }
            Err(status) => {
                tracing::warn!(error = status.message(), "a component was refused");
                self.metrics.refused.inc();
                Err(status)
            }
        };
        if let Err(status) = ended {
            // If there is no room the other side does not read, and sees the end of the stream anyway.
            let _ = self.lists.try_send(Err(status));
        }
    }

    async fn register(&mut self) -> Result<(Component, Membership), Status> {
        let request = timeout(REGISTER_WITHIN, self.requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("register comes first, at once"))??;
        let Some(Message::Register(component)) = request.and_then(|request| request.message) else {
            return Err(Status::invalid_argument("register comes first"));
        };
        self.admit(component)
    }

    fn admit(&self, component: Component) -> Result<(Component, Membership), Status> {
        check(&component)?;
        let membership = self
            .roll
            .join(component.clone())
            .map_err(|superseded| Status::failed_precondition(superseded.to_string()))?;
        self.metrics.joins.inc();
        Ok((component, membership))
    }

    /// Until the stream ends, in either direction. A request that makes no sense ends it.
    async fn stay(&mut self, mut membership: Membership) -> Result<(), Status> {
        let mut active = self.roll.watch();
        // The whole list at once.
        active.mark_changed();
        let mut next_list = Instant::now();
        loop {
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(JoinRequest { message: Some(Message::Load(load)) })) => membership.report(load),
                    Ok(Some(JoinRequest { message: Some(Message::Register(component)) })) => {
                        // The new membership is there before the old one is dropped, which then changes nothing.
                        membership = self.admit(component)?.1;
                    }
                    // From a younger version; nothing to do.
                    Ok(Some(JoinRequest { message: None })) => {}
                    // A broken stream is an ended one (T6).
                    Ok(None) | Err(_) => return Ok(()),
                },
                sent = push(&self.lists, &mut active, next_list) => {
                    if sent.is_err() {
                        return Ok(());
                    }
                    self.metrics.component_lists.inc();
                    next_list = Instant::now() + COALESCE;
                }
            }
        }
    }
}

/// The stream's other side is gone.
struct Gone;

/// Waits for a change, for `not_before` and for room, and sends the latest list. Cancel-safe: a change is marked as seen
/// only with its list sent.
async fn push(
    lists: &mpsc::Sender<Result<JoinResponse, Status>>,
    active: &mut watch::Receiver<Arc<Vec<Component>>>,
    not_before: Instant,
) -> Result<(), Gone> {
    let mut changed = active.clone();
    changed.changed().await.map_err(|_| Gone)?;
    sleep_until(not_before).await;
    let room = lists.reserve().await.map_err(|_| Gone)?;
    let components = active.borrow_and_update().to_vec();
    room.send(Ok(JoinResponse { components }));
    Ok(())
}

/// Whether a component says all that others need to know of it.
fn check(component: &Component) -> Result<(), Status> {
    let known = matches!(component.kind(), ComponentKind::Manager | ComponentKind::Relay);
    let port = u16::try_from(component.client_port).unwrap_or(0);
    let missing = [
        ("kind", !known),
        ("id", component.id.is_empty()),
        ("generation", component.generation.is_empty()),
        ("client_host", component.client_host.is_empty()),
        ("client_port", port == 0),
        ("grpc_url", component.grpc_url.is_empty()),
    ];
    match missing.into_iter().find(|(_, missing)| *missing) {
        Some((field, _)) => Err(Status::invalid_argument(format!("{field} is missing or makes no sense"))),
        None => Ok(()),
    }
}
