//! Requests to something that may be slow or away.

use std::time::Instant;

use prometheus_client::{
    metrics::{
        counter::Counter,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// 0.25 ms, and twice as much each time, up to 8.2 s: from a look into memory to past every deadline there is.
const FIRST_BUCKET_SECONDS: f64 = 0.000_25;
const BUCKETS: u16 = 16;

/// How long requests take, and how many fail. Clones count together.
#[derive(Debug, Clone)]
pub struct Requests {
    seconds: Histogram,
    failures: Counter,
}

impl Default for Requests {
    fn default() -> Self {
        let seconds = Histogram::new(exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS));
        Self { seconds, failures: Counter::default() }
    }
}

impl Requests {
    /// Registers `NAME_seconds` and `NAME_failures_total`; `what` is what both count.
    pub fn register(&self, registry: &mut Registry, name: &str, what: &str) {
        let help = format!("How long they took, those that failed too: {what}");
        registry.register(format!("{name}_seconds"), help, self.seconds.clone());
        registry.register(
            format!("{name}_failures"),
            format!("Without an answer: {what}"),
            self.failures.clone(),
        );
    }

    /// Makes a request and notes how long it takes; `failed` says of its outcome whether it failed. One that is dropped before its
    /// end is not counted.
    pub async fn timed<T>(&self, request: impl Future<Output = T>, failed: impl FnOnce(&T) -> bool) -> T {
        let began = Instant::now();
        let outcome = request.await;
        self.seconds.observe(began.elapsed().as_secs_f64());
        if failed(&outcome) {
            self.failures.inc();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[tokio::test]
    async fn answers_and_failures_are_told_apart_and_both_timed() {
        let requests = Requests::default();
        let mut registry = Registry::default();
        requests.register(&mut registry, "redis_request", "requests to Redis");
        for outcome in [Ok(()), Err(()), Ok(())] {
            let _ = requests.timed(std::future::ready(outcome), Result::is_err).await;
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE redis_request_seconds histogram",
            "redis_request_seconds_count 3",
            "redis_request_seconds_bucket{le=\"8.192\"} 3",
            "redis_request_failures_total 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
    }
}
