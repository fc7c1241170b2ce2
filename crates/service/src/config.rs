//! Configuration in layers: defaults, then a TOML file, then the environment, then flags; every value knows which layer
//! it came from.

use std::path::PathBuf;

use serde::{Serialize, de::DeserializeOwned};

pub use self::secret::Secret;

mod secret;

/// Where configuration is taken from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment's variables; only those that begin with exactly `KURIR__` are looked at.
    pub env: Vec<(String, String)>,
    /// Flags, in the order given.
    pub flags: Vec<Flag>,
}

/// One key set on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    key: String,
    value: String,
    origin: String,
}

impl Flag {
    /// `--set section.key=value`.
    pub fn set(assignment: &str) -> Result<Self, ConfigError> {
        let _ = assignment;
        todo!()
    }

    /// A flag of its own (`origin`, as the user writes it) for `key`.
    pub fn named(origin: &str, key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), origin: origin.to_owned() }
    }
}

/// Why there is no configuration. Every message is one line and names the key and where its value came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Placeholder until the layers are in.
    #[error("{0}")]
    Other(String),
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The effective values.
    pub config: T,
}

/// Puts `sources` over `defaults`.
pub fn load<T: Serialize + DeserializeOwned>(defaults: &T, sources: &Sources) -> Result<Loaded<T>, ConfigError> {
    let _ = (defaults, sources);
    todo!()
}

impl<T: Serialize> Loaded<T> {
    /// The effective configuration as TOML, each value with its origin as a comment. Secrets are hidden.
    pub fn print(&self) -> String {
        todo!()
    }
}
