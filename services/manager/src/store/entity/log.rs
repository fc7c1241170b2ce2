//! The head of an account's log: what a transaction locks before it appends.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "log")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    /// New with the log: tells a client whether its `seq` belongs to this one.
    pub life: Uuid,
    pub last_seq: i64,
    /// The first entry that is still there, or would be: older ones are gone.
    pub first_seq: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The first entry that is still there.
    #[sea_orm(
        belongs_to = "super::log_entry::Entity",
        from = "(Column::AccountId, Column::FirstSeq)",
        to = "(super::log_entry::Column::AccountId, super::log_entry::Column::Seq)"
    )]
    First,
    #[sea_orm(
        belongs_to = "super::account::Entity",
        from = "Column::AccountId",
        to = "super::account::Column::Id"
    )]
    Account,
}

impl ActiveModelBehavior for ActiveModel {}
