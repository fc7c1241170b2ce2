//! What others call: `kurir.v1.Relay`, streams that other relays dial, and `kurir.v1.Explain`.

use std::sync::Arc;

use kurir_rpc::v1::{
    ExplainRequest, ExplainResponse, Frame,
    explain_server::{self, ExplainServer},
    relay_server::{self, RelayServer},
};
use kurir_trail::Asked;
use tokio_stream::{StreamExt, adapters::Map, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{links::Links, relay::Relay, streams};

#[derive(Debug)]
pub(crate) struct Rpc {
    links: Arc<Links>,
}

impl Rpc {
    pub(crate) fn server(links: Arc<Links>) -> RelayServer<Self> {
        RelayServer::new(Self { links }).max_decoding_message_size(streams::FRAME_BYTES)
    }
}

#[tonic::async_trait]
impl relay_server::Relay for Rpc {
    type LinkStream = Map<ReceiverStream<Frame>, fn(Frame) -> Result<Frame, Status>>;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = streams::hello(&mut incoming)
            .await
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let link =
            self.links.accept(&hello).map_err(|error| Status::failed_precondition(error.to_string()))?;
        let (tx, rx) = streams::outgoing(self.links.hello());
        self.links.carry_in_background(link, incoming, tx);
        Ok(Response::new(rx.map(Ok)))
    }
}

#[derive(Debug)]
pub(crate) struct ExplainRpc {
    relay: Arc<Relay>,
}

impl ExplainRpc {
    pub(crate) fn server(relay: Arc<Relay>) -> ExplainServer<Self> {
        ExplainServer::new(Self { relay })
    }
}

#[tonic::async_trait]
impl explain_server::Explain for ExplainRpc {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let asked = Asked::decode(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(self.relay.explain(asked).await))
    }
}
