//! `kurir bench idle`: memory per online user who does nothing.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    Common,
    report::{Report, rounded},
    server::{PasswordCost, Server},
    users,
};

/// After the last login, for buffers of the logins to be given back.
const SETTLE: Duration = Duration::from_secs(3);

/// `kurir bench idle`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Users online, each with a manager and a relay connection.
    #[arg(long, default_value_t = 4000, value_name = "N")]
    users: usize,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(args.users > 0, "users must be at least 1");
    let server = Server::up(&args.common, PasswordCost::Least).await?;
    let manager = users::manager_addr(args.common.port_base);
    let online = |what: &'static str, prefix: &'static str, count: usize| {
        let manager = manager.clone();
        users::many(what, count, move |index| {
            let manager = manager.clone();
            async move {
                let name = format!("{prefix}{index}");
                let user = users::login(&manager, &name, true).await?;
                let relay = users::hello(&name, &user.ticket).await?;
                anyhow::Ok((user, relay))
            }
        })
    };
    // The first users pay for what every server needs once: pools, caches, threads.
    let _first = online("warm-up: users online", "w", args.users.min(200)).await?;
    sleep(SETTLE).await;
    let before = server.usage()?;
    let users = online("users online", "u", args.users).await?;
    sleep(SETTLE).await;
    let after = server.usage()?;
    let bytes = after.rss_bytes.saturating_sub(before.rss_bytes) as f64;
    let mut report = Report::default();
    report.row(vec![
        ("users", Value::from(users.len())),
        ("rss_before_mib", rounded(before.rss_bytes as f64 / f64::from(1 << 20))),
        ("rss_after_mib", rounded(after.rss_bytes as f64 / f64::from(1 << 20))),
        ("kib_per_user", rounded(bytes / 1024.0 / args.users as f64)),
    ]);
    report.finish(args.common.json)?;
    server.stop().await
}
