//! The configuration of every command that serves: one set of sections for all roles, so that one file can be given to
//! each of them.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Subcommand;
use kurir_directory::ComponentId;
use kurir_manager::store::DatabaseConfig;
use kurir_service::{
    ListenerConfig, Settings, ShutdownConfig, TracesConfig,
    admin::AdminConfig,
    config::{self, ConfigError, Flag, Loaded, Sources},
    telemetry::{self, LogConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::roles::Role;

/// Exit code for a configuration that is refused, and for a command line, as clap has it.
const REFUSED: u8 = 2;
/// The tables live in this process; for [`crate::up`] only.
pub(crate) const IN_PROCESS: &str = "memory://";

/// All sections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) log: LogConfig,
    pub(crate) traces: TracesConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) start: StartConfig,
    pub(crate) shutdown: ShutdownConfig,
    pub(crate) directory: DirectoryConfig,
    pub(crate) database: DatabaseConfig,
    pub(crate) tracker: kurir_tracker::Config,
    pub(crate) manager: kurir_manager::Config,
    pub(crate) relay: kurir_relay::Config,
}

/// Section `start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StartConfig {
    /// How long a process that is starting tries to reach the directory and the database before it exits with 1. So long
    /// again it tries to take its lease where the directory goes away after that.
    pub(crate) retry_seconds: u64,
}

impl Default for StartConfig {
    fn default() -> Self {
        Self { retry_seconds: 30 }
    }
}

impl StartConfig {
    pub(crate) fn retry(&self) -> Duration {
        Duration::from_secs(self.retry_seconds)
    }
}

/// Section `directory`: where the presence and routing tables are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DirectoryConfig {
    /// `redis://[user:password@]host:port[/database]`. In `kurir up` also `memory://`: inside this process.
    pub(crate) url: config::Secret,
    /// What every key in Redis begins with. Systems that share one Redis need different ones.
    pub(crate) prefix: String,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self { url: config::Secret::new("redis://127.0.0.1:6379"), prefix: "kurir:".to_owned() }
    }
}

impl Config {
    pub(crate) fn settings(&self, sockets_per_user: usize, port_advice: &str) -> Settings {
        Settings {
            log: self.log.clone(),
            traces: self.traces.clone(),
            admin: self.admin.clone(),
            shutdown: self.shutdown.clone(),
            sockets_per_user,
            port_advice: port_advice.to_owned(),
        }
    }
}

/// Where a command that serves takes its configuration from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// A TOML file. Stronger than the defaults, weaker than `KURIR__SECTION__KEY` in the environment. May be given many
    /// times; the last one for a key wins.
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// One key, stronger than file and environment. May be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigArgs {
    pub(crate) fn sources(&self) -> Result<Sources, ConfigError> {
        let flags = self.set.iter().map(|assignment| Flag::set(assignment)).collect::<Result<_, _>>()?;
        Ok(Sources::of_process(self.files.clone(), flags))
    }

    /// The configuration of a role in a process of its own.
    pub(crate) fn load(&self, role: Role) -> Result<Loaded<Config>, ConfigError> {
        let loaded = load(&defaults(role), &self.sources()?)?;
        if loaded.config.directory.url.expose() == IN_PROCESS {
            let problem = "separate processes need a Redis, memory:// is for `kurir up`";
            return Err(refusal(&loaded, "directory.url", problem.to_owned()));
        }
        let Config { manager, relay, .. } = &loaded.config;
        for (key, address) in
            [("manager.advertise", &manager.advertise), ("relay.advertise", &relay.advertise)]
        {
            if !address.is_empty() && !is_address(address) {
                return Err(refusal(&loaded, key, NO_ADDRESS.to_owned()));
            }
        }
        Ok(loaded)
    }
}

/// Puts `sources` over `defaults` and checks what types don't.
pub(crate) fn load(defaults: &Config, sources: &Sources) -> Result<Loaded<Config>, ConfigError> {
    let loaded = config::load(defaults, sources)?;
    let Config { log, shutdown, directory, .. } = &loaded.config;
    if telemetry::check(log).is_err() {
        let problem = format!("{:?} is neither a level nor a list of module=level", log.level);
        return Err(refusal(&loaded, "log.level", problem));
    }
    if let Some(key) = too_long("", &serde_json::to_value(&loaded.config).unwrap_or_default()) {
        return Err(refusal(&loaded, &key, format!("must be at most {LONGEST_SECONDS}, ten years")));
    }
    if Duration::try_from_secs_f64(shutdown.pause_seconds).is_err() {
        return Err(refusal(&loaded, "shutdown.pause_seconds", "must not be negative".to_owned()));
    }
    let known = ["redis://", "rediss://", "redis+unix://", "unix://", IN_PROCESS];
    if !known.iter().any(|scheme| directory.url.expose().starts_with(scheme)) {
        return Err(refusal(&loaded, "directory.url", "expected redis://HOST:PORT".to_owned()));
    }
    let known = ["postgres://", "postgresql://", "sqlite:"];
    if !known.iter().any(|scheme| loaded.config.database.url.expose().starts_with(scheme)) {
        let problem = "expected postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite://FILE?mode=rwc".to_owned();
        return Err(refusal(&loaded, "database.url", problem));
    }
    if let Some((key, problem)) = outside(&loaded.config) {
        return Err(refusal(&loaded, key, problem.to_owned()));
    }
    let Config { tracker, manager, relay, .. } = &loaded.config;
    let sockets = [("tracker", &tracker.socket), ("manager", &manager.socket), ("relay", &relay.socket)];
    for (role, socket) in sockets {
        if let Some((key, problem)) = outside_of_the_kernel(socket) {
            return Err(refusal(&loaded, &format!("{role}.socket.{key}"), problem.to_owned()));
        }
    }
    Ok(loaded)
}

/// The first key of a time that clocks cannot count to. `prefix` is the name of `value`.
fn too_long(prefix: &str, value: &Value) -> Option<String> {
    let Value::Object(keys) = value else { return None };
    keys.iter().find_map(|(name, value)| {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        // JSON has no infinity.
        let long = || value.as_f64().is_none_or(|seconds| seconds > LONGEST_SECONDS);
        if name.ends_with("_seconds") { long().then_some(key) } else { too_long(&key, value) }
    })
}

/// The first key whose value no server could work with.
fn outside(config: &Config) -> Option<(&'static str, &'static str)> {
    let Config { traces, admin, database, tracker, manager, relay, .. } = config;
    let rules = [
        ("admin.listen", admin.listen == "off" || is_address(&admin.listen), "expected HOST:PORT or off"),
        ("database.max_connections", database.max_connections >= 1, "must be at least 1"),
        (
            "traces.otlp_endpoint",
            traces.otlp_endpoint.is_empty() || kurir_rpc::is_url(&traces.otlp_endpoint),
            "expected http://HOST:PORT, or nothing",
        ),
        ("traces.sample_ratio", (0.0..=1.0).contains(&traces.sample_ratio), "must be from 0 to 1"),
        // PostgreSQL counts milliseconds, in 31 bits.
        (
            "database.timeout_seconds",
            (0.001..=2e6).contains(&database.timeout_seconds),
            "must be from 0.001 to 2000000",
        ),
        ("manager.id", is_id(&manager.id), NO_ID),
        ("relay.id", is_id(&relay.id), NO_ID),
        ("manager.domain", is_domain(&manager.domain), "expected a domain name, as in user@chat.example"),
        ("manager.device_days", manager.device_days >= 1, "must be at least 1"),
        ("manager.session_days", manager.session_days >= 1, "must be at least 1"),
        ("manager.trackers", manager.trackers.iter().all(|url| kurir_rpc::is_url(url)), NO_URL),
        ("relay.trackers", relay.trackers.iter().all(|url| kurir_rpc::is_url(url)), NO_URL),
        (
            "manager.grpc_advertise",
            manager.grpc_advertise.is_empty() || kurir_rpc::is_url(&manager.grpc_advertise),
            NO_URL,
        ),
        (
            "relay.grpc_advertise",
            relay.grpc_advertise.is_empty() || kurir_rpc::is_url(&relay.grpc_advertise),
            NO_URL,
        ),
        // What argon2 itself needs.
        ("manager.argon2_memory_kib", manager.argon2_memory_kib >= 8, "must be at least 8"),
        ("manager.argon2_iterations", manager.argon2_iterations >= 1, "must be at least 1"),
        ("manager.max_auth_failures", manager.max_auth_failures >= 1, "must be at least 1"),
        ("manager.ticket_seconds", manager.ticket_seconds >= 60, "must be at least 60"),
        ("tracker.max_value_bytes", tracker.max_value_bytes >= LEAST_VALUE, "must be at least 256"),
        ("manager.max_value_bytes", manager.max_value_bytes >= LEAST_VALUE, "must be at least 256"),
        ("relay.max_value_bytes", relay.max_value_bytes >= LEAST_VALUE, "must be at least 256"),
        ("tracker.max_depth", (1..=64).contains(&tracker.max_depth), "must be from 1 to 64"),
        ("manager.max_depth", (1..=64).contains(&manager.max_depth), "must be from 1 to 64"),
        ("relay.max_depth", (1..=64).contains(&relay.max_depth), "must be from 1 to 64"),
        ("tracker.outbox_bytes", tracker.outbox_bytes >= tracker.max_value_bytes, SMALL_OUTBOX),
        ("manager.outbox_bytes", manager.outbox_bytes >= manager.max_value_bytes, SMALL_OUTBOX),
        ("relay.outbox_bytes", relay.outbox_bytes >= relay.max_value_bytes, SMALL_OUTBOX),
        ("tracker.listen", is_address(&tracker.listen), NO_ADDRESS),
        ("manager.listen", is_address(&manager.listen), NO_ADDRESS),
        ("relay.listen", is_address(&relay.listen), NO_ADDRESS),
        ("tracker.grpc_listen", is_address(&tracker.grpc_listen), NO_ADDRESS),
        ("manager.grpc_listen", is_address(&manager.grpc_listen), NO_ADDRESS),
        ("relay.grpc_listen", is_address(&relay.grpc_listen), NO_ADDRESS),
    ];
    rules.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, problem)| (key, problem))
}

/// Addresses are taken apart at `@` and `/`.
fn is_domain(domain: &str) -> bool {
    let in_domain = |character: char| character.is_alphanumeric() || matches!(character, '.' | '-');
    !domain.is_empty() && domain.chars().all(in_domain)
}

/// The first key of `*.socket` whose value Linux refuses.
fn outside_of_the_kernel(socket: &ListenerConfig) -> Option<(&'static str, &'static str)> {
    let rules = [
        ("keepalive_seconds", (1..=32_767).contains(&socket.keepalive_seconds), "must be from 1 to 32767"),
        (
            "keepalive_interval_seconds",
            (1..=32_767).contains(&socket.keepalive_interval_seconds),
            "must be from 1 to 32767",
        ),
        ("keepalive_probes", (1..=127).contains(&socket.keepalive_probes), "must be from 1 to 127"),
        // In milliseconds, 31 bits.
        ("user_timeout_seconds", socket.user_timeout_seconds <= 2_000_000, "must be at most 2000000"),
    ];
    rules.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, problem)| (key, problem))
}

/// Ten years: no time that anybody waits for, and still one that can be added to now.
const LONGEST_SECONDS: f64 = 315_360_000.0;

/// Room for every packet of the protocol with short names.
const LEAST_VALUE: usize = 256;

const SMALL_OUTBOX: &str = "must be at least max_value_bytes: one message would close its receiver";

const NO_ADDRESS: &str = "expected HOST:PORT";

const NO_ID: &str = "expected 1 to 64 of A-Z a-z 0-9 . _ -";

const NO_URL: &str = "expected http://HOST:PORT";

/// Whether it may be listened on; names are resolved when it is.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether it may name a component; an empty one is made from the port.
fn is_id(text: &str) -> bool {
    text.is_empty() || text.parse::<ComponentId>().is_ok()
}

/// A value that its type allows and that is wrong all the same.
pub(crate) fn refusal(loaded: &Loaded<Config>, key: &str, problem: String) -> ConfigError {
    let origin = loaded.origin(key).unwrap_or("default").to_owned();
    ConfigError::Value { key: key.to_owned(), problem, origin }
}

/// Says why there is no configuration and ends with the exit code for that.
pub(crate) fn refused(error: &ConfigError) -> ExitCode {
    eprintln!("kurir: {error}");
    ExitCode::from(REFUSED)
}

/// Roles side by side on one machine must not meet at the admin port.
fn defaults(role: Role) -> Config {
    let port = match role {
        Role::Tracker => 5090,
        Role::Manager => 5091,
        Role::Relay => 5092,
    };
    Config { admin: AdminConfig { listen: format!("127.0.0.1:{port}") }, ..Config::default() }
}

/// `kurir config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the effective configuration as TOML, each value with where it came from. Passwords are hidden.
    Print(RoleArgs),
    /// Says nothing and exits with 0 if the configuration is good; otherwise says what is wrong and exits with 2.
    Check(RoleArgs),
}

/// A configuration, as one role would read it.
#[derive(Debug, clap::Args)]
pub(crate) struct RoleArgs {
    /// The role whose defaults are taken; they differ in `admin.listen` only.
    #[arg(long, value_enum, default_value_t = Role::Tracker)]
    role: Role,
    #[command(flatten)]
    args: ConfigArgs,
}

/// Runs `kurir config print` or `kurir config check`.
pub(crate) fn run(command: &Command) -> ExitCode {
    let (Command::Print(RoleArgs { role, args }) | Command::Check(RoleArgs { role, args })) = command;
    let loaded = match args.load(*role) {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error),
    };
    if matches!(command, Command::Print(_)) && io::stdout().write_all(loaded.print().as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(set: &[&str]) -> String {
        let flags = set.iter().map(|text| Flag::set(text).unwrap()).collect();
        load(&Config::default(), &Sources { flags, ..Sources::default() }).unwrap_err().to_string()
    }

    #[test]
    fn values_that_only_their_meaning_forbids_are_refused_with_origin() {
        assert_eq!(
            problem(&["log.level=kurir=loud"]),
            "log.level: \"kurir=loud\" is neither a level nor a list of module=level (from --set log.level)"
        );
        assert_eq!(
            problem(&["shutdown.pause_seconds=-1"]),
            "shutdown.pause_seconds: must not be negative (from --set shutdown.pause_seconds)"
        );
        assert_eq!(
            problem(&["directory.url=localhost:6379"]),
            "directory.url: expected redis://HOST:PORT (from --set directory.url)"
        );
    }

    #[test]
    fn values_that_no_server_could_work_with_are_refused_with_origin() {
        for flag in [
            "database.url=mysql://x",
            "database.max_connections=0",
            "database.timeout_seconds=-1",
            "manager.argon2_memory_kib=0",
            "manager.max_value_bytes=0",
            "relay.max_depth=0",
            "relay.outbox_bytes=0",
            "tracker.listen=nonsense",
            "admin.listen=nonsense",
            "traces.otlp_endpoint=collector:4317",
            "traces.sample_ratio=1.5",
            "relay.id=a b",
            "manager.id={}",
            "manager.domain=a@b",
            "manager.device_days=0",
            "relay.trackers=tracker:5100",
            "manager.grpc_advertise=manager:5101",
            "relay.socket.keepalive_probes=0",
            "relay.socket.keepalive_seconds=0",
            "manager.socket.keepalive_seconds=40000",
            "tracker.socket.keepalive_interval_seconds=0",
            "relay.socket.user_timeout_seconds=4000000",
            "tracker.hello_deadline_seconds=9223372036854775807",
            "start.retry_seconds=315360001",
        ] {
            let (key, _) = flag.split_once('=').unwrap();
            let problem = problem(&[flag]);
            assert!(problem.starts_with(&format!("{key}: ")), "{problem}");
            assert!(problem.ends_with(&format!("(from --set {key})")), "{problem}");
        }
    }

    #[test]
    fn the_defaults_are_good() {
        for role in [Role::Tracker, Role::Manager, Role::Relay] {
            load(&defaults(role), &Sources::default()).unwrap();
        }
    }

    /// `up` appends the port, see its plan.
    #[test]
    fn a_process_of_its_own_is_advertised_with_its_port() {
        for (set, good) in
            [("relay.advertise=chat.example", false), ("manager.advertise=chat.example:1", true)]
        {
            let args = ConfigArgs { set: vec![set.to_owned()], ..ConfigArgs::default() };
            assert_eq!(args.load(Role::Relay).is_ok(), good, "{set}");
        }
    }

    #[test]
    fn a_process_of_its_own_cannot_keep_the_tables_to_itself() {
        let args = ConfigArgs { set: vec!["directory.url=memory://".to_owned()], ..ConfigArgs::default() };
        assert!(
            args.load(Role::Relay).unwrap_err().to_string().starts_with("directory.url: separate processes")
        );
    }
}
