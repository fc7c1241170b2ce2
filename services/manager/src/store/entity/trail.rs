//! One event of a tracked message, or how far a connection had come.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "trail")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub at_us: i64,
    pub component: String,
    pub step: String,
    pub reason: String,
    /// None: of a connection, or of a message that was not stored.
    pub stanza_id: Option<Uuid>,
    /// Whose log `seq` counts in.
    pub username_key: String,
    pub device: String,
    /// That device's connection; 0: none.
    pub connection: i64,
    pub since_us: i64,
    pub seq: i64,
    /// As the sender gave it.
    pub message_id: Option<Vec<u8>>,
    pub peer: Option<String>,
    pub count: i64,
    pub took_us: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
