//! Each account's log (PROTOCOL Part II): what the account received and what it sent, in commit order.
//!
//! A transaction locks the heads of all its accounts first, in the order of their ids, then looks for messages that are
//! in the log already, then appends. So `seq` is given in the order of the commits, and a reader that goes by it misses
//! nothing; and of one message sent twice, by whatever way, one is stored.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry as Slot};

use aws_lc_rs::digest::{SHA256, digest};
use kurir_protocol::{
    name::{Resource, UserKey},
    relay::content,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DerivePartialModel, EntityTrait,
    ExprTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationTrait,
    sea_query::{LockType, OnConflict, SimpleExpr},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    account::BrokenRow,
    displayed::{self, Markers, Read},
    entity::{account, log, log_entry},
};

/// How often an append is tried that collides with others.
const ATTEMPTS: u32 = 5;

/// Most messages that one caller hands in. Of two callers' together, with two rows each and nine values a row, there are 18,432
/// values: `SQLite` takes 32,766 in one statement.
pub const MOST_MESSAGES: usize = 512;

/// Senders whose messages are looked for with one statement: `SQLite` takes a thousand terms.
const SENDERS: usize = 128;

/// A tracked message to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    pub from: UserKey,
    /// The sender's device.
    pub device: Resource,
    /// As the client gave it, unescaped.
    pub id: String,
    pub to: UserKey,
    /// A version 7 UUID, made for this attempt.
    pub stanza_id: Uuid,
    pub ts_ms: i64,
    /// One canonical line without its LF, `from` set by the relay.
    pub stanza: String,
    /// Up to this message the sender has read the conversation, as it says with this one.
    pub displayed: Option<Uuid>,
}

/// What became of a message. The places are those in the sender's and in the receiver's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    Stored {
        sent: u64,
        received: u64,
    },
    /// The same message was stored before, under this `stanza_id`.
    Repeated {
        stanza_id: Uuid,
        sent: u64,
    },
    /// The device has used this id for other content.
    Conflict,
    /// There is no account of the receiver's name, or none of the sender's.
    NoAccount,
}

/// One entry of an account's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub seq: u64,
    pub stanza_id: Uuid,
    pub ts_ms: i64,
    pub stanza: String,
    /// The account's own device that sent it.
    pub sent_by: Option<String>,
}

/// A part of an account's log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The log's opaque id.
    pub life: Uuid,
    /// The log's last `seq`; 0: it is empty.
    pub last: u64,
    /// The log's first `seq` that is still there, or will be: 1 where nothing is gone.
    pub first: u64,
    pub entries: Vec<Logged>,
}

/// Which message of which device.
type SentKey = (i64, Vec<u8>, String);

/// What finding a message again needs of an entry: not its stanza.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "log_entry::Entity")]
struct SentRow {
    account_id: i64,
    seq: i64,
    stanza_id: Uuid,
    device: Option<String>,
    message_id: Option<Vec<u8>>,
    digest: Option<Vec<u8>>,
}

/// What the sender's log knows of a message.
struct Sent {
    digest: Vec<u8>,
    stanza_id: Uuid,
    seq: u64,
}

impl Store {
    /// Stores messages, in this order, all of them or, after an error, perhaps none: sent again they are stored once.
    ///
    /// One that cannot be stored fails none of the others. On disk when it returns: `PostgreSQL` and `SQLite` have flushed.
    pub async fn append(&self, messages: &[NewMessage]) -> Result<Vec<Appended>, StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            for _ in 1..ATTEMPTS {
                match self.append_once(messages).await {
                    Err(error) if error.is_collision() => {}
                    result => return result,
                }
            }
            self.append_once(messages).await
        })
        .await
    }

    async fn append_once(&self, messages: &[NewMessage]) -> Result<Vec<Appended>, StoreError> {
        let transaction = self.begin().await?;
        if transaction.get_database_backend() == DbBackend::Postgres {
            // Whatever the server's default is: an acknowledged message is on disk.
            transaction.execute_unprepared("SET LOCAL synchronous_commit = on").await?;
        }
        let named: BTreeSet<&str> =
            messages.iter().flat_map(|message| [message.from.as_str(), message.to.as_str()]).collect();
        let accounts = account_ids(&transaction, named).await?;
        let mut batch = Batch::lock(&transaction, &accounts).await?;
        batch.read_sent(&transaction, &accounts, messages).await?;
        let appended = messages.iter().map(|message| batch.append(&accounts, message)).collect();
        batch.write(&transaction).await?;
        transaction.commit().await?;
        Ok(appended)
    }

    /// At most `most` entries after `after`. None: there is no such account.
    pub async fn read_log(&self, user: &UserKey, after: u64, most: u64) -> Result<Option<Page>, StoreError> {
        self.within(self.timeout, async {
            // The head first: an entry that comes meanwhile is then beyond `last`, and not the other way round.
            let Some(head) = self.head_of(user).await? else { return Ok(None) };
            let rows = log_entry::Entity::find()
                .filter(log_entry::Column::AccountId.eq(head.account_id))
                .filter(log_entry::Column::Seq.gt(signed(after)))
                .filter(is_there())
                .order_by_asc(log_entry::Column::Seq)
                .limit(most)
                .all(&self.database)
                .await?;
            let entries: Vec<Logged> = rows.into_iter().map(Logged::from).collect();
            let last = Ord::max(unsigned(head.last_seq), entries.last().map_or(0, |entry| entry.seq));
            // Places have no gaps: what is missing was dropped, perhaps since the head was read.
            let dropped = entries.first().map(|entry| entry.seq).filter(|seq| *seq > after.saturating_add(1));
            let first = Ord::max(unsigned(head.first_seq), dropped.unwrap_or(1));
            Ok(Some(Page { life: head.life, last, first, entries }))
        })
        .await
    }

    /// The head of the log of whom this name belongs to: one statement, except for a log that was never used.
    async fn head_of(&self, user: &UserKey) -> Result<Option<log::Model>, StoreError> {
        let known = log::Entity::find()
            .join(JoinType::InnerJoin, log::Relation::Account.def())
            .filter(account::Column::UsernameKey.eq(user.as_str()))
            .one(&self.database)
            .await?;
        if known.is_some() {
            return Ok(known);
        }
        let accounts = account_ids(&self.database, [user.as_str()]).await?;
        match accounts.get(user.as_str()) {
            Some(account) => self.head(*account).await.map(Some),
            None => Ok(None),
        }
    }

    /// A log has its life from when it is first read or written on: what a client has seen of it belongs to that.
    pub(super) async fn head(&self, account: i64) -> Result<log::Model, StoreError> {
        if let Some(head) = log::Entity::find_by_id(account).one(&self.database).await? {
            return Ok(head);
        }
        let _turn = self.turn_to_write().await;
        begin_logs(&self.database, [account]).await?;
        let head = log::Entity::find_by_id(account).one(&self.database).await?;
        Ok(head.ok_or(BrokenRow::Missing(account))?)
    }

    /// Where the logs of these accounts end. One that was never used is left out.
    pub async fn heads(&self, users: &[String]) -> Result<Vec<(String, u64)>, StoreError> {
        self.within(self.timeout, async {
            let rows: Vec<(String, i64)> = log::Entity::find()
                .select_only()
                .column(account::Column::UsernameKey)
                .column(log::Column::LastSeq)
                .join(JoinType::InnerJoin, log::Relation::Account.def())
                .filter(account::Column::UsernameKey.is_in(users))
                .into_tuple()
                .all(&self.database)
                .await?;
            Ok::<_, StoreError>(rows.into_iter().map(|(name, seq)| (name, unsigned(seq))).collect())
        })
        .await
    }
}

/// The ids of those of these users who have an account.
pub(super) async fn account_ids(
    database: &impl ConnectionTrait,
    users: impl IntoIterator<Item = &str>,
) -> Result<HashMap<String, i64>, StoreError> {
    let rows: Vec<(i64, String)> = account::Entity::find()
        .select_only()
        .columns([account::Column::Id, account::Column::UsernameKey])
        .filter(account::Column::UsernameKey.is_in(users))
        .into_tuple()
        .all(database)
        .await?;
    Ok(rows.into_iter().map(|(id, key)| (key, id)).collect())
}

/// A transaction's view of the logs that it holds locked.
struct Batch {
    heads: HashMap<i64, log::Model>,
    sent: HashMap<SentKey, Sent>,
    entries: Vec<log_entry::ActiveModel>,
    grown: BTreeSet<i64>,
    /// How far who has read which conversation.
    displayed: Markers,
}
impl Batch {
    async fn lock(
        transaction: &DatabaseTransaction,
        accounts: &HashMap<String, i64>,
    ) -> Result<Batch, StoreError> {
        let ids: BTreeSet<i64> = accounts.values().copied().collect();
        let mut heads = locked(transaction, &ids).await?;
        let missing: Vec<i64> = ids.iter().copied().filter(|id| !heads.contains_key(id)).collect();
        if !missing.is_empty() {
            begin_logs(transaction, missing).await?;
            heads = locked(transaction, &ids).await?;
        }
        Ok(Batch {
            heads,
            sent: HashMap::new(),
            entries: Vec::new(),
            grown: BTreeSet::new(),
            displayed: Markers::new(),
        })
    }

    /// Which of the messages are in the log already. After the lock: what commits later than it waits for us.
    async fn read_sent(
        &mut self,
        transaction: &DatabaseTransaction,
        accounts: &HashMap<String, i64>,
        messages: &[NewMessage],
    ) -> Result<(), StoreError> {
        let mut ids: BTreeMap<i64, BTreeSet<&[u8]>> = BTreeMap::new();
        for message in messages {
            if let Some(sender) = accounts.get(message.from.as_str()) {
                ids.entry(*sender).or_default().insert(message.id.as_bytes());
            }
        }
        let ids: Vec<_> = ids.into_iter().collect();
        for senders in ids.chunks(SENDERS) {
            let any = senders.iter().fold(Condition::any(), |any, (sender, ids)| {
                any.add(
                    log_entry::Column::AccountId
                        .eq(*sender)
                        .and(log_entry::Column::MessageId.is_in(ids.iter().map(|id| id.to_vec()))),
                )
            });
            let rows: Vec<SentRow> =
                log_entry::Entity::find().filter(any).into_partial_model().all(transaction).await?;
            for SentRow { account_id, seq, stanza_id, device, message_id, digest } in rows {
                let (Some(id), Some(device), Some(digest)) = (message_id, device, digest) else { continue };
                let sent = Sent { digest, stanza_id, seq: unsigned(seq) };
                self.sent.insert((account_id, id, device), sent);
            }
        }
        Ok(())
    }

    fn append(&mut self, accounts: &HashMap<String, i64>, message: &NewMessage) -> Appended {
        let of = |name: &UserKey| accounts.get(name.as_str()).copied();
        let (Some(from), Some(to)) = (of(&message.from), of(&message.to)) else { return Appended::NoAccount };
        let content = digest(&SHA256, &content(&message.stanza, message.to.as_str())).as_ref().to_vec();
        let key = (from, message.id.as_bytes().to_vec(), message.device.as_str().to_owned());
        let slot = match self.sent.entry(key) {
            Slot::Occupied(known) if known.get().digest == content => {
                let Sent { stanza_id, seq: sent, .. } = *known.get();
                return Appended::Repeated { stanza_id, sent };
            }
            Slot::Occupied(_) => return Appended::Conflict,
            Slot::Vacant(slot) => slot,
        };
        let mut next = |account: i64| {
            self.grown.insert(account);
            self.heads.get_mut(&account).map(|head| {
                head.last_seq += 1;
                unsigned(head.last_seq)
            })
        };
        let Some(sent) = next(from) else { return Appended::NoAccount };
        // A message to oneself is one entry.
        let received = if from == to { Some(sent) } else { next(to) };
        let Some(received) = received else { return Appended::NoAccount };
        slot.insert(Sent { digest: content.clone(), stanza_id: message.stanza_id, seq: sent });
        let entry = |account: i64, seq: u64| log_entry::ActiveModel {
            account_id: Set(account),
            peer_id: Set(if account == from { to } else { from }),
            seq: Set(signed(seq)),
            stanza_id: Set(message.stanza_id),
            ts_ms: Set(message.ts_ms),
            stanza: Set(message.stanza.clone()),
            device: Set(None),
            message_id: Set(None),
            digest: Set(None),
        };
        self.entries.push(log_entry::ActiveModel {
            device: Set(Some(message.device.as_str().to_owned())),
            message_id: Set(Some(message.id.as_bytes().to_vec())),
            digest: Set(Some(content)),
            ..entry(from, sent)
        });
        if from != to {
            self.entries.push(entry(to, received));
        }
        if let Some(stanza_id) = message.displayed {
            let read = Read { stanza_id, ts_ms: message.ts_ms };
            self.displayed.entry((from, to)).or_default().push(read);
        }
        Appended::Stored { sent, received }
    }

    async fn write(self, transaction: &DatabaseTransaction) -> Result<(), StoreError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        log_entry::Entity::insert_many(self.entries).exec_without_returning(transaction).await?;
        let heads = self.heads.into_values().filter(|head| self.grown.contains(&head.account_id));
        let heads = heads.map(|head| log::ActiveModel {
            account_id: Set(head.account_id),
            life: Set(head.life),
            last_seq: Set(head.last_seq),
            first_seq: Set(head.first_seq),
        });
        // Each exists and is locked: this is one statement for any number of updates.
        let grow = OnConflict::column(log::Column::AccountId).update_column(log::Column::LastSeq).to_owned();
        log::Entity::insert_many(heads).on_conflict(grow).exec_without_returning(transaction).await?;
        displayed::note(transaction, self.displayed).await
    }
}

/// Makes the logs of these accounts that have none.
async fn begin_logs(
    database: &impl ConnectionTrait,
    accounts: impl IntoIterator<Item = i64>,
) -> Result<(), StoreError> {
    let new = accounts.into_iter().map(|account_id| log::ActiveModel {
        account_id: Set(account_id),
        life: Set(Uuid::new_v4()),
        last_seq: Set(0),
        first_seq: Set(1),
    });
    let by_another = OnConflict::column(log::Column::AccountId).do_nothing().to_owned();
    log::Entity::insert_many(new).on_conflict(by_another).exec_without_returning(database).await?;
    Ok(())
}

/// The heads of these logs, locked in the order of the accounts' ids.
pub(super) async fn locked(
    transaction: &DatabaseTransaction,
    ids: &BTreeSet<i64>,
) -> Result<HashMap<i64, log::Model>, StoreError> {
    let rows = log::Entity::find()
        .filter(log::Column::AccountId.is_in(ids.iter().copied()))
        .order_by_asc(log::Column::AccountId)
        .lock(LockType::NoKeyUpdate)
        .all(transaction)
        .await?;
    Ok(rows.into_iter().map(|head| (head.account_id, head)).collect())
}

impl From<log_entry::Model> for Logged {
    fn from(row: log_entry::Model) -> Self {
        Logged {
            seq: unsigned(row.seq),
            stanza_id: row.stanza_id,
            ts_ms: row.ts_ms,
            stanza: row.stanza,
            sent_by: row.device,
        }
    }
}

/// An entry that was not dropped.
pub(super) fn is_there() -> SimpleExpr {
    log_entry::Column::Stanza.ne("")
}

pub(super) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or_default()
}

/// Beyond what the database can count nothing is ever stored.
pub(super) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
