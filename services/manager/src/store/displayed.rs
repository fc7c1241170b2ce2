//! How far accounts have read their conversations: the furthest message that one of their markers has named, by its place
//! in the reader's own log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter,
    QuerySelect, sea_query::OnConflict,
};
use uuid::Uuid;

use super::{
    StoreError,
    entity::{displayed, log_entry},
};

/// Conversations of one statement: `SQLite` takes a thousand terms.
const CONVERSATIONS: usize = 200;

/// An account, and with whom it has the conversation.
type Conversation = (i64, i64);

/// What a marker says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) stanza_id: Uuid,
    pub(super) ts_ms: i64,
}

/// The markers of a batch, in order.
pub(super) type Markers = BTreeMap<Conversation, Vec<Read>>;

/// Puts down what is further than what is known; what names no message of its conversation says nothing. The accounts' logs
/// are locked, and the markers' own messages in them.
pub(super) async fn note(transaction: &DatabaseTransaction, markers: Markers) -> Result<(), StoreError> {
    let markers: Vec<_> = markers.into_iter().collect();
    for markers in markers.chunks(CONVERSATIONS) {
        let known = known(transaction, markers).await?;
        let mut named: BTreeMap<i64, BTreeSet<Uuid>> = BTreeMap::new();
        for ((account, peer), reads) in markers {
            let named = named.entry(*account).or_default();
            named.extend(reads.iter().map(|read| read.stanza_id));
            named.extend(known.get(&(*account, *peer)));
        }
        let places = places(transaction, &named).await?;
        let further = markers.iter().filter_map(|((account, peer), reads)| {
            let place = |stanza_id: &Uuid| places.get(&(*account, *peer, *stanza_id)).copied();
            let mut furthest = known.get(&(*account, *peer)).and_then(place).unwrap_or_default();
            let mut further = None;
            for read in reads {
                if let Some(seq) = place(&read.stanza_id).filter(|seq| *seq > furthest) {
                    (furthest, further) = (seq, Some(*read));
                }
            }
            further.map(|Read { stanza_id, ts_ms }| displayed::ActiveModel {
                account_id: Set(*account),
                peer_id: Set(*peer),
                stanza_id: Set(stanza_id),
                ts_ms: Set(ts_ms),
            })
        });
        let further: Vec<_> = further.collect();
        if further.is_empty() {
            continue;
        }
        let again = OnConflict::columns([displayed::Column::AccountId, displayed::Column::PeerId])
            .update_columns([displayed::Column::StanzaId, displayed::Column::TsMs])
            .to_owned();
        displayed::Entity::insert_many(further)
            .on_conflict(again)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// How far these conversations were read before.
async fn known(
    transaction: &DatabaseTransaction,
    markers: &[(Conversation, Vec<Read>)],
) -> Result<HashMap<Conversation, Uuid>, StoreError> {
    let these = markers.iter().fold(Condition::any(), |any, ((account, peer), _)| {
        any.add(displayed::Column::AccountId.eq(*account).and(displayed::Column::PeerId.eq(*peer)))
    });
    let rows = displayed::Entity::find().filter(these).all(transaction).await?;
    Ok(rows.into_iter().map(|row| ((row.account_id, row.peer_id), row.stanza_id)).collect())
}

/// Where these messages are in their accounts' logs, by account, peer and id.
async fn places(
    transaction: &DatabaseTransaction,
    named: &BTreeMap<i64, BTreeSet<Uuid>>,
) -> Result<HashMap<(i64, i64, Uuid), i64>, StoreError> {
    let any = named.iter().fold(Condition::any(), |any, (account, ids)| {
        any.add(
            log_entry::Column::AccountId
                .eq(*account)
                .and(log_entry::Column::StanzaId.is_in(ids.iter().copied())),
        )
    });
    let rows: Vec<(i64, i64, Uuid, i64)> = log_entry::Entity::find()
        .select_only()
        .columns([
            log_entry::Column::AccountId,
            log_entry::Column::PeerId,
            log_entry::Column::StanzaId,
            log_entry::Column::Seq,
        ])
        .filter(any)
        .into_tuple()
        .all(transaction)
        .await?;
    Ok(rows.into_iter().map(|(account, peer, id, seq)| ((account, peer, id), seq)).collect())
}
