//! The tracker: tells clients and components who is alive.
//!
//! It keeps memory only, and sits in no message's path. Whether a component is dead is decided by its lease in
//! the directory, never here: the end of a component's stream only takes it off the list given to newcomers (T6). Trackers
//! know nothing of each other; components join all of them.
//!
//! - [`config`]: what can be configured
//! - `registry`: who joined, with status and load; pure
//! - `roll`: the registry, shared, and its subscribers
//! - `rpc`: `kurir.v1.Tracker` for components and `kurir status`
//! - `socket`: the JSON socket for clients (PROTOCOL section 1)
//! - `metrics`

#![warn(missing_docs)]

pub mod config;

pub use config::Config;

/// Serves until `shell` says to stop.
pub async fn serve(config: Config, shell: kurir_service::Shell) -> anyhow::Result<()> {
    let _ = shell;
    todo!("{config:?}")
}
