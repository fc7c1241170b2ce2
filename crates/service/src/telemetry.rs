//! Logs, on stderr, and traces. Stdout belongs to what a command prints.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    layer::{Identity, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::traces::{self, ExportError, Exporter, TracesConfig};

/// Section `[log]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: a level (`info`), or levels by module (`info,kurir_relay=debug`).
    pub level: String,
    /// How.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human when stderr is a terminal, JSON otherwise.
    Auto,
    /// One line of text, coloured on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logs cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` cannot be understood.
    #[error("log.level: {level:?} is no log filter")]
    Filter {
        /// As configured.
        level: String,
    },
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] ExportError),
    /// Something in this process logs already.
    #[error("logs have been set up already")]
    Twice,
}

/// Starts logging for the whole process.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    init_with(config, None::<Identity>)
}

/// Starts logging, and traces where they are configured, for the whole process; inside a tokio runtime. The exporter, if there is one,
/// is to be finished before that runtime ends.
pub fn init_traced(
    config: &LogConfig,
    exported: &TracesConfig,
    role: &str,
) -> Result<Option<Exporter>, TelemetryError> {
    let (layer, exporter) = traces::layer(exported, role)?.unzip();
    init_with(config, layer)?;
    Ok(exporter)
}

fn init_with<L>(config: &LogConfig, traces: Option<L>) -> Result<(), TelemetryError>
where
    L: Layer<Registry> + Send + Sync + 'static,
{
    let filter = filter(config)?;
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(terminal);
    let lines = match config.format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Auto if terminal => lines.boxed(),
        LogFormat::Json | LogFormat::Auto => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // Traces first: a layer can be told which one it is on, and logs take any.
    tracing_subscriber::registry()
        .with(traces)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}

/// Whether [`init`] would take this configuration.
pub fn check(config: &LogConfig) -> Result<(), TelemetryError> {
    filter(config).map(|_| ())
}

fn filter(config: &LogConfig) -> Result<EnvFilter, TelemetryError> {
    let refused = || TelemetryError::Filter { level: config.level.clone() };
    // `EnvFilter` takes a word that is no level for a module, and `inof` would mute everything.
    let is_understood = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    if !config.level.split(',').all(is_understood) {
        return Err(refused());
    }
    EnvFilter::try_new(&config.level).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(level: &str) -> LogConfig {
        LogConfig { level: level.to_owned(), ..LogConfig::default() }
    }

    #[test]
    fn levels_by_module_are_understood() {
        check(&LogConfig::default()).unwrap();
        check(&level("warn,kurir_relay=debug")).unwrap();
    }

    #[test]
    fn a_level_that_is_none_is_named() {
        let error = check(&level("info,kurir_relay=loud")).unwrap_err();
        assert_eq!(error.to_string(), "log.level: \"info,kurir_relay=loud\" is no log filter");
    }

    #[test]
    fn a_level_with_a_typo_is_not_taken_for_a_module() {
        for typo in ["inof", "info,kurir_relay", "info, warn"] {
            assert!(check(&level(typo)).is_err(), "{typo:?}");
        }
        for good in ["off", "WARN", "info,[session{user=esa}]=trace"] {
            check(&level(good)).unwrap();
        }
    }
}
