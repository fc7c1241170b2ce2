//! Accounts, and the two rows of every pair of contacts.

use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_accounts_and_rosters"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(account()).await?;
        manager.create_table(roster_item()).await?;
        manager.create_index(roster_item_contact()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(RosterItem::Table).to_owned()).await?;
        manager.drop_table(Table::drop().table(Account::Table).to_owned()).await
    }
}

fn account() -> TableCreateStatement {
    Table::create()
        .table(Account::Table)
        .col(ColumnDef::new(Account::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(Account::Username).text().not_null())
        .col(ColumnDef::new(Account::UsernameKey).text().not_null().unique_key())
        .col(ColumnDef::new(Account::PasswordHash).text().not_null())
        .col(ColumnDef::new(Account::Bio).text().not_null())
        .col(ColumnDef::new(Account::UpdatedAtMs).big_integer().not_null())
        .col(ColumnDef::new(Account::Login).big_integer().not_null())
        .to_owned()
}

fn roster_item() -> TableCreateStatement {
    Table::create()
        .table(RosterItem::Table)
        .col(ColumnDef::new(RosterItem::OwnerId).big_integer().not_null())
        .col(ColumnDef::new(RosterItem::ContactId).big_integer().not_null())
        .col(ColumnDef::new(RosterItem::Name).text().null())
        .col(
            ColumnDef::new(RosterItem::Subscription)
                .text()
                .not_null()
                .check(Expr::col(RosterItem::Subscription).is_in(["to", "from", "both"])),
        )
        .primary_key(Index::create().col(RosterItem::OwnerId).col(RosterItem::ContactId))
        .foreign_key(&mut side("roster_item_owner", RosterItem::OwnerId))
        .foreign_key(&mut side("roster_item_contact", RosterItem::ContactId))
        .check(Expr::col(RosterItem::OwnerId).ne(Expr::col(RosterItem::ContactId)))
        .to_owned()
}

fn side(name: &str, column: RosterItem) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(name)
        .from(RosterItem::Table, column)
        .to(Account::Table, Account::Id)
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

/// Without it, deleting an account would read every roster.
fn roster_item_contact() -> IndexCreateStatement {
    Index::create()
        .name("roster_item_contact_id")
        .table(RosterItem::Table)
        .col(RosterItem::ContactId)
        .to_owned()
}

#[derive(DeriveIden)]
enum Account {
    Table,
    Id,
    Username,
    UsernameKey,
    PasswordHash,
    Bio,
    UpdatedAtMs,
    Login,
}

#[derive(DeriveIden)]
enum RosterItem {
    Table,
    OwnerId,
    ContactId,
    Name,
    Subscription,
}
