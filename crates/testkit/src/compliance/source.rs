//! The checks of a source.

use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, EmitError, SourceDescriptor, SourcePlugin, Status};
use async_trait::async_trait;
use futures_util::future::join_all;

use super::source_world::World;
use super::{Check, DEADLINE, Outcome, SETTLE, SourceRun, Violation, checks, violation};

/// What a source's upstream says of an event that it has offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The source has said that the event is safe.
    Acknowledged,
    /// The source has said that it can't take the event now.
    Busy,
    /// The source has said that the event is none, and will never be taken.
    Refused,
    /// There was no answer: nobody listens, or the connection broke.
    Lost,
    /// This upstream expects no answer: it keeps its events.
    Kept,
}

/// How a source's upstream behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// It offers each event, waits for an answer, and offers what was not acknowledged again: a webhook, a queue.
    Push,
    /// It keeps its events, and the source remembers by a position how far it has come: a file, a feed.
    Pull,
}

/// What the kit must know of a source: how to configure it, and how to play its upstream.
///
/// A value is one world: a port, a folder. The kit offers the events 0, 1, 2 …, each of which the source must turn into
/// exactly one record. Of a [`Upstream::Pull`] source, all events are there before it is started.
#[async_trait]
pub trait SourceUnderTest: Send + Sync + 'static {
    /// The source.
    type Plugin: SourcePlugin;

    /// How the upstream behaves.
    fn upstream(&self) -> Upstream;

    /// The configuration in TOML, as below `[sources.NAME]` but for `type`. The same each time.
    fn config(&self) -> String;

    /// How long the kit waits for what must happen; also the time that the source has for shutting down.
    fn deadline(&self) -> Duration {
        DEADLINE
    }

    /// What the source is built with.
    fn build_context(&self) -> BuildContext;

    /// How many records the source may hold at most without knowing them durable. The kit offers three times as many;
    /// so keep it low by the configuration, or by the adapter's number of connections.
    fn in_flight_limit(&self) -> usize;

    /// Offers an event and waits for the answer. It may be called many times at once, and again for the same event,
    /// which must then be the same to the byte. An adapter that can't connect answers [`Answer::Lost`].
    async fn offer(&self, event: u64) -> Answer;

    /// Offers something that is no event, between others.
    async fn offer_malformed(&self) -> Answer;

    /// The number of the event that a record was made from; none when it is of none.
    fn event_of(&self, record: &AuditRecord<'_>) -> Option<u64>;
}

pub(super) async fn check<S: SourceUnderTest>(new: impl Fn() -> S) -> Vec<Violation> {
    let descriptor = SourceDescriptor::of::<S::Plugin>("under-test", "0.0.0");
    let schema = (descriptor.schema)().to_value();
    let mut violations =
        checks::configuration(descriptor.example, &schema, |table| (descriptor.load)(table).map(|_| ()));
    let world = || World::new(new());
    let mut checks: Vec<Check> = vec![
        Box::pin(everything_becomes_durable(world())),
        Box::pin(only_what_is_durable_is_acknowledged(world())),
        Box::pin(a_failed_batch_is_not_acknowledged(world())),
        Box::pin(a_refusal_is_passed_on(world())),
        Box::pin(no_more_is_held_than_declared(world())),
        Box::pin(a_redelivery_has_the_same_id(world())),
        Box::pin(an_idle_source_shuts_down(world())),
        Box::pin(shutdown_waits_for_receipts(world())),
        Box::pin(shutdown_ends_when_nothing_is_taken_any_more(world())),
        Box::pin(malformed_input_is_answered_or_kept(world())),
        Box::pin(malformed_input_is_safe_before_it_is_passed(world())),
    ];
    for batches in 0..4 {
        checks.push(Box::pin(a_crash_loses_and_doubles_nothing(world(), batches)));
    }
    violations.extend(join_all(checks).await.into_iter().filter_map(Result::err));
    violations
}

/// How many events most checks offer.
const EVENTS: u64 = 24;

/// SRC-2, and at rest HLT-1, MET-1, MET-2, MET-3.
async fn everything_becomes_durable<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let (first, all) = (0..EVENTS / 2, 0..EVENTS);
    let (run, mut offers) = world.start_with(if world.is_pull() { all.clone() } else { first.clone() }).await?;
    world.answers(&mut offers).await?;
    let run = world.finish(run, first).await?;
    let series = checks::series(&world.harness.metrics_text());
    let run = world.finish(run, all).await?;
    if !run.is_finished() && run.health.get() != Status::Ok {
        return violation("HLT-1", format!("all is well, and the source's health is {:?}", run.health.get()));
    }
    world.stop(run).await?;
    let text = world.harness.metrics_text();
    checks::metric_names(&text)?;
    checks::something_was_counted(&text)?;
    let grown: Vec<String> = checks::series(&text).difference(&series).cloned().collect();
    if !world.is_pull() && !grown.is_empty() {
        return violation("MET-3", format!("more events of the same kind brought more series: {grown:?}"));
    }
    world.verdict()
}

/// SRC-1.
async fn only_what_is_durable_is_acknowledged<S: SourceUnderTest>(world: World<S>) -> Outcome {
    world.harness.hold_durability_after(0);
    let (run, mut offers) = world.start_with(0..EVENTS).await?;
    if !world.wait(|harness| harness.waiting_batches() > 0).await {
        return violation("SRC-2", "nothing was emitted within the deadline");
    }
    tokio::time::sleep(SETTLE).await;
    world.verdict()?;
    if run.is_finished() {
        return violation("SRC-7", "the source returned before its receipts were resolved");
    }
    world.harness.release_durability();
    world.answers(&mut offers).await?;
    let run = world.finish(run, 0..EVENTS).await?;
    world.stop(run).await
}

/// SRC-3 and SRC-10, with receipts that fail.
async fn a_failed_batch_is_not_acknowledged<S: SourceUnderTest>(world: World<S>) -> Outcome {
    world.harness.fail_batches(2);
    let (run, mut offers) = world.start_with(0..EVENTS).await?;
    world.answers(&mut offers).await?;
    let run = world.finish(run, 0..EVENTS).await?;
    world.stop(run).await
}

/// SRC-3, SRC-4 and HLT-2, with submissions that are refused.
async fn a_refusal_is_passed_on<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let full = EmitError::Full { reason: "the test says so".to_owned(), retry_after: Duration::from_secs(1) };
    world.harness.refuse(Some(full));
    let (mut run, mut offers) = world.start_with(0..EVENTS).await?;
    let answers = world.answers(&mut offers).await?;
    world.verdict()?;
    for (event, answer) in answers {
        if !matches!(answer, Answer::Busy | Answer::Kept) {
            return violation("SRC-4", format!("the journal is full, and event {event} was answered with {answer:?}"));
        }
    }
    if world.is_pull() {
        tokio::time::sleep(SETTLE).await;
        if run.is_finished() && matches!(run.finished(world.deadline).await, Some(Ok(()))) {
            return violation("SRC-4", "the journal is full, and the source says that it has come to its end");
        }
    }
    world.verdict()?;
    world.harness.refuse(None);
    let run = world.finish(run, 0..EVENTS).await?;
    if !run.is_finished() && run.health.get() != Status::Ok {
        return violation("HLT-2", format!("the pressure is over, and the source's health is {:?}", run.health.get()));
    }
    world.stop(run).await
}

/// SRC-5: back-pressure, first with receipts and then with submissions held; and SRC-7: nothing new after shutdown.
async fn no_more_is_held_than_declared<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let limit = world.adapter.in_flight_limit();
    let events = 0..3 * limit as u64;
    world.harness.hold_durability_after(0);
    let (mut run, mut offers) = world.start_with(events.clone()).await?;
    let over = |run: &SourceRun| run.in_flight() > limit;
    world.wait(|harness| harness.waiting_batches() > 0).await;
    world.harness.wait_for(SETTLE, |_| over(&run)).await;
    world.harness.hold_submissions(true);
    world.harness.wait_for(SETTLE, |_| over(&run)).await;
    if over(&run) {
        let message = format!("{} records are held without being durable; declared are {limit}", run.in_flight());
        return violation("SRC-5", message);
    }
    run.shutdown.cancel();
    world.harness.hold_submissions(false);
    world.harness.release_durability();
    let Some(_) = run.finished(world.deadline).await else {
        run.kill().await;
        return violation("SRC-7", "the source did not return within the deadline after shutdown");
    };
    let taken = world.ledger(|ledger| ledger.durable.len());
    if world.is_pull() && taken > 2 * limit {
        return violation(
            "SRC-7",
            format!("after shutdown the source read on: {taken} events, {limit} were in flight"),
        );
    }
    world.answers(&mut offers).await?;
    let run = world.start().await?;
    let run = world.finish(run, events).await?;
    world.stop(run).await
}

/// SRC-6 and SRC-8: a crash after so many batches.
async fn a_crash_loses_and_doubles_nothing<S: SourceUnderTest>(world: World<S>, batches: u64) -> Outcome {
    let limit = world.adapter.in_flight_limit() as u64;
    let events = 0..if world.is_pull() { EVENTS.max(3 * limit) } else { EVENTS };
    world.harness.hold_durability_after(batches);
    let (mut run, mut offers) = world.start_with(events.clone()).await?;
    world.wait(|harness| harness.waiting_batches() > 0 || world.missing(&events).is_empty() || run.is_finished()).await;
    world.harness.crash();
    run.kill().await;
    offers.abort_all();
    while offers.join_next().await.is_some() {}
    if !run.let_go(world.deadline).await {
        return violation(
            "SRC-8",
            "the future of run was dropped, and something of the source still holds its emitter",
        );
    }
    world.verdict()?;
    let run = world.start().await?;
    let run = world.finish(run, events).await.map_err(|found| match found.clause {
        "SRC-2" => Violation { clause: "SRC-6", message: format!("after a crash: {}", found.message) },
        _ => found,
    })?;
    if world.is_pull() && world.harness.duplicates() > 0 {
        let message = format!(
            "after a crash behind {batches} batches, {} records were emitted again: the position was behind the data",
            world.harness.duplicates()
        );
        return violation("SRC-6", message);
    }
    world.stop(run).await
}

/// SRC-9: what is offered again is dropped by its Id, and acknowledged.
async fn a_redelivery_has_the_same_id<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let (run, mut offers) = world.start_with(0..EVENTS).await?;
    world.answers(&mut offers).await?;
    let run = world.finish(run, 0..EVENTS).await?;
    world.stop(run).await?;
    let before = world.harness.duplicates();
    world.harness.forget_position();
    let run = world.start().await?;
    if !world.is_pull() {
        let mut offers = world.offer(0..EVENTS);
        for (event, answer) in world.answers(&mut offers).await? {
            if answer != Answer::Acknowledged {
                return violation("SRC-9", format!("event {event} is durable, was offered again, and got {answer:?}"));
            }
        }
    }
    world.wait(|harness| harness.duplicates() >= before + EVENTS).await;
    world.verdict()?;
    let again = world.harness.duplicates() - before;
    if again < EVENTS {
        return violation("SRC-9", format!("{EVENTS} events were delivered again, {again} were known by their Ids"));
    }
    world.stop(run).await
}

/// SRC-7 and SRC-8, with nothing to do.
async fn an_idle_source_shuts_down<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let run = world.start().await?;
    world.stop(run).await?;
    // What was listening must be gone: nobody may take an event now.
    if !world.is_pull() {
        let mut offers = world.offer(0..1);
        let answers = world.answers(&mut offers).await?;
        if answers.iter().any(|(_, answer)| *answer == Answer::Acknowledged) {
            return violation("SRC-8", "an event was acknowledged after the source had returned");
        }
    }
    world.verdict()
}

/// SRC-7: receipts that are open at shutdown.
async fn shutdown_waits_for_receipts<S: SourceUnderTest>(world: World<S>) -> Outcome {
    world.harness.hold_durability_after(0);
    let (mut run, mut offers) = world.start_with(0..1).await?;
    if !world.wait(|harness| harness.waiting_batches() > 0).await {
        return violation("SRC-2", "nothing was emitted within the deadline");
    }
    run.shutdown.cancel();
    if let Some(ended) = run.finished(SETTLE).await {
        return violation("SRC-7", format!("the source returned ({ended:?}) before its receipts were resolved"));
    }
    world.harness.release_durability();
    let answers = world.answers(&mut offers).await?;
    world.stop(run).await?;
    for (event, answer) in answers {
        if answer != Answer::Acknowledged {
            let message = format!("event {event} became durable during shutdown, and was answered with {answer:?}");
            return violation("SRC-7", message);
        }
    }
    let run = world.start().await?;
    let run = world.finish(run, 0..1).await?;
    world.stop(run).await
}

/// SRC-7: shutdown while submissions wait, and are then closed.
async fn shutdown_ends_when_nothing_is_taken_any_more<S: SourceUnderTest>(world: World<S>) -> Outcome {
    world.harness.hold_submissions(true);
    let (mut run, mut offers) = world.start_with(0..EVENTS).await?;
    world.wait(|harness| harness.emissions() > 0).await;
    run.shutdown.cancel();
    world.harness.close();
    if run.finished(world.deadline).await.is_none() {
        run.kill().await;
        return violation("SRC-7", "the source did not return within the deadline after shutdown");
    }
    if !run.let_go(world.deadline).await {
        return violation("SRC-8", "the source returned, and something of it still holds its emitter");
    }
    world.answers(&mut offers).await?;
    world.verdict()?;
    world.harness.crash();
    let run = world.start().await?;
    let run = world.finish(run, 0..EVENTS).await?;
    world.stop(run).await
}

/// SRC-11: input that is no event is refused, or kept with the dead letters; its neighbours are not affected.
async fn malformed_input_is_answered_or_kept<S: SourceUnderTest>(world: World<S>) -> Outcome {
    let (run, answer) = offer_around_malformed(&world).await?;
    let run = world.finish(run, 0..2).await?;
    world.stop(run).await?;
    let dead_letters = world.harness.dead_letters();
    if dead_letters.iter().any(|letter| letter.reason.is_empty() || letter.place.is_empty()) {
        return violation("SRC-11", format!("a dead letter lacks its place or reason: {dead_letters:?}"));
    }
    match (answer, dead_letters.len()) {
        (Answer::Refused, 0) | (Answer::Refused | Answer::Acknowledged | Answer::Kept, 1) => world.verdict(),
        (_, letters) => violation(
            "SRC-11",
            format!("what is no event was answered with {answer:?}, and made {letters} dead letters"),
        ),
    }
}

/// SRC-11: a dead letter that can't be stored holds up the position and the acknowledgement.
async fn malformed_input_is_safe_before_it_is_passed<S: SourceUnderTest>(world: World<S>) -> Outcome {
    world.harness.fail_rejects(true);
    let (mut run, answer) = offer_around_malformed(&world).await?;
    if answer == Answer::Acknowledged {
        return violation("SRC-11", "what is no event was acknowledged, and could not be put to the dead letters");
    }
    if answer == Answer::Refused {
        let run = world.finish(run, 0..2).await?;
        return world.stop(run).await;
    }
    if world.is_pull() {
        run.finished(SETTLE).await;
    }
    world.harness.crash();
    run.kill().await;
    let run = world.start().await?;
    let run = if world.is_pull() {
        run
    } else {
        world.adapter.offer_malformed().await;
        run
    };
    let run = world.finish(run, 0..2).await?;
    world.wait(|harness| !harness.dead_letters().is_empty()).await;
    world.stop(run).await?;
    match world.harness.dead_letters().len() {
        1 => world.verdict(),
        letters => violation(
            "SRC-11",
            format!("a dead letter could not be stored; after a restart there are {letters} instead of 1"),
        ),
    }
}

/// Offers event 0, what is no event, and event 1.
async fn offer_around_malformed<S: SourceUnderTest>(world: &World<S>) -> Result<(SourceRun, Answer), Violation> {
    if world.is_pull() {
        world.adapter.offer(0).await;
        let answer = world.adapter.offer_malformed().await;
        world.adapter.offer(1).await;
        return Ok((world.start().await?, answer));
    }
    let run = world.start().await?;
    let mut offers = world.offer(0..1);
    world.answers(&mut offers).await?;
    let Ok(answer) = tokio::time::timeout(world.deadline, world.adapter.offer_malformed()).await else {
        return violation("SRC-11", "what is no event got no answer within the deadline");
    };
    let mut offers = world.offer(1..2);
    world.answers(&mut offers).await?;
    Ok((run, answer))
}
