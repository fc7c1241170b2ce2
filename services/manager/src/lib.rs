//! The manager: accounts, rosters, presence, and who is sent to which relay. It is the only role that speaks SQL, and
//! it never carries messages.
//!
//! - [`config`]: what can be configured
//! - [`store`], [`password`]: accounts and rosters in the database, and their passwords

pub mod config;
pub mod password;
pub mod store;

pub use config::{Config, RelayChoice};

use kurir_directory::Directory;
use kurir_service::Shell;

use crate::store::Store;

/// Serves until `shell` says to stop, and returns when the users here have been told goodbye.
pub async fn serve(config: Config, store: Store, directory: Directory, shell: Shell) -> anyhow::Result<()> {
    let _ = (store, directory, shell);
    todo!("{config:?}")
}
