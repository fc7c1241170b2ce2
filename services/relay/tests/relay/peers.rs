//! A relay and a tracker that do one thing each.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use kurir_directory::Generation;
use kurir_rpc::v1::{
    Component, ComponentKind, Frame, JoinRequest, JoinResponse, StatusRequest, StatusResponse, join_request,
    relay_server::{self, RelayServer},
    tracker_server::{self, TrackerServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// A relay that refuses every link, and is not in the directory.
pub(crate) struct Refusing {
    dialled: mpsc::Sender<()>,
}

impl Refusing {
    /// How a tracker lists it, and when it was dialled.
    pub(crate) async fn start(id: &str) -> (Component, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let component = Component {
            kind: ComponentKind::Relay.into(),
            id: id.to_owned(),
            generation: Generation::new().to_string(),
            grpc_url: format!("http://{}", listener.local_addr().unwrap()),
            ..Component::default()
        };
        let (dialled, dials) = mpsc::channel(16);
        let server = kurir_rpc::server()
            .add_service(RelayServer::new(Self { dialled }))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (component, dials)
    }
}

#[tonic::async_trait]
impl relay_server::Relay for Refusing {
    type LinkStream = ReceiverStream<Result<Frame, Status>>;

    async fn link(&self, _: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let _ = self.dialled.send(()).await;
        Err(Status::unavailable("not now"))
    }
}

/// A tracker that tells whom it was joined by, and lists besides it whom the test says.
pub(crate) struct Tracker {
    joined: mpsc::Sender<Component>,
    listed: Vec<Component>,
}

impl Tracker {
    /// Its URL, and who joins.
    pub(crate) async fn start(listed: Vec<Component>) -> (String, mpsc::Receiver<Component>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (joined, components) = mpsc::channel(16);
        let server = kurir_rpc::server()
            .add_service(TrackerServer::new(Self { joined, listed }))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (url, components)
    }
}

#[tonic::async_trait]
impl tracker_server::Tracker for Tracker {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<JoinRequest>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut requests = request.into_inner();
        let Some(join_request::Message::Register(component)) = requests.next().await.unwrap()?.message else {
            return Err(Status::invalid_argument("register first"));
        };
        let (tx, rx) = mpsc::channel(16);
        let components = self.listed.iter().chain([&component]).cloned().collect();
        let _ = tx.send(Ok(JoinResponse { components })).await;
        let _ = self.joined.send(component).await;
        tokio::spawn(async move {
            while let Some(Ok(_)) = requests.next().await {}
            drop(tx);
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(Status::unimplemented("no status here"))
    }
}
