//! A data folder on a simulated file system, and the real runtime on it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, Clock, Sink, SinkFactory, Source, SourceFactory, Storage, Timestamp,
    WhenFull,
};
use actlog_runtime::{
    Config, DeadLetter, DeadLetters, JournalOptions, Plan, Platform, RunError, RunOptions, SinkPlan, SourcePlan,
    StartAt, run,
};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

/// A clock that moves on by a millisecond whenever somebody looks at it, and further when it is told to.
#[derive(Clone, Debug)]
pub(crate) struct TickingClock(Arc<AtomicI64>);

impl TickingClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Builds a component by calling a function.
struct Make<F>(F);

#[async_trait]
impl<F: Fn() -> Box<dyn Source> + Send + Sync> SourceFactory for Make<F> {
    async fn build(&self, _: &BuildContext) -> Result<Box<dyn Source>, BuildError> {
        Ok((self.0)())
    }
}

#[async_trait]
impl<F: Fn() -> Box<dyn Sink> + Send + Sync> SinkFactory for Make<F> {
    fn serves(&self) -> bool {
        false
    }

    async fn build(&self, _: &BuildContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok((self.0)())
    }
}

/// A source of a plan.
pub(crate) fn source<S: Source + 'static>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> SourcePlan {
    let factory = Box::new(Make(move || -> Box<dyn Source> { Box::new(make()) }));
    SourcePlan { name: name.to_owned(), kind: "test", factory }
}

/// A sink of a plan, which holds the journal and begins with the oldest entry.
pub(crate) fn sink<S: Sink + 'static>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> SinkPlan {
    let factory = Box::new(Make(move || -> Box<dyn Sink> { Box::new(make()) }));
    SinkPlan { name: name.to_owned(), kind: "test", when_full: WhenFull::Hold, start: StartAt::Beginning, factory }
}

/// One deployment: its folder, where the lock and the control socket really are, and its simulated file system.
#[derive(Clone)]
pub(crate) struct Deployment {
    folder: Arc<tempfile::TempDir>,
    pub(crate) storage: FaultStorage,
    pub(crate) clock: TickingClock,
    /// The `[journal]` table.
    pub(crate) journal: serde_json::Value,
    pub(crate) shutdown_deadline: &'static str,
}

/// How a life ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The storage halted: the machine or the process is dead.
    Halted,
    /// The run returned.
    Returned(Result<(), RunError>),
}

impl Deployment {
    pub(crate) fn new(seed: u64) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let storage = FaultStorage::new(seed);
        storage.create_directories(folder.path()).unwrap();
        Self {
            folder,
            storage,
            clock: TickingClock(Arc::new(AtomicI64::new(1_772_434_800_000))),
            journal: json!({ "segment_size": "4 KiB", "budget": "1 MiB" }),
            // Of simulated time, which runs ahead of the real one.
            shutdown_deadline: "1 day",
        }
    }

    /// The same after a crash.
    pub(crate) fn on(&self, storage: FaultStorage) -> Self {
        Self { storage, ..self.clone() }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        DeadLetters::new(Arc::new(self.storage.clone()), &self.data_dir()).list().unwrap()
    }

    fn config(&self) -> Config {
        serde_json::from_value(json!({
            "data_dir": self.data_dir(),
            "shutdown_deadline": self.shutdown_deadline,
            "admin": { "listen": "off" },
            "journal": self.journal,
        }))
        .unwrap()
    }

    fn platform(&self) -> Platform {
        let journal =
            JournalOptions { reserve_bytes: 4 << 10, idle_mark_after: Duration::from_millis(2), ..Default::default() };
        Platform { storage: Arc::new(self.storage.clone()), clock: Arc::new(self.clock.clone()), journal }
    }

    /// Runs a plan until it ends by itself, until the storage halts, or until `meanwhile`, which begins when all
    /// components have been started, has ended; then it is shut down.
    ///
    /// Time is simulated: it leaps on when everybody waits. The journal's thread is not seen as somebody who works, so
    /// [`pace`] keeps time from running away from it.
    pub(crate) fn live(&self, plan: Plan, meanwhile: impl Future<Output = ()>) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let stop = async {
            match is_ready.await {
                Ok(()) => meanwhile.await,
                Err(_) => std::future::pending().await,
            }
        };
        let options = RunOptions { platform: self.platform(), ..RunOptions::default() };
        let folder = self.data_dir();
        let ready = move || ready.send(()).unwrap_or_default();
        let life = run(self.config(), &folder, plan, options, ready, stop);
        let halted = async {
            while !self.storage.is_halted() {
                pace().await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = halted => End::Halted,
                end = life => End::Returned(end),
            }
        })
    }

    /// Runs a plan until it ends by itself, or `meanwhile` does.
    pub(crate) fn live_well(&self, plan: Plan, meanwhile: impl Future<Output = ()>) {
        match self.live(plan, meanwhile) {
            End::Returned(Ok(())) => {}
            end => panic!("{end:?}"),
        }
    }
}

/// Lets 20 ms of simulated time pass, and not less than 50 µs of real time.
pub(crate) async fn pace() {
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::thread::sleep(Duration::from_micros(50));
}

/// Waits until something is so, for half an hour of simulated time at most.
pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1800);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        pace().await;
    }
}

/// An event that a source makes a record of; `number` identifies it.
pub(crate) fn event(kind: &'static str, number: u64) -> AuditRecord<'static> {
    AuditRecord {
        id: event_id(kind, number),
        operation: "Update".into(),
        message: Some("Update".into()),
        workload: "CRM".into(),
        object_id: Some(format!("{kind} {number}").into()),
        query: Some("x".repeat((number as usize * 37) % 200).into()),
        ..AuditRecord::default()
    }
}

/// The id of its record.
pub(crate) fn event_id(kind: &str, number: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{kind} {number}").as_bytes())
}

/// The content of all files below a folder, by path.
pub(crate) fn files(storage: &FaultStorage, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = storage.list(folder).unwrap().into_iter();
    let files = entries.filter(|entry| !entry.is_directory);
    files.map(|file| (file.path.clone(), storage.read(&file.path, 1 << 30).unwrap())).collect()
}
