//! The log as an archive: conversations, where it begins, and how far each conversation was read.

use sea_orm_migration::prelude::*;

use super::m0002_logs::of_account;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_archive"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let first = ColumnDef::new(Log::FirstSeq).big_integer().not_null().default(1).to_owned();
        manager.alter_table(Table::alter().table(Log::Table).add_column(first).to_owned()).await?;
        // Entries from before this step belong to no conversation: they are found without one.
        let peer = ColumnDef::new(LogEntry::PeerId).big_integer().not_null().default(0).to_owned();
        manager.alter_table(Table::alter().table(LogEntry::Table).add_column(peer).to_owned()).await?;
        manager.create_index(log_entry_peer()).await?;
        manager.create_table(displayed()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Displayed::Table).to_owned()).await?;
        let index = Index::drop().name(LOG_ENTRY_PEER).table(LogEntry::Table).to_owned();
        manager.drop_index(index).await?;
        let peer = Table::alter().table(LogEntry::Table).drop_column(LogEntry::PeerId).to_owned();
        manager.alter_table(peer).await?;
        manager.alter_table(Table::alter().table(Log::Table).drop_column(Log::FirstSeq).to_owned()).await
    }
}

const LOG_ENTRY_PEER: &str = "log_entry_peer";

/// What a conversation is read by.
fn log_entry_peer() -> IndexCreateStatement {
    Index::create()
        .name(LOG_ENTRY_PEER)
        .table(LogEntry::Table)
        .col(LogEntry::AccountId)
        .col(LogEntry::PeerId)
        .col(LogEntry::Seq)
        .to_owned()
}

fn displayed() -> TableCreateStatement {
    Table::create()
        .table(Displayed::Table)
        .col(ColumnDef::new(Displayed::AccountId).big_integer().not_null())
        .col(ColumnDef::new(Displayed::PeerId).big_integer().not_null())
        .col(ColumnDef::new(Displayed::StanzaId).uuid().not_null())
        .col(ColumnDef::new(Displayed::TsMs).big_integer().not_null())
        .primary_key(Index::create().col(Displayed::AccountId).col(Displayed::PeerId))
        .foreign_key(&mut of_account("displayed_account", Displayed::Table, Displayed::AccountId))
        .foreign_key(&mut of_account("displayed_peer", Displayed::Table, Displayed::PeerId))
        .to_owned()
}

#[derive(DeriveIden)]
enum Log {
    Table,
    FirstSeq,
}

#[derive(DeriveIden)]
enum LogEntry {
    Table,
    AccountId,
    Seq,
    PeerId,
}

#[derive(DeriveIden)]
enum Displayed {
    Table,
    AccountId,
    PeerId,
    StanzaId,
    TsMs,
}
