//! The kit's checks of sinks, tried on sinks that keep the contract and on ones that break it in one way each.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use actlog_core::{
    AuditRecord, BatchSink, BuildContext, BuildError, ConfigError, Delivery, Entry, EntryKind, Sink, SinkContext,
    SinkError, SinkPlugin, Status, SystemClock, run_batches,
};
use actlog_testkit::compliance::{self, Guarantee, Outage, SinkUnderTest};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the sinks under test do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    None,
    CommitsBeforeDelivery,
    LosesARecord,
    NeverCommits,
    StopsBeforeStatements,
    CommitsTooFar,
    DoublesAfterCrashes,
    InventsRecords,
    Reorders,
    IgnoresShutdown,
    LeavesATaskBehind,
    BuildsOnce,
    DropsTheRefused,
    PassesTheRefused,
    RejectsDuringOutage,
    EndsDuringOutage,
    NoMetric,
    ForeignMetric,
    MetricPerRecord,
    SaysDegraded,
    SaysNothingDuringOutage,
    StaysDegraded,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of the destination in this process.
    destination: u64,
    /// What to do wrong.
    fault: Fault,
}

/// What the destination refuses for good.
const UNACCEPTABLE: Uuid = Uuid::from_u128(0xbad);

/// A receiver that keeps what it gets, in order, and can be cut back.
#[derive(Default)]
struct Destination {
    has: Vec<Uuid>,
    outage: Option<Outage>,
    builds: u64,
}

static DESTINATIONS: LazyLock<Mutex<HashMap<u64, Arc<Mutex<Destination>>>>> = LazyLock::new(Mutex::default);

fn destination(number: u64) -> Arc<Mutex<Destination>> {
    Arc::clone(&DESTINATIONS.lock().unwrap()[&number])
}

fn new_destination() -> u64 {
    let mut destinations = DESTINATIONS.lock().unwrap();
    let number = destinations.len() as u64;
    destinations.insert(number, Arc::default());
    number
}

fn built(config: &Config) -> Result<(), BuildError> {
    let destination = destination(config.destination);
    let mut destination = destination.lock().unwrap();
    destination.builds += 1;
    if destination.builds > 1 && config.fault == Fault::BuildsOnce {
        return Err(BuildError::Other("it was built before".to_owned()));
    }
    Ok(())
}

/// What became of a batch at the destination.
enum Sent {
    All,
    AllBut(usize),
    Failed,
}

/// Sends records; the destination keeps all or none, but for what it refuses for good.
async fn send(to: &Mutex<Destination>, ids: &[Uuid]) -> Sent {
    let outage = to.lock().unwrap().outage;
    match outage {
        Some(Outage::Fails) => return Sent::Failed,
        Some(Outage::Hangs) => std::future::pending().await,
        None => {}
    }
    to.lock().unwrap().has.extend(ids.iter().filter(|id| **id != UNACCEPTABLE));
    ids.iter().position(|id| *id == UNACCEPTABLE).map_or(Sent::All, Sent::AllBut)
}

/// Keeps the number of records that the destination has as its state, and cuts the destination back to it: exactly
/// once.
struct Exact {
    destination: Arc<Mutex<Destination>>,
    fault: Fault,
}

impl SinkPlugin for Exact {
    const KIND: &'static str = "exact";
    const SUMMARY: &'static str = "Delivers exactly once";
    const EXAMPLE: &'static str = "destination = 1\nfault = \"none\"";
    type Config = Config;

    fn validate(_: &Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Self, BuildError> {
        built(config)?;
        Ok(Self { destination: destination(config.destination), fault: config.fault })
    }
}

#[async_trait]
impl Sink for Exact {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        let fault = self.fault;
        let delivered = (fault != Fault::NoMetric).then(|| cx.metrics.counter("actlog_sink_delivered", "Entries", &[]));
        match fault {
            Fault::ForeignMetric => drop(cx.metrics.counter("my_records", "Records", &[]).inc()),
            Fault::SaysDegraded => cx.health.set(Status::Degraded { reason: "always so".to_owned() }),
            Fault::LeavesATaskBehind => {
                let emitter = cx.emitter.clone();
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(emitter);
                });
            }
            _ => {}
        }
        let mut length = cx.state.as_ref().map_or(0, |state| String::from_utf8_lossy(state).parse().unwrap());
        if fault != Fault::DoublesAfterCrashes {
            self.destination.lock().unwrap().has.truncate(length);
        }
        while !cx.shutdown.is_cancelled() {
            let entries = cx.next(2000, Duration::from_secs(60)).await?;
            let Some(last) = entries.last() else { continue };
            let mut next_index = last.index + 1;
            let mut ids: Vec<Uuid> =
                entries.iter().filter(|entry| entry.kind == EntryKind::Record).map(|entry| entry.id).collect();
            let mut has = ids.len();
            match fault {
                Fault::CommitsBeforeDelivery => {
                    cx.commit(next_index, (length + has).to_string().into_bytes()).await?;
                }
                Fault::LosesARecord if !ids.is_empty() => drop(ids.remove(0)),
                Fault::InventsRecords => ids.push(Uuid::from_u128(0xf00d)),
                Fault::Reorders => ids.reverse(),
                Fault::CommitsTooFar => next_index += 1000,
                Fault::MetricPerRecord => {
                    for id in &ids {
                        cx.metrics.counter("actlog_sink_records", "Records", &[("id", &id.to_string())]).inc();
                    }
                }
                _ => {}
            }
            loop {
                let sent = tokio::select! {
                    sent = send(&self.destination, &ids) => sent,
                    () = cx.shutdown.cancelled(), if fault != Fault::IgnoresShutdown => return Ok(()),
                };
                match sent {
                    Sent::All => break,
                    Sent::AllBut(_) => {
                        has -= 1;
                        let entry = entries.iter().find(|entry| entry.id == UNACCEPTABLE).unwrap();
                        match fault {
                            Fault::DropsTheRefused => {}
                            Fault::PassesTheRefused => drop(cx.reject(entry, "unacceptable").await),
                            _ => cx.reject(entry, "unacceptable").await?,
                        }
                        break;
                    }
                    Sent::Failed if fault == Fault::EndsDuringOutage => return Ok(()),
                    Sent::Failed if fault == Fault::RejectsDuringOutage => {
                        for entry in &entries {
                            cx.reject(entry, "could not be delivered").await?;
                        }
                        cx.health.set(Status::Degraded { reason: "records were rejected".to_owned() });
                        has = 0;
                        break;
                    }
                    Sent::Failed => {
                        if fault != Fault::SaysNothingDuringOutage {
                            cx.health.set(Status::Degraded { reason: "the destination fails".to_owned() });
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            if !matches!(fault, Fault::StaysDegraded | Fault::SaysDegraded) {
                cx.health.set(Status::Ok);
            }
            length += has;
            if let Some(delivered) = &delivered {
                delivered.inc_by(has as u64);
            }
            let only_statements = entries.iter().all(|entry| entry.kind == EntryKind::Statement);
            let commits = match fault {
                Fault::NeverCommits | Fault::CommitsBeforeDelivery => false,
                Fault::StopsBeforeStatements => {
                    next_index =
                        entries.iter().rfind(|entry| entry.kind == EntryKind::Record).map_or(0, |e| e.index + 1);
                    !only_statements
                }
                _ => true,
            };
            if commits {
                cx.commit(next_index, length.to_string().into_bytes()).await?;
            }
        }
        if fault == Fault::IgnoresShutdown {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct ExactUnderTest {
    destination: u64,
    fault: Fault,
}

fn exact(fault: Fault) -> impl Fn() -> ExactUnderTest {
    move || ExactUnderTest { destination: new_destination(), fault }
}

fn toml(destination: u64, fault: Fault) -> String {
    format!("destination = {destination}\nfault = {}\n", serde_json::to_string(&fault).unwrap())
}

fn build_context() -> BuildContext {
    BuildContext::new("data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock))
}

fn unacceptable() -> Option<AuditRecord<'static>> {
    Some(AuditRecord { id: UNACCEPTABLE, ..AuditRecord::default() })
}

#[async_trait]
impl SinkUnderTest for ExactUnderTest {
    type Plugin = Exact;

    fn config(&self) -> String {
        toml(self.destination, self.fault)
    }

    fn build_context(&self) -> BuildContext {
        build_context()
    }

    fn deadline(&self) -> Duration {
        // Broken sinks must not make the tests slow; whole ones get all the time that they may need.
        if self.fault == Fault::None { compliance::DEADLINE } else { Duration::from_secs(1) }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        destination(self.destination).lock().unwrap().has.clone()
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        destination(self.destination).lock().unwrap().outage = outage;
        true
    }

    fn unacceptable(&self) -> Option<AuditRecord<'static>> {
        unacceptable()
    }
}

/// The adapter for simple sinks, with a destination that may get records twice.
struct Batches(Arc<Mutex<Destination>>);

impl SinkPlugin for Batches {
    const KIND: &'static str = "batches";
    const SUMMARY: &'static str = "Delivers in batches";
    const EXAMPLE: &'static str = "destination = 1\nfault = \"none\"";
    type Config = Config;

    fn validate(_: &Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(destination(config.destination)))
    }
}

#[async_trait]
impl Sink for Batches {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for Batches {
    fn max_bytes(&self) -> usize {
        2000
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        let ids: Vec<Uuid> = entries.iter().map(|entry| entry.id).collect();
        match send(&self.0, &ids).await {
            Sent::All => Delivery::Delivered,
            Sent::AllBut(place) => Delivery::Rejected(vec![(place, "unacceptable".to_owned())]),
            Sent::Failed => Delivery::Retry { after: None, reason: "the destination fails".to_owned() },
        }
    }
}

struct BatchesUnderTest(u64);

#[async_trait]
impl SinkUnderTest for BatchesUnderTest {
    type Plugin = Batches;

    fn config(&self) -> String {
        toml(self.0, Fault::None)
    }

    fn build_context(&self) -> BuildContext {
        build_context()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        destination(self.0).lock().unwrap().has.clone()
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        destination(self.0).lock().unwrap().outage = outage;
        true
    }

    fn unacceptable(&self) -> Option<AuditRecord<'static>> {
        unacceptable()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_keeps_the_contract_passes() {
    compliance::sink(exact(Fault::None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapter_for_simple_sinks_keeps_the_contract() {
    compliance::sink(|| BatchesUnderTest(new_destination())).await;
}

async fn expect(fault: Fault, clause: &str) {
    let violations = compliance::sink_violations(exact(fault)).await;
    assert!(violations.iter().any(|violation| violation.clause == clause), "{fault:?}, {clause}: {violations:#?}");
}

macro_rules! broken {
    ($($test:ident: $fault:ident violates $clause:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            expect(Fault::$fault, $clause).await;
        }
    )*};
}

broken! {
    a_commit_before_delivery_is_found: CommitsBeforeDelivery violates "SNK-1";
    a_record_that_is_left_out_is_found: LosesARecord violates "SNK-1";
    a_sink_that_never_commits_is_found: NeverCommits violates "SNK-2";
    a_cursor_that_stays_before_statements_is_found: StopsBeforeStatements violates "SNK-2";
    a_commit_of_what_was_not_pulled_is_found: CommitsTooFar violates "SNK-3";
    a_record_that_is_there_twice_is_found: DoublesAfterCrashes violates "SNK-4";
    a_record_from_nowhere_is_found: InventsRecords violates "SNK-4";
    a_changed_order_is_found: Reorders violates "SNK-5";
    a_sink_that_ignores_shutdown_is_found: IgnoresShutdown violates "SNK-6";
    a_task_left_behind_is_found: LeavesATaskBehind violates "SNK-7";
    a_sink_that_builds_once_is_found: BuildsOnce violates "SNK-8";
    a_refused_record_that_is_dropped_is_found: DropsTheRefused violates "SNK-9";
    a_dead_letter_that_was_not_stored_is_found: PassesTheRefused violates "SNK-9";
    dead_letters_for_an_outage_are_found: RejectsDuringOutage violates "SNK-10";
    a_sink_that_ends_during_an_outage_is_found: EndsDuringOutage violates "SNK-10";
    a_missing_metric_is_found: NoMetric violates "MET-1";
    a_metric_of_another_name_is_found: ForeignMetric violates "MET-2";
    a_series_for_each_record_is_found: MetricPerRecord violates "MET-3";
    a_sink_that_says_degraded_without_cause_is_found: SaysDegraded violates "HLT-1";
    silence_about_an_outage_is_found: SaysNothingDuringOutage violates "HLT-2";
    a_sink_that_stays_degraded_is_found: StaysDegraded violates "HLT-2";
}
