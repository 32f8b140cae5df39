//! `kill -9` at random moments under load, over and over, and a count of what is left.
//!
//! Several connections post generated contexts to the real binary; it is killed after a random while and started again
//! on the same data. A post without an answer is sent again, as Dataverse does. At the end every context that was
//! answered with 200 must be in the files exactly once, and every line must be whole.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use crate::generator::Generator;
use crate::http::Connection;
use crate::process::{Actlog, free_address};
use crate::random::Random;

/// How to torture.
#[derive(Clone, Debug)]
pub struct Torture {
    /// How often the process is killed.
    pub rounds: u64,
    /// Connections that post at the same time.
    pub connections: u64,
    /// Of the contexts and of the moments.
    pub seed: u64,
    /// The process is killed within this time after it is ready.
    pub longest: Duration,
}

/// What was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Contexts that were answered with 200.
    pub acknowledged: u64,
    /// Acknowledged contexts that are not in the files. Must be 0.
    pub lost: u64,
    /// Contexts that are in the files more than once. Must be 0.
    pub doubled: u64,
    /// Lines that are no record. Must be 0.
    pub torn: u64,
    /// Contexts that are in the files and whose answer was lost in a kill: allowed.
    pub unacknowledged: u64,
    /// The most memory that the last process had, in bytes.
    pub peak_memory: u64,
}

impl Outcome {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.torn == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged, {} lost, {} doubled, {} torn lines, {} written without an answer, {} MiB at most",
            self.acknowledged,
            self.lost,
            self.doubled,
            self.torn,
            self.unacknowledged,
            self.peak_memory >> 20
        )
    }
}

/// Purpose of the random numbers that say when the process is killed.
const MOMENTS: u64 = 2000;
/// The messages of generated contexts that the default policy leaves out.
const EXCLUDED: [&str; 1] = ["WhoAmI"];

/// Tortures a process in a folder; `progress` is called after each round with its number and the outcome so far, in
/// which only `acknowledged` counts yet.
///
/// # Panics
/// When the process does not start, or answers with something that is neither 200 nor 503.
pub async fn torture(folder: &Path, plan: &Torture, mut progress: impl FnMut(u64, u64)) -> Outcome {
    let address = free_address();
    let config = format!(
        "[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n\n\
         [journal]\nsegment_size = \"4 MiB\"\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\nrotate = {{ size = \"8 MiB\" }}\n"
    );
    let mut random = Random::new(plan.seed, MOMENTS, 0);
    let mut posters: Vec<Poster> = (0..plan.connections).map(|number| Poster::new(plan.seed, number)).collect();
    let mut actlog = Actlog::start(folder, &config).await;
    for round in 1..=plan.rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let running: Vec<_> =
            posters.drain(..).map(|poster| tokio::spawn(poster.post_until(address, Arc::clone(&stop)))).collect();
        let longest = u64::try_from(plan.longest.as_millis()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(Duration::from_millis(random.below(longest))).await;
        actlog.process.kill();
        stop.store(true, Ordering::Relaxed);
        for task in running {
            posters.push(task.await.unwrap_or_else(|error| panic!("a poster: {error}")));
        }
        progress(round, posters.iter().map(|poster| poster.acknowledged.len() as u64).sum());
        actlog.restart().await;
    }
    // What nobody answered is sent once more, as an upstream that keeps its events would.
    for poster in &mut posters {
        poster.post_one(address).await;
    }
    let caught_up = async || {
        let status = actlog.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        status["cursors"]["audit"]["waiting"] == 0
    };
    crate::process::wait_until("the file sink has caught up", caught_up).await;
    let peak_memory = actlog.process.peak_memory();
    actlog.stop().await;
    Outcome { peak_memory, ..count(folder, &posters) }
}

/// One connection's contexts.
struct Poster {
    generator: Generator,
    /// The context that is to be posted next: the last one again where it got no answer.
    waiting: Option<(Uuid, Vec<u8>)>,
    acknowledged: Vec<Uuid>,
}

impl Poster {
    fn new(seed: u64, number: u64) -> Self {
        let generator = Generator::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        Self { generator, waiting: None, acknowledged: Vec::new() }
    }

    /// Posts one context after the other until the process is gone.
    async fn post_until(mut self, address: SocketAddr, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut connection) = Connection::open(address).await else { break };
            while self.post(&mut connection).await {}
        }
        self
    }

    async fn post_one(&mut self, address: SocketAddr) {
        let connection = Connection::open(address).await;
        let mut connection = connection.unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        assert!(self.post(&mut connection).await, "a process that nobody killed did not answer");
    }

    /// Posts the next context. Whether the connection is still good.
    async fn post(&mut self, connection: &mut Connection) -> bool {
        let (id, body) = self.waiting.take().unwrap_or_else(|| {
            let mut body = Vec::new();
            loop {
                body.clear();
                let expected = self.generator.body(&mut body);
                if !EXCLUDED.contains(&expected.message) {
                    return (expected.operation_id, std::mem::take(&mut body));
                }
            }
        });
        let answer = connection.request("POST", "/", &[("Content-Type", "application/json")], &body).await;
        match answer {
            Ok(answer) if answer.status == 200 => {
                self.acknowledged.push(id);
                true
            }
            Ok(answer) if answer.status != 503 => panic!("answered {}: {}", answer.status, answer.text()),
            _ => {
                self.waiting = Some((id, body));
                false
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    extra: LineExtra,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LineExtra {
    operation_id: Uuid,
}

fn count(folder: &Path, posters: &[Poster]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut found: HashMap<Uuid, u64> = HashMap::new();
    for file in audit_files(folder) {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            outcome.torn += 1;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => *found.entry(line.extra.operation_id).or_default() += 1,
                Err(_) => outcome.torn += 1,
            }
        }
    }
    for id in posters.iter().flat_map(|poster| &poster.acknowledged) {
        outcome.acknowledged += 1;
        outcome.lost += u64::from(!found.contains_key(id));
    }
    outcome.doubled = found.values().filter(|times| **times > 1).count() as u64;
    outcome.unacknowledged = (found.len() as u64 + outcome.lost).saturating_sub(outcome.acknowledged);
    outcome
}

/// The files of the sink, oldest first; none where it has written none.
pub(crate) fn audit_files(folder: &Path) -> Vec<PathBuf> {
    let audit = folder.join("actlog-data/audit");
    let Ok(entries) = std::fs::read_dir(audit) else { return Vec::new() };
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    files
}
