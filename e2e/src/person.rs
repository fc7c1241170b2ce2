//! A user with a manager connection and a relay connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::deadline::{PATIENCE, until};
use crate::packets;
use crate::pattern::ANY;
use crate::raw::{Raw, Speaks};
use crate::system::System;

/// Everybody's password.
pub const PASSWORD: &str = "12345";

/// Somebody who is about to register or log in.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    system: &'a System,
    name: String,
    speaks: Speaks,
    manager: u16,
    relay: Option<u16>,
    ticket: Ticket,
}

/// Whether a relay is shown the ticket that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticket {
    Shown,
    /// The original knows no tickets.
    Unknown,
}

impl<'a> Login<'a> {
    pub(crate) fn new(system: &'a System, name: &str) -> Login<'a> {
        Login {
            system,
            name: name.into(),
            speaks: Speaks::Lines,
            manager: 1,
            relay: None,
            ticket: Ticket::Shown,
        }
    }

    /// At this manager; the first otherwise.
    #[must_use]
    pub fn at_manager(self, manager: u16) -> Self {
        Login { manager, ..self }
    }

    /// At this relay, whichever the manager names: a ticket is good at any.
    #[must_use]
    pub fn at_relay(self, relay: u16) -> Self {
        Login { relay: Some(relay), ..self }
    }

    /// As a client written for the original: its delimiter, no ticket.
    #[must_use]
    pub fn as_the_original(self) -> Self {
        Login { speaks: Speaks::Original, ticket: Ticket::Unknown, ..self }
    }

    /// Registers, and connects to a relay.
    pub async fn registers(self) -> Person {
        let auth = json!({"type": "auth", "username": self.name, "password": PASSWORD, "register": true});
        self.enters(auth, 201).await
    }

    /// Logs in, and connects to a relay.
    pub async fn logs_in(self) -> Person {
        let auth = json!({"type": "auth", "username": self.name, "password": PASSWORD});
        self.enters(auth, 200).await
    }

    async fn enters(self, auth: Value, code: u16) -> Person {
        let Login { system, name, speaks, manager, relay, ticket } = self;
        let who = format!("{name} at manager {manager}");
        let mut manager = Raw::connect(&who, system.manager(manager), speaks).await;
        manager.sends(json!({"ip_local": "192.168.1.6", "port": 62998, "type": "client"})).await;
        manager.sends(auth).await;
        let reply = manager.next_packet().await.unwrap_or_else(|| panic!("{who} was closed"));
        assert_eq!(reply["code"], code, "{who} got {reply}");
        let offer = match reply["component"].get(0) {
            Some(offer) => offer.clone(),
            None => relay_offer(&mut manager).await,
        };
        let relay = relay.map_or_else(|| offered(&offer), |number| system.relay(number));
        let mut person = Person { name, speaks, ticket, manager, relay: None, at_relay: relay };
        person.connects_to(relay, &offer).await;
        person
    }
}

/// A user with a manager connection and a relay connection.
#[derive(Debug)]
pub struct Person {
    /// As registered.
    pub name: String,
    /// The manager connection.
    pub manager: Raw,
    relay: Option<Raw>,
    at_relay: SocketAddr,
    speaks: Speaks,
    ticket: Ticket,
}

impl Person {
    /// The relay connection.
    pub fn relay(&mut self) -> &mut Raw {
        self.relay.as_mut().unwrap_or_else(|| panic!("{} is at no relay", self.name))
    }

    /// Where the relay connection goes.
    pub fn at_relay(&self) -> SocketAddr {
        self.at_relay
    }

    /// Says something to the manager.
    pub async fn sends(&mut self, packet: Value) {
        self.manager.sends(packet).await;
    }

    /// The manager's next packet must be this one.
    pub async fn receives(&mut self, pattern: Value) -> Value {
        self.manager.receives(pattern).await
    }

    /// The manager has sent nothing else.
    pub async fn hears_nothing_else(&mut self) {
        self.manager.hears_nothing_else().await;
    }

    /// Writes a message.
    pub async fn writes(&mut self, to: &str, body: &str) {
        let message = packets::message(&self.name, to, body);
        self.relay().sends(message).await;
    }

    /// The relay's next packet must be this message.
    pub async fn reads(&mut self, from: &str, body: &str) {
        let message = packets::message(from, &self.name, body);
        self.relay().receives(message).await;
    }

    /// The relay's next packet must be a message with this sender and body, whatever else is in it.
    pub async fn reads_body(&mut self, from: &str, body: &str) {
        let packet = self.relay().receives(ANY.into()).await;
        assert!(
            packet["from"] == from && packet["body"] == body,
            "{} waits for {body:?}, got {packet}",
            self.name
        );
    }

    /// The relay's next packet must be row R15's.
    pub async fn is_told_nobody_is_there(&mut self) {
        let packet = packets::not_delivered(&self.name);
        self.relay().receives(packet).await;
    }

    /// Writes, and the other one reads.
    pub async fn reaches(&mut self, other: &mut Person, body: &str) {
        self.writes(&other.name, body).await;
        other.reads(&self.name, body).await;
    }

    /// Writes until the other one reads it: somebody who is just coming back. Both throw away what else comes.
    pub async fn reaches_in_the_end(&mut self, other: &mut Person, limit: Duration) {
        let message = packets::message(&self.name, &other.name, "are you back?");
        let (mine, theirs) = (self.relay(), other.relay());
        let look = async || {
            mine.sends(message.clone()).await;
            let read = async {
                while theirs.next_packet().await? != message {}
                Some(())
            };
            tokio::time::timeout(Duration::from_millis(200), read).await.ok().flatten()
        };
        until(limit, &format!("{message} arrives"), look).await;
    }

    /// Asks once whether `to` is there, and the relay's very next packet is row R15's. So it is too where the question was on
    /// its way to a relay that died with it: what is not known to have arrived is answered.
    pub async fn finds_nobody_at(&mut self, to: &str) {
        self.writes(to, "are you there?").await;
        self.is_told_nobody_is_there().await;
    }

    /// Loses the relay connection, without a goodbye.
    pub fn loses_relay(&mut self) {
        self.relay.take().unwrap_or_else(|| panic!("{} is at no relay", self.name)).cut();
    }

    /// Opens another relay connection next; this one stays as it is.
    pub fn keeps_relay_aside(&mut self) -> Raw {
        self.relay.take().unwrap_or_else(|| panic!("{} is at no relay", self.name))
    }

    /// Loses the manager connection, without a goodbye; what is left is the relay connection, if there is one.
    pub fn loses_manager(self) -> Option<Raw> {
        self.manager.cut();
        self.relay
    }

    /// Asks for another relay until one that `accept` likes is offered, and connects to it.
    pub async fn moves_to_another_relay(&mut self, accept: impl Fn(SocketAddr) -> bool) {
        let manager = &mut self.manager;
        let ask = async || Some(relay_offer(manager).await).filter(|offer| accept(offered(offer)));
        let (offer, _) = until(PATIENCE, "another relay is offered", ask).await;
        self.connects_to(offered(&offer), &offer).await;
    }

    /// Says hello to a relay with what the manager has offered. Returns once the relay has handled it.
    pub async fn connects_to(&mut self, relay: SocketAddr, offer: &Value) {
        let mut hello = json!({"username": self.name, "message": "hello!"});
        if self.ticket == Ticket::Shown {
            hello["token"] = offer["token"].clone();
        }
        let mut raw = Raw::connect(format!("{} at relay {relay}", self.name), relay, self.speaks).await;
        raw.sends(hello).await;
        raw.hears_nothing_else().await;
        self.relay = Some(raw);
        self.at_relay = relay;
    }

    /// Says goodbye: both connections are closed by the servers.
    pub async fn logs_out(mut self) {
        let goodbye = packets::unavailable(&self.name);
        self.sends(goodbye).await;
        self.manager.is_closed_in_the_end(PATIENCE).await;
        if let Some(mut relay) = self.relay {
            relay.is_closed_in_the_end(PATIENCE).await;
        }
    }

    /// Both add each other; both have received everything that follows from it.
    pub async fn befriends(&mut self, other: &mut Person) {
        let (me, you) = (self.name.clone(), other.name.clone());
        self.sends(packets::add_contact(&me, &you, &you)).await;
        self.receives(packets::subscribed(&you, &me, &packets::item(&you, &you, "to"))).await;
        self.receives(packets::presence_to(&you, ANY, 1, &me)).await;
        self.receives(packets::roster_set(&me)).await;

        other.sends(packets::add_contact(&you, &me, &me)).await;
        other.receives(packets::subscribed(&me, &you, &packets::item(&me, &me, "both"))).await;
        other.receives(packets::presence_to(&me, ANY, 1, &you)).await;
        other.receives(packets::roster_set(&you)).await;
        self.receives(packets::subscribed(&you, &me, &packets::item(&you, &you, "both"))).await;
    }
}

/// Asks a manager for a relay until there is one.
async fn relay_offer(manager: &mut Raw) -> Value {
    let ask = async || {
        manager.sends(json!({"type": "get_relay_less_connection"})).await;
        let answer = manager.next_packet().await.unwrap_or_else(|| panic!("{} was closed", manager.who()));
        answer[0]["component"].get(0).cloned()
    };
    until(PATIENCE, "a relay is offered", ask).await.0
}

/// Where an offered relay is.
pub fn offered(offer: &Value) -> SocketAddr {
    let ip = offer["ip_local"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
    let port = offer["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    ip.zip(port).unwrap_or_else(|| panic!("no address in {offer}")).into()
}
