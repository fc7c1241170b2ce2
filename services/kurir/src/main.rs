//! Kurir's one binary. What can be tested is in the roles' libraries and in the modules here:
//!
//! - [`roles`]: `tracker`, `manager`, `relay`, each a process of its own
//! - [`up`]: all of them in one process
//! - [`start`]: waiting for the directory and the database
//! - [`config`]: the configuration of every command that serves, `config print`, `config check`
//! - [`migrate`]: the database schema
//! - [`chat`], [`status`], [`drain`], [`explain`], [`bench`]: clients

mod bench;
mod chat;
mod config;
mod drain;
mod explain;
mod migrate;
mod roles;
mod start;
mod status;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kurir_service::telemetry::{self, LogConfig};

use crate::{config::ConfigArgs, roles::Role};

/// Logins, password hashes and pages of logs come and go between the little that an online user keeps: with glibc's
/// allocator the holes are nearly as large as that again (ADR 7).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Chat middleware: accounts, contacts, presence and messages over plain TCP sockets.
#[derive(Debug, Parser)]
#[command(name = "kurir", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, with nothing else installed.
    Up(up::Args),
    /// Tells clients and components who is alive.
    Tracker(ConfigArgs),
    /// Accounts, contacts, presence; sends each user to a relay.
    Manager(ConfigArgs),
    /// Users' message connections and the way between them.
    Relay(ConfigArgs),
    /// Chat in the terminal, or in a pipe.
    Chat(chat::Args),
    /// Which components are alive, with load and users.
    Status(status::Args),
    /// Has a relay or a manager let its users go and stop.
    Drain(drain::Args),
    /// What became of a message.
    Explain(explain::Args),
    /// Load generator and reports.
    Bench(bench::Args),
    /// Brings the database schema up to date.
    Migrate(ConfigArgs),
    /// Shows or checks the configuration.
    #[command(subcommand)]
    Config(config::Command),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Tracker(args) => roles::run(Role::Tracker, &args),
        Command::Manager(args) => roles::run(Role::Manager, &args),
        Command::Relay(args) => roles::run(Role::Relay, &args),
        Command::Chat(args) => finish(chat::run(args)),
        Command::Status(args) => finish(status::run(args)),
        Command::Drain(args) => finish(drain::run(args)),
        Command::Explain(args) => finish(explain::run(args)),
        Command::Bench(args) => finish(bench::run(args)),
        Command::Migrate(args) => migrate::run(&args),
        Command::Config(command) => config::run(&command),
    }
}

/// Runs a command that serves nobody to its end.
fn finish(command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    // What it prints is its log; only degradation is worth a line besides.
    let quiet = LogConfig { level: "warn".to_owned(), ..LogConfig::default() };
    let ended = telemetry::init(&quiet).map_err(anyhow::Error::from).and_then(|()| {
        let runtime = tokio::runtime::Runtime::new()?;
        let ended = runtime.block_on(command);
        // A blocking read of stdin would otherwise hold the process until the next line.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kurir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
