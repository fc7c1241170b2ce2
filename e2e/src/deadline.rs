//! Waiting for something, never longer than so.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a scenario waits for anything that should be there at once. Generous: the machine may be busy with a build.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often [`until`] looks again at what sends no event when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The future's output; fails the scenario when `limit` passes first.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(limit, future).await else {
        panic!("{what}: nothing after {limit:?}")
    };
    value
}

/// Looks again and again until `look` gives something, and says how long that took. For what sends no event.
pub async fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(value) = look().await {
                return value;
            }
        }
    };
    let value = within(limit, what, found).await;
    (value, began.elapsed())
}
