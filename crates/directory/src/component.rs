//! What a component is called, and which life of it is meant.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// The configured name of a component, the same over all its lives: 1–64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentId(String);

impl ComponentId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ComponentId {
    type Error = BadComponentId;

    fn try_from(id: String) -> Result<Self, BadComponentId> {
        // Braces would move the hash slot of the component's keys, spaces split the entries of its index.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&id.len()) && id.bytes().all(allowed) {
            Ok(Self(id))
        } else {
            Err(BadComponentId(id))
        }
    }
}

impl FromStr for ComponentId {
    type Err = BadComponentId;

    fn from_str(id: &str) -> Result<Self, BadComponentId> {
        Self::try_from(id.to_owned())
    }
}

impl From<ComponentId> for String {
    fn from(id: ComponentId) -> Self {
        id.0
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A component's name that is empty, too long or has other characters than allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("component id {0:?} is not 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct BadComponentId(String);

/// One life of a component: new at every start and after every fencing. A later one orders after an earlier one
/// of the same machine, but nothing here relies on that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(Uuid);

impl Generation {
    /// A generation that nobody had before.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for Generation {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Generation {
    type Err = BadGeneration;

    fn from_str(generation: &str) -> Result<Self, BadGeneration> {
        Uuid::from_str(generation).map(Self).map_err(|_| BadGeneration(generation.to_owned()))
    }
}

/// Text that is no generation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no generation")]
pub struct BadGeneration(String);

/// The roles that own entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Owns sessions.
    Manager,
    /// Owns routes.
    Relay,
}

/// Where clients connect to a component: a name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A component before it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewComponent {
    /// Its role.
    pub kind: Kind,
    /// Its configured name; of two live components with one name the second can't join.
    pub id: ComponentId,
    /// Where clients are told to connect.
    pub client: Address,
    /// Where other components connect: a gRPC URL.
    pub grpc: String,
}

impl NewComponent {
    pub(crate) fn of(&self, generation: Generation) -> Component {
        Component {
            kind: self.kind,
            id: self.id.clone(),
            generation,
            client: self.client.clone(),
            grpc: self.grpc.clone(),
        }
    }
}

/// One life of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its role.
    pub kind: Kind,
    /// Its configured name.
    pub id: ComponentId,
    /// Which life of it.
    pub generation: Generation,
    /// Where clients are told to connect.
    pub client: Address,
    /// Where other components connect: a gRPC URL.
    pub grpc: String,
}
