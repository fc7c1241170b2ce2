//! How far an account has read a conversation.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "displayed")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    /// With whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub peer_id: i64,
    /// The last message that was read.
    pub stanza_id: Uuid,
    /// When that was said.
    pub ts_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::account::Entity",
        from = "Column::PeerId",
        to = "super::account::Column::Id"
    )]
    Peer,
}

impl ActiveModelBehavior for ActiveModel {}
