//! A block of free ports.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, TcpListener};

/// How many ports a block has. The last one is held open for as long as the block lives, so that scenarios that run at
/// the same time, in this process or another, never share one.
const BLOCK: u16 = 200;

/// Blocks begin here and end below the ports that the kernel gives to outgoing connections.
const FIRST: u16 = 10_000;

/// The first and the last of those, 32,768 and 60,999 unless an administrator has said otherwise.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// 200 free ports, laid out from its base as ARCHITECTURE "Command line, ports, configuration" lays out those of `kurir up`.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    _held: TcpListener,
}

impl Ports {
    /// Finds a block in which every port is free.
    pub fn find() -> Ports {
        let blocks = (first_outgoing().saturating_sub(FIRST)) / BLOCK;
        assert!(blocks > 0, "{OUTGOING} begins below {}: no ports are left to listen on", FIRST + BLOCK);
        let start = u16::try_from(random(blocks.into())).expect("less than a port");
        (0..blocks)
            .map(|offset| FIRST + (start + offset) % blocks * BLOCK)
            .find_map(Ports::take)
            .expect("no block of 200 free ports on this machine")
    }

    fn take(base: u16) -> Option<Ports> {
        let held = TcpListener::bind(local(base + BLOCK - 1)).ok()?;
        let all_free = (base..base + BLOCK - 1).all(|port| TcpListener::bind(local(port)).is_ok());
        all_free.then_some(Ports { base, _held: held })
    }

    /// The tracker's port, and what `kurir up` takes as `--port-base`.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Which block it is, of those of this machine.
    pub fn block(&self) -> u8 {
        u8::try_from(self.base / BLOCK)
            .expect("the ports below those of the kernel are fewer than 256 blocks")
    }

    /// Which port of the block this is, from 0.
    pub fn index(&self, port: u16) -> u16 {
        port - self.base
    }

    /// Managers count from 1.
    pub fn manager(&self, number: u16) -> u16 {
        self.base + number
    }

    /// Relays count from 1.
    pub fn relay(&self, number: u16) -> u16 {
        self.base + 9 + number
    }

    /// The gRPC port that belongs to a client port of this block.
    pub fn grpc(client_port: u16) -> u16 {
        client_port + 100
    }

    /// Where the proxy listens that passes on to a port of this block, one of a component's two or a store's.
    pub fn proxied(&self, port: u16) -> u16 {
        match self.index(port) {
            client @ ..20 => self.base + 120 + client,
            grpc @ 100..120 => self.base + 40 + grpc,
            store @ 180..190 => self.base + store - 20,
            other => panic!("nobody listens at {other}"),
        }
    }

    /// The admin port of the `index`th process.
    pub fn admin(&self, index: u16) -> u16 {
        self.base + 90 - index
    }

    /// For Redis.
    pub fn redis(&self) -> u16 {
        self.base + 180
    }

    /// For `PostgreSQL`.
    pub fn postgres(&self) -> u16 {
        self.base + 181
    }

    /// For whatever else a scenario listens on itself.
    pub fn spare(&self) -> u16 {
        self.base + 190
    }
}

fn first_outgoing() -> u16 {
    let range = std::fs::read_to_string(OUTGOING).unwrap_or_else(|error| panic!("{OUTGOING}: {error}"));
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    first.unwrap_or_else(|| panic!("{OUTGOING}: {range}"))
}

/// A random number less than `limit`: the standard library's hash keys are the ones at hand.
pub(crate) fn random(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// A port of this machine.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
