//! Stands where the runtime and its journal stand for a source.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Committed, Emit, EmitError, Emitter, Gap, Health, Metrics, Prepared, Receipt, RejectedInput, Source,
    SourceContext, SourceError, Status,
};
use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DEADLINE;

/// A record that became durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// As the source emitted it.
    pub record: AuditRecord<'static>,
    /// Its JSON.
    pub bytes: Vec<u8>,
}

/// Input that the source put to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// A journal in memory that does what a test tells it: it holds durability back, refuses, fails and crashes.
///
/// It starts open: what is emitted becomes durable at once. Records with an Id that is already durable are dropped and
/// counted, as the runtime does. After a batch with a position has failed, the later ones of the same run fail too, so
/// that no position can get ahead of its data. Clones are handles of the same harness.
#[derive(Clone, Debug, Default)]
pub struct SourceHarness {
    shared: Arc<Shared>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    durable: Vec<Stored>,
    ids: HashSet<Uuid>,
    duplicates: u64,
    position: Option<Vec<u8>>,
    gaps: Vec<Gap>,
    dead_letters: Vec<DeadLetter>,
    waiting: VecDeque<Waiting>,
    /// How many more batches may become durable; none: any number.
    durability: Option<u64>,
    submissions_held: bool,
    closed: bool,
    refusal: Option<EmitError>,
    batches_to_fail: u64,
    rejects_fail: bool,
    run_is_broken: bool,
    emissions: u64,
}

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    receipt: oneshot::Sender<Result<Committed, EmitError>>,
}

#[derive(Debug)]
struct Batch {
    records: Vec<Stored>,
    gap: Option<Gap>,
    position: Option<Vec<u8>>,
    _in_flight: InFlight,
}

/// Counts records between [`Emit::prepare`] and the end of their receipt.
#[derive(Debug)]
struct InFlight {
    counter: Arc<AtomicUsize>,
    records: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.records, Ordering::SeqCst);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is that test's failure; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = {
            let mut state = self.lock();
            let value = change(&mut state);
            state.settle();
            value
        };
        self.changed.notify_waiters();
        value
    }

    /// Waits until `ready` gives something.
    async fn until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = ready(&mut self.lock()) {
                return value;
            }
            changed.await;
        }
    }
}

impl State {
    /// Lets batches that wait become durable, or fail, as far as the test allows.
    fn settle(&mut self) {
        while self.durability != Some(0) {
            let Some(Waiting { batch, receipt }) = self.waiting.pop_front() else { break };
            if let Some(left) = &mut self.durability {
                *left -= 1;
            }
            let fails = self.batches_to_fail > 0;
            self.batches_to_fail = self.batches_to_fail.saturating_sub(1);
            let outcome = if fails || (self.run_is_broken && batch.position.is_some()) {
                self.run_is_broken |= batch.position.is_some();
                Err(EmitError::Storage("input/output error (injected)".to_owned()))
            } else {
                Ok(self.store(batch))
            };
            // Nobody listens where the source has dropped the receipt.
            let _ = receipt.send(outcome);
        }
    }

    fn store(&mut self, batch: Batch) -> Committed {
        let mut committed = Committed::default();
        for stored in batch.records {
            if self.ids.insert(stored.record.id) {
                self.durable.push(stored);
                committed.written += 1;
            } else {
                committed.duplicates += 1;
            }
        }
        self.duplicates += committed.duplicates;
        self.gaps.extend(batch.gap);
        if batch.position.is_some() {
            self.position = batch.position;
        }
        committed
    }
}

impl SourceHarness {
    /// An open, empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a source, from the position that is durable.
    pub fn start(&self, name: &str, kind: &str, source: Box<dyn Source>) -> SourceRun {
        let (generation, position) = self.shared.change(|state| {
            state.run_is_broken = false;
            (state.generation, state.position.clone())
        });
        let in_flight = Arc::new(AtomicUsize::new(0));
        let journal =
            Arc::new(Journal { shared: Arc::clone(&self.shared), generation, in_flight: Arc::clone(&in_flight) });
        let handle = Arc::downgrade(&journal);
        let (shutdown, health) = (CancellationToken::new(), Health::default());
        health.set(Status::Ok);
        let metrics = self.metrics.with_labels(&[("source", name), ("kind", kind)]);
        let emitter = Emitter::new(name, journal);
        let cx = SourceContext::new(emitter, position, shutdown.clone(), metrics, health.clone());
        let task = tokio::spawn(source.run(cx));
        SourceRun { shutdown, health, in_flight, handle, task, ended: None }
    }

    /// Lets at most so many more batches become durable; the others wait.
    pub fn hold_durability_after(&self, batches: u64) {
        self.shared.change(|state| state.durability = Some(batches));
    }

    /// Ends [`SourceHarness::hold_durability_after`].
    pub fn release_durability(&self) {
        self.shared.change(|state| state.durability = None);
    }

    /// Keeps [`Emitter::submit`] waiting, as a full queue does.
    pub fn hold_submissions(&self, held: bool) {
        self.shared.change(|state| state.submissions_held = held);
    }

    /// Answers every submission with an error, and reports it as pressure; none ends that.
    pub fn refuse(&self, refusal: Option<EmitError>) {
        self.shared.change(|state| state.refusal = refusal);
    }

    /// Answers every submission with [`EmitError::Closed`], as during shutdown.
    pub fn close(&self) {
        self.shared.change(|state| state.closed = true);
    }

    /// Lets the receipts of the next batches fail with [`EmitError::Storage`].
    pub fn fail_batches(&self, batches: u64) {
        self.shared.change(|state| state.batches_to_fail = batches);
    }

    /// Whether storing dead letters fails.
    pub fn fail_rejects(&self, fail: bool) {
        self.shared.change(|state| state.rejects_fail = fail);
    }

    /// The process is gone: what is not durable is lost, and runs that go on by mistake get [`EmitError::Closed`].
    /// Everything that was held, refused or failing is open again. The run itself is ended by [`SourceRun::kill`].
    pub fn crash(&self) {
        let lost = self.shared.change(|state| {
            state.generation += 1;
            state.durability = None;
            state.submissions_held = false;
            state.closed = false;
            state.refusal = None;
            state.batches_to_fail = 0;
            state.rejects_fail = false;
            std::mem::take(&mut state.waiting)
        });
        drop(lost);
    }

    /// The durable records, in the order in which they were emitted.
    pub fn durable(&self) -> Vec<Stored> {
        self.durable_from(0)
    }

    /// The durable records behind the first `skip`.
    pub fn durable_from(&self, skip: usize) -> Vec<Stored> {
        self.shared.lock().durable.iter().skip(skip).cloned().collect()
    }

    /// The durable position.
    pub fn position(&self) -> Option<Vec<u8>> {
        self.shared.lock().position.clone()
    }

    /// Forgets the durable position, so that the next run begins anew.
    pub fn forget_position(&self) {
        self.shared.change(|state| state.position = None);
    }

    /// Records that came with an Id that was there already.
    pub fn duplicates(&self) -> u64 {
        self.shared.lock().duplicates
    }

    /// The gaps that were stated durably, in their order.
    pub fn gaps(&self) -> Vec<Gap> {
        self.shared.lock().gaps.clone()
    }

    /// The dead letters, in the order in which they came.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.lock().dead_letters.clone()
    }

    /// Batches that were submitted and are neither durable nor failed.
    pub fn waiting_batches(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Submissions so far, refused ones and waiting ones included.
    pub fn emissions(&self) -> u64 {
        self.shared.lock().emissions
    }

    /// All metrics so far, as OpenMetrics text.
    pub fn metrics_text(&self) -> String {
        self.metrics.encode()
    }

    /// [`SourceHarness::wait_for`] with [`DEADLINE`].
    pub async fn wait(&self, ready: impl FnMut(&Self) -> bool) -> bool {
        self.wait_for(DEADLINE, ready).await
    }

    /// Waits until `ready` says so, looking after each change; false when it does not within the time.
    pub async fn wait_for(&self, wait: Duration, mut ready: impl FnMut(&Self) -> bool) -> bool {
        let watch = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if ready(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(wait, watch).await.is_ok()
    }
}

/// A source that runs on a [`SourceHarness`].
#[derive(Debug)]
pub struct SourceRun {
    /// Tells it to stop.
    pub shutdown: CancellationToken,
    /// Its own view of its state.
    pub health: Health,
    in_flight: Arc<AtomicUsize>,
    handle: Weak<Journal>,
    task: JoinHandle<Result<(), SourceError>>,
    ended: Option<Result<(), SourceError>>,
}

impl SourceRun {
    /// Records that were prepared and have no result yet: submitted or not.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether `run` has returned.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// What `run` has returned; none when it does not return within the time. A panic in the source is passed on as an
    /// error. May be called again.
    pub async fn finished(&mut self, wait: Duration) -> Option<&Result<(), SourceError>> {
        if self.ended.is_none() {
            let ended = tokio::time::timeout(wait, &mut self.task).await.ok()?;
            let panicked = |error| Err(SourceError::Other(format!("the source's task ended: {error}")));
            self.ended = Some(ended.unwrap_or_else(panicked));
        }
        self.ended.as_ref()
    }

    /// Ends the run where it is, as a crash does. Call [`SourceHarness::crash`] before.
    pub async fn kill(&mut self) {
        self.task.abort();
        // However it ends: what it returns is lost in a crash.
        let _ = self.finished(DEADLINE).await;
    }

    /// Whether everything that could emit is gone within the time; so no task of the source has stayed behind.
    pub async fn let_go(&self, wait: Duration) -> bool {
        let gone = async {
            while self.handle.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(wait, gone).await.is_ok()
    }
}

/// What a run's emitter leads to.
#[derive(Debug)]
struct Journal {
    shared: Arc<Shared>,
    generation: u64,
    in_flight: Arc<AtomicUsize>,
}

#[async_trait]
impl Emit for Journal {
    fn prepare(
        &self,
        _component: &str,
        records: Vec<AuditRecord<'_>>,
        position: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError> {
        let unfit = |error: serde_json::Error| EmitError::Storage(format!("a record can't be encoded: {error}"));
        let records = records
            .into_iter()
            .map(|record| {
                let mut bytes = Vec::new();
                record.encode(&mut bytes).map_err(unfit)?;
                Ok(Stored { record: AuditRecord::decode(&bytes).map_err(unfit)?, bytes })
            })
            .collect::<Result<Vec<_>, EmitError>>()?;
        self.in_flight.fetch_add(records.len(), Ordering::SeqCst);
        let in_flight = InFlight { counter: Arc::clone(&self.in_flight), records: records.len() };
        self.shared.changed.notify_waiters();
        Ok(Prepared::new(Batch { records, gap: None, position, _in_flight: in_flight }))
    }

    async fn submit(&self, prepared: Prepared) -> Result<Receipt, EmitError> {
        let Some(batch) = prepared.into_inner::<Batch>() else {
            return Err(EmitError::Storage("the batch was prepared by another emitter".to_owned()));
        };
        self.shared.change(|state| state.emissions += 1);
        let mut batch = Some(batch);
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        self.shared
            .until(|state| {
                if state.closed || state.generation != self.generation {
                    return Some(Err(EmitError::Closed));
                }
                if let Some(refusal) = &state.refusal {
                    return Some(Err(refusal.clone()));
                }
                if state.submissions_held {
                    return None;
                }
                let (batch, receipt) = (batch.take()?, sender.take()?);
                state.waiting.push_back(Waiting { batch, receipt });
                state.settle();
                Some(Ok(()))
            })
            .await?;
        self.shared.changed.notify_waiters();
        Ok(Receipt::new(async move { receiver.await.unwrap_or(Err(EmitError::Closed)) }))
    }

    async fn state_gap(&self, _component: &str, gap: Gap, position: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        let in_flight = InFlight { counter: Arc::clone(&self.in_flight), records: 0 };
        self.submit(Prepared::new(Batch { records: Vec::new(), gap: Some(gap), position, _in_flight: in_flight })).await
    }

    async fn reject(&self, _component: &str, input: RejectedInput<'_>) -> Result<(), EmitError> {
        self.shared.change(|state| {
            if state.closed || state.generation != self.generation {
                return Err(EmitError::Closed);
            }
            if state.rejects_fail {
                return Err(EmitError::Storage("input/output error (injected)".to_owned()));
            }
            let RejectedInput { place, reason, bytes, .. } = input;
            state.dead_letters.push(DeadLetter { place, reason, bytes: bytes.to_vec() });
            Ok(())
        })
    }

    fn pressure(&self) -> Option<EmitError> {
        let state = self.shared.lock();
        if state.closed || state.generation != self.generation {
            return Some(EmitError::Closed);
        }
        state.refusal.clone()
    }
}
