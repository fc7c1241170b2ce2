//! `kurir tracker`, `kurir manager`, `kurir relay`: one role in a process of its own.

use std::process::ExitCode;

use kurir_service::Shell;

use crate::{
    config::{Config, ConfigArgs, refused},
    start,
};

/// What a process can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Tracker,
    Manager,
    Relay,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Manager => "manager",
            Self::Relay => "relay",
        }
    }
}

/// Reads the configuration and serves as `role` until told to stop.
pub(crate) fn run(role: Role, args: &ConfigArgs) -> ExitCode {
    let config = match args.load(role) {
        Ok(loaded) => loaded.config,
        Err(error) => return refused(&error),
    };
    let name = role.name();
    let advice = format!("choose another with {name}.listen, {name}.grpc_listen or admin.listen");
    let settings = config.settings(1, &advice);
    kurir_service::run(name, &settings, |shell| serve(role, config, shell))
}

async fn serve(role: Role, config: Config, shell: Shell) -> anyhow::Result<()> {
    match role {
        Role::Tracker => kurir_tracker::serve(config.tracker, shell).await,
        Role::Manager => {
            // Boxed: opening takes far more room than serving, for as long as the process lives.
            let opened =
                Box::pin(async { tokio::try_join!(start::store(&config), start::directory(&config)) });
            let Some((store, directory)) = start::unless_stopped(&shell, opened).await? else {
                return Ok(());
            };
            start::watch(&shell, &directory, Some(&store));
            kurir_manager::serve(config.manager, store, directory, shell).await
        }
        Role::Relay => {
            let opened = Box::pin(start::directory(&config));
            let Some(directory) = start::unless_stopped(&shell, opened).await? else { return Ok(()) };
            start::watch(&shell, &directory, None);
            kurir_relay::serve(config.relay, directory, shell).await
        }
    }
}
