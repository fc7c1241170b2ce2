//! A device, and how far it has read its account's log.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub resource: String,
    pub cursor: i64,
    pub seen_ms: i64,
    /// Its newest login.
    pub login: i64,
    /// Hashes of its session's tokens: of what they share; of the next one; of the one before, and after it of other answers to
    /// that, oldest first.
    pub family: Option<Vec<u8>>,
    pub current: Option<Vec<u8>>,
    pub former: Option<Vec<u8>>,
    pub expires_ms: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
