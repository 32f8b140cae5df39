//! The checks of an enrichment.

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{
    AuditRecord, BuildContext, Enrichment, EnrichmentContext, EnrichmentDescriptor, EnrichmentPlugin, Health, Metrics,
};
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, Outcome, Violation, checks, violation};
use crate::records::Records;

/// What the kit must know of an enrichment: how to configure it.
///
/// A value is one world: a folder, a file, a server.
pub trait EnrichmentUnderTest: Send + Sync + 'static {
    /// The enrichment.
    type Plugin: EnrichmentPlugin;

    /// The configuration in TOML, as below `[enrichments.NAME]` but for `type`. The same each time.
    fn config(&self) -> String;

    /// What the enrichment is built with.
    fn build_context(&self) -> BuildContext;

    /// A record that it completes.
    fn incomplete(&self) -> AuditRecord<'static>;

    /// Whether that record is complete now.
    fn is_complete(&self, record: &AuditRecord<'_>) -> bool;
}

pub(super) async fn check<E: EnrichmentUnderTest>(new: impl Fn() -> E) -> Vec<Violation> {
    let descriptor = EnrichmentDescriptor::of::<E::Plugin>("under-test", "0.0.0");
    let schema = (descriptor.schema)().to_value();
    let mut violations =
        checks::configuration(descriptor.example, &schema, |table| (descriptor.load)(table).map(|_| ()));
    violations.extend(completes_and_keeps(&new(), &descriptor).await.err());
    violations.extend(stops_when_told(&new(), &descriptor).await.err());
    violations
}

async fn build<E: EnrichmentUnderTest>(
    adapter: &E,
    descriptor: &EnrichmentDescriptor,
    metrics: &Metrics,
) -> Result<Arc<dyn Enrichment>, Violation> {
    let factory = (descriptor.load)(checks::table(&adapter.config())?)
        .or_else(|error| violation("CFG-1", format!("the adapter's configuration is refused: {error}")))?;
    let built = factory.build(&adapter.build_context().named("under-test"), metrics).await;
    built.or_else(|error| violation("ENR-4", format!("it can't be built: {error}")))
}

struct Running {
    task: tokio::task::JoinHandle<Result<(), actlog_core::EnrichmentError>>,
    shutdown: CancellationToken,
}

fn run(enrichment: &Arc<dyn Enrichment>) -> Running {
    let shutdown = CancellationToken::new();
    let cx = EnrichmentContext::new("under-test", shutdown.clone(), Health::default());
    Running { task: tokio::spawn(Arc::clone(enrichment).run(cx)), shutdown }
}

/// Waits until the adapter's record is completed.
async fn becomes_complete<E: EnrichmentUnderTest>(adapter: &E, enrichment: &dyn Enrichment) -> Outcome {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let mut record = adapter.incomplete();
        enrichment.complete(&mut record);
        if adapter.is_complete(&record) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return violation("ENR-1", format!("the record was not completed within the deadline: {record:?}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// ENR-1, ENR-2, MET-2.
async fn completes_and_keeps<E: EnrichmentUnderTest>(adapter: &E, descriptor: &EnrichmentDescriptor) -> Outcome {
    let metrics = Metrics::default();
    let enrichment = build(adapter, descriptor, &metrics).await?;
    let running = run(&enrichment);
    becomes_complete(adapter, &*enrichment).await?;
    let mut records = Records::new(7).nasty();
    for _ in 0..500 {
        let before = records.next_record();
        let mut after = before.clone();
        enrichment.complete(&mut after);
        if (after.id, after.creation_time) != (before.id, before.creation_time) {
            return violation("ENR-2", format!("it has changed what identifies the record {}", before.id));
        }
        let mut bytes = Vec::new();
        if let Err(error) = after.encode(&mut bytes) {
            return violation("ENR-2", format!("the record {} can't be encoded any more: {error}", before.id));
        }
        let mut again = after.clone();
        enrichment.complete(&mut again);
        if again != after {
            return violation("ENR-2", format!("completing the record {} twice is not the same as once", before.id));
        }
    }
    running.shutdown.cancel();
    running.task.abort();
    checks::metric_names(&metrics.encode())
}

/// ENR-3.
async fn stops_when_told<E: EnrichmentUnderTest>(adapter: &E, descriptor: &EnrichmentDescriptor) -> Outcome {
    let enrichment = build(adapter, descriptor, &Metrics::default()).await?;
    // Again on the same value, as after an error; the second time at once.
    for works_first in [true, false] {
        let running = run(&enrichment);
        if works_first {
            becomes_complete(adapter, &*enrichment).await?;
        }
        running.shutdown.cancel();
        match tokio::time::timeout(DEADLINE, running.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return violation("ENR-3", format!("it answered shutdown with an error: {error}")),
            Ok(Err(panic)) => return violation("ENR-3", format!("it panicked: {panic}")),
            Err(_) => return violation("ENR-3", "it did not return within the deadline after shutdown"),
        }
    }
    Ok(())
}
