//! What has to be done while a process runs: heartbeats, releasing segments, moving on sinks that may be skipped, and
//! stating that nothing could be taken in.

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{Statement, Timestamp, WhenFull};
use actlog_journal::SegmentInfo;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::JournalConfig;
use crate::instance::Instance;
use crate::statements;

/// A crash costs at most so much of the knowledge when capture still ran.
const HEARTBEAT: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_secs(1);
/// Sinks that may be skipped are moved on when so much of the budget is used, so that there is room before it is full.
const SKIP_ABOVE: f64 = 0.9;

/// Does it all until `shutdown` fires.
pub(crate) async fn keep_house(instance: Arc<Instance>, config: JournalConfig, shutdown: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_heartbeat = Instant::now();
    let mut pressure_since: Option<Timestamp> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = move_skippable_sinks(&instance, &config).await {
            warn!(error, "a sink could not be moved on");
        }
        if let Err(error) = release_segments(&instance, &config).await {
            warn!(error, "segments of the journal could not be released");
        }
        if let Err(error) = state_overload(&instance, &mut pressure_since).await {
            warn!(error, "an overload could not be stated");
        }
        if last_heartbeat.elapsed() >= HEARTBEAT {
            match statements::heartbeat(instance.journal(), &*instance.pipeline.clock).await {
                Ok(()) => last_heartbeat = Instant::now(),
                Err(error) => warn!(error, "the heartbeat could not be written"),
            }
        }
    }
}

/// Moves the cursors of sinks with `when_full = "skip"` past the oldest segments when the budget is nearly used up.
async fn move_skippable_sinks(instance: &Instance, config: &JournalConfig) -> Result<(), String> {
    let segments = instance.journal().segments();
    let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let nearly_full = used as f64 > config.budget.0 as f64 * SKIP_ABOVE;
    if !nearly_full && instance.journal().pressure().is_none() {
        return Ok(());
    }
    let mut to_free = used.saturating_sub((config.budget.0 as f64 * SKIP_ABOVE) as u64).max(1);
    let mut target = None;
    for segment in sealed(&segments) {
        target = Some(segment.end);
        to_free = to_free.saturating_sub(segment.bytes);
        if to_free == 0 {
            break;
        }
    }
    let Some(target) = target else { return Ok(()) };
    let held = pins(instance, |when_full| when_full == WhenFull::Hold);
    // Where a sink that holds is behind too, skipping the others would cost them entries and free nothing.
    let target = target.min(held.unwrap_or(u64::MAX));
    for cursor in instance.cursors() {
        if cursor.when_full == WhenFull::Skip && cursor.skip_to(target, &*instance.pipeline.clock).await? {
            warn!(
                sink = cursor.name,
                to = target,
                "the journal is nearly full: the sink was moved on, and misses entries"
            );
        }
    }
    Ok(())
}

/// The lowest cursor among the sinks that count; none when there is no such sink. Sinks that are not configured any
/// more hold what they have not received, until somebody says `actlog sinks forget`.
fn pins(instance: &Instance, counts: impl Fn(WhenFull) -> bool) -> Option<u64> {
    let running = instance.cursors();
    let configured = running.iter().filter(|cursor| counts(cursor.when_full)).map(|cursor| cursor.committed());
    let left_over = instance.stored_cursors().into_iter();
    let left_over = left_over.filter(|(sink, _)| running.iter().all(|cursor| cursor.name != *sink));
    configured.chain(left_over.map(|(_, next)| next)).min()
}

fn sealed(segments: &[SegmentInfo]) -> &[SegmentInfo] {
    segments.split_last().map_or(&[], |(_, sealed)| sealed)
}

async fn release_segments(instance: &Instance, config: &JournalConfig) -> Result<(), String> {
    let journal = instance.journal();
    let segments = journal.segments();
    // Without any sink, nothing has received anything.
    let received = pins(instance, |_| true).unwrap_or(0);
    let now = instance.pipeline.clock.now();
    for segment in sealed(&segments) {
        let sealed_at = segment.sealed_at.unwrap_or(now).unix_milliseconds();
        let age = Duration::from_millis((now.unix_milliseconds() - sealed_at).try_into().unwrap_or(0));
        let expired = config.max_age.is_some_and(|max_age| age >= max_age.0);
        if !(expired || segment.end <= received && age >= config.min_age.0) {
            break;
        }
        if expired {
            for cursor in instance.cursors() {
                if cursor.skip_to(segment.end, &*instance.pipeline.clock).await? {
                    warn!(
                        sink = cursor.name,
                        to = segment.end,
                        "entries reached their maximum age before the sink received them"
                    );
                }
            }
        }
        let statement = Statement::Segment { time: now, from: segment.first, to: segment.end };
        statements::write(journal, statements::batch(&statement)?).await?;
        let (releasing, end) = (journal.clone(), segment.end);
        let removed = tokio::task::spawn_blocking(move || releasing.release(end)).await;
        removed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        info!(from = segment.first, to = segment.end, "released a segment of the journal");
    }
    Ok(())
}

/// States since when and until when nothing could be taken in.
async fn state_overload(instance: &Instance, since: &mut Option<Timestamp>) -> Result<(), String> {
    let pressure = instance.journal().pressure();
    let now = instance.pipeline.clock.now();
    let statement = match (&pressure, *since) {
        (Some(pressure), None) => {
            warn!(%pressure, "nothing can be taken in");
            statements::gap(now, now, None, "overload", Some(pressure.to_string()))
        }
        (None, Some(from)) => {
            info!("taking in again");
            statements::gap(now, from, Some(now), "overload", None)
        }
        _ => return Ok(()),
    };
    statements::write(instance.journal(), statements::batch(&statement)?).await?;
    *since = pressure.map(|_| now);
    Ok(())
}
