//! Dropping what is old of the accounts' logs, a few entries at a time, for as long as the manager runs.
//!
//! Every manager does it: who comes second finds nothing to do.

use std::time::Duration;

use rand::RngExt;

use crate::{
    config::Config,
    manager::{Manager, now_ms},
    store::{
        StoreError,
        retention::{Due, Retention},
    },
};

/// Old entries are looked for this often, first after a part of it: managers begin at different moments.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Between two transactions: what users do goes first.
const PAUSE: Duration = Duration::from_millis(20);

/// So many logs in a row that fail are more than a bad log.
const FAILURES: u32 = 3;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How long entries are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    days: u32,
    entries: u64,
    device_days: u32,
}

impl Kept {
    pub(crate) fn new(config: &Config) -> Self {
        Self { days: config.log_days, entries: config.log_entries, device_days: config.device_days }
    }

    fn at(self, now_ms: i64) -> Retention {
        let ago = |days: u32| now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
        Retention {
            before_ms: (self.days > 0).then(|| ago(self.days)),
            most: (self.entries > 0).then_some(self.entries),
            since_ms: ago(1),
            live_ms: ago(self.device_days),
        }
    }
}

impl Manager {
    /// Drops what is old, for as long as it is polled.
    pub(crate) async fn keep_logs_short(&self, kept: Kept) {
        let mut wait = LOOK_EVERY.mul_f64(rand::rng().random_range(0.02..0.2));
        loop {
            tokio::time::sleep(wait).await;
            wait = LOOK_EVERY;
            if let Err(error) = self.drop_old(&kept.at(now_ms())).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "old messages not dropped yet");
            }
        }
    }

    async fn drop_old(&self, rules: &Retention) -> Result<(), StoreError> {
        if rules.before_ms.is_none() && rules.most.is_none() {
            return Ok(());
        }
        let mut after = None;
        let (mut logs, mut entries, mut unread, mut failed) = (0_u64, 0, 0, 0);
        loop {
            let looked = self.store.logs_due(rules, after).await?;
            for due in looked.due {
                match self.drop_old_of(rules, due).await {
                    Ok(dropped) => {
                        logs += 1;
                        entries += dropped.0;
                        unread += dropped.1;
                        failed = 0;
                    }
                    // One that fails does not keep the others from their turn.
                    Err(error) if failed < FAILURES => {
                        failed += 1;
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "old messages of a log not dropped yet");
                    }
                    Err(error) => return Err(error),
                }
            }
            after = looked.more;
            if after.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if entries > 0 {
            tracing::info!(logs, entries, unread, "old messages dropped");
        }
        Ok(())
    }

    async fn drop_old_of(&self, rules: &Retention, due: Due) -> Result<(u64, u64), StoreError> {
        let (mut entries, mut unread) = (0, 0);
        while let Some(dropped) = self.store.drop_entries(rules, due).await? {
            self.metrics.dropped(dropped.entries, dropped.unread);
            entries += dropped.entries;
            unread += dropped.unread;
            tokio::time::sleep(PAUSE).await;
        }
        Ok((entries, unread))
    }
}
