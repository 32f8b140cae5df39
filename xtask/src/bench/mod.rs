//! Benchmarks: whole processes on generated input, beside a limit or a peer that is measured in the same run.
//!
//! Figures are per core-second (user and system time of the measured process), since machines are shared; times of the
//! clock are printed beside them. A benchmark asserts nothing.

mod ingest;
mod limit;
mod load;
mod process;
mod receiver;
mod sinks;

use std::path::PathBuf;

use clap::Subcommand;

use crate::command;

/// `cargo xtask bench …`.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From a posted or filed context to a durable record in a file
    Ingest(ingest::Arguments),
    /// From the journal to receivers, and the feed's lists and blobs
    Sinks(sinks::Arguments),
    /// Part of `ingest`, as a process of its own: what the hardware could do with a file
    #[command(hide = true)]
    Limit {
        /// Contexts, one a line
        contexts: PathBuf,
        /// File to write to
        out: PathBuf,
        /// Bytes of a record
        record_bytes: usize,
    },
    /// Part of `ingest`, as a process of its own: an HTTP server that only answers 200
    #[command(hide = true)]
    BareServer,
    /// Part of `sinks`, as a process of its own: reads a file and posts it
    #[command(hide = true)]
    PostFile {
        /// The file
        file: PathBuf,
        /// The receiver's address
        address: String,
    },
}

impl Bench {
    /// Runs it. Limits and peers are measured in this program, so a development build hands over to a release build.
    pub(crate) fn run(self) -> Result<(), String> {
        if cfg!(debug_assertions) {
            let mut cargo = command::cargo();
            cargo.args(["run", "--release", "--quiet", "--package", "xtask", "--"]).args(std::env::args_os().skip(1));
            return command::succeed(&mut cargo);
        }
        match self {
            Self::Ingest(arguments) => ingest::run(&arguments),
            Self::Limit { contexts, out, record_bytes } => limit::run(&contexts, &out, record_bytes),
            Self::BareServer => load::bare_server(),
            Self::Sinks(arguments) => sinks::run(&arguments),
            Self::PostFile { file, address } => sinks::post_file(&file, &address),
        }
    }
}
