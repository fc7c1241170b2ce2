//! The manager: accounts, rosters, presence, and who is sent to which relay. It is the only role that speaks SQL, and
//! it never carries messages.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`config`] | what can be configured |
//! | [`store`], [`password`] | accounts and rosters in the database, and their passwords |
//! | `server` | start and stop |
//! | `drain` | how its users leave before it stops |
//! | `manager` | what the parts share |
//! | `connection` | one client: what each packet leads to |
//! | `accounts`, `roster`, `presence` | the rules of PROTOCOL §2, §3 and §4 |
//! | `devices` | an account's devices: listed, removed, forgotten |
//! | `archive` | an account's log, read back by its owner |
//! | `retention` | what is old is dropped |
//! | `online`, `sessions` | users who are logged in here, each device of them |
//! | `shown` | what each of them was shown of others |
//! | `news`, `whereabouts`, `peers` | telling users of each other, here and through other managers |
//! | `membership`, `differences` | after a death, a pause or a loss: claiming again, telling what was missed |
//! | `log` | what relays append to the accounts' logs, in common transactions |
//! | `relays`, `choice`, `ticket` | relays attached here, which one a user is given, and what it shows there |
//! | `trail`, `explaining` | what is remembered of tracked messages, and told to who asks; who may ask |
//! | `rpc` | what relays and other managers call |
//! | `metrics` | what is counted |

pub mod config;
pub mod password;
pub mod store;

mod accounts;
mod archive;
mod choice;
mod connection;
mod devices;
mod differences;
mod drain;
mod explaining;
mod log;
mod manager;
mod membership;
mod metrics;
mod news;
mod online;
mod peers;
mod presence;
mod relays;
mod retention;
mod roster;
mod rpc;
mod server;
mod sessions;
mod shown;
mod ticket;
mod trail;
mod whereabouts;

#[cfg(test)]
mod tests;

pub use config::{Config, RelayChoice};
pub use server::Bound;

use kurir_directory::Directory;
use kurir_service::Shell;

use crate::store::Store;

/// Serves until `shell` says to stop, and returns when the users here have been told goodbye.
pub async fn serve(config: Config, store: Store, directory: Directory, shell: Shell) -> anyhow::Result<()> {
    Bound::bind(config, shell).await?.serve(store, directory).await
}
