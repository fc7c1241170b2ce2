//! What became of tracked messages, where that is kept longer than components remember it (`manager.explain_sql_hours`).

use std::sync::Arc;

use kurir_trail::{Asked, Device, Event, Kept, Reason, Step};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    account::AccountId,
    entity::{log_entry, roster_item, trail},
    log::{signed, unsigned},
};

/// Most events that one caller hands in: with fifteen values each they are a quarter of what `SQLite` takes.
pub const MOST_EVENTS: usize = 512;

/// Events of one message that are read (of those that repeat the last ones, and so many of the others), and connections
/// whose progress is looked for, the last too. One message has a dozen events and a few devices; a device that reads its log
/// again and again has more.
const OF_ONE_MESSAGE: u64 = 256;
const CONNECTIONS: usize = 32;

/// Whether whoever has sent a message sees its receiver's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// It is the sender, or has the sender in its roster as `from` or `both`.
    Seen,
    Hidden,
}

/// Events forgotten with one statement.
const FORGOTTEN_AT_ONCE: u64 = 5000;

impl Store {
    /// Puts events down. After an error perhaps they are: twice is as good as once to whoever asks.
    pub async fn keep_trail(&self, events: &[Kept]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let rows = events.iter().map(row);
            trail::Entity::insert_many(rows).exec_without_returning(&self.database).await?;
            Ok(())
        })
        .await
    }

    /// All that [`kurir_trail::resolve`] needs to say what became of a message: its own events, and the first progress of
    /// the connections that it went to.
    pub async fn trail(&self, asked: &Asked) -> Result<Vec<Kept>, StoreError> {
        let mut any = Condition::any();
        if let Some(stanza_id) = asked.stanza_id {
            any = any.add(trail::Column::StanzaId.eq(stanza_id));
        }
        if let Some(sent) = &asked.sent_as {
            let id = sent.id.as_bytes().to_vec();
            any = any.add(trail::Column::UsernameKey.eq(&*sent.user).and(trail::Column::MessageId.eq(id)));
        }
        if any.is_empty() {
            return Ok(Vec::new());
        }
        self.within(self.timeout, async {
            let of_it = trail::Entity::find().filter(any).limit(OF_ONE_MESSAGE);
            let repeating = Step::ALL.iter().filter(|step| step.repeats()).map(|step| step.as_str());
            let repeats = trail::Column::Step.is_in(repeating);
            let once = of_it.clone().filter(repeats.clone().not()).order_by_asc(trail::Column::Id);
            let again = of_it.filter(repeats).order_by_desc(trail::Column::Id);
            let mut rows = once.all(&self.database).await?;
            rows.extend(again.all(&self.database).await?.into_iter().rev());
            let mut found: Vec<Kept> = rows.into_iter().filter_map(kept).collect();
            let read = found.iter().rev().filter(|kept| kept.event.step == Step::Read).take(CONNECTIONS);
            let mut progress = Vec::new();
            for read in read {
                for step in [Step::Heard, Step::Written, Step::Acked, Step::Lost] {
                    progress.extend(self.first_progress(read, step).await?);
                }
            }
            found.extend(progress);
            Ok(found)
        })
        .await
    }

    /// The first event of this kind that reaches an entry, on the connection that it was read for.
    async fn first_progress(&self, read: &Kept, step: Step) -> Result<Option<Kept>, StoreError> {
        let Kept { component, event } = read;
        // A connection that was lost has no place.
        let least = if step == Step::Lost { 0 } else { event.seq };
        let row = trail::Entity::find()
            .filter(trail::Column::SinceUs.eq(event.device.since_us))
            .filter(trail::Column::Connection.eq(signed(event.device.connection)))
            .filter(trail::Column::Step.eq(step.as_str()))
            .filter(trail::Column::Seq.gte(signed(least)))
            .filter(trail::Column::Component.eq(&**component))
            .filter(trail::Column::StanzaId.is_null())
            .order_by_asc(trail::Column::Seq)
            .limit(1)
            .one(&self.database)
            .await?;
        Ok(row.and_then(kept))
    }

    /// Forgets events from before that moment, a few thousand at most. Returns how many.
    pub async fn forget_trail(&self, before_us: i64) -> Result<u64, StoreError> {
        self.within(self.timeout, async {
            let _turn = self.turn_to_write().await;
            let old = trail::Entity::find()
                .select_only()
                .column(trail::Column::Id)
                .filter(trail::Column::AtUs.lt(before_us))
                .order_by_asc(trail::Column::AtUs)
                .limit(FORGOTTEN_AT_ONCE);
            let forgotten = trail::Entity::delete_many()
                .filter(trail::Column::Id.in_subquery(sea_orm::QueryTrait::into_query(old)))
                .exec(&self.database)
                .await?;
            Ok(forgotten.rows_affected)
        })
        .await
    }

    /// Of a message that an account's own log has as sent by it. None: it has no such message.
    pub async fn receiver(
        &self,
        account: AccountId,
        stanza_id: Uuid,
    ) -> Result<Option<Receiver>, StoreError> {
        self.within(self.timeout, async {
            let to: Option<i64> = log_entry::Entity::find()
                .select_only()
                .column(log_entry::Column::PeerId)
                .filter(log_entry::Column::StanzaId.eq(stanza_id))
                .filter(log_entry::Column::Device.is_not_null())
                .filter(log_entry::Column::AccountId.eq(account.0))
                .into_tuple()
                .one(&self.database)
                .await?;
            let Some(to) = to else { return Ok(None) };
            if to == account.0 {
                return Ok(Some(Receiver::Seen));
            }
            let item = roster_item::Entity::find_by_id((to, account.0)).one(&self.database).await?;
            let seen = item.is_some_and(|item| item.subscription.seen_by_contact());
            Ok(Some(if seen { Receiver::Seen } else { Receiver::Hidden }))
        })
        .await
    }
}

fn row(Kept { component, event }: &Kept) -> trail::ActiveModel {
    let Event { at_us, step, reason, stanza_id, device, seq, message_id, peer, count, took_us } = event;
    trail::ActiveModel {
        id: NotSet,
        at_us: Set(*at_us),
        component: Set(component.clone()),
        step: Set(step.as_str().to_owned()),
        reason: Set(reason.as_str().to_owned()),
        stanza_id: Set(*stanza_id),
        username_key: Set(device.user.to_string()),
        device: Set(device.name.to_string()),
        connection: Set(signed(device.connection)),
        since_us: Set(device.since_us),
        seq: Set(signed(*seq)),
        message_id: Set(message_id.as_ref().map(|id| id.as_bytes().to_vec())),
        peer: Set(peer.as_ref().map(ToString::to_string)),
        count: Set((*count).into()),
        took_us: Set((*took_us).into()),
    }
}

/// None: of a later version.
fn kept(row: trail::Model) -> Option<Kept> {
    let connection = unsigned(row.connection);
    let device = Device::new(&row.username_key, &row.device, connection, row.since_us);
    let message_id = row.message_id.and_then(|id| String::from_utf8(id).ok());
    let event = Event {
        at_us: row.at_us,
        step: Step::of(&row.step)?,
        reason: Reason::of(&row.reason)?,
        stanza_id: row.stanza_id,
        device: Arc::new(device),
        seq: unsigned(row.seq),
        message_id: message_id.map(String::into_boxed_str),
        peer: row.peer.map(Arc::from),
        count: u32::try_from(row.count).unwrap_or_default(),
        took_us: u32::try_from(row.took_us).unwrap_or_default(),
    };
    Some(Kept { component: row.component, event })
}
