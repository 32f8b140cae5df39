//! The kit's checks of sources, tried on sources that keep the contract and on ones that break it in one way each.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, Counter, EmitError, RejectedInput, Source, SourceContext,
    SourceError, SourcePlugin, Status, SystemClock,
};
use actlog_testkit::compliance::{self, Answer, SourceUnderTest, Upstream};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

/// What the sources under test do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    None,
    // of either
    NoMetric,
    ForeignMetric,
    IgnoresShutdown,
    RandomIds,
    HoldsTooMuch,
    SwallowsMalformed,
    BuildsOnce,
    // of the one that is pushed to
    AcknowledgesEarly,
    AcknowledgesFailures,
    RefusesUnderPressure,
    DropsUnderPressure,
    ReturnsBeforeReceipts,
    LeavesATaskBehind,
    MetricPerEvent,
    SaysDegraded,
    StaysDegraded,
    // of the one that pulls
    PositionAhead,
    PositionBehind,
    ForgetsPosition,
    EndsUnderPressure,
    SkipsWhatFailed,
    ReadsOnAfterShutdown,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of the upstream in this process.
    upstream: u64,
    /// What to do wrong.
    fault: Fault,
}

/// Most records in flight of all sources here.
const LIMIT: usize = 6;
const MALFORMED: &str = "no number";

fn record(event: u64, fault: Fault) -> AuditRecord<'static> {
    let id = Uuid::from_u128(u128::from(event) + 1);
    let id = if fault == Fault::RandomIds { rand_id() } else { id };
    AuditRecord { id, operation: event.to_string().into(), ..AuditRecord::default() }
}

fn rand_id() -> Uuid {
    static NEXT: Mutex<u128> = Mutex::new(1 << 100);
    let mut next = NEXT.lock().unwrap();
    *next += 1;
    Uuid::from_u128(*next)
}

fn received(cx: &SourceContext, fault: Fault) -> Option<Counter> {
    if fault == Fault::ForeignMetric {
        cx.metrics.counter("my_events", "Events", &[]).inc();
    }
    (fault != Fault::NoMetric).then(|| cx.metrics.counter("actlog_source_received", "Events offered", &[]))
}

/// Upstreams of this process by their number, as ports are.
static WORLDS: LazyLock<Mutex<HashMap<u64, Arc<World>>>> = LazyLock::new(Mutex::default);

struct World {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    log: Mutex<Vec<String>>,
    builds: Mutex<u64>,
    connections: Semaphore,
}

struct Request {
    body: String,
    answer: oneshot::Sender<Answer>,
}

fn world(number: u64) -> Arc<World> {
    Arc::clone(&WORLDS.lock().unwrap()[&number])
}

fn new_world(connections: usize) -> u64 {
    let mut worlds = WORLDS.lock().unwrap();
    let number = worlds.len() as u64;
    let world = World {
        requests: Mutex::default(),
        log: Mutex::default(),
        builds: Mutex::default(),
        connections: Semaphore::new(connections),
    };
    worlds.insert(number, Arc::new(world));
    number
}

fn built(config: &Config) -> Result<(), BuildError> {
    let world = world(config.upstream);
    let mut builds = world.builds.lock().unwrap();
    *builds += 1;
    if *builds > 1 && config.fault == Fault::BuildsOnce {
        return Err(BuildError::Other("it was built before".to_owned()));
    }
    Ok(())
}

fn build_context() -> BuildContext {
    BuildContext::new("data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock))
}

fn toml(upstream: u64, fault: Fault) -> String {
    let fault = serde_json::to_string(&fault).unwrap();
    format!("upstream = {upstream}\nfault = {fault}\n")
}

fn event_of(record: &AuditRecord<'_>) -> Option<u64> {
    record.operation.parse().ok()
}

/// Takes events from requests, each with an answer.
struct Pushed {
    requests: mpsc::Receiver<Request>,
    fault: Fault,
}

impl SourcePlugin for Pushed {
    const KIND: &'static str = "pushed";
    const SUMMARY: &'static str = "Takes events from requests";
    const EXAMPLE: &'static str = "upstream = 1\nfault = \"none\"";
    type Config = Config;

    fn validate(_: &Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Self, BuildError> {
        built(config)?;
        let (sender, requests) = mpsc::channel(1);
        *world(config.upstream).requests.lock().unwrap() = Some(sender);
        Ok(Self { requests, fault: config.fault })
    }
}

#[async_trait]
impl Source for Pushed {
    async fn run(mut self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let fault = self.fault;
        let counter = received(&cx, fault);
        if fault == Fault::LeavesATaskBehind {
            let emitter = cx.emitter.clone();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(emitter);
            });
        }
        if fault == Fault::SaysDegraded {
            cx.health.set(Status::Degraded { reason: "always so".to_owned() });
        }
        let mut tasks = JoinSet::new();
        loop {
            let request = tokio::select! {
                () = cx.shutdown.cancelled(), if fault != Fault::IgnoresShutdown => break,
                request = self.requests.recv() => request,
            };
            let Some(request) = request else { break };
            if let Some(counter) = &counter {
                counter.inc();
            }
            if fault == Fault::MetricPerEvent {
                cx.metrics.counter("actlog_source_bodies", "Bodies", &[("body", &request.body)]).inc();
            }
            let (emitter, health) = (cx.emitter.clone(), cx.health.clone());
            tasks.spawn(async move {
                let Ok(event) = request.body.parse() else {
                    let answer = if fault == Fault::SwallowsMalformed { Answer::Acknowledged } else { Answer::Refused };
                    let _ = request.answer.send(answer);
                    return;
                };
                let emitted = emitter.emit(vec![record(event, fault)], None).await;
                if fault == Fault::AcknowledgesEarly {
                    let _ = request.answer.send(Answer::Acknowledged);
                    return;
                }
                let outcome = match emitted {
                    Ok(receipt) => receipt.await.map(drop),
                    Err(error) => Err(error),
                };
                let answer = match outcome {
                    Ok(()) => Answer::Acknowledged,
                    Err(EmitError::Storage(_)) if fault == Fault::AcknowledgesFailures => Answer::Acknowledged,
                    Err(EmitError::Full { .. }) if fault == Fault::RefusesUnderPressure => Answer::Refused,
                    Err(EmitError::Full { .. }) if fault == Fault::DropsUnderPressure => return,
                    Err(EmitError::Full { .. }) if fault == Fault::StaysDegraded => {
                        health.set(Status::Degraded { reason: "the journal is full".to_owned() });
                        Answer::Busy
                    }
                    Err(_) => Answer::Busy,
                };
                let _ = request.answer.send(answer);
            });
        }
        if fault != Fault::ReturnsBeforeReceipts {
            while tasks.join_next().await.is_some() {}
        }
        Ok(())
    }
}

struct PushedUnderTest {
    world: u64,
    fault: Fault,
}

fn pushed(fault: Fault) -> impl Fn() -> PushedUnderTest {
    let connections = if fault == Fault::HoldsTooMuch { 2 * LIMIT } else { LIMIT };
    move || PushedUnderTest { world: new_world(connections), fault }
}

#[async_trait]
impl SourceUnderTest for PushedUnderTest {
    type Plugin = Pushed;

    fn upstream(&self) -> Upstream {
        Upstream::Push
    }

    fn config(&self) -> String {
        toml(self.world, self.fault)
    }

    fn build_context(&self) -> BuildContext {
        build_context()
    }

    fn deadline(&self) -> Duration {
        deadline(self.fault)
    }

    fn in_flight_limit(&self) -> usize {
        LIMIT
    }

    async fn offer(&self, event: u64) -> Answer {
        self.post(event.to_string()).await
    }

    async fn offer_malformed(&self) -> Answer {
        self.post(MALFORMED.to_owned()).await
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        event_of(record)
    }
}

impl PushedUnderTest {
    async fn post(&self, body: String) -> Answer {
        let world = world(self.world);
        let _connection = world.connections.acquire().await.unwrap();
        let requests = world.requests.lock().unwrap().clone();
        let (answer, answered) = oneshot::channel();
        match requests {
            Some(requests) if requests.send(Request { body, answer }).await.is_ok() => {
                answered.await.unwrap_or(Answer::Lost)
            }
            _ => Answer::Lost,
        }
    }
}

/// Reads events from a log, two at a time, and remembers how far it has come.
struct Pulling {
    upstream: u64,
    fault: Fault,
}

impl SourcePlugin for Pulling {
    const KIND: &'static str = "pulling";
    const SUMMARY: &'static str = "Reads events from a log";
    const EXAMPLE: &'static str = "upstream = 1\nfault = \"none\"";
    type Config = Config;

    fn validate(_: &Config) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Self, BuildError> {
        built(config)?;
        Ok(Self { upstream: config.upstream, fault: config.fault })
    }
}

#[async_trait]
impl Source for Pulling {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let fault = self.fault;
        let counter = received(&cx, fault);
        let start = match &cx.position {
            Some(position) if fault != Fault::ForgetsPosition => String::from_utf8_lossy(position).parse().unwrap(),
            _ => 0,
        };
        let log = world(self.upstream).log.lock().unwrap().clone();
        let mut receipts = std::collections::VecDeque::new();
        let mut place = start;
        while place < log.len() {
            let stops = !matches!(fault, Fault::IgnoresShutdown | Fault::ReadsOnAfterShutdown);
            if stops && cx.shutdown.is_cancelled() {
                break;
            }
            let end = (place + 2).min(log.len());
            let mut records = Vec::new();
            for (line, text) in log.iter().enumerate().take(end).skip(place) {
                if let Some(counter) = &counter {
                    counter.inc();
                }
                match text.parse() {
                    Ok(event) => records.push(record(event, fault)),
                    Err(_) if fault == Fault::SwallowsMalformed => {}
                    Err(error) => {
                        let reason = format!("{error}");
                        let place = format!("line {}", line + 1);
                        let bytes = text.as_bytes();
                        cx.emitter.reject(RejectedInput { place, reason, organization: None, bytes }).await?;
                    }
                }
            }
            let position = match fault {
                Fault::PositionAhead => (end + 2).min(log.len()),
                Fault::PositionBehind => place,
                _ => end,
            };
            place = end;
            match cx.emitter.emit(records, Some(position.to_string().into_bytes())).await {
                Ok(receipt) => receipts.push_back(receipt),
                Err(EmitError::Full { .. }) if fault == Fault::EndsUnderPressure => return Ok(()),
                Err(EmitError::Full { retry_after, .. }) => {
                    // A short pause instead of the one that was asked for: the kit has few seconds.
                    tokio::time::sleep(retry_after / 50).await;
                    place = end - 2.min(end);
                    continue;
                }
                Err(EmitError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            while receipts.len() > if fault == Fault::HoldsTooMuch { LIMIT } else { LIMIT / 2 - 1 } {
                let outcome = receipts.pop_front().unwrap().await;
                if fault != Fault::SkipsWhatFailed {
                    outcome?;
                }
            }
        }
        for receipt in receipts {
            if receipt.await.is_err() && fault != Fault::SkipsWhatFailed {
                return Err(SourceError::Other("the last batches failed".to_owned()));
            }
        }
        if fault == Fault::IgnoresShutdown {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct PullingUnderTest {
    world: u64,
    fault: Fault,
}

fn pulling(fault: Fault) -> impl Fn() -> PullingUnderTest {
    move || PullingUnderTest { world: new_world(1), fault }
}

#[async_trait]
impl SourceUnderTest for PullingUnderTest {
    type Plugin = Pulling;

    fn upstream(&self) -> Upstream {
        Upstream::Pull
    }

    fn config(&self) -> String {
        toml(self.world, self.fault)
    }

    fn build_context(&self) -> BuildContext {
        build_context()
    }

    fn deadline(&self) -> Duration {
        deadline(self.fault)
    }

    fn in_flight_limit(&self) -> usize {
        LIMIT
    }

    async fn offer(&self, event: u64) -> Answer {
        world(self.world).log.lock().unwrap().push(event.to_string());
        Answer::Kept
    }

    async fn offer_malformed(&self) -> Answer {
        world(self.world).log.lock().unwrap().push(MALFORMED.to_owned());
        Answer::Kept
    }

    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64> {
        event_of(record)
    }
}

/// Broken sources must not make the tests slow; whole ones get all the time that they may need.
fn deadline(fault: Fault) -> Duration {
    if fault == Fault::None { compliance::DEADLINE } else { Duration::from_secs(1) }
}

async fn expect<S: SourceUnderTest>(fault: Fault, clause: &str, new: impl Fn() -> S) {
    let violations = compliance::source_violations(new).await;
    assert!(violations.iter().any(|violation| violation.clause == clause), "{fault:?}, {clause}: {violations:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_keeps_the_contract_passes() {
    compliance::source(pushed(Fault::None)).await;
    compliance::source(pulling(Fault::None)).await;
}

macro_rules! broken {
    ($($test:ident: $new:ident $fault:ident violates $clause:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            expect(Fault::$fault, $clause, $new(Fault::$fault)).await;
        }
    )*};
}

broken! {
    an_acknowledgement_before_the_receipt_is_found: pushed AcknowledgesEarly violates "SRC-1";
    an_acknowledgement_of_a_failed_batch_is_found: pushed AcknowledgesFailures violates "SRC-1";
    a_refusal_for_good_under_pressure_is_found: pushed RefusesUnderPressure violates "SRC-3";
    a_dropped_request_under_pressure_is_found: pushed DropsUnderPressure violates "SRC-4";
    too_much_in_flight_is_found: pushed HoldsTooMuch violates "SRC-5";
    ids_that_change_at_redelivery_are_found: pushed RandomIds violates "SRC-9";
    a_source_that_ignores_shutdown_is_found: pushed IgnoresShutdown violates "SRC-7";
    a_source_that_returns_before_its_receipts_is_found: pushed ReturnsBeforeReceipts violates "SRC-7";
    a_task_left_behind_is_found: pushed LeavesATaskBehind violates "SRC-8";
    a_source_that_builds_once_is_found: pushed BuildsOnce violates "SRC-10";
    swallowed_input_is_found: pushed SwallowsMalformed violates "SRC-11";
    a_missing_metric_is_found: pushed NoMetric violates "MET-1";
    a_metric_of_another_name_is_found: pushed ForeignMetric violates "MET-2";
    a_series_for_each_event_is_found: pushed MetricPerEvent violates "MET-3";
    a_source_that_says_degraded_without_cause_is_found: pushed SaysDegraded violates "HLT-1";
    a_source_that_stays_degraded_is_found: pushed StaysDegraded violates "HLT-2";

    a_position_ahead_of_its_data_is_found: pulling PositionAhead violates "SRC-6";
    a_position_behind_its_data_is_found: pulling PositionBehind violates "SRC-6";
    a_forgotten_position_is_found: pulling ForgetsPosition violates "SRC-6";
    a_source_that_ends_under_pressure_is_found: pulling EndsUnderPressure violates "SRC-4";
    a_source_that_skips_what_failed_is_found: pulling SkipsWhatFailed violates "SRC-2";
    too_much_read_ahead_is_found: pulling HoldsTooMuch violates "SRC-5";
    a_source_that_reads_on_after_shutdown_is_found: pulling ReadsOnAfterShutdown violates "SRC-7";
    a_reader_that_ignores_shutdown_is_found: pulling IgnoresShutdown violates "SRC-7";
    a_line_that_is_swallowed_is_found: pulling SwallowsMalformed violates "SRC-11";
    random_ids_of_lines_are_found: pulling RandomIds violates "SRC-9";
    a_reader_without_metric_is_found: pulling NoMetric violates "MET-1";
}
