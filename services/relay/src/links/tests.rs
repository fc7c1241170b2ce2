use std::net::{Ipv4Addr, SocketAddr};

use kurir_directory::{Kind, Member, NewComponent, Timing};
use kurir_rpc::v1::{
    Frame, frame,
    relay_server::{self, RelayServer},
};
use kurir_socket::Outbox;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::{
    connection::Connection,
    lookup::{Answer, LookUps},
    router::Routed,
    table::{Table, Waiting},
};

async fn join(directory: &Directory, id: &str, grpc: SocketAddr) -> Member {
    let component = NewComponent {
        kind: Kind::Relay,
        id: id.parse().unwrap(),
        client: grpc.into(),
        grpc: format!("http://{grpc}"),
    };
    Member::join(directory.clone(), component, CancellationToken::new()).await.unwrap().0
}

/// Links of a relay that has just joined, and so dials whoever was there before it.
async fn links(directory: Directory) -> Arc<Links> {
    let member = join(&directory, "relay-1", SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).await;
    let waiting = Waiting::new(10_000, 10_000);
    Links::new(Setup {
        id: member.id().clone(),
        generation: member.generation(),
        limit_bytes: 10_000,
        router: Arc::new(Router::new(Table::new(10), LookUps::new(10), waiting)),
        fence: Arc::new(Fence::new(member)),
        handovers: Arc::new(Handovers::new().0),
        directory,
        components: watch::channel(Arc::default()).1,
        metrics: Arc::default(),
        shutdown: CancellationToken::new(),
        tasks: TaskTracker::new(),
    })
}

fn connection(user: &str) -> Arc<Connection> {
    Connection::alone(user, 1, Outbox::new(1000))
}

/// A relay that breaks every stream after the hello.
struct Breaking {
    hello: LinkHello,
    dialled: mpsc::Sender<Instant>,
}

#[tonic::async_trait]
impl relay_server::Relay for Breaking {
    type LinkStream = tokio_stream::Iter<std::array::IntoIter<Result<Frame, Status>, 2>>;

    async fn link(&self, _: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let _ = self.dialled.send(Instant::now()).await;
        let hello = Frame { frame: Some(frame::Frame::Hello(self.hello.clone())) };
        Ok(Response::new(tokio_stream::iter([Ok(hello), Err(Status::unavailable("broken"))])))
    }
}

#[tokio::test]
async fn a_peer_whose_streams_break_at_once_is_dialled_ever_less_often() {
    let directory = Directory::in_process(Timing::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = join(&directory, "relay-2", listener.local_addr().unwrap()).await;
    let links = links(directory).await;
    let hello = LinkHello { id: peer.id().to_string(), generation: peer.generation().to_string() };
    let (dialled, mut dials) = mpsc::channel(16);
    let server = kurir_rpc::server()
        .add_service(RelayServer::new(Breaking { hello, dialled }))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    links.get(peer.id(), peer.generation()).unwrap();
    let mut dial = async || timeout(Duration::from_secs(10), dials.recv()).await.expect("a dial").unwrap();
    let first = dial().await;
    let mut last = first;
    for _ in 0..3 {
        last = dial().await;
    }
    let pauses = RETRY.0 * (1 + 2 + 4);
    assert!(last - first >= pauses, "{:?}", last - first);
}

/// R25.
#[tokio::test]
async fn a_dead_peers_routes_are_forgotten_what_is_on_its_way_is_answered_and_its_life_never_comes_back() {
    let links = links(Directory::in_process(Timing::default())).await;
    let (peer, generation) = ("relay-2".parse().unwrap(), Generation::new());
    let link = links.get(&peer, generation).unwrap();
    assert!(link.up());
    let esa = connection("esa");
    let route = || links.router.route(("fajar", None), &esa, |out| out.extend_from_slice(b"{}\n"));
    assert!(matches!(route(), Routed::Waiting));
    for question in links.router.lookups.take(1) {
        links.router.found(&question, &Answer::Link(Arc::clone(&link)));
    }
    assert!(matches!(route(), Routed::Linked(_)));
    links.died(&peer, generation);
    assert!(link.over.is_cancelled());
    assert!(links.router.table.shard("fajar").get_mut("fajar").is_none());
    let mut answers = Vec::new();
    esa.outbox.push_with(|out| answers.clone_from(out)).unwrap();
    assert_eq!(str::from_utf8(&answers).unwrap().lines().count(), 2);
    assert!(links.get(&peer, generation).is_none());
    assert!(links.get(&peer, Generation::new()).is_some());
}
