//! When a device was last heard of: those that are not for long are forgotten.

use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_devices"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let seen = ColumnDef::new(Device::SeenMs).big_integer().not_null().default(0).to_owned();
        manager.alter_table(Table::alter().table(Device::Table).add_column(seen).to_owned()).await?;
        manager
            .create_index(
                Index::create().name("device_seen").table(Device::Table).col(Device::SeenMs).to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("device_seen").table(Device::Table).to_owned()).await?;
        manager.alter_table(Table::alter().table(Device::Table).drop_column(Device::SeenMs).to_owned()).await
    }
}

#[derive(DeriveIden)]
enum Device {
    Table,
    SeenMs,
}
