//! The shell that every Kurir server shares: configuration, logs, metrics, the admin port, the listener for client
//! sockets, and an orderly start and stop. It knows no chat: nothing here reads or writes a stanza.
//!
//! A server is a function `serve(…, shell)`; [`run()`] surrounds it with everything else.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`config`] | defaults, file, environment and flags in layers; every value knows where it came from |
//! | [`telemetry`] | logs on stderr: human on a terminal, JSON otherwise |
//! | [`traces`] | spans, to a collector of OpenTelemetry |
//! | [`mod@run`] | process start, signals, bounded drain |
//! | [`shell`] | what `serve` is given: [`Shell`], [`Shutdown`] |
//! | [`leave`] | how users are let go: each in its turn |
//! | [`health`] | readiness, by part |
//! | [`dependency`] | and by what the process depends on |
//! | [`metrics`] | one registry for the process, labelled by role when several share it |
//! | [`admin`] | `/livez`, `/readyz`, `/metrics` |
//! | [`listener`] | binding and accepting client sockets, never more than the open-file limit allows |
//! | [`open_files`] | that limit |
#![warn(missing_docs)]

pub mod admin;
pub mod config;
pub mod dependency;
pub mod health;
pub mod leave;
pub mod listener;
pub mod metrics;
pub mod open_files;
mod process;
pub mod run;
pub mod shell;
pub mod telemetry;
pub mod traces;

pub use health::{Health, Ready};
pub use listener::{BindError, Listener, ListenerConfig};
pub use metrics::Metrics;
pub use run::{Settings, run};
pub use shell::{Shell, Shutdown, ShutdownConfig};
pub use traces::TracesConfig;
