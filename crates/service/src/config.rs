//! Configuration in layers: defaults, then TOML files, then the environment, then flags. Every value knows which layer
//! it came from, and whatever is wrong is said in one line with that origin.
//!
//! The defaults are the list of keys: a key that they don't have is refused. So every key has a default, `None` where it
//! is optional.

use std::{collections::BTreeMap, env, io, path::PathBuf};

use figment::{Figment, Profile, Provider, value::Value};
use serde::{Serialize, de::DeserializeOwned};

use self::layer::Layer;
pub use self::secret::Secret;

mod layer;
mod print;
mod secret;

/// What begins the name of a variable that is configuration. Two underscores, because Kubernetes sets variables such as
/// `KURIR_RELAY_SERVICE_HOST` of its own accord.
const ENV_PREFIX: &str = "KURIR__";
const DEFAULT_ORIGIN: &str = "default";

/// Where configuration is taken from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// TOML files, in the order given; the last one for a key wins.
    pub files: Vec<PathBuf>,
    /// The environment's variables; only those that begin with exactly `KURIR__` are looked at:
    /// `KURIR__SECTION__KEY=value`.
    pub env: Vec<(String, String)>,
    /// Flags, in the order given; the last one for a key wins.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The files and flags given, and this process's environment.
    pub fn of_process(files: Vec<PathBuf>, flags: Vec<Flag>) -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self { files, env: env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(), flags }
    }
}

/// One key set on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    key: String,
    value: String,
    origin: String,
}

impl Flag {
    /// `--set section.key=value`, given what follows `--set`.
    pub fn set(assignment: &str) -> Result<Self, ConfigError> {
        match assignment.split_once('=') {
            Some((key, value)) if key.split('.').all(|part| !part.is_empty()) => {
                Ok(Self::named(&format!("--set {key}"), key, value))
            }
            _ => Err(ConfigError::Assignment { text: assignment.to_owned() }),
        }
    }

    /// A flag with a name of its own (`origin`, as the user writes it) that stands for `key`.
    pub fn named(origin: &str, key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), origin: origin.to_owned() }
    }
}

/// Why there is no configuration. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's say.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// No such key.
    #[error("unknown key {key} (from {origin})")]
    Unknown {
        /// Its full name, with dots.
        key: String,
        /// Where it is set.
        origin: String,
    },
    /// The key exists and does not take this value.
    #[error("{key}: {problem} (from {origin})")]
    Value {
        /// Its full name, with dots.
        key: String,
        /// What is wrong with the value.
        problem: String,
        /// Where it is set.
        origin: String,
    },
    /// `--set` without a key or a value.
    #[error("--set {text}: expected section.key=value")]
    Assignment {
        /// What was given.
        text: String,
    },
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The effective values.
    pub config: T,
    origins: BTreeMap<String, String>,
}

/// Puts `sources` over `defaults`.
pub fn load<T: Serialize + DeserializeOwned>(
    defaults: &T,
    sources: &Sources,
) -> Result<Loaded<T>, ConfigError> {
    let defaults = Value::serialize(defaults).map_err(|error| value_error(&error))?;
    let mut layers = Vec::new();
    for path in &sources.files {
        layers.push(Layer::file(path)?);
    }
    for (name, value) in &sources.env {
        if let Some(path) = name.strip_prefix(ENV_PREFIX) {
            let key = path.to_ascii_lowercase().replace("__", ".");
            layers.push(Layer::one(format!("environment variable {name}"), &key, value, &defaults));
        }
    }
    for flag in &sources.flags {
        layers.push(Layer::one(flag.origin.clone(), &flag.key, &flag.value, &defaults));
    }

    let mut figment = Figment::new().merge(Layer::new(DEFAULT_ORIGIN.to_owned(), defaults.clone()));
    for layer in layers {
        layer.refuse_unknown_keys(&defaults)?;
        figment = figment.merge(layer);
    }
    let config = figment.extract().map_err(|error| value_error(&error))?;
    Ok(Loaded { config, origins: origins(&figment) })
}

impl<T> Loaded<T> {
    /// Where the value of `key` (`section.key`) came from; `None` if it is the default or there is no such key.
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.origins.get(key).map(String::as_str).filter(|origin| *origin != DEFAULT_ORIGIN)
    }
}

impl<T: Serialize> Loaded<T> {
    /// The effective configuration as TOML, each value with its origin as a comment. Secrets are hidden.
    pub fn print(&self) -> String {
        print::print(&self.config, &self.origins)
    }
}

fn value_error(error: &figment::Error) -> ConfigError {
    ConfigError::Value {
        key: error.path.join("."),
        problem: error.kind.to_string().replace('\n', " "),
        origin: error.metadata.as_ref().map_or(DEFAULT_ORIGIN, |metadata| &metadata.name).to_owned(),
    }
}

fn origins(figment: &Figment) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    let merged = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default));
    for (key, value) in merged.unwrap_or_default() {
        layer::each_leaf(&key, &value, &mut |key, value| {
            let origin = figment.get_metadata(value.tag()).map_or(DEFAULT_ORIGIN, |metadata| &metadata.name);
            origins.insert(key.to_owned(), origin.to_owned());
        });
    }
    origins
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        relay: Relay,
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Relay {
        listen: String,
        outbox_bytes: usize,
        private: bool,
        trackers: Vec<String>,
        advertise: Option<String>,
        url: Secret,
        mode: Mode,
        socket: Socket,
    }

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Socket {
        keepalive_seconds: f64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        TicketOnly,
        SameAddress,
    }

    impl Default for Relay {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:5010".to_owned(),
                outbox_bytes: 1024,
                private: false,
                trackers: vec!["http://127.0.0.1:5100".to_owned()],
                advertise: None,
                url: Secret::new("redis://127.0.0.1:6379"),
                mode: Mode::TicketOnly,
                socket: Socket::default(),
            }
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn sources<'a>(
        toml: impl IntoIterator<Item = &'a tempfile::NamedTempFile>,
        env: &[(&str, &str)],
        set: &[&str],
    ) -> Sources {
        Sources {
            files: toml.into_iter().map(|file| file.path().to_owned()).collect(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            flags: set.iter().map(|text| Flag::set(text).unwrap()).collect(),
        }
    }

    fn load_from(toml: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded<Config>, ConfigError> {
        let toml = file(toml);
        load(&Config::default(), &sources(Some(&toml), env, set))
    }

    #[test]
    fn each_layer_overrides_the_one_below_and_is_named_as_origin() {
        let key = "relay.outbox_bytes";
        let toml = file("[relay]\noutbox_bytes = 1\n");
        let env = ("KURIR__RELAY__OUTBOX_BYTES", "2");
        let origin_of = |toml: Option<_>, env: &[_], set: &[_]| {
            let loaded = load(&Config::default(), &sources(toml, env, set)).unwrap();
            (loaded.config.relay.outbox_bytes, loaded.origin(key).map(str::to_owned))
        };
        assert_eq!(origin_of(None, &[], &[]), (1024, None));
        assert_eq!(origin_of(Some(&toml), &[], &[]), (1, Some(toml.path().display().to_string())));
        assert_eq!(
            origin_of(Some(&toml), &[env], &[]),
            (2, Some("environment variable KURIR__RELAY__OUTBOX_BYTES".to_owned()))
        );
        assert_eq!(
            origin_of(Some(&toml), &[env], &["relay.outbox_bytes=3"]),
            (3, Some("--set relay.outbox_bytes".to_owned()))
        );
        assert_eq!(origin_of(None, &[], &["relay.outbox_bytes=3", "relay.outbox_bytes=4"]).0, 4);
    }

    #[test]
    fn of_two_files_the_later_one_wins_key_by_key() {
        let common = file("[relay]\noutbox_bytes = 1\nlisten = '0.0.0.0:5010'\n");
        let own = file("[relay]\noutbox_bytes = 2\n");
        let loaded = load(&Config::default(), &sources([&common, &own], &[], &[])).unwrap();
        assert_eq!((loaded.config.relay.outbox_bytes, &*loaded.config.relay.listen), (2, "0.0.0.0:5010"));
        assert_eq!(loaded.origin("relay.outbox_bytes"), Some(&*own.path().display().to_string()));
        assert_eq!(loaded.origin("relay.listen"), Some(&*common.path().display().to_string()));
    }

    #[test]
    fn text_values_become_what_the_key_takes() {
        let env = [
            ("KURIR__RELAY__PRIVATE", "true"),
            ("KURIR__RELAY__LISTEN", "5010"),
            ("KURIR__RELAY__TRACKERS", "http://a:1, http://b:2"),
            ("KURIR__RELAY__ADVERTISE", "relay.example:5010"),
            ("KURIR__RELAY__SOCKET__KEEPALIVE_SECONDS", "2"),
            ("KURIR__RELAY__MODE", "same-address"),
            ("KURIR__RELAY__URL", "redis://u:[p,w]@h"),
        ];
        let relay = load_from("", &env, &[]).unwrap().config.relay;
        assert!(relay.private);
        assert_eq!(relay.listen, "5010");
        assert_eq!(relay.trackers, ["http://a:1", "http://b:2"]);
        assert_eq!(relay.advertise.as_deref(), Some("relay.example:5010"));
        assert!((relay.socket.keepalive_seconds - 2.0).abs() < f64::EPSILON);
        assert_eq!(relay.mode, Mode::SameAddress);
        assert_eq!(relay.url.expose(), "redis://u:[p,w]@h");

        let relay = load_from("", &[], &["relay.trackers=[http://c:3]"]).unwrap().config.relay;
        assert_eq!(relay.trackers, ["http://c:3"]);
    }

    #[test]
    fn variables_that_only_resemble_ours_are_left_alone() {
        let env =
            [("KURIR_RELAY_SERVICE_HOST", "10.0.0.1"), ("kurir__relay__x", "1"), ("XKURIR__RELAY__X", "1")];
        load_from("", &env, &[]).unwrap();
    }

    /// File, environment, flags; what is said.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

    #[test]
    fn what_is_wrong_is_one_line_with_key_and_origin() {
        let cases: &[Case<'_>] = &[
            ("[relay]\nlisen = 'x'", &[], &[], "unknown key relay.lisen (from FILE)"),
            ("lisen = 'x'", &[], &[], "unknown key lisen (from FILE)"),
            ("[relay.socket]\nx = 1", &[], &[], "unknown key relay.socket.x (from FILE)"),
            (
                "",
                &[("KURIR__RELAY__LISEN", "x")],
                &[],
                "unknown key relay.lisen (from environment variable KURIR__RELAY__LISEN)",
            ),
            ("", &[("KURIR__", "x")], &[], "unknown key  (from environment variable KURIR__)"),
            ("", &[], &["rely.listen=x"], "unknown key rely (from --set rely.listen)"),
            ("", &[], &["relay.listen.x=1"], "unknown key relay.listen.x (from --set relay.listen.x)"),
            (
                "[relay]\noutbox_bytes = 'much'",
                &[],
                &[],
                "relay.outbox_bytes: invalid type: found string \"much\", expected usize (from FILE)",
            ),
            (
                "",
                &[("KURIR__RELAY__PRIVATE", "perhaps")],
                &[],
                "relay.private: invalid type: found string \"perhaps\", expected a boolean \
                 (from environment variable KURIR__RELAY__PRIVATE)",
            ),
            (
                "",
                &[],
                &["relay.mode=none"],
                "relay.mode: unknown variant: found `none`, expected ``ticket-only` or `same-address`` \
                 (from --set relay.mode)",
            ),
            (
                "",
                &[],
                &["relay.outbox_bytes=-1"],
                "relay.outbox_bytes: invalid value signed int `-1`, expected usize (from --set relay.outbox_bytes)",
            ),
            (
                "",
                &[],
                &["relay=1"],
                "relay: invalid type: found unsigned int `1`, expected struct Relay (from --set relay)",
            ),
        ];
        for (toml, env, set, expected) in cases {
            let toml = file(toml);
            let error = load::<Config>(&Config::default(), &sources(Some(&toml), env, set)).unwrap_err();
            let path = toml.path().display().to_string();
            assert_eq!(error.to_string().replace(&path, "FILE"), *expected);
        }
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let toml = file("[relay]\n\nlisten = \n");
        let error = load(&Config::default(), &sources(Some(&toml), &[], &[])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}, line 3: ", toml.path().display())), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let missing = Sources { files: vec!["/nonexistent/kurir.toml".into()], ..Sources::default() };
        let error = load(&Config::default(), &missing).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nonexistent/kurir.toml: "), "{error}");
    }

    #[test]
    fn set_needs_a_key_and_an_equals_sign() {
        for text in ["", "relay.listen", "=x", "relay.=x", ".x=1"] {
            assert_eq!(
                Flag::set(text).unwrap_err().to_string(),
                format!("--set {text}: expected section.key=value")
            );
        }
        assert_eq!(Flag::set("a.b=c=d").unwrap().value, "c=d");
    }

    #[test]
    fn print_shows_every_value_with_its_origin_and_no_password() {
        let loaded = load_from(
            "[relay]\nlisten = \"0.0.0.0:1\"\n",
            &[("KURIR__RELAY__URL", "redis://kurir:hunter2@redis:6379")],
            &["relay.socket.keepalive_seconds=0.5"],
        )
        .unwrap();
        let file = loaded.origin("relay.listen").unwrap().to_owned();
        assert_eq!(
            loaded.print().replace(&file, "FILE"),
            "[relay]\n\
             # advertise is not set # default\n\
             listen = \"0.0.0.0:1\" # from FILE\n\
             mode = \"ticket-only\" # default\n\
             outbox_bytes = 1024 # default\n\
             private = false # default\n\
             trackers = [\"http://127.0.0.1:5100\"] # default\n\
             url = \"redis://kurir:***@redis:6379\" # from environment variable KURIR__RELAY__URL\n\
             \n\
             [relay.socket]\n\
             keepalive_seconds = 0.5 # from --set relay.socket.keepalive_seconds\n"
        );
    }

    #[test]
    fn what_print_says_can_be_read_back() {
        let printed = load_from("", &[], &["relay.outbox_bytes=7"]).unwrap().print();
        let toml = file(&printed);
        let again = load(&Config::default(), &sources(Some(&toml), &[], &[])).unwrap();
        assert_eq!(again.config.relay.outbox_bytes, 7);
        assert!(!fs::read_to_string(toml.path()).unwrap().is_empty());
    }
}
