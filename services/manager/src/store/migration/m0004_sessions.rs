//! What a device logs in with again instead of the password: hashes only.

use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_sessions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            ColumnDef::new(Device::Login).big_integer().not_null().default(0).to_owned(),
            ColumnDef::new(Device::Family).blob().null().to_owned(),
            ColumnDef::new(Device::Current).blob().null().to_owned(),
            ColumnDef::new(Device::Former).blob().null().to_owned(),
            ColumnDef::new(Device::ExpiresMs).big_integer().null().to_owned(),
        ];
        // SQLite adds one column with a statement.
        for column in columns {
            let add = Table::alter().table(Device::Table).add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in [Device::Login, Device::Family, Device::Current, Device::Former, Device::ExpiresMs] {
            let drop = Table::alter().table(Device::Table).drop_column(column).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

#[derive(DeriveIden)]
enum Device {
    Table,
    Login,
    Family,
    Current,
    Former,
    ExpiresMs,
}
