//! The life of a server process.

use std::{
    future::pending,
    io,
    pin::{Pin, pin},
    process::{self, ExitCode},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    runtime, select,
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use crate::{
    BindError, Shell, ShutdownConfig,
    admin::{Admin, AdminConfig},
    open_files::{Connections, raise_open_file_limit},
    process as own_process,
    telemetry::{self, LogConfig, TelemetryError},
    traces::{Exporter, TracesConfig},
};

/// What the process around a role is configured with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Section `[log]`.
    pub log: LogConfig,
    /// Section `[traces]`.
    pub traces: TracesConfig,
    /// Section `[admin]`.
    pub admin: AdminConfig,
    /// Section `[shutdown]`.
    pub shutdown: ShutdownConfig,
    /// Client sockets that one user needs in this process, to say at the start how many users fit.
    pub sockets_per_user: usize,
    /// What the operator can do when a port is in use; added to the error.
    pub port_advice: String,
}

/// Runs a server until it ends or is told to stop: TLS provider, logs, open-file limit, admin port, signals, `serve`,
/// bounded drain. The configuration has been read before, so that what is wrong in it is said before anything starts.
///
/// Exits with 0 after an orderly stop, even if connections had to be cut, and with 1 if the start or `serve` failed, which
/// is logged. A second signal ends the process at once with 1.
pub fn run<S, F>(name: &'static str, settings: &Settings, serve: S) -> ExitCode
where
    S: FnOnce(Shell) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    // With two providers in the tree rustls would panic at first use; it fails only if one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(name, settings, &error.into()),
    };
    let telemetry = {
        let _entered = runtime.enter();
        telemetry::init_traced(&settings.log, &settings.traces, name)
    };
    let exporter = match telemetry {
        Ok(exporter) => exporter,
        // A test runs several in one process.
        Err(TelemetryError::Twice) => None,
        Err(error) => {
            eprintln!("kurir: {:#}", anyhow::Error::from(error));
            return ExitCode::from(2);
        }
    };
    let lost_spans = exporter.as_ref().map(Exporter::lost).unwrap_or_default();
    let outcome = runtime.block_on(live(name, settings, lost_spans, serve));
    if let Some(exporter) = exporter {
        exporter.finish();
    }
    // What the drain has cut is left where it stands.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(name, settings, &error),
    }
}

fn failed(role: &'static str, settings: &Settings, error: &anyhow::Error) -> ExitCode {
    let error = explained(error, settings);
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(role, error, "stopped");
    } else {
        // The log is off: an end without a word would be worse than a line too many.
        eprintln!("kurir: {error}");
    }
    ExitCode::FAILURE
}

fn explained(error: &anyhow::Error, settings: &Settings) -> String {
    let in_use = matches!(error.downcast_ref(), Some(BindError::InUse { .. }));
    if in_use && !settings.port_advice.is_empty() {
        format!("{error:#}; {}", settings.port_advice)
    } else {
        format!("{error:#}")
    }
}

async fn live<S, F>(
    role: &'static str,
    settings: &Settings,
    lost_spans: Counter,
    serve: S,
) -> anyhow::Result<()>
where
    S: FnOnce(Shell) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let open_files = raise_open_file_limit();
    let connections = Connections::within(open_files);
    let limit = connections.limit();
    let users = limit / settings.sockets_per_user.max(1);
    tracing::info!(role, open_files, connections = limit, users, "users that the open-file limit allows");

    let mut shell = Shell { connections, ..Shell::new(0) };
    shell.shutdown.times = settings.shutdown.times();
    own_process::register(&shell.metrics);
    own_process::register_shell(&shell);
    let draining = Gauge::default();
    shell.metrics.register(|registry| {
        registry.register(
            "draining",
            "1 from the moment when the process was told to stop",
            draining.clone(),
        );
        registry.register("lost_spans", "Spans of traces that the collector did not take", lost_spans);
    });
    let admin = Admin::start(&settings.admin, &shell).await?;
    if let Some(address) = admin.address() {
        tracing::info!(%address, "admin port open");
    }
    let signals = Signals::install()?;
    // Not in the shutdown's tracker: it waits for the second signal while that is being drained.
    let watching = tokio::spawn(signals.stop(shell.clone(), settings.shutdown.clone(), draining));
    let outcome = serve_and_drain(&shell, &settings.shutdown, serve(shell.clone())).await;
    watching.abort();
    outcome
}

/// Serves until `serving` ends or draining begins, and then waits for it and for the tracked tasks, but no longer than
/// the grace.
async fn serve_and_drain(
    shell: &Shell,
    shutdown: &ShutdownConfig,
    serving: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut serving = pin!(serving);
    let mut outcome = select! {
        outcome = &mut serving => Some(outcome),
        () = shell.shutdown.began() => None,
    };
    // If it ended by itself, what it has spawned must end too.
    shell.health.stopping();
    shell.shutdown.begin();
    let connections = shell.connections.open();
    tracing::info!(connections, "draining");
    let drained = timeout(shutdown.grace(), drain(shell, serving, &mut outcome)).await;
    if drained.is_err() {
        let (connections, tasks) = (shell.connections.open(), shell.shutdown.tracker.len());
        tracing::warn!(connections, tasks, "cut what had not ended within shutdown.grace_seconds");
    }
    outcome.unwrap_or(Ok(()))
}

async fn drain(
    shell: &Shell,
    serving: Pin<&mut impl Future<Output = anyhow::Result<()>>>,
    outcome: &mut Option<anyhow::Result<()>>,
) {
    if outcome.is_none() {
        *outcome = Some(serving.await);
    }
    shell.shutdown.tracker.close();
    shell.shutdown.tracker.wait().await;
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The first signal, or whatever else has the process leave, begins the stop; another signal ends the process.
    async fn stop(mut self, shell: Shell, shutdown: ShutdownConfig, draining: Gauge) {
        let by_signal = select! {
            () = self.next() => true,
            () = shell.shutdown.leaves() => false,
        };
        draining.set(1);
        // Before it is logged: whoever reads that line may rely on it.
        shell.health.stopping();
        shell.shutdown.leave();
        if by_signal {
            tracing::info!("told to stop, a second signal stops at once");
        } else if !shell.shutdown.token.is_cancelled() {
            tracing::info!("asked to drain and stop");
        }
        let begin = async {
            sleep(shutdown.pause()).await;
            shell.shutdown.begin();
            pending::<()>().await;
        };
        let signals = async {
            // Whoever has asked for a drain has sent no signal: the next one is the first.
            if !by_signal {
                self.next().await;
                tracing::info!("told to stop, as it does; a second signal stops at once");
            }
            self.next().await;
        };
        select! {
            () = begin => {}
            () = signals => {}
        }
        tracing::warn!("told twice to stop, stopping at once");
        process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;
    use tokio::time::Instant;

    use super::*;

    fn grace() -> ShutdownConfig {
        ShutdownConfig { grace_seconds: 10, ..ShutdownConfig::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_serve_and_its_tasks() {
        let shell = Shell::new(1);
        let told = shell.clone();
        shell.shutdown.tracker.spawn(async move {
            told.shutdown.began().await;
            sleep(Duration::from_secs(3)).await;
        });
        shell.shutdown.begin();
        let start = Instant::now();
        let serving = async {
            shell.shutdown.began().await;
            Ok(())
        };
        serve_and_drain(&shell, &grace(), serving).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(shell.shutdown.tracker.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_ends_with_the_grace_and_cuts_what_is_left() {
        let shell = Shell::new(1);
        shell.shutdown.tracker.spawn(pending::<()>());
        shell.shutdown.begin();
        let start = Instant::now();
        serve_and_drain(&shell, &grace(), pending()).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(shell.shutdown.tracker.len(), 1);
    }

    #[tokio::test]
    async fn a_serve_that_fails_ends_its_tasks_and_tells_why() {
        let shell = Shell::new(1);
        let told = shell.clone();
        shell.shutdown.tracker.spawn(async move { told.shutdown.began().await });
        let error = serve_and_drain(&shell, &grace(), async { Err(anyhow!("no redis")) }).await.unwrap_err();
        assert_eq!(error.to_string(), "no redis");
        assert!(shell.shutdown.tracker.is_empty());
        assert!(!shell.health.report().is_ready());
    }

    #[test]
    fn a_port_in_use_comes_with_advice_and_other_errors_do_not() {
        let settings = Settings { port_advice: "see --port-base".to_owned(), ..Settings::default() };
        let in_use = anyhow::Error::from(BindError::InUse { address: "127.0.0.1:1".to_owned() });
        assert_eq!(
            explained(&in_use.context("relay"), &settings),
            "relay: cannot listen on 127.0.0.1:1: the port is in use; see --port-base"
        );
        assert_eq!(explained(&anyhow!("no redis").context("relay"), &settings), "relay: no redis");
    }

    #[test]
    fn a_server_lives_and_ends_in_order() {
        let settings = Settings {
            admin: AdminConfig { listen: "127.0.0.1:0".to_owned() },
            log: LogConfig { level: "off".to_owned(), ..LogConfig::default() },
            ..Settings::default()
        };
        let code = run("test", &settings, async |shell| {
            let part = shell.health.register("test");
            part.ready();
            shell.health.wait_until_ready().await;
            shell.shutdown.begin();
            Ok(())
        });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        let code = run("test", &settings, async |_| Err(anyhow!("on purpose")));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
