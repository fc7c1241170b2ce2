//! A whole tracker on loopback, spoken to over raw sockets and gRPC. Rows T1–T7.

use std::net::SocketAddr;
use std::time::Duration;

use kurir_rpc::v1::tracker_client::TrackerClient;
use kurir_rpc::v1::{
    self, ComponentKind, JoinRequest, JoinResponse, Load, StatusRequest, join_request::Message,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

const DELIMITER: &str = "\u{80}\u{81}\u{82}";
const HELLO: &str = r#"{"ip_local":"192.168.1.6","port":62998,"type":"client","is_private":true}"#;
const GET: &str = r#"{"message":"get components"}"#;

struct Running {
    clients: SocketAddr,
    grpc: SocketAddr,
    shell: Shell,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        let shell = Shell::new(100);
        let clients = Listener::bind("127.0.0.1:0", &config.socket).await.unwrap();
        let components = Listener::bind("127.0.0.1:0", &config.socket).await.unwrap();
        let running = Self {
            clients: clients.local_addr().unwrap(),
            grpc: components.local_addr().unwrap(),
            shell: shell.clone(),
        };
        tokio::spawn(async move { serve_on(&config, clients, components, &shell, || {}).await });
        running
    }

    async fn join(&self, component: v1::Component) -> Member {
        let channel = kurir_rpc::connect(&format!("http://{}", self.grpc)).await.unwrap();
        let (requests, outgoing) = mpsc::channel(4);
        let register = Message::Register(component);
        requests.send(JoinRequest { message: Some(register) }).await.unwrap();
        let lists = TrackerClient::new(channel).join(ReceiverStream::new(outgoing)).await.unwrap();
        Member { requests, lists: lists.into_inner() }
    }

    async fn client(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.clients).await.unwrap(), input: Vec::new() }
    }

    async fn status(&self) -> Vec<v1::status_response::Row> {
        let channel = kurir_rpc::connect(&format!("http://{}", self.grpc)).await.unwrap();
        TrackerClient::new(channel).status(StatusRequest {}).await.unwrap().into_inner().rows
    }
}

/// A component's stream.
struct Member {
    requests: mpsc::Sender<JoinRequest>,
    lists: Streaming<JoinResponse>,
}

impl Member {
    async fn send(&self, message: Message) {
        self.requests.send(JoinRequest { message: Some(message) }).await.unwrap();
    }

    /// Reads lists until one holds just these ids.
    async fn sees(&mut self, ids: &[&str]) -> Vec<v1::Component> {
        within(async {
            loop {
                let list = self.lists.message().await.unwrap().unwrap().components;
                let mut seen: Vec<_> = list.iter().map(|component| component.id.as_str()).collect();
                seen.sort_unstable();
                if seen == ids {
                    return list;
                }
            }
        })
        .await
    }
}

/// A client that knows nothing but bytes.
struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Raw {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to and with `end`.
    async fn read_to(&mut self, end: &str) -> String {
        within(async {
            loop {
                let text = String::from_utf8_lossy(&self.input).into_owned();
                if let Some(at) = text.find(end) {
                    let taken = text[..at + end.len()].to_owned();
                    self.input.drain(..taken.len());
                    return taken;
                }
                assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "closed after {text:?}");
            }
        })
        .await
    }

    async fn line(&mut self) -> Value {
        serde_json::from_str(&self.read_to("\n").await).unwrap()
    }

    /// Everything until the tracker closes.
    async fn rest(&mut self) -> String {
        within(self.stream.read_to_end(&mut self.input)).await.unwrap();
        String::from_utf8(std::mem::take(&mut self.input)).unwrap()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.expect("not within 10 s")
}

fn component(kind: ComponentKind, id: &str, port: u32, generation: &str) -> v1::Component {
    v1::Component {
        kind: kind.into(),
        id: id.to_owned(),
        generation: generation.to_owned(),
        client_host: "192.168.1.5".to_owned(),
        client_port: port,
        grpc_url: format!("http://192.168.1.5:{}", port + 100),
        private: false,
        draining: false,
    }
}

fn manager(id: &str, port: u32) -> v1::Component {
    component(ComponentKind::Manager, id, port, "01")
}

fn relay(id: &str, port: u32) -> v1::Component {
    component(ComponentKind::Relay, id, port, "01")
}

fn ports(list: &Value) -> Vec<u64> {
    let mut ports: Vec<_> =
        list.as_array().unwrap().iter().map(|entry| entry["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports
}

/// T1, T2, T3, T4, T5 as the original's client sees them: the first list bare, the next ones delimited.
#[tokio::test]
async fn the_original_client_is_given_the_active_components_bare_and_then_delimited() {
    let tracker = Running::start().await;
    let mut first = tracker.join(manager("manager-1", 59441)).await;
    let _second = tracker.join(relay("relay-1", 51541)).await;
    first.sees(&["manager-1", "relay-1"]).await;

    let mut client = tracker.client().await;
    client.send(&format!("{HELLO}{DELIMITER}")).await;
    let list: Value = serde_json::from_str(&client.read_to("]").await).unwrap();
    assert_eq!(ports(&list), [51541, 59441]);
    let entry = list.as_array().unwrap().iter().find(|entry| entry["type"] == "manager").unwrap();
    assert_eq!(
        *entry,
        json!({"ip_local": "192.168.1.5", "port": 59441, "type": "manager", "is_private": "0"})
    );

    client.send(&format!("{GET}{DELIMITER}")).await;
    // The delimiter that the first list did not have, then the second list with its own.
    assert_eq!(client.read_to(DELIMITER).await, DELIMITER);
    let second = client.read_to(DELIMITER).await;
    assert_eq!(ports(&serde_json::from_str(second.trim_end_matches(DELIMITER)).unwrap()), [51541, 59441]);
}

/// T2, T3: on this socket nobody becomes a component by saying so.
#[tokio::test]
async fn a_client_that_says_it_is_a_manager_is_answered_and_registers_nothing() {
    let tracker = Running::start().await;
    let mut client = tracker.client().await;
    client.send("{\"ip_local\":\"10.0.0.1\",\"port\":1,\"type\":\"Manager\",\"is_private\":true}\n").await;
    assert_eq!(client.line().await, json!([]));
    client.send(&format!("{GET}\n")).await;
    assert_eq!(client.line().await, json!([]));
    assert!(tracker.status().await.is_empty());
}

/// T6: no longer given out, kept with its status.
#[tokio::test]
async fn a_component_that_leaves_is_no_longer_given_out_and_shown_as_inactive() {
    let tracker = Running::start().await;
    let mut watcher = tracker.join(manager("manager-1", 5001)).await;
    let leaving = tracker.join(relay("relay-1", 5010)).await;
    watcher.sees(&["manager-1", "relay-1"]).await;
    drop(leaving);
    watcher.sees(&["manager-1"]).await;

    let mut client = tracker.client().await;
    client.send(&format!("{HELLO}\n")).await;
    assert_eq!(ports(&client.line().await), [5001]);
    let rows: Vec<_> =
        tracker.status().await.into_iter().map(|row| (row.component.unwrap().id, row.active)).collect();
    assert_eq!(rows, [("manager-1".to_owned(), true), ("relay-1".to_owned(), false)]);
}

/// T6 the other way round: the end of a stream whose place was taken removes nobody.
#[tokio::test]
async fn a_restarted_component_takes_the_place_of_its_older_generation() {
    let tracker = Running::start().await;
    let mut watcher = tracker.join(manager("manager-1", 5001)).await;
    let old = tracker.join(relay("relay-1", 5010)).await;
    watcher.sees(&["manager-1", "relay-1"]).await;
    let mut new = tracker.join(component(ComponentKind::Relay, "relay-1", 5011, "02")).await;
    new.sees(&["manager-1", "relay-1"]).await;
    drop(old);
    // A third one, so that there is a list after the old stream's end.
    let mut third = tracker.join(relay("relay-2", 5012)).await;
    third.sees(&["manager-1", "relay-1", "relay-2"]).await;
    let list = new.sees(&["manager-1", "relay-1", "relay-2"]).await;
    let relay = list.iter().find(|component| component.id == "relay-1").unwrap();
    assert_eq!((relay.generation.as_str(), relay.client_port), ("02", 5011));
}

#[tokio::test]
async fn a_fenced_component_registers_its_new_generation_on_the_same_stream() {
    let tracker = Running::start().await;
    let mut relay_one = tracker.join(relay("relay-1", 5010)).await;
    relay_one.sees(&["relay-1"]).await;
    relay_one.send(Message::Register(component(ComponentKind::Relay, "relay-1", 5010, "02"))).await;
    let list = relay_one.sees(&["relay-1"]).await;
    assert_eq!(list[0].generation, "02");
    assert_eq!(tracker.status().await.len(), 1);
}

#[tokio::test]
async fn an_older_generation_and_a_nameless_component_are_refused() {
    let tracker = Running::start().await;
    let mut active = tracker.join(component(ComponentKind::Relay, "relay-1", 5010, "02")).await;
    active.sees(&["relay-1"]).await;
    let mut older = tracker.join(relay("relay-1", 5010)).await;
    let refused = within(older.lists.message()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let mut nameless = tracker.join(relay("", 5010)).await;
    let refused = within(nameless.lists.message()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let mut silent = tracker.join(manager("manager-1", 70_000)).await;
    let refused = within(silent.lists.message()).await.unwrap_err();
    assert!(refused.message().starts_with("client_port"), "{refused}");
}

#[tokio::test]
async fn status_shows_the_load_that_components_report() {
    let tracker = Running::start().await;
    let relay_one = tracker.join(relay("relay-1", 5010)).await;
    relay_one.send(Message::Load(Load { users: 3, connections: 4 })).await;
    let row = within(async {
        loop {
            let mut rows = tracker.status().await;
            if rows.first().is_some_and(|row| row.load == Some(Load { users: 3, connections: 4 })) {
                return rows.remove(0);
            }
        }
    })
    .await;
    assert!(row.active);
    assert!(row.since_ms < 10_000);
}

/// Original clients take the first manager: all of them must come first sometimes.
#[tokio::test]
async fn managers_come_in_random_order() {
    let tracker = Running::start().await;
    let _one = tracker.join(manager("manager-1", 5001)).await;
    let mut two = tracker.join(manager("manager-2", 5002)).await;
    two.sees(&["manager-1", "manager-2"]).await;
    let mut client = tracker.client().await;
    client.send(&format!("{HELLO}\n")).await;
    let first = client.line().await[0]["port"].clone();
    within(async {
        loop {
            client.send(&format!("{GET}\n")).await;
            if client.line().await[0]["port"] != first {
                return;
            }
        }
    })
    .await;
}

/// T7: on the client socket.
#[tokio::test]
async fn whatever_a_client_sends_the_tracker_goes_on() {
    let tracker = Running::start().await;
    let mut client = tracker.client().await;
    // Fits no row: not answered.
    for packet in ["{}", r#"{"type":"bishop"}"#, r#"{"message":7}"#, r#"{"stanza":"message","to":"esa"}"#] {
        client.send(&format!("{packet}\n")).await;
    }
    client.send("[1,2]\n").await;
    assert_eq!(client.line().await, json!({"error": true, "msg": "Bad request", "code": 400}));
    client.send("{\"type\":\"client\",\"type\":\"relay\"}\n").await;
    assert_eq!(client.line().await["code"], 400);
    client.send(&format!("{HELLO}\n")).await;
    assert_eq!(client.line().await, json!([]));

    let mut garbage = tracker.client().await;
    garbage.send("\u{0}\nGET / HTTP/1.1\n\n\"\n").await;
    assert_eq!(garbage.rest().await.matches("400").count(), 3);

    let mut large = tracker.client().await;
    large.send(&format!("{{}}\n{{\"a\":\"{}", "x".repeat(70_000))).await;
    assert!(large.rest().await.contains("413"));

    client.send(&format!("{GET}\n")).await;
    assert_eq!(client.line().await, json!([]));
}

/// T7: on the components' stream.
#[tokio::test]
async fn a_component_that_does_not_register_first_is_refused() {
    let tracker = Running::start().await;
    let channel = kurir_rpc::connect(&format!("http://{}", tracker.grpc)).await.unwrap();
    for message in [None, Some(Message::Load(Load::default()))] {
        let requests = tokio_stream::once(JoinRequest { message });
        let mut lists = TrackerClient::new(channel.clone()).join(requests).await.unwrap().into_inner();
        let refused = within(lists.message()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn ping_is_answered() {
    let tracker = Running::start().await;
    let mut client = tracker.client().await;
    client.send("{\"stanza\":\"iq\",\"namespace\":\"ping\",\"type\":\"get\",\"id\":\"p1\"}\n").await;
    let answer = client.line().await;
    assert_eq!((&answer["type"], &answer["id"]), (&json!("result"), &json!("p1")));
    // A ping is Part II: it is told why it is closed, and others are only closed.
    let mut other = tracker.client().await;
    other.send(&format!("{HELLO}\n")).await;
    assert_eq!(other.line().await, json!([]));
    tracker.shell.shutdown.begin();
    let error = json!({"type": "wait", "condition": "system-shutdown"});
    assert_eq!(client.line().await, json!({"stanza": "stream", "type": "error", "error": error}));
    assert_eq!((client.rest().await, other.rest().await), (String::new(), String::new()));
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_closed_and_one_that_asked_is_not() {
    let config = Config { hello_deadline_seconds: 1, ..Config::default() };
    let tracker = Running::start_with(config).await;
    let mut asked = tracker.client().await;
    let mut silent = tracker.client().await;
    asked.send(&format!("{HELLO}\n")).await;
    assert_eq!(asked.line().await, json!([]));
    assert_eq!(silent.rest().await, "");
    asked.send(&format!("{GET}\n")).await;
    assert_eq!(asked.line().await, json!([]));
}

/// Components join every tracker; one that goes away takes nothing with it.
#[tokio::test]
async fn trackers_are_independent_of_each_other() {
    let (one, two) = (Running::start().await, Running::start().await);
    let urls = [one.grpc, two.grpc].map(|address| format!("http://{address}")).to_vec();
    let stop = Shell::new(0).shutdown;
    let (me, streams) = (relay("relay-1", 5010), kurir_rpc::Streams::default());
    let discovery = kurir_rpc::Discovery::start(urls, me, streams, &stop.token, &stop.tracker);
    let (mut at_one, mut at_two) =
        (one.join(manager("manager-1", 5001)).await, two.join(manager("manager-2", 5002)).await);
    at_one.sees(&["manager-1", "relay-1"]).await;
    at_two.sees(&["manager-2", "relay-1"]).await;
    let mut known = discovery.components();
    within(known.wait_for(|components| components.len() == 3)).await.unwrap();

    one.shell.shutdown.begin();
    within(one.shell.shutdown.tracker.close_and_wait()).await;
    drop(two.join(relay("relay-2", 5011)).await);
    at_two.sees(&["manager-2", "relay-1"]).await;
    // The last list of the tracker that is gone stands.
    assert_eq!(known.borrow_and_update().len(), 3);
    stop.begin();
}

trait CloseAndWait {
    async fn close_and_wait(&self);
}

impl CloseAndWait for tokio_util::task::TaskTracker {
    async fn close_and_wait(&self) {
        self.close();
        self.wait().await;
    }
}
