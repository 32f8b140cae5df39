//! `actlog run`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use actlog_core::Registry;
use actlog_runtime::{Plan, RunOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Outcome};
use crate::config_file::Loaded;
use crate::plugins::KNOWN;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Start no source: deliver what the journal holds to the sinks, and end
    #[arg(long)]
    drain: bool,
}

/// Where the embedded default keeps its webhook key, below the data folder.
const KEY_FILE: &str = "webhook.key";

pub(crate) fn carry_out(arguments: &Arguments, loaded: Loaded, registry: &Registry) -> Outcome {
    crate::logging::begin(&loaded.config.log).map_err(|error| loaded.error(error))?;
    let plan = Plan::new(&loaded.config, registry, &KNOWN).map_err(|error| loaded.error(error))?;
    if loaded.file.is_none() {
        tracing::info!("no configuration file: running on the embedded default; `actlog init` writes it to a file");
        make_key(&loaded.config.data_dir)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ready = || tracing::info!(config = loaded.name(), "running");
    let options = RunOptions { drain: arguments.drain, ..RunOptions::default() };
    let outcome = runtime.block_on(async {
        let stop = first_signal()?;
        Ok::<_, std::io::Error>(
            actlog_runtime::run(loaded.config.clone(), &loaded.folder, plan, options, ready, stop).await,
        )
    })?;
    match outcome {
        Ok(()) => {}
        Err(actlog_runtime::RunError::Config(error)) => return Err(loaded.error(error).into()),
        Err(error) => return Err(error.into()),
    }
    // Blocking work of components that did not stop in time must not keep the process.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Resolves with the first SIGINT or SIGTERM; the second one ends the process at once.
fn first_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("second signal: ending at once; everything that was acknowledged is in the journal");
            std::process::exit(130);
        });
    })
}

/// Makes the webhook key of the embedded default at the first start, and shows it once.
fn make_key(data_dir: &Path) -> Result<(), Failure> {
    let file = data_dir.join(KEY_FILE);
    if file.exists() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let key = write_key(&file)?;
    super::output::line(format!(
        "The webhook key, shown only this once and kept in {}:\n\n    {key}\n\n\
         Dynamics 365 posts to http://127.0.0.1:7071/?code={key}\n",
        file.display()
    ));
    Ok(())
}

/// Writes a fresh key of 256 random bits to a new file that its owner alone can read.
pub(crate) fn write_key(file: &Path) -> Result<String, Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Failure(format!("the system gives no random bytes: {error}")))?;
    let key = hex::encode(random);
    let mut created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(created, "{key}")?;
    created.sync_all()?;
    Ok(key)
}
