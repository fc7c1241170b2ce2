//! What became of tracked messages (`kurir.v1.Explain`, `kurir.v1.Trail`): decode, call, encode.

use std::sync::Arc;

use kurir_rpc::v1::{
    self,
    explain_server::{self, ExplainServer},
    trail_server::{self, TrailServer},
};
use kurir_trail::{Asked, Kept};
use tonic::{Request, Response, Status};

use crate::{manager::Manager, store::trail::MOST_EVENTS};

/// The gRPC service of those who ask.
pub(crate) struct Explain(Arc<Manager>);

/// The gRPC service of relays whose trails are kept.
pub(crate) struct Trail(Arc<Manager>);

pub(crate) fn explain(manager: &Arc<Manager>) -> ExplainServer<Explain> {
    ExplainServer::new(Explain(Arc::clone(manager)))
}

pub(crate) fn trail(manager: &Arc<Manager>) -> TrailServer<Trail> {
    TrailServer::new(Trail(Arc::clone(manager)))
}

#[tonic::async_trait]
impl explain_server::Explain for Explain {
    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let asked = Asked::decode(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(self.0.explain(asked).await))
    }
}

#[tonic::async_trait]
impl trail_server::Trail for Trail {
    async fn keep(&self, request: Request<v1::KeepRequest>) -> Result<Response<v1::KeepResponse>, Status> {
        if self.0.trail_life.is_none() {
            return Err(Status::failed_precondition("trails are not kept here"));
        }
        let events = request.into_inner().events;
        if events.len() > MOST_EVENTS {
            return Err(Status::invalid_argument("too many events at once"));
        }
        // What a later version notes is left out.
        let events: Vec<Kept> = events.into_iter().filter_map(Kept::decode).collect();
        self.0.store.keep_trail(&events).await.map_err(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "a relay's trail was not kept");
            Status::unavailable("the database gave no answer")
        })?;
        Ok(Response::new(v1::KeepResponse {}))
    }
}
