//! A runtime in miniature: a journal in memory whose cursor lives in the same storage as the sink's files, so that a
//! crash hits both.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, Clock, Emit, EmitError, Emitter, Entry, EntryKind, Gap, Health, Metrics, Prepared, Pull,
    Receipt, RejectedInput, Sink, SinkContext, SinkError, SinkPlugin, Storage, Timestamp,
};
use actlog_sink_file::{FileConfig, FileSink};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const FOLDER: &str = "/data";
/// What [`Bench::run`] answers when the sink ended in good order before it had committed everything.
pub(crate) const STOPPED_EARLY: &str = "stopped early";
const CURSOR: &str = "/data/cursor";

/// A clock that stands still unless it is moved.
#[derive(Clone, Debug)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn at(time: &str) -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::parse(time).unwrap().unix_milliseconds())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.0.load(Ordering::Relaxed))
    }
}

struct Nowhere;

#[async_trait]
impl Emit for Nowhere {
    fn prepare(&self, _: &str, _: Vec<AuditRecord<'_>>, _: Option<Vec<u8>>) -> Result<Prepared, EmitError> {
        Err(EmitError::Closed)
    }

    async fn submit(&self, _: Prepared) -> Result<Receipt, EmitError> {
        Err(EmitError::Closed)
    }

    async fn state_gap(&self, _: &str, _: Gap, _: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        Err(EmitError::Closed)
    }

    async fn reject(&self, _: &str, _: RejectedInput<'_>) -> Result<(), EmitError> {
        Err(EmitError::Closed)
    }

    fn pressure(&self) -> Option<EmitError> {
        None
    }
}

/// One deployment of the sink.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) storage: FaultStorage,
    pub(crate) clock: ManualClock,
    pub(crate) config: serde_json::Value,
    pub(crate) entries: Arc<[Entry]>,
    /// How many entries a pull gives.
    pub(crate) batch: usize,
    /// How far the clock moves at each pull.
    pub(crate) pace: Duration,
    /// The folder of the data, as the sink is told.
    pub(crate) data_dir: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) rejected: Arc<Mutex<Vec<(u64, String)>>>,
    /// The cursors that were committed.
    pub(crate) committed: Arc<Mutex<Vec<u64>>>,
    /// Whether the sink may be stopped, once everything was handed out.
    pub(crate) until: fn(&Bench) -> bool,
}

impl Bench {
    pub(crate) fn new(config: serde_json::Value, entries: Vec<Entry>) -> Self {
        let storage = FaultStorage::new(1);
        storage.create_directories(Path::new(FOLDER)).unwrap();
        Self {
            storage,
            clock: ManualClock::at("2018-03-02T20:00:00Z"),
            config,
            entries: entries.into(),
            batch: 7,
            pace: Duration::ZERO,
            data_dir: FOLDER.into(),
            metrics: Metrics::default().with_labels(&[("sink", "audit")]),
            rejected: Arc::default(),
            committed: Arc::default(),
            until: |_| true,
        }
    }

    /// The same deployment after a crash.
    pub(crate) fn on(&self, storage: FaultStorage) -> Self {
        Self { storage, ..self.clone() }
    }

    /// Runs the sink until it has committed everything.
    pub(crate) async fn run(&self) -> Result<(), SinkError> {
        let config: FileConfig = actlog_core::config::deserialize(self.config.clone()).unwrap();
        FileSink::validate(&config).unwrap();
        let (position, state) = self.cursor()?;
        let (storage, clock) = (Arc::new(self.storage.clone()), Arc::new(self.clock.clone()));
        let build = BuildContext::new(&self.data_dir, storage, clock).named("audit");
        let sink = FileSink::build(&config, &build).await.unwrap();
        let shutdown = CancellationToken::new();
        let pull = Journal { bench: self.clone(), position, shutdown: shutdown.clone() };
        let emitter = Emitter::new("audit", Arc::new(Nowhere));
        let cx = SinkContext::new(emitter, Box::new(pull), state, shutdown, self.metrics.clone(), Health::default());
        let run = tokio::time::timeout(Duration::from_secs(60), Box::new(sink).run(cx));
        run.await.expect("the sink has done what the test waits for, before the deadline")?;
        if self.cursor()?.0 != self.entries.len() as u64 {
            // After shutdown was told, a failure leaves the rest in the journal and is no error.
            return Err(SinkError::Other(STOPPED_EARLY.to_owned()));
        }
        Ok(())
    }

    /// The stored cursor and state.
    fn cursor(&self) -> Result<(u64, Option<Vec<u8>>), SinkError> {
        match self.storage.read(Path::new(CURSOR), 1 << 20) {
            Ok(bytes) => Ok((u64::from_le_bytes(bytes[..8].try_into().unwrap()), Some(bytes[8..].to_vec()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((0, None)),
            Err(error) => Err(SinkError::Journal(error.to_string())),
        }
    }

    /// The lines of all files below a folder, by path; of a file and its compressed form only the file counts.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<String>)> {
        let mut files = Vec::new();
        self.read_folder(Path::new(FOLDER), &mut files);
        files
    }

    fn read_folder(&self, folder: &Path, files: &mut Vec<(PathBuf, Vec<String>)>) {
        for entry in self.storage.list(folder).unwrap() {
            if entry.is_directory {
                self.read_folder(&entry.path, files);
                continue;
            }
            let name = entry.path.to_str().unwrap();
            if name.starts_with(CURSOR) || name.ends_with(".new") {
                continue;
            }
            let bytes = self.storage.read(&entry.path, 1 << 30).unwrap();
            let original = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
            if original.is_some_and(|original| self.storage.length(Path::new(original)).unwrap().is_some()) {
                continue;
            }
            let bytes = match original {
                None => bytes,
                Some(_) if name.ends_with(".gz") => {
                    let mut text = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
                    text
                }
                Some(_) => zstd::decode_all(&bytes[..]).unwrap(),
            };
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{name}: a torn line at the end");
            files.push((entry.path.clone(), text.lines().map(str::to_owned).collect()));
        }
    }

    /// The value of one of the sink's figures.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("actlog_sink_file_{name}{{sink=\"audit\"}} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The lines of the only file there is.
    pub(crate) fn only_file(&self) -> Vec<String> {
        let mut files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0).1
    }

    /// Every record is in exactly one JSONL file, once, as it is in the journal; within a file in the journal's order.
    pub(crate) fn assert_exactly_once(&self, what: &str) {
        let mut found = Vec::new();
        for (path, lines) in self.files() {
            let places: Vec<usize> = lines
                .iter()
                .map(|line| {
                    let place = self.entries.iter().position(|entry| entry.bytes == line.as_bytes());
                    place.unwrap_or_else(|| panic!("{what}: {}: not a record: {line:?}", path.display()))
                })
                .collect();
            assert!(places.is_sorted(), "{what}: {}: {places:?}", path.display());
            found.extend(places);
        }
        found.sort_unstable();
        assert_eq!(found, (0..self.entries.len()).collect::<Vec<_>>(), "{what}");
    }
}

struct Journal {
    bench: Bench,
    position: u64,
    shutdown: CancellationToken,
}

#[async_trait]
impl Pull for Journal {
    async fn next(&mut self, _: usize, wait: Duration) -> Result<Vec<Entry>, SinkError> {
        if self.bench.storage.is_halted() {
            return Err(SinkError::Journal("halted".into()));
        }
        let rest = &self.bench.entries[self.position as usize..];
        let batch = rest[..rest.len().min(self.bench.batch)].to_vec();
        self.position += batch.len() as u64;
        self.bench.clock.advance(self.bench.pace);
        if batch.is_empty() {
            if (self.bench.until)(&self.bench) {
                self.shutdown.cancel();
            } else {
                tokio::time::sleep(wait.min(Duration::from_millis(1))).await;
            }
        }
        Ok(batch)
    }

    async fn commit(&mut self, next_index: u64, state: Vec<u8>) -> Result<(), SinkError> {
        let mut bytes = next_index.to_le_bytes().to_vec();
        bytes.extend(state);
        let stored = self.bench.storage.replace(Path::new(CURSOR), &bytes);
        stored.map_err(|error| SinkError::Journal(error.to_string()))?;
        self.bench.committed.lock().unwrap().push(next_index);
        Ok(())
    }

    async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        self.bench.rejected.lock().unwrap().push((entry.index, reason.to_owned()));
        Ok(())
    }
}

/// A journal's entry with these bytes.
pub(crate) fn entry(index: u64, bytes: impl Into<Vec<u8>>) -> Entry {
    Entry {
        index,
        kind: EntryKind::Record,
        id: Uuid::from_u128(u128::from(index)),
        time: Timestamp::default(),
        salt: [index as u8; 32],
        bytes: bytes.into().into(),
    }
}

/// A journal's entry with this record.
pub(crate) fn record_entry(index: u64, record: &AuditRecord<'_>) -> Entry {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    entry(index, bytes)
}

/// Records of various sizes, from two sources in turn.
pub(crate) fn records(count: u64) -> Vec<Entry> {
    (0..count)
        .map(|index| {
            let record = AuditRecord {
                id: Uuid::from_u128(u128::from(index)),
                operation: "Update".into(),
                query: Some("x".repeat((index as usize * 37) % 900).into()),
                source: Some(["crm", "backfill"][index as usize / 3 % 2].into()),
                ..Default::default()
            };
            record_entry(index, &record)
        })
        .collect()
}
