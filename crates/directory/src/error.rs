//! Why the directory was not read or written.

use thiserror::Error;

use crate::{Address, ComponentId};

/// Why an operation on the tables failed.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Redis can't be reached or does not answer in time. Nobody is dead because of that; try again.
    #[error("directory at {url} is away")]
    Away {
        /// Where it should be, password hidden.
        url: String,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tables were lost and owners are writing theirs again: no new claims for one lease time.
    #[error("directory was lost and is being written again")]
    Recovering,
    /// This component was paused past its lease: no claims until it has a new generation.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// Another live component has this name.
    #[error("component id {id} is in use by the one at {client}; give each component an id of its own")]
    IdInUse {
        /// The name.
        id: ComponentId,
        /// Where clients connect to the one that has it.
        client: Address,
    },
    /// The address is none that a directory can have.
    #[error("directory address {url:?} is not usable: write redis://host:port")]
    BadUrl {
        /// As configured, password hidden.
        url: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Others changed the same entry again and again; try again.
    #[error("entry is contended")]
    Contended,
    /// The directory answered something that this version does not understand.
    #[error("directory answered what makes no sense: {0}")]
    Garbled(String),
}

impl DirectoryError {
    /// Whether it passes by itself, with the directory's outage or recovery: who is starting tries again.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Recovering)
    }
}

/// This component was paused past its lease, or declared dead while it was out of touch: until it has a new
/// generation it may not act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("component is fenced: it was out of touch for longer than its lease")]
pub struct Fenced;
