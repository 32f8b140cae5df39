//! Subcommands of plugins: `actlog NAME …`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Organizations;
use crate::emitter::Gap;
use crate::storage::Storage;

/// What a plugin's subcommand works with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommandContext {
    /// The configuration file; none when the embedded default is used.
    pub config_file: Option<PathBuf>,
    /// The folder of the configuration file: relative paths in the configuration are seen from there.
    pub config_dir: PathBuf,
    /// The configuration, as JSON.
    pub config: serde_json::Value,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The configured organisations.
    pub organizations: Organizations,
    /// The file system.
    pub storage: Arc<dyn Storage>,
    /// Where it states what it does.
    pub log: Arc<dyn CommandLog>,
}

impl CommandContext {
    /// A context without a configuration, as the host completes it.
    pub fn new(data_dir: PathBuf, storage: Arc<dyn Storage>, log: Arc<dyn CommandLog>) -> Self {
        Self {
            config_file: None,
            config_dir: PathBuf::from("."),
            config: serde_json::Value::Null,
            data_dir,
            organizations: Organizations::new(),
            storage,
            log,
        }
    }
}

/// How a command states in the journal what it does: through the process that runs on the data folder, or, when none
/// does, on the folder itself.
pub trait CommandLog: fmt::Debug + Send + Sync {
    /// States the action, and the gaps that it has found or closed; durable when this returns. Who did it is found out by
    /// the host. Blocks: not to be called on an asynchronous thread.
    ///
    /// A command that changes another system states that first, and does nothing when it can't.
    ///
    /// # Errors
    /// What kept it from being stated, for a person.
    fn state(&self, action: &str, gaps: &[Gap]) -> Result<(), String>;
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
