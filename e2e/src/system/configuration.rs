//! How each process of a system is started: its command line and its configuration file.

use std::net::SocketAddr;

use super::{System, Topology, binary};
use crate::network::{POSTGRES, REDIS};
use crate::ports::{Ports, local};
use crate::postgres::Postgres;
use crate::process::Launch;
use crate::redis::Redis;

impl System {
    pub(super) fn launch_of(&self, name: &str) -> Launch {
        let args = match self.plan.topology {
            Topology::OneProcess => self.up_arguments(),
            Topology::Separate => {
                let role = name.split('-').next().unwrap_or(name);
                let file = self.dir().join(format!("{name}.toml"));
                std::fs::write(&file, self.configuration(name)).expect("a configuration file");
                vec![role.into(), "--config".into(), file.display().to_string()]
            }
        };
        let (mut program, mut args) = (binary(), args);
        if self.is_apart(name)
            && let Some(island) = &self.island
        {
            let (enter, entered) = island.command(&program.display().to_string(), &args);
            (program, args) = (enter.into(), entered);
        }
        let launch = Launch {
            name: name.into(),
            program,
            args,
            env: self.plan.env.clone(),
            user: None,
            logs: self.dir().to_path_buf(),
        };
        match &self.containers {
            Some(containers) => containers.holding(launch, self.listens(name, 0).ip()),
            None => launch,
        }
    }

    fn up_arguments(&self) -> Vec<String> {
        let data = self.dir().join("data").display().to_string();
        let (base, relays) = (self.ports.base().to_string(), self.plan.relays.to_string());
        let managers = self.plan.managers.to_string();
        let args =
            ["up", "--port-base", &base, "--relays", &relays, "--managers", &managers, "--data", &data];
        args.map(String::from).to_vec()
    }

    pub(super) fn client_port(&self, role: &str, number: &str) -> u16 {
        let number: u16 = number.parse().expect("a component's number");
        match role {
            "manager" => self.ports.manager(number),
            "relay" => self.ports.relay(number),
            _ => self.ports.base(),
        }
    }

    /// Where others reach what listens on this port.
    pub(super) fn reached(&self, port: u16) -> SocketAddr {
        match self.far(port) {
            Some(far) => (far, port).into(),
            None if self.network.is_some() => (self.near(), self.ports.proxied(port)).into(),
            None => local(port),
        }
    }

    /// Where clients reach a component.
    pub(super) fn reached_by_name(&self, name: &str) -> SocketAddr {
        let (role, number) = name.split_once('-').unwrap_or((name, "1"));
        self.reached(self.client_port(role, number))
    }

    /// Every component by name, with its port for clients.
    pub(super) fn client_ports(&self) -> Vec<(String, u16)> {
        let port = |name: String| {
            let (role, number) = name.split_once('-').unwrap_or((&name, "1"));
            let port = self.client_port(role, number);
            (name, port)
        };
        self.planned_parts().into_iter().map(port).collect()
    }

    /// The configuration file of one component.
    pub fn configuration(&self, name: &str) -> String {
        let (role, number) = name.split_once('-').unwrap_or((name, "1"));
        let port = self.client_port(role, number);
        let mut lines = vec![format!("[{role}]"), format!("listen = \"{}\"", self.listens(name, port))];
        lines.push(format!("grpc_listen = \"{}\"", self.listens(name, Ports::grpc(port))));
        if role != "tracker" {
            if self.network.is_some() {
                lines.push(format!("advertise = \"{}\"", self.reached(port)));
                lines.push(format!("grpc_advertise = \"http://{}\"", self.reached(Ports::grpc(port))));
            }
            lines.push(format!("id = \"{name}\""));
            let tracker = self.reached(Ports::grpc(self.ports.base()));
            lines.push(format!("trackers = [\"http://{tracker}\"]"));
            lines.push(format!("[directory]\nurl = \"{}\"", self.store_url(REDIS)));
        }
        if role == "manager" {
            lines.push(format!("[database]\nurl = \"{}\"", self.store_url(POSTGRES)));
        }
        lines.push(format!("[admin]\nlisten = \"{}\"\n", self.admin(name)));
        lines.join("\n")
    }

    fn store_url(&self, store: &str) -> String {
        let (url, port) = match store {
            REDIS => (self.redis.as_ref().map(Redis::url), self.ports.redis()),
            _ => (self.postgres.as_ref().map(Postgres::url), self.ports.postgres()),
        };
        url.unwrap_or_default().replace(&local(port).to_string(), &self.reached(port).to_string())
    }
}
