//! Reaching the directory and the database at the start, which may come up later than we do.

use std::time::Duration;

use anyhow::Context;
use kurir_directory::{Directory, DirectoryError, Timing};
use kurir_manager::store::{DatabaseConfig, Store, StoreError};
use kurir_service::{Shell, dependency};
use tokio::time::{Instant, sleep};

use crate::config::{Config, IN_PROCESS, StartConfig};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The tables: in Redis, or in this process.
pub(crate) async fn directory(config: &Config) -> anyhow::Result<Directory> {
    let timing = timing(config);
    let (url, prefix) = (config.directory.url.expose(), &config.directory.prefix);
    if url == IN_PROCESS {
        return Ok(Directory::in_process(timing));
    }
    let connect = async || Directory::connect(url, prefix, timing).await;
    let connected =
        retry(&config.start, connect, DirectoryError::is_passing).await.context("directory.url")?;
    // It may go away again before the roles have joined.
    Ok(connected.patient(config.start.retry()))
}

/// The accounts and rosters, with their schema up to date if `database.migrate` says so.
pub(crate) async fn store(config: &Config) -> anyhow::Result<Store> {
    open_store(&config.start, &config.database).await
}

pub(crate) async fn open_store(start: &StartConfig, database: &DatabaseConfig) -> anyhow::Result<Store> {
    let connect = async || Store::connect(database).await;
    let passing = |error: &StoreError| matches!(error, StoreError::Unavailable(_));
    retry(start, connect, passing).await.with_context(|| format!("database.url {}", database.url))
}

/// From now on readiness says whether these answer, and metrics how fast.
pub(crate) fn watch(shell: &Shell, directory: &Directory, store: Option<&Store>) {
    if !directory.is_in_process() {
        let requests = directory.requests();
        shell
            .metrics
            .register(|registry| requests.register(registry, "redis_request", "round trips to Redis"));
        let asked = directory.clone();
        dependency::watch(shell, "redis", move || {
            let asked = asked.clone();
            async move { asked.ping().await }
        });
    }
    let Some(store) = store else { return };
    let requests = store.requests();
    shell.metrics.register(|registry| {
        requests.register(registry, "database_request", "requests to the database, all statements of each");
    });
    let asked = store.clone();
    dependency::watch(shell, "database", move || {
        let asked = asked.clone();
        async move { asked.ping().await }
    });
}

/// What `opening` gives, or nothing if the process is told to stop before. Until then `/readyz` says why it is not ready.
pub(crate) async fn unless_stopped<T>(
    shell: &Shell,
    opening: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    let part = shell.health.register("start");
    part.not_ready("waiting for the directory or the database");
    let opened = shell.shutdown.token.run_until_cancelled(opening).await;
    part.withdraw();
    opened.transpose()
}

/// A ticket must not outlive the memory of the login that it belongs to.
fn timing(config: &Config) -> Timing {
    let defaults = Timing::default();
    Timing { ended: defaults.ended.max(Duration::from_secs(config.manager.ticket_seconds)), ..defaults }
}

/// Tries until it succeeds, fails for good, or `start.retry_seconds` are over. One warning per failure, with growing
/// pauses.
async fn retry<T, E>(
    start: &StartConfig,
    attempt: impl AsyncFn() -> Result<T, E>,
    passing: impl Fn(&E) -> bool,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let deadline = Instant::now() + start.retry();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match attempt().await {
            Ok(opened) => return Ok(opened),
            Err(error) if !passing(&error) => return Err(error.into()),
            Err(error) => anyhow::Error::from(error),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error.context(format!("not reached within {} s", start.retry_seconds)));
        }
        let pausing = pause.min(left);
        tracing::warn!(error = format!("{error:#}"), again_in = ?pausing, "not reachable yet");
        sleep(pausing).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io};

    use super::*;

    fn for_seconds(retry_seconds: u64) -> StartConfig {
        StartConfig { retry_seconds }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_up_late_is_waited_for() {
        let attempts = Cell::new(0);
        let opening = async || {
            attempts.set(attempts.get() + 1);
            if attempts.get() < 5 { Err(io::Error::other("refused")) } else { Ok("open") }
        };
        assert_eq!(retry(&for_seconds(30), opening, |_| true).await.unwrap(), "open");
        assert_eq!(attempts.get(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_away_is_given_up_in_one_line() {
        let begin = Instant::now();
        let opening = async || Err::<(), _>(io::Error::other("refused"));
        let error = retry(&for_seconds(30), opening, |_| true).await.unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), 30);
        assert_eq!(format!("{error:#}"), "not reached within 30 s: refused");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_for_good_is_not_tried_again() {
        let begin = Instant::now();
        let opening = async || Err::<(), _>(io::Error::other("no such database"));
        retry(&for_seconds(30), opening, |_| false).await.unwrap_err();
        assert!(begin.elapsed().is_zero());
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting() {
        let shell = Shell::new(1);
        shell.shutdown.begin();
        let opened = unless_stopped(&shell, std::future::pending::<anyhow::Result<()>>()).await.unwrap();
        assert!(opened.is_none());
    }
}
