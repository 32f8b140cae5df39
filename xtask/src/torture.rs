//! `cargo xtask torture`: `kill -9` at random moments under load, as often as one likes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use actlog_testkit::feed_torture::{self, FeedTorture};
use actlog_testkit::office_torture::{self, OfficeTorture};
use actlog_testkit::torture::{Torture, torture};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    of: Option<Of>,
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

/// What is tortured, if not the webhook.
#[derive(clap::Subcommand)]
enum Of {
    /// The source office365, against the stand-in with duplicates, failures, expired blobs and a clock that is wrong
    Office365(OfficeArguments),
    /// The sink management-api, with three clients that poll it while it is filled, one of them killed over and over
    ManagementApi(FeedArguments),
}

#[derive(clap::Args)]
struct FeedArguments {
    /// Records that are captured
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// The polling actlog is killed about so many seconds after it is ready
    #[arg(long, default_value_t = 20)]
    every: u64,
    /// Of all choices; another one each time when left out
    #[arg(long)]
    seed: Option<u64>,
    /// Folder to work in; a fresh one below it is used, and kept when a promise was broken
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(clap::Args)]
struct OfficeArguments {
    /// Records in all blobs together; 30 of 100 are duplicates
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// The process is killed about so many seconds after it is ready
    #[arg(long, default_value_t = 60)]
    every: u64,
    /// Of 1000 requests, so many are throttled or fail
    #[arg(long, default_value_t = 20)]
    faults: u64,
    /// Minutes that the service's clock is ahead
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    ahead: i64,
    /// Of all choices; another one each time when left out
    #[arg(long)]
    seed: Option<u64>,
    /// Folder to work in; a fresh one below it is used, and kept when a promise was broken
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    match &arguments.of {
        Some(Of::Office365(arguments)) => office365(arguments),
        Some(Of::ManagementApi(arguments)) => management_api(arguments),
        None => webhook(arguments),
    }
}

/// The given seed, else one that is new.
fn seed(given: Option<u64>) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(given.unwrap_or(now.as_secs()))
}

/// A fresh folder.
fn folder(below: Option<&PathBuf>) -> Result<tempfile::TempDir, String> {
    let folder = match below {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    folder.map_err(|error| error.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())
}

fn office365(arguments: &OfficeArguments) -> Result<(), String> {
    let (seed, folder) = (seed(arguments.seed)?, folder(arguments.folder.as_ref())?);
    let plan = OfficeTorture {
        records: arguments.records,
        seed,
        every: Duration::from_secs(arguments.every),
        faults_per_mille: arguments.faults,
        ahead: arguments.ahead * 60_000,
        patience: Duration::from_secs(600),
    };
    println!("seed {seed}, {} records", plan.records);
    let progress = |kills, lines| println!("{kills} kills, {lines} lines");
    let outcome = runtime()?.block_on(office_torture::torture(folder.path(), &plan, progress));
    println!("{outcome}");
    if outcome.is_good() {
        return Ok(());
    }
    Err(format!("a promise was broken (seed {seed}); what is left is in {}", folder.keep().display()))
}

fn management_api(arguments: &FeedArguments) -> Result<(), String> {
    let (seed, folder) = (seed(arguments.seed)?, folder(arguments.folder.as_ref())?);
    let plan = FeedTorture {
        records: arguments.records,
        seed,
        every: Duration::from_secs(arguments.every),
        patience: Duration::from_secs(1800),
    };
    println!("seed {seed}, {} records", plan.records);
    let progress = |lines, kills| println!("{kills} kills, {lines} lines");
    let Some(outcome) = runtime()?.block_on(feed_torture::torture(folder.path(), &plan, progress)) else {
        return Err("there is no Python to run clients with".to_owned());
    };
    println!("{outcome}");
    if outcome.is_good() {
        return Ok(());
    }
    Err(format!("a promise was broken (seed {seed}); what is left is in {}", folder.keep().display()))
}

fn webhook(arguments: &Arguments) -> Result<(), String> {
    let (seed, folder) = (seed(arguments.seed)?, folder(arguments.folder.as_ref())?);
    let plan = Torture {
        rounds: arguments.rounds,
        connections: arguments.connections,
        seed,
        longest: Duration::from_millis(arguments.longest),
    };
    println!("seed {seed}, {} rounds, {} connections", plan.rounds, plan.connections);
    let outcome = runtime()?.block_on(torture(folder.path(), &plan, |round, acknowledged| {
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
