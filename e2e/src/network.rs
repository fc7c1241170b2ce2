//! The network between the parts of a system: every address that one of them gives to others is a proxy's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dialler::dialler;
use crate::ports::{Ports, local};
use crate::proxy::{Diallers, Flow, Proxy, Way};

/// What the stores are called.
pub const REDIS: &str = "redis";
/// As [`REDIS`].
pub const POSTGRES: &str = "postgres";

/// The proxies, by what is reached through them.
#[derive(Debug)]
pub struct Network {
    /// A component's gRPC port, or a store.
    inner: BTreeMap<String, Proxy>,
    /// A component's port for clients.
    outer: BTreeMap<String, Proxy>,
}

impl Network {
    /// A way to the tracker, to each of these components (by name, with its client port), and to the stores, at this address.
    /// Who dials from an address of `apart` is known by that.
    pub async fn start(
        ports: &Ports,
        at: IpAddr,
        components: &[(String, u16)],
        dir: &Path,
        apart: Option<(IpAddr, String)>,
    ) -> Network {
        let dir: PathBuf = dir.to_path_buf();
        let diallers: Diallers = Arc::new(move |from: SocketAddr| match &apart {
            Some((address, name)) if from.ip() == *address => Some(name.clone()),
            _ => dialler(from, &dir),
        });
        let mut network = Network { inner: BTreeMap::new(), outer: BTreeMap::new() };
        let to = async |port: u16| {
            let at = SocketAddr::new(at, ports.proxied(port));
            Proxy::start(at, local(port), Arc::clone(&diallers)).await
        };
        for (name, port) in components {
            network.outer.insert(name.clone(), to(*port).await);
            network.inner.insert(name.clone(), to(Ports::grpc(*port)).await);
        }
        network.inner.insert(REDIS.into(), to(ports.redis()).await);
        network.inner.insert(POSTGRES.into(), to(ports.postgres()).await);
        network
    }

    /// What passes between two parts, whichever of them dials.
    pub fn between(&self, one: &str, other: &str, from_one: Flow, from_other: Flow) {
        self.set(one, other, Way::Open { forth: from_one, back: from_other });
        self.set(other, one, Way::Open { forth: from_other, back: from_one });
    }

    /// Two parts lose every connection between them and get no new one.
    pub fn cut_between(&self, one: &str, other: &str) {
        self.set(one, other, Way::Closed);
        self.set(other, one, Way::Closed);
    }

    /// What two parts have connected between them is never heard of again, and nothing new passes for now: see [`Proxy::forget`].
    pub fn forgets_between(&self, one: &str, other: &str) {
        self.between(one, other, Flow::Stall, Flow::Stall);
        for (from, to) in [(one, other), (other, one)] {
            if let Some(way) = self.way(from, to) {
                way.forget(from);
            }
        }
    }

    /// The way of all clients of a component.
    pub fn clients(&self, of: &str, way: Way) {
        self.outer.get(of).unwrap_or_else(|| panic!("no way of clients to {of}")).set(way);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.inner.values().chain(self.outer.values()).for_each(Proxy::clear);
    }

    fn set(&self, from: &str, to: &str, way: Way) {
        if let Some(proxy) = self.way(from, to) {
            proxy.set_for(from, way);
        }
    }

    /// What one part reaches another through. A store dials nobody.
    fn way(&self, from: &str, to: &str) -> Option<&Proxy> {
        let dials = from != REDIS && from != POSTGRES;
        dials.then(|| self.inner.get(to).unwrap_or_else(|| panic!("no way to {to}")))
    }
}
