//! `kill -9` at random moments under load.

use std::time::{Duration, SystemTime};

use actlog_testkit::torture::{Torture, torture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_files_exactly_once_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Another seed each time; to see one again, put the printed number here.
    let seed = now.as_secs();
    let plan = Torture { rounds: 20, connections: 4, seed, longest: Duration::from_millis(700) };
    let outcome = torture(folder.path(), &plan, |_, _| ()).await;
    println!("seed {seed}: {outcome}");
    assert!(outcome.is_good(), "seed {seed}: {outcome}");
    assert!(outcome.acknowledged > 20, "seed {seed}: hardly anything was posted: {outcome}");
}
