//! Pairs of connections that the load goes through, at a relay or at the forwarder.

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Common, check,
    server::{PasswordCost, Server, Usage},
    users,
};

/// The forwarder's port, after those of `kurir up`.
const FORWARDER: u16 = 190;

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Relay,
    Forwarder,
}

impl Target {
    pub(super) fn name(self) -> &'static str {
        match self {
            Target::Relay => "relay",
            Target::Forwarder => "forwarder",
        }
    }

    /// One message for the receiver of pair `index`, `bytes` bytes on the wire, LF included.
    pub(super) fn message(self, index: usize, number: u64, bytes: usize) -> String {
        let (head, tail) = match self {
            Target::Relay => {
                (format!("{{\"stanza\":\"message\",\"to\":\"{}\",\"body\":\"", receiver_name(index)), "\"}\n")
            }
            Target::Forwarder => (format!("{} ", receiver_name(index)), "\n"),
        };
        let payload = check::payload(number, bytes.saturating_sub(head.len() + tail.len()));
        format!("{head}{payload}{tail}")
    }
}

/// A sender's and its receiver's connection.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) index: usize,
    pub(super) sender: TcpStream,
    pub(super) receiver: TcpStream,
    /// The users' manager connections: they are online as long as these are open.
    pub(super) managers: Vec<TcpStream>,
}

/// A running target with its pairs connected.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) target: Target,
    pub(super) server: Server,
    pub(super) pairs: Vec<Pair>,
}

impl Stage {
    /// Starts the target and connects `count` pairs to it.
    pub(super) async fn set(target: Target, common: &Common, count: usize) -> anyhow::Result<Stage> {
        match target {
            Target::Relay => {
                let server = Server::up(common, PasswordCost::Least).await?;
                let manager = users::manager_addr(common.port_base);
                let pairs = users::many("relay: pairs connected", count, |index| {
                    let manager = manager.clone();
                    async move { pair_at_relay(&manager, index).await }
                })
                .await?;
                Ok(Stage { target, server, pairs })
            }
            Target::Forwarder => {
                let port = common.port_base + FORWARDER;
                let server = Server::forwarder(port).await?;
                let pairs = users::many("forwarder: pairs connected", count, |index| async move {
                    let sender = named(port, &format!("a{index}")).await?;
                    let receiver = named(port, &receiver_name(index)).await?;
                    anyhow::Ok(Pair { index, sender, receiver, managers: Vec::new() })
                })
                .await?;
                Ok(Stage { target, server, pairs })
            }
        }
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        self.server.usage()
    }
}

fn receiver_name(index: usize) -> String {
    format!("b{index}")
}

async fn pair_at_relay(manager: &str, index: usize) -> anyhow::Result<Pair> {
    let (a, b) = (format!("a{index}"), receiver_name(index));
    let first = users::login(manager, &a, true).await?;
    let second = users::login(manager, &b, true).await?;
    let sender = users::hello(&a, &first.ticket).await?;
    let receiver = users::hello(&b, &second.ticket).await?;
    Ok(Pair { index, sender, receiver, managers: vec![first.manager, second.manager] })
}

async fn named(port: u16, name: &str) -> anyhow::Result<TcpStream> {
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).await.context("cannot connect to the forwarder")?;
    stream.set_nodelay(true)?;
    // An empty line to itself: when it is back, the name is known, and no message to it is dropped.
    stream.write_all(format!("{name}\n{name} \n").as_bytes()).await?;
    timeout(users::PATIENCE, stream.read_u8()).await.context("the forwarder does not answer")??;
    Ok(stream)
}
