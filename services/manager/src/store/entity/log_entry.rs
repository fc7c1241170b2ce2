//! One message in the log of one of its two accounts.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "log_entry")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub stanza_id: Uuid,
    pub ts_ms: i64,
    /// As it is delivered, without what only one log knows of it.
    pub stanza: String,
    /// Where the account sent it itself: the device, the id that it gave, and a hash of the content.
    pub device: Option<String>,
    pub message_id: Option<Vec<u8>>,
    pub digest: Option<Vec<u8>>,
    /// The other account of the conversation; the own one for what it sent to itself.
    pub peer_id: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
