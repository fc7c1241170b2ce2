//! The relay that is in a network namespace of its own, and what can be dropped between it and others.

use std::net::{IpAddr, Ipv4Addr};

use super::System;
use crate::island::{Island, Loss, Traffic};
use crate::network::{Network, POSTGRES, REDIS};
use crate::ports::{Ports, local};

/// What the clients of that relay are called, and the other relays.
pub const CLIENTS: &str = "clients";
/// As [`CLIENTS`].
pub const RELAYS: &str = "relays";

impl System {
    /// The number of the relay in a namespace of its own, the last one, where it was planned with one.
    pub fn island(&self) -> Option<u16> {
        self.island.as_ref().map(|_| self.plan.relays)
    }

    /// From now on these packets between the island's relay and somebody are dropped.
    pub fn drops(&self, other: &str, loss: Loss) {
        self.on_the_island().drops(&self.traffic(other), loss);
    }

    /// They pass again.
    pub fn passes(&self, other: &str, loss: Loss) {
        self.on_the_island().passes(&self.traffic(other), loss);
    }

    fn on_the_island(&self) -> &Island {
        self.island.as_ref().expect("a system with an island")
    }

    /// What passes between the island's relay and a manager, the stores, its clients, or all other relays: which of two relays dials
    /// depends on which is older.
    fn traffic(&self, other: &str) -> Vec<Traffic> {
        let relay = |number| self.ports.relay(number);
        let dialled = |port| Traffic::There(self.reached(port).port());
        match other {
            CLIENTS => vec![Traffic::Here(relay(self.relays()))],
            RELAYS => (1..self.relays())
                .map(|number| dialled(Ports::grpc(relay(number))))
                .chain([Traffic::Here(Ports::grpc(relay(self.relays())))])
                .collect(),
            REDIS => vec![dialled(self.ports.redis())],
            POSTGRES => panic!("a relay knows no database"),
            component => {
                let (role, number) = component.split_once('-').unwrap_or((component, "1"));
                vec![dialled(Ports::grpc(self.client_port(role, number)))]
            }
        }
    }

    /// Where the island is, for one of the ports of its relay, and the part's container, for any port where there are containers.
    pub(super) fn far(&self, port: u16) -> Option<IpAddr> {
        if let Some(containers) = &self.containers {
            return Some(containers.address(self.ports.index(port)));
        }
        let relay = self.ports.relay(self.island()?);
        let ports = [relay, Ports::grpc(relay)];
        self.island.as_ref().filter(|_| ports.contains(&port)).map(Island::far)
    }

    /// Where all proxies listen: everybody reaches that.
    pub(super) fn near(&self) -> IpAddr {
        self.island.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), Island::near)
    }

    pub(super) async fn proxies(&self) -> Network {
        let name = self.island().map(|number| format!("relay-{number}"));
        let mut components = self.client_ports();
        components.retain(|(component, _)| Some(component) != name.as_ref());
        let apart = self.island.as_ref().map(Island::far).zip(name);
        Network::start(&self.ports, self.near(), &components, self.dir(), apart).await
    }

    /// The address at which a part listens by itself, for one of its ports.
    pub(super) fn listens(&self, name: &str, port: u16) -> std::net::SocketAddr {
        if let Some(containers) = &self.containers {
            let (role, number) = name.split_once('-').unwrap_or((name, "1"));
            return (containers.address(self.ports.index(self.client_port(role, number))), port).into();
        }
        let apart = self.island.as_ref().filter(|_| self.is_apart(name));
        apart.map_or_else(|| local(port), |island| (island.far(), port).into())
    }

    pub(super) fn is_apart(&self, name: &str) -> bool {
        self.island().is_some_and(|number| name == format!("relay-{number}"))
    }
}
