//! A journal that takes nothing at first, and a batch that it can't take at all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Committed, Emit, EmitError, Emitter, Gap, Health, Metrics, Prepared, Receipt, RejectedInput,
    SourceContext, SourceDescriptor,
};
use actlog_source_office365::Office365Source;
use actlog_testkit::process::wait_until;
use async_trait::async_trait;
use common::{HOUR, World, blob, number_of};
use tokio_util::sync::CancellationToken;

/// Refuses the first submissions, without having shown pressure, and batches that hold a certain record.
#[derive(Default)]
struct Moody {
    refusals: AtomicUsize,
    too_large: Option<u64>,
    taken: Mutex<Vec<u64>>,
    rejected: Mutex<Vec<String>>,
}

#[async_trait]
impl Emit for Moody {
    fn prepare(
        &self,
        _: &str,
        records: Vec<AuditRecord<'_>>,
        position: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError> {
        assert!(position.is_some(), "a batch without a position");
        let numbers: Vec<u64> = records.iter().map(|record| number_of(record.id).unwrap()).collect();
        match self.too_large.is_some_and(|number| numbers.contains(&number)) {
            true => Err(EmitError::TooLarge { bytes: 2, limit: 1 }),
            false => Ok(Prepared::new(numbers)),
        }
    }

    async fn submit(&self, prepared: Prepared) -> Result<Receipt, EmitError> {
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let reason = "the test says so".to_owned();
            return Err(EmitError::Full { reason, retry_after: Duration::from_millis(1) });
        }
        let numbers = prepared.into_inner::<Vec<u64>>().unwrap();
        self.taken.lock().unwrap().extend(numbers);
        Ok(Receipt::new(async { Ok(Committed::default()) }))
    }

    async fn state_gap(&self, _: &str, gap: Gap, _: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        panic!("nothing is missing: {gap:?}")
    }

    async fn reject(&self, _: &str, input: RejectedInput<'_>) -> Result<(), EmitError> {
        self.rejected.lock().unwrap().push(input.place);
        Ok(())
    }

    fn pressure(&self) -> Option<EmitError> {
        None
    }
}

/// Runs the source until the condition holds.
async fn run(world: &World, journal: &Arc<Moody>, condition: impl Fn(&Moody) -> bool) {
    let descriptor = SourceDescriptor::of::<Office365Source>("under-test", "0.0.0");
    let table: toml::Table = world.config.parse().unwrap();
    let factory = (descriptor.load)(serde_json::to_value(table).unwrap()).unwrap();
    let source = factory.build(&world.build_context().named("office")).await.unwrap();
    let shutdown = CancellationToken::new();
    let emitter = Emitter::new("office", Arc::clone(journal) as Arc<dyn Emit>);
    let cx = SourceContext::new(emitter, None, shutdown.clone(), Metrics::default(), Health::default());
    let task = tokio::spawn(source.run(cx));
    wait_until("the condition", async || condition(journal)).await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_is_made_again_and_nothing_of_it_is_taken_for_a_duplicate() {
    let world = World::new("").await;
    world.service.state().publish("c", HOUR, blob(0..50));
    let journal = Arc::new(Moody { refusals: AtomicUsize::new(3), ..Moody::default() });
    run(&world, &journal, |journal| journal.taken.lock().unwrap().len() >= 50).await;
    assert_eq!(*journal.taken.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_frame_can_hold_goes_to_the_dead_letters_and_the_source_goes_on() {
    let world = World::new("batch_size = 1").await;
    world.service.state().publish("c", HOUR, blob(0..5));
    let journal = Arc::new(Moody { too_large: Some(2), ..Moody::default() });
    run(&world, &journal, |journal| journal.taken.lock().unwrap().len() >= 4).await;
    assert_eq!(*journal.taken.lock().unwrap(), [0, 1, 3, 4]);
    assert_eq!(*journal.rejected.lock().unwrap(), ["contoso, Audit.General, content c, element 3"]);
}
