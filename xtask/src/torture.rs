//! `cargo xtask torture`: `kill -9` at random moments under load, as often as one likes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use actlog_testkit::torture::{Torture, torture};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often the process is killed
    #[arg(long, default_value_t = 500)]
    rounds: u64,
    /// Connections that post at the same time
    #[arg(long, default_value_t = 8)]
    connections: u64,
    /// Of the contexts and of the moments; another one each time when left out
    #[arg(long)]
    seed: Option<u64>,
    /// The process is killed within so many milliseconds after it is ready
    #[arg(long, default_value_t = 1000)]
    longest: u64,
    /// Folder to work in; a fresh one below it is used, and kept when a promise was broken
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let seed = arguments.seed.unwrap_or(now.as_secs());
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.map_err(|error| error.to_string())?;
    let plan = Torture {
        rounds: arguments.rounds,
        connections: arguments.connections,
        seed,
        longest: Duration::from_millis(arguments.longest),
    };
    println!("seed {seed}, {} rounds, {} connections", plan.rounds, plan.connections);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(torture(folder.path(), &plan, |round, acknowledged| {
        if round % 25 == 0 {
            println!("{round} rounds, {acknowledged} acknowledged");
        }
    }));
    println!("{outcome}");
    if outcome.is_good() {
        return Ok(());
    }
    Err(format!("a promise was broken (seed {seed}); what is left is in {}", folder.keep().display()))
}
