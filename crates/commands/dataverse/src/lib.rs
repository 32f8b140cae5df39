//! `actlog dataverse …`: what has to be done in a live Dataverse environment so that activity is captured from it.
//!
//! It registers the webhook and its steps from the environment's own list of messages and the published policy, shows
//! how both have drifted apart, resumes system jobs that failed, and carries audit switches between the policy and the
//! environment.
//!
//! It is no source: nothing is captured here. It stands before the flow, at the environment that a `crm` source hears
//! from. The policy is read and never published here.
//!
//! Invariants:
//! - Nothing is changed without `--apply` (import writes a draft, which changes nothing until it is published).
//! - What is changed is stated in the journal first; when it can't be, nothing is changed.
//! - Only what bears this project's names is changed: the endpoint `activity-log` and steps named `activity-log: …`.
//! - The key goes to the environment and nowhere else.

mod environment;
mod flags;
mod forecast;
mod output;
mod plan;
mod recover;
mod register;
mod rows;
mod statements;
mod status;
mod webhook;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use actlog_core::CommandContext;
use clap::{Parser, Subcommand};

use environment::Connection;

actlog_core::register_command!(
    "dataverse",
    "Registers with a Dataverse environment, and compares it with the policy",
    run
);

/// Registers with a Dataverse environment, and compares it with the policy.
#[derive(Parser)]
#[command(name = "actlog dataverse", arg_required_else_help = true, disable_version_flag = true)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates the webhook and its steps, or brings them up to date
    Register(register::Arguments),
    /// Shows how the steps differ from the policy, failed jobs, and the environment's audit switches
    Status(status::Arguments),
    /// Removes the steps and the webhook
    Unregister(register::RemoveArguments),
    /// Resumes failed system jobs of the steps, and states what stays lost
    Recover(recover::Arguments),
    /// Writes the policy's audit switches to the environment's tables and columns
    ApplyPolicy(flags::ApplyArguments),
    /// Takes the environment's audit switches over into the draft of the policy
    ImportPolicy(flags::ImportArguments),
}

/// What a command ended with, for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Outcome = Result<ExitCode, Failure>;

fn run(cx: CommandContext, arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(std::iter::once(OsString::from("actlog dataverse")).chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, errors to standard error; without them there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match carry_out(&cli, &cx) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {}", output::harmless(&failure.0));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: &Cli, cx: &CommandContext) -> Outcome {
    let environment = cli.connection.open(cx)?;
    match &cli.command {
        Command::Register(arguments) => register::register(arguments, cx, &environment),
        Command::Status(arguments) => status::carry_out(arguments, cx, &environment),
        Command::Unregister(arguments) => register::unregister(arguments, cx, &environment),
        Command::Recover(arguments) => recover::carry_out(arguments, cx, &environment),
        Command::ApplyPolicy(arguments) => flags::apply(arguments, cx, &environment),
        Command::ImportPolicy(arguments) => flags::import(arguments, cx, &environment),
    }
}
