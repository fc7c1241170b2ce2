//! The life of a server process.

use std::process::ExitCode;

use crate::{Shell, ShutdownConfig, admin::AdminConfig, telemetry::LogConfig};

/// What the process around a role is configured with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Section `[log]`.
    pub log: LogConfig,
    /// Section `[admin]`.
    pub admin: AdminConfig,
    /// Section `[shutdown]`.
    pub shutdown: ShutdownConfig,
    /// Client sockets that one user needs in this process, to say at the start how many users fit.
    pub sockets_per_user: u32,
}

/// Runs a server until it ends or is told to stop: TLS provider, logs, open-file limit, admin port, signals, `serve`,
/// bounded drain. The configuration has been read before, so that what is wrong in it is said before anything starts.
///
/// Exits with 0 after an orderly stop and with 1 if `serve` or the start failed. A second signal ends the process at
/// once with 1.
pub fn run<S, F>(name: &str, settings: &Settings, serve: S) -> ExitCode
where
    S: FnOnce(Shell) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let _ = (name, settings, serve);
    todo!()
}
