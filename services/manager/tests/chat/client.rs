//! A client that says and reads what it is told to, in lines framing.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// Far longer than anything takes, so that a test that fails ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    pings: u32,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (reader, writer) = stream.into_split();
        Client { reader: BufReader::new(reader), writer, pings: 0 }
    }

    /// A client whose user has just registered.
    pub(crate) async fn registered(address: SocketAddr, username: &str) -> Client {
        let mut client = Client::connect(address).await;
        client
            .send(&json!({"type": "auth", "username": username, "password": "12345", "register": true}))
            .await;
        assert_eq!(client.receive().await["code"], 201);
        client
    }

    /// A client whose user has just logged in.
    pub(crate) async fn logged_in(address: SocketAddr, username: &str) -> Client {
        let mut client = Client::connect(address).await;
        client.send(&json!({"type": "auth", "username": username, "password": "12345"})).await;
        assert_eq!(client.receive().await["code"], 200);
        client
    }

    pub(crate) async fn send(&mut self, packet: &Value) {
        self.send_text(&packet.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.writer.write_all(format!("{text}\n").as_bytes()).await.unwrap();
    }

    /// The next packet.
    pub(crate) async fn receive(&mut self) -> Value {
        let mut line = String::new();
        timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("no packet came").unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the connection was closed, or no JSON: {line:?}"))
    }

    /// The next packet is this one; a presence may carry any `updated_at`.
    #[track_caller]
    pub(crate) fn receives(&mut self, expected: Value) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let mut packet = self.receive().await;
            if packet["stanza"] == "presence" && packet.get("updated_at").is_some() {
                assert!(packet["updated_at"].as_i64().unwrap() > 1_700_000_000_000, "{packet}");
                packet.as_object_mut().unwrap().remove("updated_at");
            }
            assert_eq!(packet, expected, "at {caller}");
        }
    }

    pub(crate) async fn receives_in_any_order(&mut self, expected: &[Value]) {
        let mut left = expected.to_vec();
        while !left.is_empty() {
            let packet = self.receive().await;
            let known = left.iter().position(|expected| *expected == packet);
            left.remove(known.unwrap_or_else(|| panic!("{packet} is none of {left:?}")));
        }
    }

    pub(crate) async fn asks(&mut self, packet: Value, answer: Value) {
        self.send(&packet).await;
        self.receives(answer).await;
    }

    /// Nothing was sent to this client, and what it sent has been handled: a ping is answered first.
    pub(crate) async fn hears_nothing(&mut self) {
        self.pings += 1;
        let id = format!("ping-{}", self.pings);
        self.send(&json!({"stanza": "iq", "namespace": "ping", "type": "get", "id": id})).await;
        let answer = self.receive().await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("result"), &json!(id)), "{answer}");
    }

    /// The server has closed the connection, and nothing came before.
    pub(crate) async fn is_closed(&mut self) {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("not closed").unwrap();
        assert_eq!(read, 0, "{line}");
    }

    pub(crate) async fn gets_roster(&mut self, me: &str) -> Value {
        self.send(&json!({"stanza": "iq", "namespace": "roster", "from": me, "type": "get", "query": {"items": null}}))
            .await;
        self.receive().await["query"]["items"].take()
    }

    /// Adds a contact and reads the three answers.
    pub(crate) async fn adds(&mut self, me: &str, contact: &str) -> [Value; 3] {
        self.send(&add(me, contact, &json!(format!("my {contact}")))).await;
        [self.receive().await, self.receive().await, self.receive().await]
    }
}

pub(crate) fn add(me: &str, contact: &str, name: &Value) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "from": me, "type": "set",
        "query": {"item": {"jid": contact, "name": name, "subscription": "to"}}})
}

pub(crate) fn remove(me: &str, contact: &str) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "from": me, "type": "set", "subscription": "remove",
        "query": {"item": {"jid": contact}}})
}

pub(crate) fn presence(user: &str, bio: &str, online: u8) -> Value {
    json!({"stanza": "presence", "from": user, "username": user, "bio": bio, "online": online})
}

/// The same with `to`.
pub(crate) fn presence_to(to: &str, user: &str, bio: &str, online: u8) -> Value {
    let mut packet = presence(user, bio, online);
    packet["to"] = json!(to);
    packet
}

pub(crate) fn unavailable(user: &str) -> Value {
    json!({"stanza": "presence", "from": user, "type": "unavailable"})
}

pub(crate) const FIRST_BIO: &str = "Feel happy using this application! ;D";
