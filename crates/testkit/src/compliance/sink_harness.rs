//! Stands where the journal stands for a sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Emit, EmitError, Emitter, Entry, EntryKind, Health, Metrics, Prepared, Pull, Receipt, RejectedInput,
    Sink, SinkContext, SinkError, Statement, Status, Timestamp,
};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DEADLINE;

/// Where a run stops for good, as if the process were gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// At the call of that number (from 0) to [`SinkContext::next`].
    AtNext(u64),
    /// At the call of that number (from 0) to [`SinkContext::commit`], before anything is stored.
    BeforeCommit(u64),
    /// At the call of that number (from 0) to [`SinkContext::commit`], after cursor and state were stored.
    AfterCommit(u64),
}

/// A journal in memory with one durable cursor that does what a test tells it: it fails, and crashes at a step.
/// Clones are handles of the same harness.
#[derive(Clone, Debug, Default)]
pub struct SinkHarness {
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
    entries: Vec<Entry>,
    cursor: u64,
    stored: Option<Vec<u8>>,
    dead_letters: BTreeMap<u64, String>,
    crash: Option<Crash>,
    crashed: bool,
    nexts: u64,
    commits: u64,
    commits_to_fail: u64,
    rejects_fail: bool,
    misuse: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is that test's failure; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.notify_waiters();
        value
    }
}

impl State {
    fn push(&mut self, kind: EntryKind, id: Uuid, time: Timestamp, bytes: Vec<u8>) -> u64 {
        let index = self.entries.len() as u64;
        // A salt need not be secret in a test; it has to differ.
        let mut salt = [0x5a; 32];
        salt[..8].copy_from_slice(&index.to_le_bytes());
        self.entries.push(Entry { index, kind, id, time, salt, bytes: bytes.into() });
        index
    }
}

impl SinkHarness {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record; gives its index.
    ///
    /// # Panics
    /// When the record can't be encoded.
    pub fn append(&self, record: &AuditRecord<'_>) -> u64 {
        let mut bytes = Vec::new();
        if let Err(error) = record.encode(&mut bytes) {
            panic!("the record {} can't be encoded: {error}", record.id);
        }
        self.shared.change(|state| state.push(EntryKind::Record, record.id, record.creation_time, bytes))
    }

    /// Adds an entry that says it is a record and holds these bytes, whatever they are; gives its index.
    pub fn append_bytes(&self, bytes: &[u8]) -> u64 {
        self.shared.change(|state| state.push(EntryKind::Record, Uuid::new_v4(), Timestamp::default(), bytes.to_vec()))
    }

    /// Adds a statement; gives its index.
    ///
    /// # Panics
    /// When the statement can't be encoded.
    pub fn append_statement(&self, statement: &Statement) -> u64 {
        let bytes = match serde_json::to_vec(statement) {
            Ok(bytes) => bytes,
            Err(error) => panic!("the statement can't be encoded: {error}"),
        };
        self.shared.change(|state| {
            // Any id will do that no record has: records carry the version in these bits, this has none.
            let id = Uuid::from_u128(u128::from(state.entries.len() as u64));
            state.push(EntryKind::Statement, id, statement.time(), bytes)
        })
    }

    /// Runs a sink, from the cursor and the state that are durable.
    pub fn start(&self, name: &str, kind: &str, sink: Box<dyn Sink>) -> SinkRun {
        let (generation, cursor, stored) =
            self.shared.change(|state| (state.generation, state.cursor, state.stored.clone()));
        let pull = Reader { shared: Arc::clone(&self.shared), generation, read_to: cursor };
        let emit: Arc<dyn Emit> = Arc::new(NoJournal);
        let handle = Arc::downgrade(&emit);
        let (shutdown, health) = (CancellationToken::new(), Health::default());
        health.set(Status::Ok);
        let metrics = self.metrics.with_labels(&[("sink", name), ("kind", kind)]);
        let cx = SinkContext::new(
            Emitter::new(name, emit),
            Box::new(pull),
            stored,
            shutdown.clone(),
            metrics,
            health.clone(),
        );
        let task = tokio::spawn(sink.run(cx));
        SinkRun { shutdown, health, handle, task, ended: None }
    }

    /// Lets the run stop for good at a step; [`SinkHarness::has_crashed`] tells when it is there. Counting starts anew.
    pub fn crash_at(&self, crash: Crash) {
        self.shared.change(|state| {
            state.crash = Some(crash);
            (state.nexts, state.commits) = (0, 0);
        });
    }

    /// Whether the step of [`SinkHarness::crash_at`] was reached.
    pub fn has_crashed(&self) -> bool {
        self.shared.lock().crashed
    }

    /// The process is gone: runs that go on by mistake wait for ever, and nothing fails any more. The run itself is
    /// ended by [`SinkRun::kill`].
    pub fn crash(&self) {
        self.shared.change(|state| {
            state.generation += 1;
            (state.crash, state.crashed) = (None, false);
            state.commits_to_fail = 0;
            state.rejects_fail = false;
        });
    }

    /// Lets the next commits fail, with nothing stored.
    pub fn fail_commits(&self, commits: u64) {
        self.shared.change(|state| state.commits_to_fail = commits);
    }

    /// Whether storing dead letters fails.
    pub fn fail_rejects(&self, fail: bool) {
        self.shared.change(|state| state.rejects_fail = fail);
    }

    /// The durable cursor: the first index that is not done with.
    pub fn cursor(&self) -> u64 {
        self.shared.lock().cursor
    }

    /// The state that was stored with the cursor.
    pub fn state(&self) -> Option<Vec<u8>> {
        self.shared.lock().stored.clone()
    }

    /// All entries, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.shared.lock().entries.clone()
    }

    /// The dead letters: index and reason.
    pub fn dead_letters(&self) -> BTreeMap<u64, String> {
        self.shared.lock().dead_letters.clone()
    }

    /// The first wrong use of the context, such as committing what was never pulled; none in good order.
    pub fn misuse(&self) -> Option<String> {
        self.shared.lock().misuse.clone()
    }

    /// All metrics so far, as OpenMetrics text.
    pub fn metrics_text(&self) -> String {
        self.metrics.encode()
    }

    /// [`SinkHarness::wait_for`] with [`DEADLINE`].
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

/// A sink that runs on a [`SinkHarness`].
#[derive(Debug)]
pub struct SinkRun {
    /// Tells it to stop.
    pub shutdown: CancellationToken,
    /// Its own view of its state.
    pub health: Health,
    handle: Weak<dyn Emit>,
    task: JoinHandle<Result<(), SinkError>>,
    ended: Option<Result<(), SinkError>>,
}

impl SinkRun {
    /// Whether `run` has returned.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// What `run` has returned; none when it does not return within the time. A panic in the sink is passed on as an
    /// error. May be called again.
    pub async fn finished(&mut self, wait: Duration) -> Option<&Result<(), SinkError>> {
        if self.ended.is_none() {
            let ended = tokio::time::timeout(wait, &mut self.task).await.ok()?;
            let panicked = |error| Err(SinkError::Other(format!("the sink's task ended: {error}")));
            self.ended = Some(ended.unwrap_or_else(panicked));
        }
        self.ended.as_ref()
    }

    /// Ends the run where it is, as a crash does. Call [`SinkHarness::crash`] before.
    pub async fn kill(&mut self) {
        self.task.abort();
        // However it ends: what it returns is lost in a crash.
        let _ = self.finished(DEADLINE).await;
    }

    /// Whether every handle that the sink was given is gone within the time; so no task of it has stayed behind.
    pub async fn let_go(&self, wait: Duration) -> bool {
        let gone = async {
            while self.handle.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(wait, gone).await.is_ok()
    }
}

/// A run's way into the journal.
#[derive(Debug)]
struct Reader {
    shared: Arc<Shared>,
    generation: u64,
    read_to: u64,
}

impl Reader {
    /// Stops for good when the run is of a process that is gone.
    async fn live(&self, reached: impl FnOnce(&mut State) -> bool) {
        let gone = self.shared.change(|state| {
            if state.generation == self.generation && !state.crashed {
                state.crashed = reached(state);
            }
            state.generation != self.generation || state.crashed
        });
        if gone {
            std::future::pending::<()>().await;
        }
    }

    fn take(&mut self, max_bytes: usize) -> Vec<Entry> {
        let state = self.shared.lock();
        let mut taken: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in state.entries.iter().skip(usize::try_from(self.read_to).unwrap_or(usize::MAX)) {
            bytes += entry.bytes.len();
            if !taken.is_empty() && bytes > max_bytes {
                break;
            }
            taken.push(entry.clone());
        }
        self.read_to += taken.len() as u64;
        taken
    }
}

#[async_trait]
impl Pull for Reader {
    async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Entry>, SinkError> {
        self.live(|state| {
            state.nexts += 1;
            state.crash == Some(Crash::AtNext(state.nexts - 1))
        })
        .await;
        let shared = Arc::clone(&self.shared);
        let some = async {
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let taken = self.take(max_bytes);
                if !taken.is_empty() {
                    return taken;
                }
                changed.await;
            }
        };
        Ok(tokio::time::timeout(wait, some).await.unwrap_or_default())
    }

    async fn commit(&mut self, next_index: u64, stored: Vec<u8>) -> Result<(), SinkError> {
        self.live(|state| {
            state.commits += 1;
            state.crash == Some(Crash::BeforeCommit(state.commits - 1))
        })
        .await;
        self.shared.change(|state| {
            if next_index > self.read_to || next_index < state.cursor {
                let message = format!(
                    "the sink committed {next_index}; the cursor was {}, and it had pulled up to {}",
                    state.cursor, self.read_to
                );
                state.misuse.get_or_insert(message.clone());
                return Err(SinkError::Journal(message));
            }
            if state.commits_to_fail > 0 {
                state.commits_to_fail -= 1;
                return Err(SinkError::Journal("input/output error (injected)".to_owned()));
            }
            state.cursor = next_index;
            state.stored = Some(stored);
            Ok(())
        })?;
        self.live(|state| state.crash == Some(Crash::AfterCommit(state.commits - 1))).await;
        Ok(())
    }

    async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        self.live(|_| false).await;
        self.shared.change(|state| {
            if state.rejects_fail {
                return Err(SinkError::Journal("input/output error (injected)".to_owned()));
            }
            state.dead_letters.insert(entry.index, reason.to_owned());
            Ok(())
        })
    }
}

/// Sinks emit records of their own only for access to what they store; the kit asks for none.
#[derive(Debug)]
struct NoJournal;

#[async_trait]
impl Emit for NoJournal {
    fn prepare(
        &self,
        _component: &str,
        _records: Vec<AuditRecord<'_>>,
        _position: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError> {
        Ok(Prepared::new(()))
    }

    async fn submit(&self, _prepared: Prepared) -> Result<Receipt, EmitError> {
        Ok(Receipt::new(async { Ok(actlog_core::Committed::default()) }))
    }

    async fn state_gap(&self, _: &str, _: actlog_core::Gap, _: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        Ok(Receipt::new(async { Ok(actlog_core::Committed::default()) }))
    }

    async fn reject(&self, _component: &str, _input: RejectedInput<'_>) -> Result<(), EmitError> {
        Ok(())
    }

    fn pressure(&self) -> Option<EmitError> {
        None
    }
}
