//! `kurir up`: every role in one process, as the separate processes run them, gRPC over loopback included.
//!
//! Standard output is for people and scripts: where each role listens, how to chat, and, once all are ready, the line
//! `kurir is ready`. Logs go to standard error.

mod plan;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use kurir_service::{
    Shell,
    config::{ConfigError, Secret},
};
use tokio::task::{JoinError, JoinSet};

use self::plan::{Plan, SPAN};
use crate::{
    config::{self, ConfigArgs, refused},
    start,
};

/// Every user has a socket to the tracker, to a manager and to a relay, all in this process.
const SOCKETS_PER_USER: usize = 3;
/// The line on standard output that says so.
const READY: &str = "kurir is ready";

/// Arguments of `kurir up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many relays.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=80))]
    relays: u16,
    /// How many managers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    managers: u16,
    /// Where the database is kept. Created when missing.
    #[arg(long, value_name = "DIR", default_value = "./kurir-data")]
    data: PathBuf,
    /// The first port: tracker P, managers P+1…, relays P+10…, admin P+90, gRPC P+100….
    #[arg(
        long,
        value_name = "P",
        default_value_t = 5000,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(u16::MAX - SPAN))
    )]
    port_base: u16,
    /// The address to listen on, which is also what clients are given. gRPC and admin stay on loopback.
    #[arg(long, value_name = "H", default_value = "127.0.0.1")]
    host: String,
    /// Tables in this Redis instead of in this process.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Accounts in this database instead of a file in the data directory.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Reads the configuration and runs everything until told to stop.
pub(crate) fn run(args: &Args) -> ExitCode {
    let plan = match planned(args) {
        Ok(plan) => plan,
        Err(error) => return refused(&error),
    };
    let advice = format!(
        "`kurir up` uses ports {} to {}, choose others with --port-base",
        args.port_base,
        args.port_base + SPAN
    );
    let settings = plan.config.settings(SOCKETS_PER_USER, &advice);
    kurir_service::run("up", &settings, |shell| serve(plan, shell))
}

fn planned(args: &Args) -> Result<Plan, ConfigError> {
    let loaded = config::load(&plan::defaults(args), &plan::sources(args)?)?;
    Plan::new(args, loaded)
}

async fn serve(plan: Plan, shell: Shell) -> anyhow::Result<()> {
    if let Some(directory) = &plan.create {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let config = &plan.config;
    let opened = Box::pin(async { tokio::try_join!(start::store(config), start::directory(config)) });
    let Some((store, directory)) = start::unless_stopped(&shell, opened).await? else { return Ok(()) };

    start::watch(&shell, &directory, Some(&store));
    // Every role has its place in readiness before the first can say that it is ready.
    let tracker = shell.child("tracker");
    let managers: Vec<_> = plan.managers.iter().map(|role| (role.clone(), shell.child(&role.id))).collect();
    let relays: Vec<_> = plan.relays.iter().map(|role| (role.clone(), shell.child(&role.id))).collect();
    let mut roles = JoinSet::new();
    roles.spawn(kurir_tracker::serve(plan.tracker.clone(), tracker));
    for (config, shell) in managers {
        roles.spawn(kurir_manager::serve(config, store.clone(), directory.clone(), shell));
    }
    for (config, shell) in relays {
        roles.spawn(kurir_relay::serve(config, directory.clone(), shell));
    }
    drop((store, directory));
    run_roles(roles, &shell, || announce(&plan, &shell)).await
}

/// Waits until every role has ended. The first that ends, however, ends the others; the first error is what is told.
async fn run_roles(
    mut roles: JoinSet<anyhow::Result<()>>,
    shell: &Shell,
    announce: impl FnOnce() -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let first = tokio::select! {
        first = roles.join_next() => first,
        () = shell.health.wait_until_ready() => {
            // Nobody reading is no reason not to serve.
            if let Err(error) = announce() {
                tracing::debug!(%error, "standard output is closed");
            }
            roles.join_next().await
        }
    };
    let mut next = first;
    while let Some(ended) = next {
        shell.health.stopping();
        shell.shutdown.begin();
        outcome = outcome.and(flattened(ended));
        next = roles.join_next().await;
    }
    outcome
}

fn flattened(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|panic| Err(panic.into()))
}

fn announce(plan: &Plan, shell: &Shell) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{}", plan.listing())?;
    writeln!(out, "{READY}")?;
    out.flush()?;
    tracing::info!(users = shell.connections.limit() / SOCKETS_PER_USER, "ready");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn a_role_that_fails_ends_the_others_and_is_what_is_told() {
        let shell = Shell::new(1);
        let mut roles = JoinSet::new();
        let other = shell.child("other");
        roles.spawn(async move {
            other.shutdown.began().await;
            Err(anyhow!("a consequence"))
        });
        roles.spawn(async { Err(anyhow!("no port")) });
        let error = run_roles(roles, &shell, || panic!("nothing is ready")).await.unwrap_err();
        assert_eq!(error.to_string(), "no port");
    }

    #[tokio::test]
    async fn readiness_is_announced_once_and_serving_goes_on() {
        let shell = Shell::new(1);
        let role = shell.child("role");
        let mut roles = JoinSet::new();
        roles.spawn(async move {
            role.health.register("clients").ready();
            role.shutdown.began().await;
            Ok(())
        });
        let announced = Cell::new(0);
        let announce = || {
            announced.set(announced.get() + 1);
            shell.shutdown.begin();
            Ok(())
        };
        run_roles(roles, &shell, announce).await.unwrap();
        assert_eq!(announced.get(), 1);
    }
}
