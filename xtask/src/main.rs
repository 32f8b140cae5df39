//! Chores of the repository: `cargo xtask help` lists them.
//!
//! What developers and CI do is written down here once, in a form that runs wherever Rust does. Nothing of it is in the
//! shipped binary.

mod bench;
mod ci;
mod command;
mod coverage;
mod docs;
mod fuzz;
mod new_plugin;
mod tidy;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the repository
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Does everything that CI does, and stops at the first failure
    Ci,
    /// Checks the rules of the repository that no compiler checks
    Tidy,
    /// Writes the generated documents: docs/configuration.md, docs/cli.md, docs/record.schema.json
    Docs(docs::Arguments),
    /// Writes a new source or sink that compiles, registers and passes the compliance kit
    NewPlugin(new_plugin::Arguments),
    /// Measures whole processes on generated input
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Kills the real binary at random moments under load, and counts what is left
    Torture(torture::Arguments),
    /// Runs fuzz targets of the folder fuzz/
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Ci => ci::run(),
        Chore::Tidy => tidy::run(&command::root()),
        Chore::Docs(arguments) => docs::run(&arguments),
        Chore::NewPlugin(arguments) => new_plugin::run(&arguments),
        Chore::Bench(bench) => bench.run(),
        Chore::Torture(arguments) => torture::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
