//! One side of a pair of contacts: what `owner` keeps about `contact`.

use sea_orm::entity::prelude::*;

use crate::store::Subscription;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "roster_item")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub contact_id: i64,
    pub name: Option<String>,
    pub subscription: Subscription,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::account::Entity",
        from = "Column::ContactId",
        to = "super::account::Column::Id"
    )]
    Contact,
}

impl ActiveModelBehavior for ActiveModel {}
