//! What the admin ports of a system's processes say: health and metrics.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{System, Topology, UP};
use crate::deadline::{PATIENCE, until};

impl System {
    /// What a component's admin port answers: status and body.
    pub async fn admin_says(&self, name: &str, path: &str) -> Option<(u16, String)> {
        http_get(self.admin(name), path).await
    }

    /// One sample of a component's metrics now, such as `kurir_relay_users` or `kurir_manager_relay_load{relay="relay-1"}`.
    /// None: the component is away, or shows no such sample.
    pub async fn gauge(&self, component: &str, sample: &str) -> Option<i64> {
        let (part, sample) = match self.plan.topology {
            Topology::Separate => (component, sample.to_string()),
            Topology::OneProcess => (UP, self.labelled(component, sample)),
        };
        let (_, metrics) = self.admin_says(part, "/metrics").await?;
        let values = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = values.into_iter().find(|(name, _)| *name == sample)?;
        value.parse().ok()
    }

    /// Waits until a sample of a component's metrics has this value.
    pub async fn shows(&self, component: &str, sample: &str, value: i64) {
        let what = format!("{sample} of {component} is {value}");
        let look = async || self.gauge(component, sample).await.filter(|shown| *shown == value);
        until(PATIENCE, &what, look).await;
    }

    /// Waits until a manager names so many relays: each has attached to it and reported.
    pub async fn knows_relays(&self, manager: u16, relays: u16) {
        self.shows(&format!("manager-{manager}"), "kurir_manager_relays", relays.into()).await;
    }

    /// What a component's `/metrics` says now, for a scenario that fails.
    pub async fn metrics(&self, part: &str) -> String {
        self.admin_says(part, "/metrics")
            .await
            .map_or_else(|| format!("{part} is away"), |(_, metrics)| metrics)
    }

    /// A sample as one process with every role shows it: labelled with its component, which has its port as its number.
    fn labelled(&self, component: &str, sample: &str) -> String {
        let id = match component.split_once('-') {
            Some((role, number)) => format!("{role}-{}", self.client_port(role, number)),
            None => component.to_string(),
        };
        match sample.split_once('{') {
            Some((name, labels)) => format!("{name}{{component=\"{id}\",{labels}"),
            None => format!("{sample}{{component=\"{id}\"}}"),
        }
    }

    /// Where a component's health and metrics are.
    pub fn admin(&self, name: &str) -> SocketAddr {
        let parts = self.planned_parts();
        let index =
            parts.iter().position(|part| part == name).unwrap_or_else(|| panic!("no {name} is planned"));
        self.listens(name, self.ports.admin(u16::try_from(index).expect("few parts")))
    }
}

/// Status and body, if somebody answers.
pub(super) async fn http_get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
    };
    tokio::time::timeout(Duration::from_secs(3), exchange).await.ok()?
}
