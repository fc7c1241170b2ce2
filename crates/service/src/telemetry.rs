//! Logs, on stderr. Stdout belongs to what a command prints.

use serde::{Deserialize, Serialize};

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
    #[error("log.level {level:?} is no log filter: {source}")]
    Filter {
        /// As configured.
        level: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something in this process logs already.
    #[error("logs have been set up already")]
    Twice,
}

/// Starts logging for the whole process.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let _ = config;
    todo!()
}
