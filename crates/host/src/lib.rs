//! The host: configuration, command line, signals, and the plugins that a deployment enables.
//!
//! It puts nothing between a source and a sink; that is the runtime's. A deployment with plugins of its own writes a
//! host in five lines and gets everything that this one has:
//!
//! ```no_run
//! // use my_source as _;
//! fn main() -> std::process::ExitCode {
//!     actlog::main()
//! }
//! ```
//!
//! Invariant: the host names no plugin but in `plugins.rs`.

// A plugin crate that is a dependency and that nothing mentions would be dropped in silence.
#![cfg_attr(not(test), deny(unused_crate_dependencies))]

mod commands;
mod config_file;
mod logging;
mod plugins;

use std::process::ExitCode;

/// Runs the command line of this process and says how it ended: 0 well, 1 with an error that was printed, 2 for a
/// command line that can't be understood.
pub fn main() -> ExitCode {
    commands::Cli::read().carry_out()
}
