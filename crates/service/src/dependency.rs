//! What a process needs and has not in its hands, such as Redis: asked once a second whether it answers, and readiness
//! says so.
//!
//! A process that lost it goes on serving whom it serves; not ready means that nobody new should be sent to it, and that a
//! rolling update waits.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Shell;

const EVERY: Duration = Duration::from_secs(1);

/// Silent for so long it is away. A restart of Redis or a failover of the database should not turn users away.
const AWAY_AFTER: Duration = Duration::from_secs(5);

/// Answering without a gap for so long it is back.
const BACK_AFTER: Duration = Duration::from_secs(2);

/// Keeps readiness in step with whether `ask` gets an answer, until the process drains. `name` is what `/readyz` calls it. It has
/// answered when this is called, or there would be no process.
pub fn watch<A, F, E>(shell: &Shell, name: &'static str, ask: A)
where
    A: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    let part = shell.health.register_dependency(name);
    part.ready();
    let watching = async move {
        let mut standing = Standing::default();
        loop {
            let answer = ask().await.map_err(anyhow::Error::from);
            let changed = standing.heard(Instant::now(), answer.is_ok());
            match answer {
                Err(error) if standing.is_away => {
                    let error = format!("{error:#}");
                    if changed {
                        tracing::warn!(dependency = name, error, "not ready: it does not answer");
                    }
                    part.not_ready(&format!("no answer for {} s or more: {error}", AWAY_AFTER.as_secs()));
                }
                Ok(()) if changed => {
                    tracing::info!(dependency = name, "it answers again");
                    part.ready();
                }
                Ok(()) | Err(_) => {}
            }
            sleep(EVERY).await;
        }
    };
    let stop = shell.shutdown.token.clone();
    shell.shutdown.tracker.spawn(async move {
        let _: Option<()> = stop.run_until_cancelled(watching).await;
    });
}

/// Whether it is taken for away.
#[derive(Debug, Default)]
struct Standing {
    is_away: bool,
    /// Since when answers say the opposite.
    doubted: Option<Instant>,
}

impl Standing {
    /// One answer, or none. True: this changes.
    fn heard(&mut self, now: Instant, answered: bool) -> bool {
        if answered != self.is_away {
            self.doubted = None;
            return false;
        }
        let since = *self.doubted.get_or_insert(now);
        let patience = if self.is_away { BACK_AFTER } else { AWAY_AFTER };
        if now.duration_since(since) < patience {
            return false;
        }
        *self = Self { is_away: !self.is_away, doubted: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    /// What is thought at each second, given whether there was an answer then.
    fn away(answers: &str) -> String {
        let (mut standing, begin) = (Standing::default(), Instant::now());
        let said = (0..).zip(answers.chars()).map(|(second, answer)| {
            standing.heard(begin + Duration::from_secs(second), answer == '+');
            if standing.is_away { 'A' } else { '.' }
        });
        said.collect()
    }

    #[test]
    fn a_short_outage_changes_nothing() {
        assert_eq!(away("+----+----+++"), ".............");
    }

    #[test]
    fn away_is_who_was_silent_for_long_and_back_who_answers_without_a_gap() {
        assert_eq!(away("+------+-+++++"), "......AAAAA...");
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_says_what_is_away_and_why_and_that_it_is_back() {
        let shell = Shell::new(1);
        shell.health.register("relay").ready();
        let answers = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&answers);
        watch(&shell, "redis", move || {
            let answer =
                if asked.load(Ordering::Relaxed) { Ok(()) } else { Err(io::Error::other("refused")) };
            std::future::ready(answer)
        });
        assert!(shell.health.report().is_ready(), "it has only just been reached");
        sleep(AWAY_AFTER + EVERY).await;
        assert_eq!(
            serde_json::to_string(&shell.health.report()).unwrap(),
            r#"{"ready":false,"parts":{"relay":"ready"},"dependencies":{"redis":"no answer for 5 s or more: refused"}}"#
        );
        answers.store(true, Ordering::Relaxed);
        // An answer that was refused at this very moment may come before the first.
        sleep(BACK_AFTER + EVERY * 2).await;
        assert!(shell.health.report().is_ready());
        shell.shutdown.begin();
        shell.shutdown.tracker.close();
        shell.shutdown.tracker.wait().await;
    }
}
