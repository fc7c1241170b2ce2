//! Kurir itself, as one process or as many, on free ports in a temporary directory.

mod admin;
mod configuration;
mod island;
mod stores;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::admin::http_get;
pub use self::island::{CLIENTS, RELAYS};
use crate::containers::Containers;
use crate::deadline::{PATIENCE, until, within};
use crate::island::Island;
use crate::network::Network;
use crate::person::{Login, Person};
use crate::ports::Ports;
use crate::postgres::Postgres;
use crate::process::{Launch, Process};
use crate::raw::{Raw, Speaks};
use crate::redis::Redis;

/// How long a component may take from SIGTERM to its end: its configured grace and a little.
pub const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// Scenarios run one after another, however many threads the tests have: most start nine processes, and some measure
/// time.
static TURN: Semaphore = Semaphore::const_new(1);

/// The name of the one process of [`Topology::OneProcess`].
pub const UP: &str = "up";

/// How the roles are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// `kurir up`: `SQLite` and tables in the process.
    OneProcess,
    /// A process a role, on Redis and `PostgreSQL`.
    Separate,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    topology: Topology,
    managers: u16,
    relays: u16,
    env: Vec<(String, String)>,
    proxied: bool,
    island: bool,
}

impl Plan {
    /// 1 tracker; 1 manager and 2 relays in one process, 2 managers and 3 relays in separate ones.
    pub fn new(topology: Topology) -> Plan {
        let (managers, relays) = match topology {
            Topology::OneProcess => (1, 2),
            Topology::Separate => (2, 3),
        };
        let plan = Plan { topology, managers, relays, env: Vec::new(), proxied: false, island: false };
        // Only who wants to see it waits for users to leave in their turn.
        plan.setting("shutdown.spread_seconds", 0)
    }

    /// How many managers.
    #[must_use]
    pub fn managers(self, managers: u16) -> Plan {
        Plan { managers, ..self }
    }

    /// How many relays.
    #[must_use]
    pub fn relays(self, relays: u16) -> Plan {
        Plan { relays, ..self }
    }

    /// Sets a key of the configuration, such as `relay.bare_hello`, for every process, through its environment.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "a plan reads as a list of keys and values")]
    pub fn setting(mut self, key: &str, value: impl std::fmt::Display) -> Plan {
        self.env.push((format!("KURIR__{}", key.to_uppercase().replace('.', "__")), value.to_string()));
        self
    }

    /// Passwords at next to no cost, for scenarios of many users that are not about passwords.
    #[must_use]
    pub fn cheap_passwords(self) -> Plan {
        self.setting("manager.argon2_memory_kib", 64).setting("manager.argon2_iterations", 1)
    }

    /// Every part, and every client, reaches every other through a proxy: see [`System::network`].
    #[must_use]
    pub fn proxied(self) -> Plan {
        assert_eq!(self.topology, Topology::Separate, "one process has no network inside");
        Plan { proxied: true, ..self }
    }

    /// As [`Plan::proxied`], and one relay more, in a network namespace of its own and not behind proxies, where packets can be
    /// dropped: see [`System::island`]. Where namespaces are not permitted this is said, and there is no such relay.
    #[must_use]
    pub fn with_an_island(self) -> Plan {
        Plan { island: true, ..self.proxied() }
    }

    /// Every name of the plan's components, as the tracker is to list them.
    pub fn components(&self) -> Vec<String> {
        let managers = (1..=self.managers).map(|number| format!("manager-{number}"));
        managers.chain((1..=self.relays).map(|number| format!("relay-{number}"))).collect()
    }

    /// Starts everything and waits until it is ready, every component is on the tracker's list, every manager names every
    /// relay, and every relay is linked to every other.
    pub async fn start(self) -> System {
        let mut system = self.start_nothing_but_stores().await;
        if let Some(redis) = &system.redis {
            redis.has_been_used().await;
        }
        for part in system.planned_parts() {
            system.launch(&part);
        }
        for part in system.planned_parts() {
            system.is_ready(&part).await;
        }
        let components = system.plan.components();
        system.lists(&components.iter().map(String::as_str).collect::<Vec<_>>()).await;
        system.is_joined().await;
        system
    }

    /// Starts Redis and `PostgreSQL`, where the topology has them; the scenario starts the components itself.
    pub async fn start_nothing_but_stores(mut self) -> System {
        let turn = TURN.acquire().await.expect("never closed");
        let dir = tempfile::Builder::new().prefix("kurir-e2e-").tempdir().expect("a temporary directory");
        // PostgreSQL runs as a user of its own and must get through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
            .expect("its permissions");
        let ports = Ports::find();
        let island = self.island.then(|| Island::make(&ports)).and_then(|made| {
            made.inspect_err(|why| println!("no packets are dropped, there is no namespace: {why}")).ok()
        });
        self.relays += u16::from(island.is_some());
        let containers = Containers::asked_for().filter(|_| self.topology == Topology::Separate);
        let (redis, postgres) = match self.topology {
            Topology::OneProcess => (None, None),
            Topology::Separate => stores::start(&ports, dir.path(), containers.as_ref()).await,
        };
        let proxied = self.proxied;
        let mut system = System {
            plan: self,
            parts: BTreeMap::new(),
            redis,
            postgres,
            ports,
            network: None,
            island,
            containers,
            dir,
            _turn: turn,
        };
        if proxied {
            system.network = Some(system.proxies().await);
        }
        system
    }
}

/// The running system. Dropping it ends every process; where the scenario has failed, it prints the logs' ends, and
/// where a component has panicked or has ended by itself with
/// an error, it fails the scenario.
#[derive(Debug)]
pub struct System {
    plan: Plan,
    parts: BTreeMap<String, Process>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    ports: Ports,
    network: Option<Network>,
    island: Option<Island>,
    containers: Option<Containers>,
    dir: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl System {
    /// Everything of a topology as it comes.
    pub async fn start(topology: Topology) -> System {
        Plan::new(topology).start().await
    }

    /// Where clients find the tracker.
    pub fn tracker(&self) -> SocketAddr {
        self.reached(self.ports.base())
    }

    /// Where clients find a manager; they count from 1.
    pub fn manager(&self, number: u16) -> SocketAddr {
        self.reached(self.ports.manager(number))
    }

    /// Where clients find a relay; they count from 1.
    pub fn relay(&self, number: u16) -> SocketAddr {
        self.reached(self.ports.relay(number))
    }

    /// The network between its parts, where it was planned as proxied.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a system that was planned as proxied")
    }

    /// How many managers are planned.
    pub fn managers(&self) -> u16 {
        self.plan.managers
    }

    /// How many relays are planned.
    pub fn relays(&self) -> u16 {
        self.plan.relays
    }

    /// Every name of the plan's components.
    pub fn components(&self) -> Vec<String> {
        self.plan.components()
    }

    /// The ports that it uses.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Its temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its Redis.
    pub fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("a topology with Redis")
    }

    /// Its `PostgreSQL`.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("a topology with PostgreSQL")
    }

    /// Somebody who is about to register or log in: at any manager, at the relay that they are given, in lines, with
    /// their ticket, unless the scenario says otherwise.
    pub fn person(&self, name: &str) -> Login<'_> {
        Login::new(self, name)
    }

    /// A connection to the tracker that has not said anything yet.
    pub async fn at_tracker(&self, who: &str) -> Raw {
        Raw::connect(format!("{who} at the tracker"), self.tracker(), Speaks::Lines).await
    }

    /// A connection to a manager that has not said anything yet.
    pub async fn at_manager(&self, who: &str, number: u16) -> Raw {
        Raw::connect(format!("{who} at manager {number}"), self.manager(number), Speaks::Lines).await
    }

    /// A connection to a relay that has not said anything yet.
    pub async fn at_relay(&self, who: &str, number: u16) -> Raw {
        Raw::connect(format!("{who} at relay {number}"), self.relay(number), Speaks::Lines).await
    }

    /// A process of the system.
    pub fn part(&mut self, name: &str) -> &mut Process {
        self.parts.get_mut(name).unwrap_or_else(|| panic!("no {name} has been started"))
    }

    /// Every process of the system.
    pub fn parts(&self) -> impl Iterator<Item = &Process> {
        self.parts.values()
    }

    /// Starts one component and waits until it is ready.
    pub async fn starts(&mut self, name: &str) {
        self.launch(name);
        self.is_ready(name).await;
    }

    /// Starts one component. It is ready some time later.
    pub fn launch(&mut self, name: &str) {
        let process = self.launch_of(name).start();
        self.parts.insert(name.to_string(), process);
    }

    /// SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.part(name).kill();
    }

    /// SIGSTOP.
    pub fn pause(&mut self, name: &str) {
        self.part(name).signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self, name: &str) {
        self.part(name).signal(Signal::CONT);
    }

    /// Starts a component that has ended as it was started first, and waits until it is ready.
    pub async fn start_again(&mut self, name: &str) {
        self.part(name).start_again();
        self.is_ready(name).await;
    }

    /// Ends a component with SIGTERM and starts it again.
    pub async fn restarts(&mut self, name: &str) {
        self.part(name).signal(Signal::TERM);
        self.part(name).end(STOPS_WITHIN).await;
        self.start_again(name).await;
    }

    /// Waits until `/readyz` of a component says so.
    pub async fn is_ready(&mut self, name: &str) {
        let admin = self.admin(name);
        let ready = async || {
            if let Some(status) = self.part(name).ended() {
                panic!("{name} ended before it was ready: {status}");
            }
            http_get(admin, "/readyz").await.filter(|(status, _)| *status == 200)
        };
        until(PATIENCE * 2, &format!("/readyz of {name}"), ready).await;
    }

    /// Waits until a relay has a stream to so many other relays.
    pub async fn is_linked(&self, relay: u16, others: u16) {
        self.shows(&format!("relay-{relay}"), r#"kurir_relay_streams{peer="relay"}"#, others.into()).await;
    }

    /// Cuts a person's relay connection, without a goodbye, and waits until the relay has noticed.
    pub async fn cuts_relay_connection(&self, person: &mut Person) {
        let number = (1..=self.relays()).find(|number| self.relay(*number) == person.at_relay());
        let relay = format!("relay-{}", number.expect("a relay of the plan"));
        let before = self.gauge(&relay, "kurir_relay_users").await.expect("a relay that runs");
        person.loses_relay();
        self.shows(&relay, "kurir_relay_users", before - 1).await;
    }

    /// Waits until every planned component has met every other.
    pub async fn is_joined(&self) {
        for manager in 1..=self.managers() {
            self.knows_relays(manager, self.relays()).await;
        }
        for relay in 1..=self.relays() {
            self.is_linked(relay, self.relays() - 1).await;
        }
    }

    /// The names of the components that the tracker gives out now, in order; none where the tracker is away.
    pub async fn listed(&self) -> Option<Vec<String>> {
        let mut raw = Raw::try_connect("the harness", self.tracker(), Speaks::Lines).await.ok()?;
        raw.try_send(&json!({"ip_local": "127.0.0.1", "port": 1, "type": "client", "is_private": true}))
            .await
            .ok()?;
        let answer = tokio::time::timeout(PATIENCE, raw.next_packet()).await.ok()??;
        Some(self.names(&answer))
    }

    /// The names of the components in a tracker's array, in order. They are told apart by their ports.
    pub fn names(&self, components: &Value) -> Vec<String> {
        let components =
            components.as_array().unwrap_or_else(|| panic!("no array of components: {components}"));
        let mut names: Vec<String> = components.iter().map(|component| self.name(component)).collect();
        names.sort();
        names
    }

    /// Waits until the tracker gives out exactly these components.
    pub async fn lists(&self, components: &[&str]) {
        let what = format!("the tracker lists {components:?}");
        until(PATIENCE, &what, async || self.listed().await.filter(|listed| listed == components)).await;
    }

    /// Every component that the tracker knows, by name, and whether it is active: what `kurir status` prints.
    pub async fn status(&self) -> Vec<(String, bool)> {
        let (code, out, err) = self.runs(&["status", "--json"]).await;
        assert_eq!(code, Some(0), "kurir status: {err}");
        let rows: Vec<Value> = serde_json::from_str(&out).expect("an array of components");
        let row = |row: &Value| Some((row["id"].as_str()?.to_string(), row["active"].as_bool()?));
        rows.iter().map(|shown| row(shown).unwrap_or_else(|| panic!("kurir status: {shown}"))).collect()
    }

    /// A command that asks this system's tracker, run to its end: exit code, stdout and stderr.
    pub async fn runs(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let tracker = self.listens("tracker", Ports::grpc(self.ports.base())).to_string();
        let launch = Launch {
            name: args.first().copied().unwrap_or_default().into(),
            program: binary(),
            args: args.iter().copied().chain(["--tracker", &tracker]).map(String::from).collect(),
            env: Vec::new(),
            user: None,
            logs: self.dir().to_path_buf(),
        };
        let mut command = tokio::process::Command::from(launch.command());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let what = format!("the end of kurir {args:?}");
        let output = within(PATIENCE, &what, command.output()).await.expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Ends everything as an operator does, with SIGTERM: each process stops in bounded time, with no error.
    pub async fn stops(mut self) {
        for part in self.parts.values_mut() {
            if part.ended().is_none() {
                part.signal(Signal::TERM);
            }
        }
        for part in self.parts.values_mut() {
            part.end(STOPS_WITHIN).await;
            assert_eq!(part.failed(), None, "{} stopped with an error", part.name());
        }
    }

    fn name(&self, component: &Value) -> String {
        let port =
            component["port"].as_u64().unwrap_or_else(|| panic!("a component without a port: {component}"));
        let managers = (1..=9).map(|number| ("manager", number, self.manager(number).port()));
        let relays = (1..=9).map(|number| ("relay", number, self.relay(number).port()));
        let found = managers.chain(relays).find(|(_, _, at)| u64::from(*at) == port);
        let (role, number, _) = found.unwrap_or_else(|| panic!("whose component is {component}?"));
        let address = self.reached_by_name(&format!("{role}-{number}")).ip();
        let shape = json!({"ip_local": address, "port": port, "type": role, "is_private": "0"});
        assert_eq!(component, &shape, "as the original writes a component");
        format!("{role}-{number}")
    }

    /// The processes of the plan, in the order in which the original's acceptance run starts them.
    fn planned_parts(&self) -> Vec<String> {
        match self.plan.topology {
            Topology::OneProcess => vec![UP.into()],
            Topology::Separate => {
                std::iter::once("tracker".to_string()).chain(self.plan.components()).collect()
            }
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let mut failed = Vec::new();
        for part in self.parts.values_mut() {
            failed.extend(part.failed().map(|status| format!("{} ended by itself: {status}", part.name())));
            part.kill();
        }
        if std::thread::panicking() {
            for failed in failed {
                println!("{failed}");
            }
            let stores = [
                self.redis.as_ref().map(|redis| &redis.process),
                self.postgres.as_ref().map(|pg| &pg.process),
            ];
            self.parts.values().chain(stores.into_iter().flatten()).for_each(Process::print_tail);
        } else {
            self.parts.values().for_each(Process::assert_never_panicked);
            assert!(failed.is_empty(), "{failed:?}");
        }
    }
}

/// The binary under test: it is built beside this test's executable.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let binary = profile.join("kurir");
    assert!(
        binary.exists(),
        "{} is not built. The scenarios run the real binary: cargo build -p kurir (./test does it)",
        binary.display()
    );
    binary
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The harness alone: its stores start, come back where they were, and leave nothing behind.
    #[tokio::test]
    async fn stores_start_and_start_again() {
        let mut system = Plan::new(Topology::Separate).start_nothing_but_stores().await;
        system.redis().flush_all().await;
        system.redis().shut_down_saving().await;
        system.redis().start_again().await;
        system.redis().kill();
        system.redis().start_again().await;
        system.postgres().stop().await;
        system.postgres().start_again().await;
        assert_eq!(system.listed().await, None);
    }
}
