//! The configuration of every command that serves: one set of sections for all roles, so that one file can be given to
//! each of them.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Subcommand;
use kurir_manager::store::DatabaseConfig;
use kurir_service::{
    Settings, ShutdownConfig,
    admin::AdminConfig,
    config::{self, ConfigError, Flag, Loaded, Sources},
    telemetry::{self, LogConfig},
};
use serde::{Deserialize, Serialize};

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
    /// How long a process that is starting tries to reach the directory and the database before it exits with 1.
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
    /// A TOML file. Stronger than the defaults, weaker than `KURIR__SECTION__KEY` in the environment.
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// One key, stronger than file and environment. May be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigArgs {
    pub(crate) fn sources(&self) -> Result<Sources, ConfigError> {
        let flags = self.set.iter().map(|assignment| Flag::set(assignment)).collect::<Result<_, _>>()?;
        Ok(Sources::of_process(self.file.clone(), flags))
    }

    /// The configuration of a role in a process of its own.
    pub(crate) fn load(&self, role: Role) -> Result<Loaded<Config>, ConfigError> {
        let loaded = load(&defaults(role), &self.sources()?)?;
        if loaded.config.directory.url.expose() == IN_PROCESS {
            let problem = "separate processes need a Redis, memory:// is for `kurir up`";
            return Err(refusal(&loaded, "directory.url", problem.to_owned()));
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
    match outside(&loaded.config) {
        Some((key, problem)) => Err(refusal(&loaded, key, problem.to_owned())),
        None => Ok(loaded),
    }
}

/// The first key whose value no server could work with.
fn outside(config: &Config) -> Option<(&'static str, &'static str)> {
    let Config { database, tracker, manager, relay, .. } = config;
    let rules = [
        ("database.max_connections", database.max_connections >= 1, "must be at least 1"),
        ("database.timeout_seconds", database.timeout_seconds > 0.0, "must be more than 0"),
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

/// Room for every packet of the protocol with short names.
const LEAST_VALUE: usize = 256;

const SMALL_OUTBOX: &str = "must be at least max_value_bytes: one message would close its receiver";

const NO_ADDRESS: &str = "expected HOST:PORT";

/// Whether it may be listened on; names are resolved when it is.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
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

    #[test]
    fn a_process_of_its_own_cannot_keep_the_tables_to_itself() {
        let args = ConfigArgs { set: vec!["directory.url=memory://".to_owned()], ..ConfigArgs::default() };
        assert!(
            args.load(Role::Relay).unwrap_err().to_string().starts_with("directory.url: separate processes")
        );
    }
}
