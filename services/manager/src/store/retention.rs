//! Dropping what is old: by age and by count, a few entries at a time.
//!
//! Of what an account has sent the device, the id and the hash stay behind for a while, without the stanza, so that the
//! same message sent again is still known (PROTOCOL Part II `id`).

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationTrait,
    sea_query::Expr,
};

use super::{
    Store, StoreError,
    entity::{device, log, log_entry},
    log::{locked, unsigned},
};

/// Logs looked at by one call.
const LOGS: u64 = 500;

/// Entries dropped by one call.
const ENTRIES: u64 = 500;

/// So many of the messages that an account has sent are known again, whatever is dropped.
const IDS: u64 = 10_000;

/// What goes. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries of before that.
    pub before_ms: Option<i64>,
    /// The oldest of more than so many.
    pub most: Option<u64>,
    /// But none of since then, which may be sent again.
    pub since_ms: i64,
    /// Devices that were seen since then are to read everything.
    pub live_ms: i64,
}

/// A log with something to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due(i64);

/// Some of the logs that were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    pub due: Vec<Due>,
    /// From here on there are more; none: that was the last.
    pub more: Option<Due>,
}

/// What was dropped of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    pub entries: u64,
    /// Of them those that a live device has not read: it is told of the gap.
    pub unread: u64,
}

impl Retention {
    /// Whether an entry goes, if those before it do.
    fn covers(&self, seq: u64, ts_ms: i64, last: u64) -> bool {
        let old = self.before_ms.is_some_and(|before| ts_ms < before);
        let many = self.most.is_some_and(|most| last.saturating_sub(seq) >= most);
        ts_ms < self.since_ms && (old || many)
    }
}

impl Store {
    /// Looks at the next few logs after `after`, by the accounts' ids.
    pub async fn logs_due(&self, rules: &Retention, after: Option<Due>) -> Result<Looked, StoreError> {
        self.within(self.timeout, async {
            let firsts: Vec<(i64, i64, i64, i64)> = log::Entity::find()
                .select_only()
                .columns([log::Column::AccountId, log::Column::FirstSeq, log::Column::LastSeq])
                .column(log_entry::Column::TsMs)
                .join(JoinType::InnerJoin, log::Relation::First.def())
                .filter(log::Column::AccountId.gt(after.map_or(0, |Due(account)| account)))
                .order_by_asc(log::Column::AccountId)
                .limit(LOGS)
                .into_tuple()
                .all(&self.database)
                .await?;
            let full = firsts.len() as u64 >= LOGS;
            let more = firsts.last().filter(|_| full).map(|(account, ..)| Due(*account));
            let due = |(account, first, last, ts_ms)| {
                rules.covers(unsigned(first), ts_ms, unsigned(last)).then_some(Due(account))
            };
            Ok::<_, StoreError>(Looked { due: firsts.into_iter().filter_map(due).collect(), more })
        })
        .await
    }

    /// Drops the first few entries of a log. None is left to be dropped when it returns none.
    pub async fn drop_entries(
        &self,
        rules: &Retention,
        Due(account): Due,
    ) -> Result<Option<Dropped>, StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let transaction = self.begin().await?;
            let Some(head) = locked(&transaction, &[account].into()).await?.remove(&account) else {
                return Ok(None);
            };
            let firsts: Vec<(i64, i64)> = log_entry::Entity::find()
                .select_only()
                .columns([log_entry::Column::Seq, log_entry::Column::TsMs])
                .filter(log_entry::Column::AccountId.eq(account))
                .filter(log_entry::Column::Seq.gte(head.first_seq))
                .order_by_asc(log_entry::Column::Seq)
                .limit(ENTRIES)
                .into_tuple()
                .all(&transaction)
                .await?;
            let last = unsigned(head.last_seq);
            let covered = |(seq, ts_ms): &&(i64, i64)| rules.covers(unsigned(*seq), *ts_ms, last);
            let Some((cut, _)) = firsts.iter().take_while(covered).last().copied() else { return Ok(None) };
            let read = all_have_read(&transaction, account, rules.live_ms).await?;
            drop_up_to(&transaction, &head, cut).await?;
            forget_sent(&transaction, account, cut, rules.since_ms).await?;
            transaction.commit().await?;
            let before = unsigned(head.first_seq) - 1;
            let unread = unsigned(cut).saturating_sub(read.map_or(u64::MAX, unsigned).max(before));
            Ok(Some(Dropped { entries: unsigned(cut) - before, unread }))
        })
        .await
    }
}

/// Up to where every live device has read. None: there is no live device.
async fn all_have_read(
    transaction: &impl ConnectionTrait,
    account: i64,
    live_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let cursor = device::Entity::find()
        .select_only()
        .column(device::Column::Cursor)
        .filter(device::Column::AccountId.eq(account))
        .filter(device::Column::SeenMs.gte(live_ms))
        .order_by_asc(device::Column::Cursor)
        .into_tuple()
        .one(transaction)
        .await?;
    Ok(cursor)
}

async fn drop_up_to(
    transaction: &impl ConnectionTrait,
    head: &log::Model,
    cut: i64,
) -> Result<(), StoreError> {
    log_entry::Entity::delete_many()
        .filter(log_entry::Column::AccountId.eq(head.account_id))
        .filter(log_entry::Column::Seq.between(head.first_seq, cut))
        .filter(log_entry::Column::MessageId.is_null())
        .exec(transaction)
        .await?;
    log_entry::Entity::update_many()
        .col_expr(log_entry::Column::Stanza, Expr::value(""))
        .filter(log_entry::Column::AccountId.eq(head.account_id))
        .filter(log_entry::Column::Seq.between(head.first_seq, cut))
        .exec(transaction)
        .await?;
    log::Entity::update_many()
        .col_expr(log::Column::FirstSeq, Expr::value(cut + 1))
        .filter(log::Column::AccountId.eq(head.account_id))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Of what was dropped, the ids that need not be known any more. What is left of it up to `cut` are ids.
async fn forget_sent(
    transaction: &impl ConnectionTrait,
    account: i64,
    cut: i64,
    since_ms: i64,
) -> Result<(), StoreError> {
    let beyond: Option<i64> = log_entry::Entity::find()
        .select_only()
        .column(log_entry::Column::Seq)
        .filter(log_entry::Column::AccountId.eq(account))
        .filter(log_entry::Column::Seq.lte(cut))
        .order_by_desc(log_entry::Column::Seq)
        .offset(IDS)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(beyond) = beyond else { return Ok(()) };
    log_entry::Entity::delete_many()
        .filter(log_entry::Column::AccountId.eq(account))
        .filter(log_entry::Column::Seq.lte(beyond))
        .filter(log_entry::Column::TsMs.lt(since_ms))
        .exec(transaction)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_too_much_goes_unless_it_may_be_sent_again() {
        let rules = |before_ms, most| Retention { before_ms, most, since_ms: 900, live_ms: 0 };
        for (rules, seq, ts_ms, last, covered) in [
            (rules(Some(100), None), 1, 99, 1, true),
            (rules(Some(100), None), 1, 100, 1, false),
            (rules(None, Some(10)), 1, 99, 11, true),
            (rules(None, Some(10)), 2, 99, 11, false),
            (rules(None, Some(10)), 1, 900, 11, false),
            (rules(None, None), 1, 0, u64::MAX, false),
        ] {
            assert_eq!(rules.covers(seq, ts_ms, last), covered, "{rules:?} {seq} {ts_ms} {last}");
        }
    }
}
