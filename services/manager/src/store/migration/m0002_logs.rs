//! Each account's log, and how far each device has read it.

use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_logs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(log()).await?;
        manager.create_table(log_entry()).await?;
        manager.create_index(log_entry_sent()).await?;
        manager.create_table(device()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in
            [Device::Table.into_table_ref(), LogEntry::Table.into_table_ref(), Log::Table.into_table_ref()]
        {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn log() -> TableCreateStatement {
    Table::create()
        .table(Log::Table)
        .col(ColumnDef::new(Log::AccountId).big_integer().not_null().primary_key())
        .col(ColumnDef::new(Log::Life).uuid().not_null())
        .col(ColumnDef::new(Log::LastSeq).big_integer().not_null())
        .foreign_key(&mut of_account("log_account", Log::Table, Log::AccountId))
        .to_owned()
}

fn log_entry() -> TableCreateStatement {
    Table::create()
        .table(LogEntry::Table)
        .col(ColumnDef::new(LogEntry::AccountId).big_integer().not_null())
        .col(ColumnDef::new(LogEntry::Seq).big_integer().not_null())
        .col(ColumnDef::new(LogEntry::StanzaId).uuid().not_null())
        .col(ColumnDef::new(LogEntry::TsMs).big_integer().not_null())
        .col(ColumnDef::new(LogEntry::Stanza).text().not_null())
        .col(ColumnDef::new(LogEntry::Device).text().null())
        .col(ColumnDef::new(LogEntry::MessageId).blob().null())
        .col(ColumnDef::new(LogEntry::Digest).blob().null())
        .primary_key(Index::create().col(LogEntry::AccountId).col(LogEntry::Seq))
        .foreign_key(&mut of_account("log_entry_account", LogEntry::Table, LogEntry::AccountId))
        .to_owned()
}

/// What the same message sent again is found by. Received entries have neither device nor id, and NULLs are no
/// duplicates of each other.
fn log_entry_sent() -> IndexCreateStatement {
    Index::create()
        .name("log_entry_sent")
        .table(LogEntry::Table)
        .col(LogEntry::AccountId)
        .col(LogEntry::MessageId)
        .col(LogEntry::Device)
        .unique()
        .to_owned()
}

fn device() -> TableCreateStatement {
    Table::create()
        .table(Device::Table)
        .col(ColumnDef::new(Device::AccountId).big_integer().not_null())
        .col(ColumnDef::new(Device::Resource).text().not_null())
        .col(ColumnDef::new(Device::Cursor).big_integer().not_null())
        .primary_key(Index::create().col(Device::AccountId).col(Device::Resource))
        .foreign_key(&mut of_account("device_account", Device::Table, Device::AccountId))
        .to_owned()
}

/// What goes with its account.
pub(super) fn of_account(
    name: &str,
    table: impl IntoTableRef,
    column: impl IntoIden,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(name)
        .from(table, column)
        .to(Account::Table, Account::Id)
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

#[derive(DeriveIden)]
enum Account {
    Table,
    Id,
}

#[derive(DeriveIden)]
enum Log {
    Table,
    AccountId,
    Life,
    LastSeq,
}

#[derive(DeriveIden)]
enum LogEntry {
    Table,
    AccountId,
    Seq,
    StanzaId,
    TsMs,
    Stanza,
    Device,
    MessageId,
    Digest,
}

#[derive(DeriveIden)]
enum Device {
    Table,
    AccountId,
    Resource,
    Cursor,
}
