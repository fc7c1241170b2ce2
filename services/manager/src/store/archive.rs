//! The log as its account reads it back (Part II `archive`): conversations, single messages, and how far each was read.

use kurir_protocol::name::{Resource, UserKey};
use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, Order, QueryFilter, QueryOrder, QuerySelect, RelationTrait, Select,
};
use uuid::Uuid;

use super::{
    AccountId, Store, StoreError,
    entity::{account, displayed, log_entry},
    log::{Logged, account_ids, is_there, signed, unsigned},
};

/// Bytes of stanzas in one answer, and one stanza more: what a client reads at once, and what may wait for it.
const ANSWER_BYTES: usize = 128 * 1024;

/// Entries read with one statement.
const AT_ONCE: u64 = 16;

/// Conversations in one answer: the ones read last.
const CONVERSATIONS: u64 = 1000;

/// A part of an account's log: its last entries, or with `after` its first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Only the conversation with this user.
    pub with: Option<UserKey>,
    /// Only what comes after this place.
    pub after: Option<u64>,
    /// Only what comes before this place.
    pub before: Option<u64>,
    /// Entries at most; fewer where they are large, one at least.
    pub most: u64,
}

/// What was found of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The log's opaque id.
    pub life: Uuid,
    /// The log's first place that is still there, or will be.
    pub first: u64,
    /// In the log's order.
    pub entries: Vec<Logged>,
    /// There is no more in that direction.
    pub complete: bool,
}

/// How far an account has read a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displayed {
    /// With whom, as registered.
    pub with: String,
    /// The last message that was read.
    pub stanza_id: Uuid,
    /// When that was said, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
}

impl Store {
    /// Reads a part of an account's log.
    pub async fn search_log(&self, account: AccountId, part: &Part) -> Result<Found, StoreError> {
        self.within(self.timeout, async {
            let head = self.head(account.0).await?;
            let mut query = log_entry::Entity::find()
                .filter(log_entry::Column::AccountId.eq(account.0))
                .filter(is_there());
            if let Some(with) = &part.with {
                let Some(peer) = account_ids(&self.database, [with.as_str()]).await?.remove(with.as_str())
                else {
                    let entries = Vec::new();
                    return Ok(Found {
                        life: head.life,
                        first: unsigned(head.first_seq),
                        entries,
                        complete: true,
                    });
                };
                query = query.filter(log_entry::Column::PeerId.eq(peer));
            }
            if let Some(after) = part.after {
                query = query.filter(log_entry::Column::Seq.gt(signed(after)));
            }
            if let Some(before) = part.before {
                query = query.filter(log_entry::Column::Seq.lt(signed(before)));
            }
            let forward = part.after.is_some();
            let order = if forward { Order::Asc } else { Order::Desc };
            let query = query.order_by(log_entry::Column::Seq, order);
            let (mut entries, complete) = self.bounded(query, part.most, forward).await?;
            if !forward {
                entries.reverse();
            }
            Ok(Found { life: head.life, first: unsigned(head.first_seq), entries, complete })
        })
        .await
    }

    /// The message that a device has sent with this id; no entry if it is not known. Its stanza may have been dropped, and is
    /// then empty.
    pub async fn sent(&self, account: AccountId, device: &Resource, id: &str) -> Result<Found, StoreError> {
        self.within(self.timeout, async {
            let head = self.head(account.0).await?;
            let row = log_entry::Entity::find()
                .filter(log_entry::Column::AccountId.eq(account.0))
                .filter(log_entry::Column::MessageId.eq(id.as_bytes()))
                .filter(log_entry::Column::Device.eq(device.as_str()))
                .one(&self.database)
                .await?;
            let entries = row.map(Logged::from).into_iter().collect();
            Ok(Found { life: head.life, first: unsigned(head.first_seq), entries, complete: true })
        })
        .await
    }

    /// How far the account has read its conversations, the one read last first.
    pub async fn displayed(&self, account: AccountId) -> Result<Vec<Displayed>, StoreError> {
        self.within(self.timeout, async {
            let rows: Vec<(String, Uuid, i64)> = displayed::Entity::find()
                .select_only()
                .column(account::Column::Username)
                .columns([displayed::Column::StanzaId, displayed::Column::TsMs])
                .join(JoinType::InnerJoin, displayed::Relation::Peer.def())
                .filter(displayed::Column::AccountId.eq(account.0))
                .order_by_desc(displayed::Column::TsMs)
                .limit(CONVERSATIONS)
                .into_tuple()
                .all(&self.database)
                .await?;
            let displayed = |(with, stanza_id, ts_ms)| Displayed { with, stanza_id, ts_ms };
            Ok::<_, StoreError>(rows.into_iter().map(displayed).collect())
        })
        .await
    }

    /// As many as fit, a few at a time, as each may be large; and whether that is all of them.
    async fn bounded(
        &self,
        query: Select<log_entry::Entity>,
        most: u64,
        forward: bool,
    ) -> Result<(Vec<Logged>, bool), StoreError> {
        let (mut entries, mut bytes) = (Vec::<Logged>::new(), 0);
        loop {
            let some = match entries.last().map(|last| signed(last.seq)) {
                None => query.clone(),
                Some(last) if forward => query.clone().filter(log_entry::Column::Seq.gt(last)),
                Some(last) => query.clone().filter(log_entry::Column::Seq.lt(last)),
            };
            let rows = some.limit(AT_ONCE).all(&self.database).await?;
            let all = (rows.len() as u64) < AT_ONCE;
            for row in rows {
                if entries.len() as u64 >= most || bytes >= ANSWER_BYTES {
                    return Ok((entries, false));
                }
                bytes += row.stanza.len();
                entries.push(row.into());
            }
            if all {
                return Ok((entries, true));
            }
        }
    }
}
