//! The connection to Redis: one for the process, opened again when it breaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kurir_metrics::Requests;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, Script, Value};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::Instrument;

use crate::DirectoryError;

/// After a failed attempt to connect the next one waits this long; until then every request fails at once.
const RETRY: Duration = Duration::from_millis(100);

/// Requests go out pipelined over one connection. Dropping one is safe; it may have been carried out.
pub(crate) struct Link {
    client: Client,
    shown: String,
    timeout: Duration,
    scripts: Vec<Script>,
    requests: Requests,
    state: Mutex<State>,
}

enum State {
    Closed,
    Open { connection: MultiplexedConnection, serial: u64, server: Arc<str> },
    Failed { at: Instant, error: Arc<RedisError> },
}

impl Link {
    /// Connects at once, so that a wrong address shows at start. `scripts` are loaded into every new connection's server.
    pub(crate) async fn open(
        url: &str,
        timeout: Duration,
        scripts: Vec<Script>,
        requests: Requests,
    ) -> Result<Self, DirectoryError> {
        let shown = without_password(url);
        let client = Client::open(url)
            .map_err(|e| DirectoryError::BadUrl { url: shown.clone(), source: Box::new(e) })?;
        let link = Self { client, shown, timeout, scripts, requests, state: Mutex::new(State::Closed) };
        link.run(redis::pipe().cmd("PING")).await?;
        Ok(link)
    }

    /// Carries out the commands in one round trip.
    pub(crate) async fn run(&self, commands: &Pipeline) -> Result<Replies, DirectoryError> {
        let carrying_out = self.carry_out(commands).instrument(kurir_trace::step!("redis"));
        self.requests.timed(carrying_out, Result::is_err).await
    }

    async fn carry_out(&self, commands: &Pipeline) -> Result<Replies, DirectoryError> {
        match tokio::time::timeout(self.timeout, self.attempt_twice(commands)).await {
            Ok(Ok((values, server))) => Ok(Replies { values: values.into_iter(), server }),
            Ok(Err(error)) => Err(self.away(Shared(error))),
            Err(elapsed) => {
                // The connection may lead nowhere without knowing it.
                self.close(None).await;
                Err(self.away(elapsed))
            }
        }
    }

    /// Which life of the server the connection leads to.
    pub(crate) async fn server(&self) -> Result<String, DirectoryError> {
        Ok(self.run(redis::pipe().cmd("PING")).await?.server().to_owned())
    }

    /// A connection that broke while nothing was sent shows that only at the next request, which then deserves another.
    async fn attempt_twice(&self, commands: &Pipeline) -> Result<(Vec<Value>, Arc<str>), Arc<RedisError>> {
        match self.attempt(commands).await {
            Err((error, Some(serial))) => {
                self.close(Some(serial)).await;
                if error.is_timeout() {
                    return Err(error);
                }
                self.attempt(commands).await.map_err(|(error, _)| error)
            }
            other => other.map_err(|(error, _)| error),
        }
    }

    async fn attempt(
        &self,
        commands: &Pipeline,
    ) -> Result<(Vec<Value>, Arc<str>), (Arc<RedisError>, Option<u64>)> {
        let (mut connection, serial, server) = self.connection().await.map_err(|e| (e, None))?;
        let values = commands.query_async(&mut connection).await.map_err(|e| (Arc::new(e), Some(serial)))?;
        Ok((values, server))
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64, Arc<str>), Arc<RedisError>> {
        // Held while connecting: whoever comes meanwhile needs the same connection. Bounded by `run`'s timeout.
        let mut state = self.state.lock().await;
        match &*state {
            State::Open { connection, serial, server } => {
                return Ok((connection.clone(), *serial, Arc::clone(server)));
            }
            State::Failed { at, error } if at.elapsed() < RETRY => return Err(Arc::clone(error)),
            State::Failed { .. } | State::Closed => {}
        }
        match self.connect().await {
            Ok((connection, server)) => {
                let serial = rand::random();
                *state = State::Open { connection: connection.clone(), serial, server: Arc::clone(&server) };
                Ok((connection, serial, server))
            }
            Err(error) => {
                let error = Arc::new(error);
                *state = State::Failed { at: Instant::now(), error: Arc::clone(&error) };
                Err(error)
            }
        }
    }

    /// A connection, and which life of the server it leads to: a restart always breaks the connection.
    async fn connect(&self) -> Result<(MultiplexedConnection, Arc<str>), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        for script in &self.scripts {
            script.load_async(&mut connection).await?;
        }
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let server = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
        Ok((connection, server.into()))
    }

    /// Forgets the connection, if it still is the one meant.
    async fn close(&self, meant: Option<u64>) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Open { serial, .. } if meant.is_none_or(|meant| meant == *serial)) {
            *state = State::Closed;
        }
    }

    fn away(&self, source: impl std::error::Error + Send + Sync + 'static) -> DirectoryError {
        DirectoryError::Away { url: self.shown.clone(), source: Box::new(source) }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("url", &self.shown).finish_non_exhaustive()
    }
}

/// One failed attempt's error, given to all who waited for it.
#[derive(Debug, Error)]
#[error("{0}")]
struct Shared(Arc<RedisError>);

/// The answers to a pipeline's commands, taken one after the other.
pub(crate) struct Replies {
    values: std::vec::IntoIter<Value>,
    /// Which life of the server gave them.
    server: Arc<str>,
}

impl Replies {
    pub(crate) fn server(&self) -> &str {
        &self.server
    }
    pub(crate) fn take<T: FromRedisValue>(&mut self) -> Result<T, DirectoryError> {
        let value = self
            .values
            .next()
            .ok_or_else(|| DirectoryError::Garbled("fewer answers than commands".to_owned()))?;
        redis::from_redis_value(value).map_err(|e| DirectoryError::Garbled(e.to_string()))
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("redis://:s3@cret@host:1/2"), "redis://…@host:1/2");
        assert_eq!(without_password("redis://host:1"), "redis://host:1");
    }
}
