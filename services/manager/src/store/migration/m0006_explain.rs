//! What became of tracked messages, where that is kept in the database; and finding a message that an account has sent by
//! its stanza id.

use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_explain"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(trail()).await?;
        for index in [
            on_trail("trail_stanza_id", &[Trail::StanzaId]),
            on_trail("trail_message", &[Trail::UsernameKey, Trail::MessageId]),
            on_trail("trail_progress", &[Trail::SinceUs, Trail::Connection, Trail::Step, Trail::Seq]),
            on_trail("trail_age", &[Trail::AtUs]),
            log_entry_stanza_id(),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(LOG_ENTRY).table(LogEntry::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Trail::Table).to_owned()).await
    }
}

fn trail() -> TableCreateStatement {
    Table::create()
        .table(Trail::Table)
        .col(ColumnDef::new(Trail::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(Trail::AtUs).big_integer().not_null())
        .col(ColumnDef::new(Trail::Component).text().not_null())
        .col(ColumnDef::new(Trail::Step).text().not_null())
        .col(ColumnDef::new(Trail::Reason).text().not_null())
        .col(ColumnDef::new(Trail::StanzaId).uuid().null())
        .col(ColumnDef::new(Trail::UsernameKey).text().not_null())
        .col(ColumnDef::new(Trail::Device).text().not_null())
        .col(ColumnDef::new(Trail::Connection).big_integer().not_null())
        .col(ColumnDef::new(Trail::SinceUs).big_integer().not_null())
        .col(ColumnDef::new(Trail::Seq).big_integer().not_null())
        .col(ColumnDef::new(Trail::MessageId).blob().null())
        .col(ColumnDef::new(Trail::Peer).text().null())
        .col(ColumnDef::new(Trail::Count).big_integer().not_null())
        .col(ColumnDef::new(Trail::TookUs).big_integer().not_null())
        .to_owned()
}

fn on_trail(name: &str, columns: &[Trail]) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(Trail::Table).to_owned();
    for column in columns {
        index.col(*column);
    }
    index
}

const LOG_ENTRY: &str = "log_entry_stanza_id";

/// One row a message, not one an entry: only the sender's has a device. New ones come at the index's end.
fn log_entry_stanza_id() -> IndexCreateStatement {
    Index::create()
        .name(LOG_ENTRY)
        .table(LogEntry::Table)
        .col(LogEntry::StanzaId)
        .and_where(Expr::col(LogEntry::Device).is_not_null())
        .to_owned()
}

#[derive(DeriveIden, Clone, Copy)]
enum Trail {
    Table,
    Id,
    AtUs,
    Component,
    Step,
    Reason,
    StanzaId,
    UsernameKey,
    Device,
    Connection,
    SinceUs,
    Seq,
    MessageId,
    Peer,
    Count,
    TookUs,
}

#[derive(DeriveIden)]
enum LogEntry {
    Table,
    StanzaId,
    Device,
}
