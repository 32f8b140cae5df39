//! Subcommands of plugins: `actlog NAME …`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a plugin's subcommand works with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommandContext {
    /// The configuration file; none when the embedded default is used.
    pub config_file: Option<PathBuf>,
    /// The configuration, as JSON.
    pub config: serde_json::Value,
    /// The data folder.
    pub data_dir: PathBuf,
}

impl CommandContext {
    /// A context, as the host makes it.
    pub fn new(config_file: Option<PathBuf>, config: serde_json::Value, data_dir: PathBuf) -> Self {
        Self { config_file, config, data_dir }
    }
}

/// A registered subcommand.
#[derive(Debug)]
pub struct CommandDescriptor {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// Version of that crate.
    pub crate_version: &'static str,
    /// Does it: the context, and the arguments behind its name.
    pub run: fn(CommandContext, Vec<OsString>) -> ExitCode,
}

inventory::collect!(CommandDescriptor);

/// Registers a subcommand: `register_command!("clients", "Manages registered clients", run_clients)`.
#[macro_export]
macro_rules! register_command {
    ($name:literal, $summary:literal, $run:expr) => {
        $crate::inventory::submit! {
            $crate::CommandDescriptor {
                name: $name,
                summary: $summary,
                crate_name: env!("CARGO_PKG_NAME"),
                crate_version: env!("CARGO_PKG_VERSION"),
                run: $run,
            }
        }
    };
}
