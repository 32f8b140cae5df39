//! `actlog schema`.

use std::process::ExitCode;

use actlog_core::AuditRecord;
use actlog_policy::PolicyDocument;
use actlog_runtime::Config;

use super::{Outcome, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of what
    #[arg(value_enum, default_value = "record")]
    of: Of,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Of {
    /// The audit record
    Record,
    /// The configuration file
    Config,
    /// The audit policy
    Policy,
}

pub(crate) fn carry_out(arguments: &Arguments) -> Outcome {
    let schema = match arguments.of {
        Of::Record => AuditRecord::schema(),
        Of::Config => schemars::schema_for!(Config),
        Of::Policy => schemars::schema_for!(PolicyDocument),
    };
    output::json(&schema)?;
    Ok(ExitCode::SUCCESS)
}
