//! The `office365` source in the real binary against the stand-in, killed over and over, and a count of what came out.
//!
//! The stand-in has everything that makes a collector lose or double records: duplicates days later, shuffled pages,
//! late listings, throttling and failures at random, blobs that have expired, elements that are no records, a clock that
//! is wrong. The process is killed again and again in the middle of it, and the clock moved on. At the end each Id that
//! could be had must be in the files exactly once, and each blob that could not be had must be stated as a gap.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use actlog_core::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::office_server::{ContentPlan, OfficeOptions, OfficeServer};
use crate::process::{Actlog, wait_until};
use crate::random::Random;
use crate::torture::audit_files;

/// How to torture.
#[derive(Clone, Debug)]
pub struct OfficeTorture {
    /// Records in all blobs together, duplicates counted.
    pub records: u64,
    /// Of all choices.
    pub seed: u64,
    /// The process is killed about so long after it is ready.
    pub every: Duration,
    /// Of 1000 requests, so many are throttled or fail.
    pub faults_per_mille: u64,
    /// Milliseconds that the stand-in's clock is ahead of ours.
    pub ahead: i64,
    /// Nothing new for so long is the end.
    pub patience: Duration,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfficeOutcome {
    /// Distinct Ids that could be had.
    pub expected: u64,
    /// Of these, those that are not in the files. Must be 0.
    pub lost: u64,
    /// Ids that are in the files more than once. Must be 0.
    pub doubled: u64,
    /// Ids in the files that nobody sent. Must be 0.
    pub foreign: u64,
    /// Lines that are no record. Must be 0.
    pub torn: u64,
    /// Blobs that could not be had.
    pub expired: u64,
    /// Of these, those that are not stated as a gap exactly once. Must be 0.
    pub unstated: u64,
    /// Other gaps that the source stated. Must be 0.
    pub invented: u64,
    /// What the source did that a client should not. Must be empty.
    pub violations: Vec<String>,
    /// How often the process was killed.
    pub kills: u64,
    /// Requests that were throttled or failed.
    pub failures: u64,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// The most memory that one of the processes had, in bytes.
    pub peak_memory: u64,
}

impl OfficeOutcome {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        let broken = [self.lost, self.doubled, self.foreign, self.torn, self.unstated, self.invented];
        broken.iter().all(|count| *count == 0) && self.violations.is_empty()
    }
}

impl fmt::Display for OfficeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} Ids: {} lost, {} doubled, {} foreign, {} torn lines; {} expired blobs: {} not stated once, {} gaps \
             invented; {} kills, {} failures, {} s, {} MiB at most; {:?}",
            self.expected,
            self.lost,
            self.doubled,
            self.foreign,
            self.torn,
            self.expired,
            self.unstated,
            self.invented,
            self.kills,
            self.failures,
            self.seconds,
            self.peak_memory >> 20,
            self.violations
        )
    }
}

/// How late blobs can be listed.
const LATE: Duration = Duration::from_secs(1800);
const DAY: i64 = 24 * 3600 * 1000;
/// Purpose of the random numbers that say when the process is killed.
const MOMENTS: u64 = 2001;
/// How far the stand-in's clock is moved on with each kill, until everything is available: each process finds something
/// to do.
const STEP: Duration = Duration::from_secs(6 * 3600);

/// Tortures a process in a folder; `progress` is called after each kill with how often the process was killed, and how
/// many lines are in the files.
///
/// # Panics
/// When the process does not start, or ends badly by itself.
pub async fn torture(folder: &Path, plan: &OfficeTorture, mut progress: impl FnMut(u64, u64)) -> OfficeOutcome {
    let now = SystemClock.now().plus_milliseconds(plan.ahead);
    let end = now.plus_milliseconds(3 * DAY);
    let mut content = ContentPlan::new(plan.seed, plan.records, now.plus_milliseconds(-3 * DAY), end);
    content.records_per_blob = 200;
    content.duplicates_percent = 30;
    content.expired_per_mille = 40;
    content.malformed_per_mille = 1;
    content.listing_lag = LATE;
    let server = OfficeServer::start(OfficeOptions::new(content, now)).await;
    server.set_faults(plan.faults_per_mille);
    let secret = folder.join("secret");
    std::fs::write(&secret, OfficeServer::SECRET).unwrap_or_else(|error| panic!("{}: {error}", secret.display()));
    let config = format!(
        "[sources.office]\ntype = \"office365\"\nbase_url = \"{}\"\npoll = \"200 ms\"\nsince = \"6 days\"\n\
         requests_per_minute = 1000000\nclient.allow_private = true\ntenants.contoso = {}\n\n\
         [journal]\nsegment_size = \"16 MiB\"\nmin_age = \"30 days\"\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\nrotate = {{ size = \"64 MiB\" }}\n",
        server.url(),
        server.tenant()
    );
    let expected = server.content().available();
    let began = Instant::now();
    let mut random = Random::new(plan.seed, MOMENTS, 0);
    let mut outcome = OfficeOutcome { expected: expected.len() as u64, ..OfficeOutcome::default() };
    let mut actlog = Actlog::start(folder, &config).await;
    let (mut lines, mut changed) = (0, Instant::now());
    while lines < outcome.expected && changed.elapsed() < plan.patience {
        let most = u64::try_from(plan.every.as_millis()).unwrap_or(u64::MAX / 2).max(1);
        tokio::time::sleep(Duration::from_millis(random.below(2 * most))).await;
        outcome.peak_memory = outcome.peak_memory.max(actlog.process.peak_memory());
        actlog.process.kill();
        outcome.kills += 1;
        if server.now() < end {
            server.advance(STEP);
        }
        let present = count_lines(folder);
        if present != lines {
            (lines, changed) = (present, Instant::now());
        }
        progress(outcome.kills, lines);
        actlog.restart().await;
    }
    // Duplicates, late listings and gaps of the last hours are still to come.
    server.advance(LATE);
    server.set_faults(0);
    let gaps = async |actlog: &Actlog| gaps(&actlog.command(&["journal", "statements"]).stdout);
    let all_is_listed = async || lag_is_small(&actlog.metrics().await);
    wait_until("every content type is listed to its end", all_is_listed).await;
    let caught_up = async || {
        let status = actlog.command(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        status["cursors"]["audit"]["waiting"] == 0
    };
    wait_until("the file sink has caught up", caught_up).await;
    outcome.peak_memory = outcome.peak_memory.max(actlog.process.peak_memory());
    actlog.stop().await;
    outcome.seconds = began.elapsed().as_secs();
    outcome.violations = server.violations();
    outcome.failures = server.answered().failures;
    count(folder, &expected, &mut outcome);
    count_gaps(&server, gaps(&actlog).await, &mut outcome);
    outcome
}

/// Whether the source says of all content types that they are listed up to some minutes ago.
fn lag_is_small(metrics: &str) -> bool {
    let lags = metrics.lines().filter(|line| line.starts_with("actlog_office365_lag_seconds{"));
    let lags: Vec<u64> = lags.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    lags.len() == crate::office_server::CONTENT_TYPES.len() && lags.iter().all(|lag| *lag < 300)
}

/// The details of the gaps that the source has stated.
fn gaps(statements: &[u8]) -> Vec<String> {
    let statements =
        statements.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let of_source =
        statements.filter(|statement| statement["Statement"] == "gap" && statement["Component"] == "office");
    of_source.map(|gap| gap["Detail"].as_str().unwrap_or_default().to_owned()).collect()
}

fn count_gaps(server: &OfficeServer, gaps: Vec<String>, outcome: &mut OfficeOutcome) {
    let expired: Vec<String> =
        server.content().blobs().filter(|blob| blob.is_expired).map(|blob| blob.content_id).collect();
    // A gap's detail names the content: `… content ID, available from …`.
    let named = gaps.iter().filter_map(|detail| detail.split("content ").nth(1)?.split(',').next());
    let mut stated: HashMap<&str, u64> = HashMap::new();
    for id in named {
        *stated.entry(id).or_default() += 1;
    }
    outcome.expired = expired.len() as u64;
    outcome.unstated = expired.iter().filter(|id| stated.get(id.as_str()) != Some(&1)).count() as u64;
    outcome.invented = gaps.len() as u64 - expired.iter().filter_map(|id| stated.get(id.as_str())).sum::<u64>();
}

fn count_lines(folder: &Path) -> u64 {
    let lines = audit_files(folder).into_iter().map(|file| {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    });
    lines.sum()
}

fn count(folder: &Path, expected: &HashSet<Uuid>, outcome: &mut OfficeOutcome) {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        id: Uuid,
    }

    let mut found: HashSet<Uuid> = HashSet::with_capacity(expected.len());
    for file in audit_files(folder) {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            outcome.torn += 1;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(Line { id }) if !found.insert(id) => outcome.doubled += 1,
                Ok(Line { id }) => outcome.foreign += u64::from(!expected.contains(&id)),
                Err(_) => outcome.torn += 1,
            }
        }
    }
    outcome.lost = expected.difference(&found).count() as u64;
}
