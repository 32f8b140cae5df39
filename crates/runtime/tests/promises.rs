//! What the runtime promises about components: dead letters, sinks that are behind, new or gone, shutdown, restarts,
//! and what the log states about itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{
    BatchSink, Delivery, EmitError, Entry, EntryKind, Sink, SinkContext, SinkError, Source, SourceContext, SourceError,
    Statement, WhenFull, run_batches,
};
use actlog_runtime::{Plan, Request, RunError, SinkPlan, StartAt, ask};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use serde_json::json;
use support::{Deployment, End, event, sink, source, wait_until};

/// Emits these events, each durable before the next, and comes to its end.
struct Events(std::ops::Range<u64>);

#[async_trait]
impl Source for Events {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let first = cx.position.map_or(self.0.start, |position| u64::from_le_bytes(position.try_into().unwrap()));
        for number in first.max(self.0.start)..self.0.end {
            loop {
                let position = Some((number + 1).to_le_bytes().to_vec());
                match cx.emitter.emit(vec![event("test", number)], position).await {
                    Ok(receipt) => {
                        receipt.await?;
                        break;
                    }
                    Err(EmitError::Full { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn events(range: std::ops::Range<u64>) -> actlog_runtime::SourcePlan {
    source("events", move || Events(range.clone()))
}

/// A source that keeps everything running until the shutdown.
struct Idle;

#[async_trait]
impl Source for Idle {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        cx.shutdown.cancelled().await;
        Ok(())
    }
}

fn idle() -> actlog_runtime::SourcePlan {
    source("idle", || Idle)
}

/// Everything that a sink received, in order; shared by all of its runs.
type Received = Arc<Mutex<Vec<Entry>>>;

/// A destination that keeps what it is given, refuses records for good while it is told to, and hangs while it is told
/// to.
#[derive(Clone, Default)]
struct Keeper {
    received: Received,
    refuses: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    takes_much: bool,
}

impl Keeper {
    fn plan(&self, name: &str) -> SinkPlan {
        let keeper = self.clone();
        sink(name, move || keeper.clone())
    }

    fn set(flag: &AtomicBool, to: bool) {
        flag.store(to, Ordering::Relaxed);
    }

    /// Numbers of the events that it received.
    fn numbers(&self) -> Vec<u64> {
        let received = self.received.lock().unwrap();
        let records = received.iter().filter(|entry| entry.kind == EntryKind::Record);
        records
            .map(|entry| {
                let record: serde_json::Value = serde_json::from_slice(&entry.bytes).unwrap();
                record["ObjectId"].as_str().unwrap().split_once(' ').unwrap().1.parse().unwrap()
            })
            .collect()
    }

    fn statements(&self) -> Vec<Statement> {
        let received = self.received.lock().unwrap();
        let statements = received.iter().filter(|entry| entry.kind == EntryKind::Statement);
        statements.map(|entry| serde_json::from_slice(&entry.bytes).unwrap()).collect()
    }

    /// Reasons of the stated gaps.
    fn gaps(&self) -> Vec<String> {
        let reason = |statement| match statement {
            Statement::Gap { reason, .. } => Some(reason),
            _ => None,
        };
        self.statements().into_iter().filter_map(reason).collect()
    }
}

#[async_trait]
impl Sink for Keeper {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for Keeper {
    fn max_bytes(&self) -> usize {
        if self.takes_much { 1 << 20 } else { 2000 }
    }

    fn wants_statements(&self) -> bool {
        true
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        while self.hangs.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refuses = self.refuses.load(Ordering::Relaxed);
        let is_refused = |entry: &Entry| refuses && entry.kind == EntryKind::Record;
        let taken = entries.iter().filter(|entry| !is_refused(entry)).cloned();
        self.received.lock().unwrap().extend(taken);
        let refused = entries.iter().enumerate().filter(|(_, entry)| is_refused(entry));
        Delivery::Rejected(refused.map(|(place, _)| (place, "refused".to_owned())).collect())
    }
}

fn plan(sources: Vec<actlog_runtime::SourcePlan>, sinks: Vec<SinkPlan>) -> Plan {
    Plan { sources, sinks, ..Plan::default() }
}

async fn never() {
    std::future::pending().await
}

async fn command(deployment: &Deployment, request: Request) -> serde_json::Value {
    ask(&deployment.data_dir(), &request).await.unwrap()
}

/// The names of the journal's segments.
fn first_indices(deployment: &Deployment) -> Vec<u64> {
    let folder = actlog_runtime::journal_folder(&deployment.data_dir());
    let files = support::files(&deployment.storage, &folder);
    let names =
        files.iter().filter_map(|(path, _)| path.file_name()?.to_str()?.strip_suffix(".seg").map(str::to_owned));
    names.map(|name| name.split('-').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn what_a_sink_refused_is_given_to_it_again_after_a_restart_and_then_no_more() {
    let deployment = Deployment::new(1);
    let keeper = Keeper::default();
    Keeper::set(&keeper.refuses, true);
    deployment.live_well(plan(vec![events(0..20)], vec![keeper.plan("audit")]), never());
    assert_eq!((keeper.numbers().len(), deployment.letters().len()), (0, 20));
    let refused: Vec<Entry> = deployment.letters().iter().map(|letter| letter.entry().unwrap()).collect();

    // After a restart, and while it works: some by number, then the rest.
    Keeper::set(&keeper.refuses, false);
    let replay = |numbers: Vec<u64>| Request::ReplayDeadLetters { component: "audit".into(), numbers };
    deployment.live_well(plan(vec![events(20..30), idle()], vec![keeper.plan("audit")]), async {
        wait_until("new events are delivered", || keeper.numbers().len() == 10).await;
        assert_eq!(command(&deployment, replay(vec![3, 4])).await["replaying"], 2);
        wait_until("two letters are delivered", || deployment.letters().len() == 18).await;
        let error = ask(&deployment.data_dir(), &replay(vec![3])).await.unwrap_err().to_string();
        assert!(error.contains("no dead letter 3"), "{error}");
        assert_eq!(command(&deployment, replay(Vec::new())).await["replaying"], 18);
        wait_until("all letters are delivered", || deployment.letters().is_empty()).await;
    });
    let mut delivered = keeper.numbers();
    delivered.sort_unstable();
    assert_eq!(delivered, (0..30).collect::<Vec<_>>());
    let received = keeper.received.lock().unwrap();
    assert!(refused.iter().all(|entry| received.contains(entry)), "exactly as they are in the journal");
}

#[test]
fn replayed_letters_that_lie_ahead_of_the_cursor_make_nothing_be_left_out() {
    let deployment = Deployment::new(1);
    let keeper = Keeper::default();
    Keeper::set(&keeper.refuses, true);
    Keeper::set(&keeper.hangs, true);
    let much = Keeper { takes_much: true, ..keeper.clone() };
    let storage = deployment.storage.clone();
    // The process dies when some letters of a long batch are stored, and before the cursor is committed behind them.
    let end = deployment.live(plan(vec![events(0..40)], vec![much.plan("audit")]), async {
        while command(&deployment, Request::Status).await["journal"]["next_index"].as_u64().unwrap() < 42 {
            support::pace().await;
        }
        storage.halt_at(storage.steps() + 50);
        Keeper::set(&keeper.hangs, false);
        never().await
    });
    assert!(matches!(end, End::Halted));
    let second = deployment.on(storage.kill());
    let last = second.letters().last().unwrap().clone();
    Keeper::set(&keeper.refuses, false);
    Keeper::set(&keeper.hangs, true);
    second.live_well(plan(vec![events(0..40), idle()], vec![keeper.plan("audit")]), async {
        let cursor = command(&second, Request::Status).await["cursors"]["audit"]["next_index"].as_u64().unwrap();
        assert!(cursor + 10 < last.index.unwrap(), "{cursor} {last:?}");
        let replay = Request::ReplayDeadLetters { component: "audit".into(), numbers: vec![last.number] };
        command(&second, replay).await;
        Keeper::set(&keeper.hangs, false);
        wait_until("the letter is delivered", || second.letters().iter().all(|letter| letter.number != last.number))
            .await;
        wait_until("the rest is delivered", || keeper.numbers().contains(&39)).await;
    });
    // Refused again or not, what lies behind the cursor is delivered.
    let mut delivered = keeper.numbers();
    delivered.sort_unstable();
    delivered.dedup();
    let first = 40 - delivered.len() as u64;
    assert!(first < 5, "{delivered:?}");
    assert_eq!(delivered, (first..40).collect::<Vec<_>>());
}

#[test]
fn when_the_journal_is_full_a_skipping_sink_misses_a_stated_range_and_holds_nobody_up() {
    let mut deployment = Deployment::new(1);
    deployment.journal = json!({ "segment_size": "4 KiB", "budget": "64 KiB" });
    let (good, slow) = (Keeper::default(), Keeper::default());
    Keeper::set(&slow.hangs, true);
    let sinks = vec![good.plan("good"), SinkPlan { when_full: WhenFull::Skip, ..slow.plan("slow") }];
    deployment.live_well(plan(vec![events(0..150)], sinks), async {
        wait_until("all events are delivered to the other sink", || good.numbers().len() == 150).await;
        Keeper::set(&slow.hangs, false);
        never().await
    });
    assert_eq!(good.numbers(), (0..150).collect::<Vec<_>>());
    let skipped: Vec<_> = good
        .statements()
        .into_iter()
        .filter_map(|statement| match statement {
            Statement::Skip { sink, from, to, .. } => Some((sink, from..to)),
            _ => None,
        })
        .collect();
    assert!(!skipped.is_empty() && skipped.iter().all(|(sink, _)| sink == "slow"), "{skipped:?}");
    // What it did not receive is what was stated.
    let good_entries: BTreeMap<u64, Entry> =
        good.received.lock().unwrap().iter().map(|entry| (entry.index, entry.clone())).collect();
    let slow_indices: Vec<u64> = slow.received.lock().unwrap().iter().map(|entry| entry.index).collect();
    let missed = good_entries.keys().filter(|index| !slow_indices.contains(index));
    let unstated: Vec<_> = missed.filter(|index| skipped.iter().all(|(_, range)| !range.contains(index))).collect();
    assert_eq!(unstated, [] as [&u64; 0]);
    assert!(slow_indices.len() < good_entries.len(), "it missed something");
}

#[test]
fn when_the_journal_is_full_a_holding_sink_puts_sources_off_and_receives_everything() {
    let mut deployment = Deployment::new(1);
    deployment.journal = json!({ "segment_size": "4 KiB", "budget": "64 KiB" });
    let slow = Keeper::default();
    Keeper::set(&slow.hangs, true);
    deployment.live_well(plan(vec![events(0..150)], vec![slow.plan("slow")]), async {
        let mut pressure = serde_json::Value::Null;
        while pressure.is_null() {
            pressure = command(&deployment, Request::Status).await["journal"]["pressure"].clone();
            support::pace().await;
        }
        assert_eq!(pressure, "the journal has reached its disk budget");
        Keeper::set(&slow.hangs, false);
        never().await
    });
    assert_eq!(slow.numbers(), (0..150).collect::<Vec<_>>());
}

#[test]
fn a_sink_that_was_taken_out_holds_the_journal_until_it_is_forgotten() {
    let deployment = Deployment::new(1);
    let (kept, removed) = (Keeper::default(), Keeper::default());
    deployment.live_well(plan(vec![events(0..5)], vec![kept.plan("kept"), removed.plan("removed")]), never());
    deployment.live_well(plan(vec![events(5..100)], vec![kept.plan("kept")]), never());
    let before = first_indices(&deployment);
    let forget = Request::ForgetSink { sink: "removed".into() };
    deployment.live_well(plan(vec![idle()], vec![kept.plan("kept")]), async {
        let held = command(&deployment, Request::Status).await["cursors"]["removed"]["next_index"].as_u64().unwrap();
        assert!(before.iter().filter(|first| **first > held).count() > 2, "{before:?} {held}");
        assert!(before[0] <= held, "what it has not received is there");
        command(&deployment, forget.clone()).await;
        wait_until("what it held is released", || first_indices(&deployment).len() <= 2).await;
        let error = ask(&deployment.data_dir(), &forget).await.unwrap_err().to_string();
        assert!(error.contains("no cursor of a sink \"removed\""), "{error}");
    });
    // Brought back, it is a new one.
    deployment.live_well(plan(Vec::new(), vec![kept.plan("kept"), removed.plan("removed")]), never());
    assert!(removed.numbers().len() < 100);
}

#[test]
fn a_new_sink_begins_with_the_oldest_entry_or_with_the_next_one() {
    let mut deployment = Deployment::new(1);
    deployment.journal = json!({ "min_age": "1 day" });
    let (old, all, new) = (Keeper::default(), Keeper::default(), Keeper::default());
    deployment.live_well(plan(vec![events(0..10)], vec![old.plan("old")]), never());
    let sinks = || vec![old.plan("old"), all.plan("all"), SinkPlan { start: StartAt::Now, ..new.plan("new") }];
    deployment.live_well(plan(vec![events(0..20)], sinks()), never());
    assert_eq!(all.numbers(), (0..20).collect::<Vec<_>>());
    assert_eq!(new.numbers(), (10..20).collect::<Vec<_>>());
    // Where it begins is decided once.
    deployment.live_well(plan(vec![events(0..30)], sinks()), never());
    assert_eq!(new.numbers(), (10..30).collect::<Vec<_>>());
}

#[test]
fn entries_that_reach_their_maximum_age_go_and_the_sink_that_misses_them_is_named() {
    let mut deployment = Deployment::new(1);
    deployment.journal = json!({ "segment_size": "4 KiB", "max_age": "30 days" });
    let (good, slow) = (Keeper::default(), Keeper::default());
    Keeper::set(&slow.hangs, true);
    deployment.live_well(plan(vec![events(0..100)], vec![good.plan("good"), slow.plan("slow")]), async {
        wait_until("all events are delivered", || good.numbers().len() == 100).await;
        let last = good.received.lock().unwrap().last().unwrap().index;
        assert_eq!(first_indices(&deployment)[0], 0, "the slow sink holds the journal");
        deployment.clock.advance(Duration::from_secs(31 * 86_400));
        wait_until("old segments are gone", || first_indices(&deployment)[0] > last / 2).await;
        Keeper::set(&slow.hangs, false);
        never().await
    });
    let skips = good.statements();
    let skips = skips.iter().filter(|statement| matches!(statement, Statement::Skip { sink, .. } if sink == "slow"));
    assert!(skips.count() > 0, "stated");
    assert!(slow.numbers().len() < 100);
}

/// A sink that takes no notice of the shutdown.
struct Deaf;

#[async_trait]
impl Sink for Deaf {
    async fn run(self: Box<Self>, _cx: SinkContext) -> Result<(), SinkError> {
        never().await;
        Ok(())
    }
}

#[test]
fn a_sink_that_takes_no_notice_of_the_shutdown_is_left_behind_and_its_entries_stay() {
    let mut deployment = Deployment::new(1);
    deployment.shutdown_deadline = "5 s";
    let keeper = Keeper::default();
    let end = deployment.live(plan(vec![events(0..10)], vec![sink("audit", || Deaf), keeper.plan("good")]), async {
        wait_until("all events are delivered", || keeper.numbers().len() == 10).await;
    });
    assert!(matches!(end, End::Returned(Err(RunError::Deadline(_)))), "{end:?}");
    let late = Keeper::default();
    deployment.live_well(plan(Vec::new(), vec![late.plan("audit"), keeper.plan("good")]), never());
    assert_eq!(late.numbers(), (0..10).collect::<Vec<_>>());
    assert_eq!(late.gaps(), ["stopped"], "the end was stated");
}

/// A source that panics in its first two runs, after an event each.
struct Panicking(Arc<AtomicU64>);

#[async_trait]
impl Source for Panicking {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let run = self.0.fetch_add(1, Ordering::Relaxed);
        cx.emitter.emit(vec![event("test", run)], None).await?.await?;
        assert!(run == 2, "run {run}");
        Ok(())
    }
}

#[test]
fn a_source_that_panics_is_started_again_and_the_others_go_on() {
    let deployment = Deployment::new(1);
    let (keeper, runs) = (Keeper::default(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&runs);
    let panicking = source("panicking", move || Panicking(Arc::clone(&counted)));
    deployment.live_well(plan(vec![panicking, events(10..20)], vec![keeper.plan("audit")]), never());
    let mut numbers = keeper.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

#[test]
fn the_log_states_starts_heartbeats_stops_and_the_gaps_between() {
    let deployment = Deployment::new(1);
    let keeper = Keeper::default();
    let is_heartbeat = |statement: &&Statement| matches!(statement, Statement::Heartbeat { .. });
    let heartbeats = || keeper.statements().iter().filter(is_heartbeat).count();
    deployment
        .live_well(plan(vec![idle()], vec![keeper.plan("audit")]), wait_until("a heartbeat", || heartbeats() >= 1));
    assert_eq!(keeper.gaps(), [""; 0], "there was nothing before the first start");

    // The second life ends in a crash, the third one is told so.
    let storage = deployment.storage.clone();
    let end = deployment.live(plan(vec![idle()], vec![keeper.plan("audit")]), async {
        let seen = heartbeats();
        wait_until("another heartbeat", || heartbeats() > seen).await;
        storage.halt_at(storage.steps());
        never().await
    });
    assert!(matches!(end, End::Halted));
    let last_alive = keeper.statements().iter().filter(is_heartbeat).map(Statement::time).max().unwrap();
    let survivor = deployment.on(FaultStorage::crash(&storage, 1));
    survivor.clock.advance(Duration::from_secs(600));
    survivor.live_well(plan(Vec::new(), vec![keeper.plan("audit")]), never());
    assert_eq!(keeper.gaps(), ["stopped", "crash"]);
    let statements = keeper.statements();
    let crash = statements.iter().find_map(|statement| match statement {
        Statement::Gap { reason, from, to, .. } if reason == "crash" => Some((*from, to.unwrap())),
        _ => None,
    });
    let (from, to) = crash.unwrap();
    assert!(from >= last_alive, "it ran at the last heartbeat");
    assert!(to.unix_milliseconds() - from.unix_milliseconds() >= 600_000);
    assert_eq!(statements.iter().filter(|statement| matches!(statement, Statement::Start { .. })).count(), 3);
}
