use kurir_directory::{Kind, Member, NewComponent, Timing};
use kurir_protocol::name::{LoginId, Resource};
use kurir_socket::Outbox;

use super::*;
use crate::{
    connection::Connection,
    lookup::{Answer, LookUps},
    router::Routed,
    table::{Table, Waiting},
};

/// Links of a relay that has just joined, and so would dial any peer with an older life.
async fn links() -> Arc<Links> {
    let directory = Directory::in_process(Timing::default());
    let shutdown = CancellationToken::new();
    let component = NewComponent {
        kind: Kind::Relay,
        id: "relay-1".parse().unwrap(),
        client: "127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap().into(),
        grpc: "http://127.0.0.1:2".to_owned(),
    };
    let (member, _) = Member::join(directory.clone(), component, shutdown.clone()).await.unwrap();
    let waiting = Waiting::new(10_000, 10_000);
    Links::new(Setup {
        id: member.id().clone(),
        generation: member.generation(),
        limit_bytes: 10_000,
        router: Arc::new(Router::new(Table::new(10), LookUps::new(10), waiting)),
        fence: Arc::new(Fence::new(member)),
        directory,
        components: watch::channel(Arc::default()).1,
        metrics: Arc::default(),
        shutdown,
        tasks: TaskTracker::new(),
    })
}

fn connection(user: &str) -> Arc<Connection> {
    Arc::new(Connection {
        user: user.into(),
        name: user.into(),
        resource: Resource::default_device(),
        login: LoginId(1),
        number: 1,
        outbox: Outbox::new(1000),
    })
}

/// R25.
#[tokio::test]
async fn a_dead_peers_routes_are_forgotten_what_is_on_its_way_is_answered_and_its_life_never_comes_back() {
    let links = links().await;
    let (peer, generation) = ("relay-2".parse().unwrap(), Generation::new());
    let link = links.get(&peer, generation).unwrap();
    assert!(link.up());
    let esa = connection("esa");
    let route = || links.router.route("fajar", &esa, |out| out.extend_from_slice(b"{}\n"));
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
