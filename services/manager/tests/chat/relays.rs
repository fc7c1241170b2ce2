//! Relays here are gRPC clients that say what a test wants them to.

use kurir_directory::{Address, Kind, Member, NewComponent, RouteClaim};
use kurir_protocol::name::{LoginId, Resource, UserKey};
use kurir_rpc::v1::{self, attach_request::Message, attach_response, manager_client::ManagerClient};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    client::{Client, PATIENCE},
    system::{Node, System, config},
};

struct Relay {
    requests: mpsc::Sender<v1::AttachRequest>,
    responses: Streaming<v1::AttachResponse>,
}

impl Relay {
    /// Attaches, and reports `connections`.
    async fn attach(manager: &Node, id: &str, generation: &str, connections: u64) -> Relay {
        let channel = kurir_rpc::connect(&format!("http://{}", manager.grpc)).await.unwrap();
        let (requests, outgoing) = mpsc::channel(16);
        let hello = v1::RelayHello {
            id: id.to_owned(),
            generation: generation.to_owned(),
            client_host: "relay.example.org".to_owned(),
            client_port: 5010,
        };
        requests.send(v1::AttachRequest { message: Some(Message::Hello(hello)) }).await.unwrap();
        let responses =
            ManagerClient::new(channel).attach(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let relay = Relay { requests, responses };
        relay.report(connections, 0).await;
        relay
    }

    async fn report(&self, connections: u64, redeemed: u64) {
        let report = v1::LoadReport { connections, redeemed, loop_delay_us: 0, draining: false };
        self.requests.send(v1::AttachRequest { message: Some(Message::Report(report)) }).await.unwrap();
    }

    async fn receive(&mut self) -> attach_response::Message {
        let message = timeout(PATIENCE, self.responses.message()).await.expect("nothing came");
        message.unwrap().expect("the stream ended").message.unwrap()
    }
}

fn generation() -> String {
    kurir_directory::Generation::new().to_string()
}

/// A relay that reports once here is not silent.
fn patient() -> kurir_manager::Config {
    kurir_manager::Config { relay_silence_seconds: 3600, ..config() }
}

/// Asks for another relay.
async fn ask(client: &mut Client) -> Value {
    client.send(&json!({"type": "get_relay_less_connection"})).await;
    let answer = client.receive().await;
    assert_eq!(
        (&answer[0]["error"], &answer[0]["msg"], &answer[0]["code"]),
        (&json!(false), &json!("Relay Less Connection"), &json!(200))
    );
    answer[0]["component"].clone()
}

/// M3, M4, M13, M14.
#[tokio::test]
async fn a_user_is_given_the_least_loaded_relay_with_a_ticket_and_another_one_when_it_failed() {
    let system = System::start();
    let manager = system.manager_with(patient()).await;
    let mut busy = Relay::attach(&manager, "relay-busy", &generation(), 7).await;
    manager.counts_load("relay-busy", 7).await;
    let attach_response::Message::Key(key) = busy.receive().await else { panic!("the key comes first") };
    assert_eq!(key.public_key.len(), 32);
    let mut esa = Client::registered(manager.address, "esa").await;
    assert_eq!(ask(&mut esa).await[0]["username"], "relay-busy", "there is no other");
    let _idle = Relay::attach(&manager, "relay-idle", &generation(), 2).await;
    manager.counts_load("relay-idle", 2).await;
    assert_eq!(ask(&mut esa).await[0]["username"], "relay-idle");

    let mut fajar = Client::connect(manager.address).await;
    fajar.send(&json!({"type": "auth", "username": "fajar", "password": "12345", "register": true})).await;
    let answer = fajar.receive().await;
    assert_eq!(answer["code"], 201);
    let relay = &answer["component"][0];
    assert_eq!(
        (&relay["username"], &relay["ip_local"], &relay["port"], &relay["type"]),
        (&json!("relay-idle"), &json!("relay.example.org"), &json!(5010), &json!("relay"))
    );
    assert_eq!(relay["connection"], 3, "with what was promised to esa");
    assert_eq!(relay["token"].as_str().unwrap().split('.').count(), 3);
    // He asks again: the one that he was given has failed.
    assert_eq!(ask(&mut fajar).await[0]["username"], "relay-busy");
}

/// M7: with its last relay gone, a login still succeeds.
#[tokio::test]
async fn without_a_relay_the_user_is_online_and_asks_again_m7() {
    let system = System::start();
    let manager = system.manager_with(patient()).await;
    let relay = Relay::attach(&manager, "relay-a", &generation(), 0).await;
    manager.counts_load("relay-a", 0).await;
    let mut esa = Client::registered(manager.address, "esa").await;
    assert_eq!(ask(&mut esa).await[0]["username"], "relay-a");
    drop(relay);
    manager.counts_load("relay-a", None).await;
    assert_eq!(ask(&mut esa).await, json!([]));
}

/// M29: the relay that has the user's route is told to close it, also when it attaches only afterwards.
#[tokio::test]
async fn at_logout_the_relay_in_the_route_ends_the_session_m29() {
    let system = System::start();
    let manager = system.manager().await;
    let component = NewComponent {
        kind: Kind::Relay,
        id: "relay-a".parse().unwrap(),
        client: Address { host: "127.0.0.1".to_owned(), port: 5010 },
        grpc: "http://127.0.0.1:1".to_owned(),
    };
    let stop = CancellationToken::new();
    let (member, _events) = Member::join(system.directory.clone(), component, stop).await.unwrap();
    let (user, device) = (UserKey::of("esa").unwrap(), Resource::default_device());
    for login in [1, 2] {
        let mut esa = if login == 1 {
            Client::registered(manager.address, "esa").await
        } else {
            Client::logged_in(manager.address, "esa").await
        };
        let claim = member.claim_route(&user, &device, LoginId(login), login).await.unwrap();
        assert!(matches!(claim, RouteClaim::Granted { .. }), "{claim:?}");
        let attach = async || {
            let mut relay = Relay::attach(&manager, "relay-a", &member.generation().to_string(), 1).await;
            relay.receive().await;
            relay
        };
        let attached = if login == 1 { Some(attach().await) } else { None };
        esa.send(&json!({"stanza": "presence", "from": "esa", "type": "unavailable"})).await;
        esa.is_closed().await;
        let mut relay = match attached {
            Some(relay) => relay,
            None => attach().await,
        };
        // A relay that attaches is told again of those that ended just before.
        for expected in 1..=login {
            let attach_response::Message::EndSession(session) = relay.receive().await else {
                panic!("no end")
            };
            let session = (session.user.as_str(), session.resource.as_str(), session.login);
            assert_eq!(session, ("esa", "default", expected));
        }
        let claim = member.claim_route(&user, &device, LoginId(login), 9).await.unwrap();
        assert_eq!(claim, RouteClaim::Stale, "its ticket is good no more");
    }
}

/// A lost connection revokes nothing: the relay connection stays.
#[tokio::test]
async fn a_lost_manager_connection_leaves_the_relay_connection_alone_m31() {
    let system = System::start();
    let manager = system.manager().await;
    let mut fajar = Client::registered(manager.address, "fajar").await;
    let esa = Client::registered(manager.address, "esa").await;
    fajar.adds("fajar", "esa").await;
    let component = NewComponent {
        kind: Kind::Relay,
        id: "relay-a".parse().unwrap(),
        client: Address { host: "127.0.0.1".to_owned(), port: 5010 },
        grpc: "http://127.0.0.1:1".to_owned(),
    };
    let (member, _events) =
        Member::join(system.directory.clone(), component, CancellationToken::new()).await.unwrap();
    let (user, device) = (UserKey::of("esa").unwrap(), Resource::default_device());
    member.claim_route(&user, &device, LoginId(1), 1).await.unwrap();
    drop(esa);
    assert_eq!(fajar.receive().await["type"], "unavailable");
    let again = member.claim_route(&user, &device, LoginId(1), 2).await.unwrap();
    assert!(matches!(again, RouteClaim::Granted { .. }), "{again:?}");
}
