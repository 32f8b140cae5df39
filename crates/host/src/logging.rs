//! Log lines of the process, on standard error.

use actlog_core::ConfigError;
use actlog_runtime::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins logging as configured.
///
/// # Errors
/// When the level can't be understood.
pub(crate) fn begin(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        let message =
            format!("{:?}: {error}; write for example \"info\" or \"info,actlog_journal=debug\"", config.level);
        ConfigError::new("log.level", message)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
