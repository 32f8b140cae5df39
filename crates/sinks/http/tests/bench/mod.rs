//! A journal in memory and the sink on it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it; it is a part of the tests")]

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{BuildContext, Clock, ConfigError, SinkDescriptor, Status, Timestamp};
use actlog_sink_http::HttpSink;
use actlog_testkit::compliance::{SinkHarness, SinkRun};
use actlog_testkit::records::Records;
use actlog_testkit::storage::FaultStorage;
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

/// Longer than anything here takes, in the time that a test has.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30 * 86_400);

/// The time that a test has: it stands where tokio's stands.
#[derive(Debug)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::parse("2026-03-02T07:00:00Z").unwrap().plus_milliseconds(elapsed)
    }
}

pub(crate) struct Bench {
    pub(crate) harness: SinkHarness,
    pub(crate) folder: TempDir,
    context: BuildContext,
    records: Records,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut context =
            BuildContext::new("/data", Arc::new(FaultStorage::new(1)), Arc::new(TestClock(Instant::now())));
        context.config_dir = folder.path().to_owned();
        Self { harness: SinkHarness::new(), folder, context, records: Records::new(3) }
    }

    /// Puts a secret where the configuration can name it: `{ file = "<name>" }`.
    pub(crate) fn secret(&self, name: &str, value: &str) {
        std::fs::write(self.folder.path().join(name), value).unwrap();
    }

    /// Adds records to the journal; gives their Ids.
    pub(crate) fn append(&mut self, count: usize) -> Vec<Uuid> {
        (0..count)
            .map(|_| {
                let record = self.records.next_record();
                self.harness.append(&record);
                record.id
            })
            .collect()
    }

    /// What `actlog validate` says.
    pub(crate) fn load(&self, config: &str) -> Result<(), ConfigError> {
        let table = toml::from_str(config).unwrap();
        (SinkDescriptor::of::<HttpSink>("test", "0.0.0").load)(table).map(|_| ())
    }

    /// Runs the sink.
    pub(crate) async fn start(&self, config: &str) -> SinkRun {
        let descriptor = SinkDescriptor::of::<HttpSink>("test", "0.0.0");
        let factory = (descriptor.load)(toml::from_str(config).unwrap()).unwrap();
        let sink = factory.build(&self.context.named("receiver")).await.unwrap();
        self.harness.start("receiver", "http", sink)
    }

    /// Waits until everything is committed.
    pub(crate) async fn committed(&self) {
        let end = self.harness.entries().len() as u64;
        assert!(
            self.harness.wait_for(DEADLINE, |harness| harness.cursor() >= end).await,
            "the cursor is {} of {end}",
            self.harness.cursor()
        );
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(mut run: SinkRun) {
        run.shutdown.cancel();
        run.finished(DEADLINE).await.unwrap().as_ref().unwrap();
    }
}

/// What a run says when it ends by itself.
pub(crate) async fn failure(mut run: SinkRun) -> String {
    run.finished(DEADLINE).await.unwrap().as_ref().unwrap_err().to_string()
}

/// Waits until the sink says that something is wrong; what that is.
pub(crate) async fn complaint(run: &SinkRun) -> String {
    let began = Instant::now();
    loop {
        match run.health.get() {
            Status::Degraded { reason } => return reason,
            other if began.elapsed() > DEADLINE => panic!("the health is {other:?}"),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
