//! One user's account.

use sea_orm::entity::prelude::*;

use crate::password::PasswordHash;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub username: String,
    /// The case-mapped username: what makes an account unique.
    #[sea_orm(unique)]
    pub username_key: String,
    #[sea_orm(column_type = "Text")]
    pub password_hash: PasswordHash,
    pub bio: String,
    pub updated_at_ms: i64,
    pub login: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
