//! The checks of a sink.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, EntryKind, SinkDescriptor, SinkPlugin, Statement, Status};
use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Check, Crash, DEADLINE, Outcome, SETTLE, SinkHarness, SinkRun, Violation, checks, violation};
use crate::records::Records;

/// How often a record may be in the destination after crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Once or several times.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

/// How a destination can be out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Each attempt fails at once, for a reason that may pass.
    Fails,
    /// Each attempt takes for ever.
    Hangs,
}

/// What the kit must know of a sink: how to configure it, and how to look at its destination.
///
/// A value is one world: a folder, a receiver.
#[async_trait]
pub trait SinkUnderTest: Send + Sync + 'static {
    /// The sink.
    type Plugin: SinkPlugin;

    /// The configuration in TOML, as below `[sinks.NAME]` but for `type`. The same each time. Where the sink gathers
    /// before it delivers, make the gathering short: the kit sends few records.
    fn config(&self) -> String;

    /// How long the kit waits for what must happen; also the time that the sink has for shutting down.
    fn deadline(&self) -> Duration {
        DEADLINE
    }

    /// What the sink is built with. It is called for each build, so after [`SinkUnderTest::crash`] it can carry what
    /// is left of the storage.
    fn build_context(&self) -> BuildContext;

    /// What the sink promises.
    fn guarantee(&self) -> Guarantee;

    /// Whether records arrive in the journal's order.
    fn is_ordered(&self) -> bool {
        true
    }

    /// Ids of the records that the destination has, in the order in which it has them. What is cut off in the middle
    /// does not count.
    async fn delivered(&self) -> Vec<Uuid>;

    /// Loses what a crash of the process, or of the machine where the adapter can play that, would lose.
    async fn crash(&self) {}

    /// Puts the destination out of order, or in order again. False when the adapter can't do that.
    async fn set_outage(&self, _outage: Option<Outage>) -> bool {
        false
    }

    /// A record that the destination refuses for good; none when it takes everything.
    fn unacceptable(&self) -> Option<AuditRecord<'static>> {
        None
    }
}

pub(super) async fn check<S: SinkUnderTest>(new: impl Fn() -> S) -> Vec<Violation> {
    let descriptor = SinkDescriptor::of::<S::Plugin>("under-test", "0.0.0");
    let schema = (descriptor.schema)().to_value();
    let mut violations =
        checks::configuration(descriptor.example, &schema, |table| (descriptor.load)(table).map(|_| ()));
    let world = || World::new(new());
    let mut checks: Vec<Check> = vec![
        Box::pin(everything_is_delivered_and_committed(world())),
        Box::pin(a_commit_that_fails_is_no_commit(world())),
        Box::pin(what_is_refused_for_good_becomes_a_dead_letter(world())),
        Box::pin(a_dead_letter_is_safe_before_it_is_passed(world())),
        Box::pin(an_outage_delays_and_loses_nothing(world())),
    ];
    for step in 0..3 {
        for crash in [Crash::AtNext(step), Crash::BeforeCommit(step), Crash::AfterCommit(step)] {
            checks.push(Box::pin(a_crash_loses_nothing(world(), crash)));
        }
    }
    for outage in [None, Some(Outage::Fails), Some(Outage::Hangs)] {
        checks.push(Box::pin(shutdown_ends_in_good_order(world(), outage)));
    }
    violations.extend(join_all(checks).await.into_iter().filter_map(Result::err));
    violations
}

/// How many records each round sends; a round has statements too.
const RECORDS: usize = 20;

/// An adapter, the harness, and what is expected of the destination.
struct World<S> {
    deadline: Duration,
    adapter: S,
    harness: SinkHarness,
    descriptor: SinkDescriptor,
    records: Records,
}

impl<S: SinkUnderTest> World<S> {
    fn new(adapter: S) -> Self {
        let descriptor = SinkDescriptor::of::<S::Plugin>("under-test", "0.0.0");
        Self {
            deadline: adapter.deadline(),
            adapter,
            harness: SinkHarness::new(),
            descriptor,
            records: Records::new(1).nasty(),
        }
    }

    /// Adds a round of records, with statements between and behind them.
    fn append(&mut self) {
        for place in 0..RECORDS {
            let record = self.records.next_record();
            if place % 7 == 3 {
                self.harness.append_statement(&Statement::Heartbeat { time: record.creation_time });
            }
            self.harness.append(&record);
            if place == RECORDS - 1 {
                self.harness.append_statement(&Statement::Heartbeat { time: record.creation_time });
            }
        }
    }

    /// Builds the sink and runs it; a build that fails is tried again, as the runtime does, until the deadline.
    async fn start(&self) -> Result<SinkRun, Violation> {
        let table = checks::table(&self.adapter.config())?;
        let factory = (self.descriptor.load)(table)
            .or_else(|error| violation("CFG-1", format!("the adapter's configuration is refused: {error}")))?;
        let deadline = Instant::now() + self.deadline;
        loop {
            match factory.build(&self.adapter.build_context().named("under-test")).await {
                Ok(sink) => return Ok(self.harness.start("under-test", self.descriptor.kind, sink)),
                Err(error) if Instant::now() > deadline => {
                    return violation("SNK-8", format!("the sink can't be built (again): {error}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Ids of the records below an index that are not dead letters, in order.
    fn expected(&self, below: u64) -> Vec<Uuid> {
        let dead = self.harness.dead_letters();
        let entries = self.harness.entries().into_iter();
        entries
            .filter(|entry| entry.kind == EntryKind::Record && entry.index < below && !dead.contains_key(&entry.index))
            .map(|entry| entry.id)
            .collect()
    }

    /// SNK-1: what the cursor has passed is in the destination.
    async fn nothing_is_missing_behind_the_cursor(&self) -> Outcome {
        // In this order: the cursor may move on while the destination is looked at.
        let cursor = self.harness.cursor();
        let delivered: BTreeSet<Uuid> = self.adapter.delivered().await.into_iter().collect();
        let missing = self.expected(cursor).iter().filter(|id| !delivered.contains(id)).count();
        if missing > 0 {
            return violation(
                "SNK-1",
                format!("the cursor is {cursor}, and {missing} records before it are not delivered"),
            );
        }
        Ok(())
    }

    /// Waits until the cursor is at the end, restarting the sink where it has ended; then looks at the destination.
    async fn finish(&self, mut run: SinkRun) -> Result<SinkRun, Violation> {
        let end = self.harness.entries().len() as u64;
        let deadline = Instant::now() + self.deadline;
        while self.harness.cursor() < end {
            if let Some(message) = self.harness.misuse() {
                return violation("SNK-3", message);
            }
            if run.is_finished() {
                if let Some(Ok(())) = run.finished(self.deadline).await {
                    return violation("SNK-6", "the sink returned without error, and nobody had told it to stop");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                run = self.start().await?;
            }
            if Instant::now() > deadline {
                let message = format!("the cursor is {} of {end} after the deadline", self.harness.cursor());
                return violation("SNK-2", message);
            }
            self.harness.wait_for(Duration::from_millis(50), |harness| harness.cursor() >= end).await;
        }
        self.nothing_is_missing_behind_the_cursor().await?;
        self.compare().await?;
        Ok(run)
    }

    /// SNK-4 and SNK-5: no foreign records, no more copies than promised, in order.
    async fn compare(&self) -> Outcome {
        let expected = self.expected(u64::MAX);
        let places: BTreeMap<Uuid, usize> = expected.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let mut seen = BTreeSet::new();
        let mut first_copies = Vec::new();
        for id in self.adapter.delivered().await {
            let Some(place) = places.get(&id) else {
                return violation("SNK-4", format!("the destination has {id}, which the journal does not have"));
            };
            if seen.insert(id) {
                first_copies.push(*place);
            } else if self.adapter.guarantee() == Guarantee::ExactlyOnce {
                return violation("SNK-4", format!("the destination has the record {id} more than once"));
            }
        }
        if self.adapter.is_ordered() && !first_copies.is_sorted() {
            return violation("SNK-5", "the destination does not have the records in the journal's order");
        }
        Ok(())
    }

    /// Tells the sink to stop and waits for its return (SNK-6), and for everything of it to be gone (SNK-7).
    async fn stop(&self, mut run: SinkRun) -> Outcome {
        let had_ended = run.is_finished();
        run.shutdown.cancel();
        match run.finished(self.deadline).await {
            None => {
                self.harness.crash();
                run.kill().await;
                return violation("SNK-6", "the sink did not return within the deadline after shutdown");
            }
            Some(Err(error)) if !had_ended => {
                return violation("SNK-6", format!("the sink answered shutdown with an error: {error}"));
            }
            Some(_) => {}
        }
        if !run.let_go(self.deadline).await {
            return violation("SNK-7", "the sink returned, and something of it still holds its emitter");
        }
        self.nothing_is_missing_behind_the_cursor().await
    }
}

/// SNK-2, and at rest HLT-1, MET-1, MET-2, MET-3.
async fn everything_is_delivered_and_committed<S: SinkUnderTest>(mut world: World<S>) -> Outcome {
    world.append();
    let run = world.start().await?;
    let run = world.finish(run).await?;
    let series = checks::series(&world.harness.metrics_text());
    world.append();
    let run = world.finish(run).await?;
    if run.health.get() != Status::Ok {
        return violation("HLT-1", format!("all is well, and the sink's health is {:?}", run.health.get()));
    }
    world.stop(run).await?;
    let text = world.harness.metrics_text();
    checks::metric_names(&text)?;
    checks::something_was_counted(&text)?;
    let grown: Vec<String> = checks::series(&text).difference(&series).cloned().collect();
    if !grown.is_empty() {
        return violation("MET-3", format!("more records brought more series: {grown:?}"));
    }
    Ok(())
}

/// SNK-1, SNK-4, SNK-7 and SNK-8: a crash at a step.
async fn a_crash_loses_nothing<S: SinkUnderTest>(mut world: World<S>, crash: Crash) -> Outcome {
    world.append();
    world.harness.crash_at(crash);
    let mut run = world.start().await?;
    // A sink may need fewer steps for a round than the crash waits for: more rounds bring more steps.
    let deadline = Instant::now() + world.deadline;
    loop {
        let end = world.harness.entries().len() as u64;
        let pause = Duration::from_millis(200);
        world.harness.wait_for(pause, |harness| harness.has_crashed() || harness.cursor() == end).await;
        if world.harness.has_crashed() {
            break;
        }
        if run.is_finished() {
            let ended = run.finished(world.deadline).await;
            return violation("SNK-6", format!("the sink returned {ended:?}, and nobody had told it to stop"));
        }
        if Instant::now() > deadline {
            return violation("SNK-2", format!("the sink did not come to the step {crash:?} within the deadline"));
        }
        if world.harness.cursor() == end {
            world.append();
        }
    }
    world.harness.crash();
    run.kill().await;
    if !run.let_go(world.deadline).await {
        return violation("SNK-7", "the future of run was dropped, and something of the sink still holds its emitter");
    }
    world.adapter.crash().await;
    world.nothing_is_missing_behind_the_cursor().await?;
    world.append();
    let run = world.start().await?;
    let run = world.finish(run).await?;
    world.stop(run).await
}

/// SNK-3: the cursor is where the journal says, not where the sink wished it to be.
async fn a_commit_that_fails_is_no_commit<S: SinkUnderTest>(mut world: World<S>) -> Outcome {
    world.harness.fail_commits(2);
    world.append();
    let run = world.start().await?;
    let run = world.finish(run).await?;
    world.stop(run).await
}

/// SNK-9: the refused record is with the dead letters, its neighbours are delivered.
async fn what_is_refused_for_good_becomes_a_dead_letter<S: SinkUnderTest>(mut world: World<S>) -> Outcome {
    let Some(unacceptable) = world.adapter.unacceptable() else { return Ok(()) };
    world.append();
    let refused = world.harness.append(&unacceptable);
    world.append();
    let run = world.start().await?;
    // The record counts as missing for as long as it is not with the dead letters.
    let run = world.finish(run).await.map_err(|found| match found.clause {
        "SNK-1" => Violation { clause: "SNK-9", ..found },
        _ => found,
    })?;
    world.stop(run).await?;
    let dead_letters = world.harness.dead_letters();
    match dead_letters.get(&refused) {
        Some(reason) if !reason.is_empty() && dead_letters.len() == 1 => Ok(()),
        _ => violation(
            "SNK-9",
            format!("the destination refuses entry {refused} for good; the dead letters are {dead_letters:?}"),
        ),
    }
}

/// SNK-9: a dead letter that can't be stored holds up the cursor.
async fn a_dead_letter_is_safe_before_it_is_passed<S: SinkUnderTest>(mut world: World<S>) -> Outcome {
    let Some(unacceptable) = world.adapter.unacceptable() else { return Ok(()) };
    world.harness.fail_rejects(true);
    let refused = world.harness.append(&unacceptable);
    world.append();
    let mut run = world.start().await?;
    run.finished(SETTLE).await;
    if world.harness.cursor() > refused {
        return violation("SNK-9", "a dead letter could not be stored, and the cursor has passed its entry");
    }
    world.harness.crash();
    run.kill().await;
    world.adapter.crash().await;
    let run = world.start().await?;
    let run = world.finish(run).await?;
    world.stop(run).await
}

/// SNK-10 and HLT-2: while the destination is out of order, the sink tries again and says so.
async fn an_outage_delays_and_loses_nothing<S: SinkUnderTest>(mut world: World<S>) -> Outcome {
    world.append();
    let run = world.start().await?;
    let mut run = world.finish(run).await?;
    if !world.adapter.set_outage(Some(Outage::Fails)).await {
        return world.stop(run).await;
    }
    world.append();
    let deadline = Instant::now() + world.deadline;
    let unmoved = |run: &SinkRun| matches!(run.health.get(), Status::Ok | Status::Starting);
    while !run.is_finished() && world.harness.dead_letters().is_empty() && unmoved(&run) {
        if Instant::now() > deadline {
            return violation(
                "HLT-2",
                format!("the destination is out of order, and the health is {:?}", run.health.get()),
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if run.is_finished()
        && let Some(Ok(())) = run.finished(world.deadline).await
    {
        return violation("SNK-10", "the destination is out of order, and the sink returned without error");
    }
    if !world.harness.dead_letters().is_empty() {
        return violation("SNK-10", "the destination is out of order for a while, and records became dead letters");
    }
    world.nothing_is_missing_behind_the_cursor().await?;
    world.adapter.set_outage(None).await;
    let run = world.finish(run).await?;
    if run.health.get() != Status::Ok {
        return violation("HLT-2", format!("the outage is over, and the sink's health is {:?}", run.health.get()));
    }
    world.stop(run).await
}

/// SNK-6: shutdown, idle, and while the destination is out of order.
async fn shutdown_ends_in_good_order<S: SinkUnderTest>(mut world: World<S>, outage: Option<Outage>) -> Outcome {
    let run = world.start().await?;
    if outage.is_some() {
        if !world.adapter.set_outage(outage).await {
            return world.stop(run).await;
        }
        world.append();
        tokio::time::sleep(SETTLE).await;
    }
    let stopped = world.stop(run).await;
    world.adapter.set_outage(None).await;
    stopped?;
    world.append();
    let run = world.start().await?;
    let run = world.finish(run).await?;
    world.stop(run).await
}
