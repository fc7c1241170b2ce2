//! The relay: users' message connections, and the way of a message from one to another.
//!
//! - [`config`]: what can be configured

#![warn(missing_docs)]

pub mod config;

pub use config::{BareHello, Config};

/// Serves until `shell` says to stop.
pub async fn serve(
    config: Config,
    directory: kurir_directory::Directory,
    shell: kurir_service::Shell,
) -> anyhow::Result<()> {
    let _ = (directory, shell);
    todo!("{config:?}")
}
