//! The command line.

mod dead_letters;
mod init;
mod journal;
mod output;
mod plugins;
mod policy;
mod run;
mod schema;
mod sinks;
mod status;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use actlog_core::{CommandContext, CommandLog, Gap, Registry};
use actlog_runtime::{ControlError, DiskStorage, Instance, LockError, OpenError, Plan, Request, ask};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config_file::Loaded;
use crate::plugins::KNOWN;

/// Activity logging for Dynamics 365: captures, applies the audit policy, writes durably, serves to sinks.
#[derive(Parser)]
#[command(name = "actlog", version, arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct ConfigArgument {
    /// Configuration file [default: actlog.toml in the working folder if there is one, else an embedded default]
    #[arg(long, global = true, value_name = "FILE", env = "ACTLOG_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Captures: runs every source and sink of the configuration
    Run(run::Arguments),
    /// Checks the configuration without starting anything
    Validate,
    /// Writes a configuration to begin with, and its webhook key
    Init(init::Arguments),
    /// Lists the plugins that are compiled in, or shows one of them
    Plugins(plugins::Arguments),
    /// Prints a JSON Schema
    Schema(schema::Arguments),
    /// Shows, drafts and publishes the audit policy
    #[command(subcommand)]
    Policy(policy::Command),
    /// Looks at the journal, checks it, repairs it
    #[command(subcommand)]
    Journal(journal::Command),
    /// Shows what was refused for good, and sends it again
    #[command(subcommand, name = "deadletters")]
    DeadLetters(dead_letters::Command),
    /// Shows how far the sinks have come, and moves them on
    #[command(subcommand)]
    Sinks(sinks::Command),
    /// Shows how every component of a running process is
    Status(status::Arguments),
    /// A command of a plugin
    #[command(external_subcommand)]
    Plugin(Vec<OsString>),
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

impl From<crate::config_file::FileError> for Failure {
    fn from(error: crate::config_file::FileError) -> Self {
        Self(error.to_string())
    }
}

/// Most commands end well or with an error; `validate` and `verify` have more to say.
type Outcome = Result<ExitCode, Failure>;

impl Cli {
    /// Reads the command line of this process; ends the process where it can't be understood, or asks for help.
    pub(crate) fn read() -> Self {
        let mut command = Self::command();
        if let Some(text) = commands_of_plugins() {
            command = command.after_help(text);
        }
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Does what was asked.
    pub(crate) fn carry_out(self) -> ExitCode {
        match self.dispatch() {
            Ok(code) => code,
            Err(failure) => {
                output::error(&failure);
                ExitCode::FAILURE
            }
        }
    }

    fn dispatch(self) -> Outcome {
        // Before anything else: a host whose plugins can't be used together must not get further than this.
        let registry = Registry::collect()?;
        let config = &self.config;
        match self.command {
            Command::Run(arguments) => run::carry_out(&arguments, config.read()?, &registry),
            Command::Validate => validate(&config.read()?, &registry),
            Command::Init(arguments) => init::carry_out(&arguments, config.config.as_deref()),
            Command::Plugins(arguments) => plugins::carry_out(&arguments, &registry),
            Command::Schema(arguments) => schema::carry_out(&arguments),
            Command::Policy(command) => policy::carry_out(command, &config.read()?),
            Command::Journal(command) => journal::carry_out(&command, &config.read()?),
            Command::DeadLetters(command) => dead_letters::carry_out(&command, &config.read()?),
            Command::Sinks(command) => sinks::carry_out(&command, &config.read()?),
            Command::Status(arguments) => status::carry_out(&arguments, &config.read()?),
            Command::Plugin(arguments) => plugin_command(&arguments, config, &registry),
        }
    }
}

impl ConfigArgument {
    fn read(&self) -> Result<Loaded, Failure> {
        Ok(Loaded::read(self.config.as_deref())?)
    }
}

fn validate(loaded: &Loaded, registry: &Registry) -> Outcome {
    let plan = Plan::new(&loaded.config, registry, &KNOWN).map_err(|error| loaded.error(error))?;
    let mut parts = format!("{} sources, {} sinks", plan.sources.len(), plan.sinks.len());
    if !plan.enrichments.is_empty() {
        parts += &format!(", {} enrichments", plan.enrichments.len());
    }
    output::line(format!("{}: good: {parts}", loaded.name()));
    Ok(ExitCode::SUCCESS)
}

/// What the help says of commands that plugins bring; none where there are none.
fn commands_of_plugins() -> Option<String> {
    // A registry that can't be used is reported when a command is carried out.
    let registry = Registry::collect().ok()?;
    let lines: Vec<String> =
        registry.commands().map(|command| format!("  {:<11}  {}", command.name, command.summary)).collect();
    (!lines.is_empty()).then(|| format!("Commands of plugins:\n{}", lines.join("\n")))
}

fn plugin_command(arguments: &[OsString], config: &ConfigArgument, registry: &Registry) -> Outcome {
    let (name, rest) = arguments
        .split_first()
        .map_or((String::new(), &[][..]), |(name, rest)| (name.to_string_lossy().into_owned(), rest));
    let Some(command) = registry.commands().find(|command| command.name == name) else {
        return Err(Failure(format!("there is no command {name:?}; `actlog help` lists those that there are")));
    };
    let (file, rest) = take_config(rest)?;
    let loaded = Arc::new(if file.is_some() { Loaded::read(file.as_deref())? } else { config.read()? });
    let log = Arc::new(Log(Arc::clone(&loaded)));
    let mut cx = CommandContext::new(loaded.config.data_dir.clone(), Arc::new(DiskStorage), log);
    cx.config_file.clone_from(&loaded.file);
    cx.config_dir.clone_from(&loaded.folder);
    cx.config.clone_from(&loaded.value);
    cx.organizations.clone_from(&loaded.config.organizations);
    Ok((command.run)(cx, rest))
}

/// Takes `--config FILE` out of a plugin's arguments: it is the host's wherever it stands.
fn take_config(arguments: &[OsString]) -> Result<(Option<PathBuf>, Vec<OsString>), Failure> {
    let (mut file, mut rest) = (None, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument.clone());
            rest.extend(arguments.cloned());
            break;
        }
        if argument == "--config" {
            let value = arguments.next().ok_or_else(|| Failure("--config needs a file".to_owned()))?;
            file = Some(PathBuf::from(value));
        } else if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            file = Some(PathBuf::from(value));
        } else {
            rest.push(argument.clone());
        }
    }
    Ok((file, rest))
}

/// The journal, as commands of plugins see it.
struct Log(Arc<Loaded>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Log").field(&self.0.config.data_dir).finish()
    }
}

impl CommandLog for Log {
    fn state(&self, action: &str, gaps: &[Gap]) -> Result<(), String> {
        let request = Request::State { action: action.to_owned(), gaps: gaps.to_vec() };
        change(&self.0, request).map(drop).map_err(|error| error.to_string())
    }
}

/// Has a command carried out by the process that runs on the data folder, or, when none does, on the folder itself.
fn change(loaded: &Loaded, request: Request) -> Result<serde_json::Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let folder = &loaded.config.data_dir;
        match ask(folder, &request).await {
            Err(ControlError::NotRunning(_)) => {}
            answered => return Ok(answered?),
        }
        let instance = match Instance::open(&loaded.config, &loaded.folder).await {
            // It was started, or is being stopped, in this very moment.
            Err(OpenError::Lock(LockError::InUse { .. })) => return Ok(ask(folder, &request).await?),
            opened => opened?,
        };
        let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
        let outcome = instance.carry_out(request, &format!("uid {user}")).await;
        instance.close().await;
        outcome.map_err(Failure)
    })
}
