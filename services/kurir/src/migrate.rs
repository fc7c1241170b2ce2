//! `kurir migrate`: the database schema, up to date.

use std::process::ExitCode;

use kurir_manager::store::DatabaseConfig;

use crate::{
    config::{ConfigArgs, refused},
    finish,
    roles::Role,
    start,
};

/// Reads the configuration and migrates the database it names.
pub(crate) fn run(args: &ConfigArgs) -> ExitCode {
    let config = match args.load(Role::Manager) {
        Ok(loaded) => loaded.config,
        Err(error) => return refused(&error),
    };
    finish(async move {
        // Asked for by name, so `database.migrate` is not asked.
        let database = DatabaseConfig { migrate: false, ..config.database };
        start::open_store(&config.start, &database).await?.migrate().await?;
        Ok(())
    })
}
