//! The store on a real `PostgreSQL` and on `SQLite`: each test body runs on both.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod accounts;
mod archive;
mod database;
mod devices;
mod logs;
mod migrations;
mod outages;
mod postgres;
mod retention;
mod rosters;
mod sessions;
mod trail;

/// Makes tests of the functions named: one on `PostgreSQL` and one on `SQLite`, each with an empty database.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::database::TestDatabase::postgres().await).await;
            })+
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::database::TestDatabase::sqlite()).await;
            })+
        }
    };
}
pub(crate) use on_both_databases;
