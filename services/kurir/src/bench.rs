//! `kurir bench`: load generator and reports.
//!
//! A benchmark starts the server it measures as a process of its own, so that the server's processor time and memory
//! are told apart from the generator's, and puts it beside a reference in the same run: absolute figures of a shared
//! machine say little, ratios a lot.
//!
//! - [`server`]: the process under test and what `/proc` says of it
//! - [`users`]: accounts, logins and relay connections for the load
//! - [`login`], [`flood`], [`latency`], [`idle`], [`tracked`], [`backlog`]: one benchmark each
//! - [`pairs`]: connections in pairs, at a relay or at the forwarder
//! - [`forwarder`]: the ceiling: a forwarder that parses nothing
//! - [`sending`], [`lines`]: tracked messages from their sender's side; reading lines
//! - [`check`]: loss, duplication, order
//! - [`report`]: table and JSON

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures for people: three significant digits"
)]

mod backlog;
mod check;
mod flood;
mod forwarder;
mod idle;
mod latency;
mod lines;
mod login;
mod pairs;
mod report;
mod sending;
mod server;
mod tracked;
mod users;

use clap::{Args as ClapArgs, Subcommand};

/// Load generator and reports.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Logins per second: registers N users, then logs them all in again.
    Login(login::Args),
    /// Messages per server CPU second: pairs of users with a window of messages in flight.
    Flood(flood::Args),
    /// Latency at a fixed rate, open loop: measured from the moment each message was due.
    Latency(latency::Args),
    /// Tracked messages: stored per second, and how long until they are acknowledged and delivered.
    Tracked(tracked::Args),
    /// A receiver comes back to many waiting messages: how soon, how fast, and with how much memory they come.
    Backlog(backlog::Args),
    /// Memory per online user who does nothing.
    Idle(idle::Args),
    /// Serves as a bare TCP forwarder, the ceiling for a relay on this machine. A client's first line is its name, each
    /// further line a target's name, a space and the payload.
    Forwarder(forwarder::Args),
}

/// Options that every benchmark has.
#[derive(Debug, Clone, ClapArgs)]
struct Common {
    /// Relays of the server under test.
    #[arg(long, default_value_t = 1, value_name = "N")]
    relays: u16,
    /// First port of the server under test (it uses the next 200).
    #[arg(long, default_value_t = 21_000, value_name = "P")]
    port_base: u16,
    /// Print the report as JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Where the server under test stores messages, for the benchmarks of that.
#[derive(Debug, Clone, ClapArgs)]
struct Stores {
    /// Managers of the server under test.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    managers: u16,
    /// Store in this database instead of a file in a temporary directory. Accounts and messages of the benchmark stay
    /// there: give it one of its own.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl Default for Stores {
    fn default() -> Self {
        Self { managers: 1, database: None }
    }
}

impl Stores {
    /// What the report says of it.
    fn name(&self) -> &str {
        self.database.as_deref().and_then(|url| url.split(':').next()).unwrap_or("sqlite")
    }
}

/// What the relay is put beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Reference {
    /// `kurir bench forwarder`, started and measured in turn with the relay.
    Forwarder,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // A pair needs four sockets here; where that is not enough, connecting says so.
    kurir_service::open_files::raise_open_file_limit();
    match args.command {
        Command::Login(args) => login::run(args).await,
        Command::Flood(args) => flood::run(args).await,
        Command::Latency(args) => latency::run(args).await,
        Command::Tracked(args) => tracked::run(args).await,
        Command::Backlog(args) => backlog::run(args).await,
        Command::Idle(args) => idle::run(args).await,
        Command::Forwarder(args) => forwarder::run(args).await,
    }
}
