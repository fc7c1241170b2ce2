//! The schema, step by step. A step that was released is never edited: a change is a new step.

mod m0001_accounts_and_rosters;
mod m0002_logs;
mod m0003_devices;
mod m0004_sessions;
mod m0005_archive;
mod m0006_explain;

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::{Store, StoreError};

/// How long a process waits for another one's migration and then for its own.
const DEADLINE: Duration = Duration::from_mins(1);

/// Names the advisory lock of Kurir's migrations among those that others may use in the same database ("kurir").
const ADVISORY_LOCK: i64 = 0x6b_7572_6972;

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_accounts_and_rosters::Migration),
            Box::new(m0002_logs::Migration),
            Box::new(m0003_devices::Migration),
            Box::new(m0004_sessions::Migration),
            Box::new(m0005_archive::Migration),
            Box::new(m0006_explain::Migration),
        ]
    }
}

impl Store {
    /// Brings the schema up to date. Any number of processes may do so at once: one does it, the others wait.
    ///
    /// All steps that are due happen in one transaction, or none.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.within(DEADLINE, async {
            let transaction = self.begin().await?;
            if transaction.get_database_backend() == DbBackend::Postgres {
                wait_for_turn(&transaction).await?;
            }
            Migrator::up(&transaction, None).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Takes `PostgreSQL`'s lock, which ends with the transaction. `SQLite` needs none: its write transactions exclude each
/// other.
async fn wait_for_turn(transaction: &impl ConnectionTrait) -> Result<(), DbErr> {
    // The deadline of ordinary statements is too short for waiting, and for rebuilding a table.
    let deadline_ms = DEADLINE.as_millis();
    transaction.execute_unprepared(&format!("SET LOCAL statement_timeout = {deadline_ms}")).await?;
    transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")).await?;
    Ok(())
}
