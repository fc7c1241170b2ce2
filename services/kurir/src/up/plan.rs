//! What `kurir up` runs where: its flags and the configuration, as one configuration for each role.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use kurir_manager::store::DatabaseConfig;
use kurir_relay::BareHello;
use kurir_service::{
    ShutdownConfig,
    admin::AdminConfig,
    config::{ConfigError, Flag, Loaded, Sources},
};

use super::{Args, Secret};
use crate::config::{Config, DirectoryConfig, IN_PROCESS, refusal};

/// The last port is the first one plus this: gRPC of the 80th relay.
pub(super) const SPAN: u16 = 189;
/// Managers have the ports between the first and this one.
const RELAYS: u16 = 10;
const ADMIN: u16 = 90;
const GRPC: u16 = 100;

/// Keys that `kurir up` decides by its flags. Set elsewhere they would have no effect, so they are refused.
const DECIDED: [&str; 12] = [
    "tracker.listen",
    "tracker.grpc_listen",
    "manager.id",
    "manager.listen",
    "manager.grpc_listen",
    "manager.grpc_advertise",
    "manager.trackers",
    "relay.id",
    "relay.listen",
    "relay.grpc_listen",
    "relay.grpc_advertise",
    "relay.trackers",
];

/// One configuration for each role, on ports of its own.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) tracker: kurir_tracker::Config,
    pub(super) managers: Vec<kurir_manager::Config>,
    pub(super) relays: Vec<kurir_relay::Config>,
    /// The data directory, if the database is in it.
    pub(super) create: Option<PathBuf>,
}

/// The defaults of `kurir up`: nothing else installed, the original's clients, which know no tickets, let in, and a stop at once,
/// since there is nowhere else to go.
pub(super) fn defaults(args: &Args) -> Config {
    let admin = AdminConfig { listen: Ports::of(args).private(ADMIN) };
    let directory = DirectoryConfig { url: Secret::new(IN_PROCESS), ..DirectoryConfig::default() };
    let database = DatabaseConfig { url: sqlite(&args.data), ..DatabaseConfig::default() };
    let relay = kurir_relay::Config { bare_hello: BareHello::SameAddress, ..kurir_relay::Config::default() };
    let shutdown = ShutdownConfig { spread_seconds: 0, ..ShutdownConfig::default() };
    Config { admin, shutdown, directory, database, relay, ..Config::default() }
}

/// File, environment and `--set` as everywhere, and the flags that stand for a key.
pub(super) fn sources(args: &Args) -> Result<Sources, ConfigError> {
    let mut sources = args.config.sources()?;
    let redis = args.redis.iter().map(|url| Flag::named("--redis", "directory.url", url));
    let database = args.database.iter().map(|url| Flag::named("--database", "database.url", url));
    sources.flags.extend(redis.chain(database));
    Ok(sources)
}

impl Plan {
    pub(super) fn new(args: &Args, loaded: Loaded<Config>) -> Result<Self, ConfigError> {
        if let Some(key) = DECIDED.into_iter().find(|key| loaded.origin(key).is_some()) {
            let problem = "`kurir up` decides this itself, see --port-base and --host".to_owned();
            return Err(refusal(&loaded, key, problem));
        }
        let Config { manager, relay, .. } = &loaded.config;
        for (key, host) in [("manager.advertise", &manager.advertise), ("relay.advertise", &relay.advertise)]
        {
            if host.is_empty() && is_any_address(&args.host) {
                let problem =
                    format!("--host {} is no address to give to clients, so this key must be one", args.host);
                return Err(refusal(&loaded, key, problem));
            }
            if !host.is_empty() && !is_host(host) {
                let problem =
                    "expected a host or an IPv6 address alone, `kurir up` appends the ports".to_owned();
                return Err(refusal(&loaded, key, problem));
            }
        }
        let config = loaded.config;
        let ports = Ports::of(args);
        let trackers = vec![format!("http://{}", ports.grpc(0))];
        let tracker = kurir_tracker::Config {
            listen: ports.client(0),
            grpc_listen: ports.grpc(0),
            ..config.tracker.clone()
        };
        let managers = (1..=args.managers).map(|offset| kurir_manager::Config {
            id: format!("manager-{}", ports.base + offset),
            listen: ports.client(offset),
            advertise: ports.advertised(&config.manager.advertise, offset),
            grpc_listen: ports.grpc(offset),
            trackers: trackers.clone(),
            ..config.manager.clone()
        });
        let relays = (0..args.relays).map(|nth| RELAYS + nth).map(|offset| kurir_relay::Config {
            id: format!("relay-{}", ports.base + offset),
            listen: ports.client(offset),
            advertise: ports.advertised(&config.relay.advertise, offset),
            grpc_listen: ports.grpc(offset),
            trackers: trackers.clone(),
            ..config.relay.clone()
        });
        let create = (config.database.url == sqlite(&args.data)).then(|| args.data.clone());
        Ok(Self { tracker, managers: managers.collect(), relays: relays.collect(), create, config })
    }

    /// Where everything listens and how to chat, for people.
    pub(super) fn listing(&self) -> String {
        let mut listing = String::new();
        let mut line = |name: &str, what: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(listing, "{name:<14}{what}");
        };
        line("tracker", &format!("{}  (gRPC {})", self.tracker.listen, self.tracker.grpc_listen));
        for manager in &self.managers {
            line(&manager.id, &format!("{}  (gRPC {})", manager.listen, manager.grpc_listen));
        }
        for relay in &self.relays {
            line(&relay.id, &format!("{}  (gRPC {})", relay.listen, relay.grpc_listen));
        }
        line("admin", &self.config.admin.listen);
        line("database", &self.config.database.url.to_string());
        line("tables", &self.config.directory.url.to_string());
        line("to chat", &format!("kurir chat --tracker {}", self.tracker.listen));
        listing
    }
}

struct Ports<'a> {
    host: &'a str,
    base: u16,
}

impl<'a> Ports<'a> {
    fn of(args: &'a Args) -> Self {
        Self { host: &args.host, base: args.port_base }
    }

    fn client(&self, offset: u16) -> String {
        at(self.host, self.base + offset)
    }

    fn grpc(&self, offset: u16) -> String {
        self.private(GRPC + offset)
    }

    /// On loopback: clients have no business there, and nobody is asked for a password.
    fn private(&self, offset: u16) -> String {
        let loopback = match self.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => ip,
            Ok(IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        at(&loopback.to_string(), self.base + offset)
    }

    /// `configured` is one host for all of a kind; each has a port of its own.
    fn advertised(&self, configured: &str, offset: u16) -> String {
        if configured.is_empty() { self.client(offset) } else { at(configured, self.base + offset) }
    }
}

fn at(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// A name or an address without a port.
fn is_host(text: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().all(of_a_name) || text.parse::<Ipv6Addr>().is_ok()
}

fn is_any_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

fn sqlite(data: &Path) -> Secret {
    let file = data.join("kurir.db").to_string_lossy().replace('%', "%25").replace('?', "%3F");
    Secret::new(format!("sqlite://{file}?mode=rwc"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let cli = Cli::try_parse_from(["up"].iter().chain(args)).map_err(|error| error.to_string())?;
        let sources = sources(&cli.args).map_err(|error| error.to_string())?;
        // Not what the developer's environment holds.
        let sources = Sources { env: Vec::new(), ..sources };
        let loaded = config::load(&defaults(&cli.args), &sources).map_err(|error| error.to_string())?;
        Plan::new(&cli.args, loaded).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_those_of_the_table() {
        let plan = plan(&["--port-base", "7000", "--managers", "9", "--relays", "80"]).unwrap();
        assert_eq!(plan.tracker.listen, "127.0.0.1:7000");
        assert_eq!(plan.tracker.grpc_listen, "127.0.0.1:7100");
        let managers: Vec<_> = plan.managers.iter().map(|m| (m.id.as_str(), m.listen.as_str())).collect();
        assert_eq!(managers.first(), Some(&("manager-7001", "127.0.0.1:7001")));
        assert_eq!(managers.last(), Some(&("manager-7009", "127.0.0.1:7009")));
        assert_eq!(plan.managers[8].grpc_listen, "127.0.0.1:7109");
        assert_eq!(plan.relays[0].listen, "127.0.0.1:7010");
        assert_eq!(plan.relays[0].trackers, ["http://127.0.0.1:7100"]);
        assert_eq!(plan.relays[79].listen, "127.0.0.1:7089");
        assert_eq!(plan.relays[79].grpc_listen, format!("127.0.0.1:{}", 7000 + SPAN));
        assert_eq!(plan.config.admin.listen, "127.0.0.1:7090");
    }

    #[test]
    fn nothing_else_needs_to_be_installed() {
        let plan = plan(&["--data", "some dir/50%?"]).unwrap();
        assert_eq!(plan.config.directory.url.expose(), "memory://");
        assert_eq!(plan.config.database.url.expose(), "sqlite://some dir/50%25%3F/kurir.db?mode=rwc");
        assert_eq!(plan.create.as_deref(), Some(Path::new("some dir/50%?")));
        assert_eq!((plan.managers.len(), plan.relays.len()), (1, 2));
        assert_eq!(plan.relays[0].bare_hello, BareHello::SameAddress);
        assert_eq!(plan.config.shutdown.spread_seconds, 0, "Ctrl-C stops at once");
    }

    #[test]
    fn redis_and_database_can_be_given_and_the_data_directory_is_then_not_made() {
        let args = [
            "--redis",
            "redis://r:1",
            "--database",
            "postgres://u:p@d/k",
            "--set",
            "relay.bare_hello=online",
        ];
        let plan = plan(&args).unwrap();
        assert_eq!(plan.config.directory.url.expose(), "redis://r:1");
        assert_eq!(plan.config.database.url.expose(), "postgres://u:p@d/k");
        assert_eq!(plan.create, None);
        assert_eq!(plan.relays[1].bare_hello, BareHello::Online);
        assert!(plan.listing().contains("postgres://u:***@d/k"), "{}", plan.listing());
    }

    #[test]
    fn keys_that_the_flags_decide_are_refused() {
        assert_eq!(
            plan(&["--set", "relay.listen=127.0.0.1:1"]).unwrap_err(),
            "relay.listen: `kurir up` decides this itself, see --port-base and --host (from --set relay.listen)"
        );
    }

    #[test]
    fn every_key_that_is_decided_exists() {
        for key in DECIDED {
            let value = match key.split_once('.') {
                Some((_, "id")) => "h",
                Some((_, "trackers" | "grpc_advertise")) => "http://h:1",
                _ => "h:1",
            };
            let refused = plan(&["--set", &format!("{key}={value}")]).unwrap_err();
            assert!(refused.starts_with(&format!("{key}: `kurir up` decides")), "{refused}");
        }
    }

    #[test]
    fn a_host_of_its_own_is_given_to_clients_while_grpc_and_admin_stay_on_loopback() {
        let plan = plan(&["--host", "192.0.2.7"]).unwrap();
        assert_eq!(plan.managers[0].advertise, "192.0.2.7:5001");
        assert_eq!(plan.managers[0].grpc_listen, "127.0.0.1:5101");
        assert_eq!(plan.tracker.grpc_listen, "127.0.0.1:5100");
        assert_eq!(plan.config.admin.listen, "127.0.0.1:5090");
    }

    #[test]
    fn listening_everywhere_needs_an_address_to_give_to_clients() {
        let refused = plan(&["--host", "0.0.0.0"]).unwrap_err();
        assert_eq!(
            refused,
            "manager.advertise: --host 0.0.0.0 is no address to give to clients, so this key must be one (from default)"
        );
        let args =
            ["--host", "::", "--set", "manager.advertise=chat.example", "--set", "relay.advertise=::1"];
        let plan = plan(&args).unwrap();
        assert_eq!(plan.managers[0].listen, "[::]:5001");
        assert_eq!(plan.managers[0].advertise, "chat.example:5001");
        assert_eq!(plan.relays[0].advertise, "[::1]:5010");
    }

    #[test]
    fn an_address_to_give_to_clients_has_no_port_of_its_own() {
        for host in ["chat.example:5001", "[::1]", "http://chat.example", "chat example"] {
            assert_eq!(
                plan(&["--set", &format!("relay.advertise={host}")]).unwrap_err(),
                "relay.advertise: expected a host or an IPv6 address alone, `kurir up` appends the ports \
                 (from --set relay.advertise)"
            );
        }
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        for args in [["--port-base", "65347"], ["--port-base", "0"], ["--relays", "81"], ["--managers", "10"]]
        {
            assert!(plan(&args).is_err(), "{args:?}");
        }
        plan(&["--port-base", "65346"]).unwrap();
    }
}
