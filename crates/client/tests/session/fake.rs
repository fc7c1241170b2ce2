//! Servers played by hand: a test reads what the client sent and writes what it likes.

use std::time::Duration;

use kurir_client::{Client, ConnectError, Event, Events, Options, Waiting};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Nothing on loopback takes so long.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.expect("not within 10 s")
}

/// Somewhere that a client can connect to.
pub(crate) struct Fake {
    listener: TcpListener,
    pub(crate) port: u16,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// An address where nobody answers, for as long as the socket is kept: it is bound and does not listen, so nobody else
    /// is given its port.
    pub(crate) fn dead() -> (TcpSocket, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        (socket, address)
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Peer { stream: BufReader::new(stream) }
    }

    /// The relay entry of a manager's replies.
    pub(crate) fn relay(&self, token: &str) -> Value {
        json!({"username": "relay-1", "ip_local": "127.0.0.1", "port": self.port, "type": "relay",
               "connection": 1, "token": token})
    }

    /// Accepts the manager's side of a connection that logs in, up to and with the roster.
    pub(crate) async fn logs_in(&self, relay: &Fake, token: &str) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.reads().await["type"], "client");
        assert_eq!(peer.reads().await, json!({"type": "auth", "username": "fajar", "password": "12345"}));
        peer.writes(&logged_in(&json!([relay.relay(token)]))).await;
        peer.gives_roster().await;
        peer
    }

    /// Accepts the relay's side of a connection that says hello.
    pub(crate) async fn welcomes(&self, token: &str) -> Peer {
        self.welcomes_at(token, &Value::Null, &Value::Null).await
    }

    /// The same, going on from this place.
    pub(crate) async fn welcomes_at(&self, token: &str, resume: &Value, log: &Value) -> Peer {
        let mut peer = self.accept().await;
        let hello = peer.reads().await;
        assert_eq!((&hello["username"], &hello["token"]), (&json!("fajar"), &json!(token)));
        assert_eq!((&hello["resume"], &hello["log"]), (resume, log));
        peer.pongs().await;
        peer
    }
}

pub(crate) fn logged_in(component: &Value) -> Value {
    json!({"error": false, "msg": "Login successfull", "code": 200, "component": component})
}

/// A tracker that gives everybody the same managers.
pub(crate) async fn tracker(managers: &[&Fake]) -> (String, JoinHandle<()>) {
    let fake = Fake::start().await;
    let list: Vec<_> = managers
        .iter()
        .map(|manager| {
            json!({"ip_local": "127.0.0.1", "port": manager.port, "type": "manager", "is_private": "0"})
        })
        .collect();
    let address = fake.address();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = fake.listener.accept().await.unwrap();
            let mut peer = Peer { stream: BufReader::new(stream) };
            peer.reads().await;
            peer.writes(&json!(list)).await;
        }
    });
    (address, task)
}

/// One connection of the client.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    pub(crate) async fn reads(&mut self) -> Value {
        let mut line = String::new();
        within(self.stream.read_line(&mut line)).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub(crate) async fn writes(&mut self, value: &Value) {
        self.writes_raw(&format!("{value}\n")).await;
    }

    pub(crate) async fn writes_raw(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Closes this connection.
    pub(crate) async fn closes(&mut self) {
        self.stream.get_mut().shutdown().await.unwrap();
    }

    /// Reads a ping and answers it.
    pub(crate) async fn pongs(&mut self) {
        let ping = self.reads().await;
        assert_eq!((&ping["namespace"], &ping["type"]), (&json!("ping"), &json!("get")), "{ping}");
        let id = &ping["id"];
        self.writes(&json!({"stanza": "iq", "namespace": "ping", "type": "result", "id": id})).await;
    }

    /// Reads what a client sends after its login (U6) and answers it with one contact.
    pub(crate) async fn gives_roster(&mut self) {
        assert_eq!(self.reads().await, json!({"stanza": "presence"}));
        let get = self.reads().await;
        assert_eq!(
            (&get["namespace"], &get["type"], &get["from"]),
            (&json!("roster"), &json!("get"), &json!("fajar"))
        );
        self.writes(
            &json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": "fajar", "id": get["id"],
                            "query": {"items": [{"jid": "esa", "name": "ini esa", "subscription": "both"}]}}),
        )
        .await;
    }

    /// The client closed this connection, having sent nothing more.
    pub(crate) async fn is_closed(&mut self) {
        let mut line = String::new();
        let read = within(self.stream.read_line(&mut line)).await;
        assert!(!matches!(read, Ok(1..)), "{line}");
    }
}

/// Options with quick retries.
pub(crate) fn options(trackers: &[&str]) -> Options {
    let mut options = Options::new(trackers.iter().copied(), "fajar", "12345");
    options.timing.first_retry = Duration::from_millis(10);
    options.timing.longest_retry = Duration::from_millis(50);
    options
}

pub(crate) fn connect(options: Options) -> JoinHandle<Result<(Client, Events), ConnectError>> {
    tokio::spawn(Client::connect(options))
}

/// One user online at one manager and one relay.
pub(crate) struct Online {
    pub(crate) client: Client,
    pub(crate) events: Events,
    /// What an earlier session has left.
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) manager: Fake,
    pub(crate) at_manager: Peer,
    pub(crate) relay: Fake,
    pub(crate) at_relay: Peer,
}

impl Online {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_at(change, &Value::Null, &Value::Null).await
    }

    /// The same, going on from this place.
    pub(crate) async fn start_at(change: impl FnOnce(&mut Options), resume: &Value, log: &Value) -> Self {
        let (manager, relay) = (Fake::start().await, Fake::start().await);
        let (tracker, _task) = tracker(&[&manager]).await;
        let mut options = options(&[&tracker]);
        change(&mut options);
        let connecting = connect(options);
        let at_manager = manager.logs_in(&relay, "ticket-1").await;
        let at_relay = relay.welcomes_at("ticket-1", resume, log).await;
        let (client, events) = within(connecting).await.unwrap().unwrap();
        let waiting = Vec::new();
        let mut online = Self { client, events, waiting, manager, at_manager, relay, at_relay };
        loop {
            match within(online.events.next()).await.expect("the session is over") {
                Event::Waiting(waiting) => online.waiting.push(waiting),
                Event::Online => return online,
                _ => {}
            }
        }
    }

    /// The session ends without a logout.
    pub(crate) async fn goes(mut self) {
        drop(self.client);
        while within(self.events.next()).await.is_some() {}
    }

    pub(crate) async fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        until(&mut self.events, is_it).await
    }

    /// The relay is lost and another connection made there.
    pub(crate) async fn changes_relay(&mut self, token: &str, resume: &Value, log: &Value) {
        let next = Fake::start().await;
        let old = std::mem::replace(&mut self.relay, next);
        self.at_relay.closes().await;
        assert_eq!(self.at_manager.reads().await, json!({"type": "get_relay_less_connection"}));
        let component = json!([self.relay.relay(token)]);
        let offer =
            json!([{"error": false, "msg": "Relay Less Connection", "code": 200, "component": component}]);
        self.at_manager.writes(&offer).await;
        self.at_relay = self.relay.welcomes_at(token, resume, log).await;
        drop(old);
    }
}

/// The first event like this; the ones before it are dropped.
pub(crate) async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) -> Event {
    within(async {
        loop {
            let event = events.next().await.expect("the session is over");
            if is_it(&event) {
                return event;
            }
        }
    })
    .await
}
