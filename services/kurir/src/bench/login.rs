//! `kurir bench login`: how fast users come in, and how evenly they spread over the relays.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Common,
    report::{Report, rounded},
    server::{PasswordCost, Server},
    users,
};

/// `kurir bench login`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Users that register and then log in again.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    users: usize,
    /// What a password costs: with the default it is argon2 that is measured, with the least everything else.
    #[arg(long, value_enum, default_value = "default")]
    password_cost: PasswordCost,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(args.users > 0, "users must be at least 1");
    let server = Server::up(&args.common, args.password_cost).await?;
    let manager = users::manager_addr(args.common.port_base);
    let mut report = Report::default();
    for (what, register) in [("registered", true), ("logged in", false)] {
        let (usage, began) = (server.usage()?, Instant::now());
        let online = users::many(what, args.users, |index| {
            let manager = manager.clone();
            async move { users::login(&manager, &format!("u{index}"), register).await }
        })
        .await?;
        let (seconds, after) = (began.elapsed().as_secs_f64(), server.usage()?);
        let cpu_seconds = after.cpu_seconds - usage.cpu_seconds;
        let mut spread: BTreeMap<&str, usize> = BTreeMap::new();
        for user in &online {
            *spread.entry(&user.ticket.relay).or_default() += 1;
        }
        let most = spread.values().max().copied().unwrap_or_default() as f64;
        let mean = online.len() as f64 / f64::from(args.common.relays);
        report.row(vec![
            ("what", Value::from(what)),
            ("users", Value::from(online.len())),
            ("seconds", rounded(seconds)),
            ("per_second", rounded(online.len() as f64 / seconds)),
            ("per_cpu_second", rounded(online.len() as f64 / cpu_seconds.max(0.01))),
            ("fullest_relay_above_mean_percent", rounded((most / mean - 1.0) * 100.0)),
        ]);
        log_out(online).await?;
    }
    report.finish(args.common.json)?;
    server.stop().await
}

/// Logs everybody out and waits for the server to close: a name may log in again only when it is offline.
async fn log_out(online: Vec<users::User>) -> anyhow::Result<()> {
    let mut leaving = Vec::with_capacity(online.len());
    for (index, user) in online.into_iter().enumerate() {
        leaving.push(users::logout(user, &format!("u{index}")).await?);
    }
    for connection in leaving {
        users::until_closed(connection).await?;
    }
    Ok(())
}
