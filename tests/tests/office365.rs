//! The Office 365 feed, with everything that makes a collector lose or double records, and `kill -9` in the middle.

use std::time::{Duration, SystemTime};

use actlog_testkit::office_torture::{OfficeTorture, torture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_id_of_the_feed_is_in_the_files_exactly_once_and_every_gap_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Another seed each time; to see one again, put the printed number here.
    let seed = now.as_secs();
    let plan = OfficeTorture {
        records: 50_000,
        seed,
        every: Duration::from_secs(1),
        faults_per_mille: 30,
        ahead: if seed.is_multiple_of(2) { 600_000 } else { -600_000 },
        patience: Duration::from_secs(120),
    };
    let outcome = torture(folder.path(), &plan, |_, _| ()).await;
    println!("seed {seed}: {outcome}");
    assert!(outcome.is_good(), "seed {seed}: {outcome}");
    assert!(outcome.kills > 0 && outcome.failures > 0 && outcome.expired > 0, "seed {seed}: {outcome}");
}
