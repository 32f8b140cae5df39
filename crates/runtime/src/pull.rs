//! A sink's way out of the journal: its reader, its cursor, and the dead letters that are to be tried again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{Clock, Counter, Entry, EntryKind, Gauge, Metrics, Pull, SinkError, WhenFull};
use actlog_journal::{Batch, Journal, JournalError, Missing, ReadItem, Reader};
use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::config::StartAt;
use crate::dead_letters::{DeadLetter, DeadLetters};

/// Key of a sink's cursor among the journal's states.
pub(crate) fn cursor_key(sink: &str) -> String {
    format!("sink/{sink}")
}

/// A cursor with the sink's own state, as the journal keeps it: the index in 8 bytes, big-endian, then the state.
pub(crate) fn encode_cursor(next_index: u64, state: &[u8]) -> Vec<u8> {
    [&next_index.to_be_bytes(), state].concat()
}

/// The reverse; none for bytes that are no cursor.
pub(crate) fn decode_cursor(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (index, state) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*index), state))
}

/// How far a sink has come, as the journal's files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CursorView {
    /// The next entry that it gets.
    pub next_index: u64,
    /// Durable entries that it has not received.
    pub waiting: u64,
}

/// The cursors of all sinks that the journal below `data_dir` knows, by name. Writes nothing, and works beside a running
/// process.
///
/// # Errors
/// When the journal can't be read.
pub fn read_cursors(data_dir: &Path) -> Result<BTreeMap<String, CursorView>, JournalError> {
    let inspection = actlog_journal::inspect(&actlog_journal::DiskStorage, &crate::instance::journal_folder(data_dir))?;
    let end = inspection.segments.last().map_or(0, |segment| segment.end);
    let cursors = inspection.states.iter().filter_map(|(key, value)| {
        let next_index = decode_cursor(value)?.0;
        Some((
            key.strip_prefix("sink/")?.to_owned(),
            CursorView { next_index, waiting: end.saturating_sub(next_index) },
        ))
    });
    Ok(cursors.collect())
}

/// How far a sink has come; shared between the sink and those who watch over the journal.
pub(crate) struct SinkCursor {
    pub(crate) name: String,
    pub(crate) when_full: WhenFull,
    journal: Journal,
    /// Everything before is done with.
    committed: AtomicU64,
    /// Commits are one after the other, so that none takes another one back.
    commit: tokio::sync::Mutex<()>,
    /// Letters that the sink is to be given again, by index; they stay until they are marked as replayed.
    replays: Mutex<Vec<DeadLetter>>,
    replay_added: Notify,
}

impl SinkCursor {
    /// Finds the sink's cursor in the journal, or makes one durable where the sink is new.
    pub(crate) async fn open(
        journal: Journal,
        name: &str,
        when_full: WhenFull,
        start: StartAt,
    ) -> Result<Arc<Self>, String> {
        let stored = journal.state(&cursor_key(name));
        let known = stored.as_deref().and_then(decode_cursor).map(|(index, _)| index);
        let first = match start {
            StartAt::Beginning => journal.first_index(),
            StartAt::Now => journal.durable(),
        };
        let cursor = Self {
            name: name.to_owned(),
            when_full,
            committed: AtomicU64::new(known.unwrap_or(first)),
            commit: tokio::sync::Mutex::default(),
            replays: Mutex::default(),
            replay_added: Notify::new(),
            journal,
        };
        if known.is_none() {
            cursor.store(first, &[]).await?;
        }
        Ok(Arc::new(cursor))
    }

    /// Everything before this index is done with.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// The sink's own state.
    pub(crate) fn state(&self) -> Option<Vec<u8>> {
        let stored = self.journal.state(&cursor_key(&self.name))?;
        let (_, state) = decode_cursor(&stored)?;
        (!state.is_empty()).then(|| state.to_vec())
    }

    /// Moves the cursor on, never back, and stores the state; durable when this returns.
    async fn store(&self, next_index: u64, state: &[u8]) -> Result<(), String> {
        let _one_at_a_time = self.commit.lock().await;
        let next_index = next_index.max(self.committed());
        let mut batch = Batch::new().control();
        batch.set_state(cursor_key(&self.name), encode_cursor(next_index, state));
        self.write(batch, next_index).await
    }

    /// Moves the cursor on past entries that the sink has not received, with a statement of that in the same frame.
    pub(crate) async fn skip_to(&self, next_index: u64, clock: &dyn Clock) -> Result<bool, String> {
        let _one_at_a_time = self.commit.lock().await;
        let from = self.committed();
        if next_index <= from {
            return Ok(false);
        }
        let state = self.state().unwrap_or_default();
        let statement =
            actlog_core::Statement::Skip { time: clock.now(), sink: self.name.clone(), from, to: next_index };
        let mut batch = crate::statements::batch(&statement)?;
        batch.set_state(cursor_key(&self.name), encode_cursor(next_index, &state));
        self.write(batch, next_index).await?;
        Ok(true)
    }

    async fn write(&self, batch: Batch, next_index: u64) -> Result<(), String> {
        let ticket = self.journal.submit(batch).await.map_err(|error| error.to_string())?;
        ticket.await.map_err(|error| error.to_string())?;
        self.committed.store(next_index, Ordering::Release);
        Ok(())
    }

    /// Gives the sink these letters with its next pull. Letters of a source with the same name have no entry to give.
    pub(crate) fn replay(&self, letters: impl IntoIterator<Item = DeadLetter>) {
        {
            let mut replays = self.replays();
            for letter in letters.into_iter().filter(|letter| letter.entry().is_some()) {
                if replays.iter().all(|waiting| waiting.number != letter.number) {
                    replays.push(letter);
                }
            }
            replays.sort_by_key(|letter| letter.index);
        }
        self.replay_added.notify_one();
    }

    fn replays(&self) -> MutexGuard<'_, Vec<DeadLetter>> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Letters that a sink was given, until all of them are committed. Their indices lie anywhere, so meanwhile it is given
/// nothing else, and what it commits is about them.
struct Replaying {
    letters: Vec<DeadLetter>,
    /// The highest index among them.
    last: u64,
    /// Where the reader stood: everything before was given earlier, and a sink takes things in order.
    position: u64,
}

/// A sink that keeps up is not woken for every group of the journal, of which there may be hundreds a second, but after
/// so long for all of them together.
const BREATH: Duration = Duration::from_millis(10);

/// What [`actlog_core::SinkContext`] pulls from.
pub(crate) struct JournalPull {
    cursor: Arc<SinkCursor>,
    reader: Reader,
    dead_letters: Arc<Mutex<DeadLetters>>,
    clock: Arc<dyn Clock>,
    replaying: Option<Replaying>,
    /// The first entry behind those that the sink was given, letters aside.
    given: u64,
    /// When the last entries were given to a sink that had then received all there were.
    kept_up: Option<Instant>,
    delivered: Counter,
    rejected: Counter,
    lag: Gauge,
}

impl JournalPull {
    /// Begins at the committed cursor.
    pub(crate) fn new(
        cursor: Arc<SinkCursor>,
        dead_letters: Arc<Mutex<DeadLetters>>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            reader: cursor.journal.reader(cursor.committed()),
            given: cursor.committed(),
            delivered: metrics.counter("actlog_sink_entries_committed", "Entries that the sink is done with", &[]),
            rejected: metrics.counter("actlog_sink_records_rejected", "Records put to the dead letters", &[]),
            lag: metrics.gauge("actlog_sink_lag_entries", "Durable entries that the sink is not done with", &[]),
            cursor,
            dead_letters,
            clock,
            replaying: None,
            kept_up: None,
        }
    }

    /// Whether letters wait until the sink has committed what it was given before. A commit says an index, and no more:
    /// of a sink that commits later than it pulls, nobody could tell whether a letter's index or an earlier one is meant.
    fn is_replay_ahead(&self) -> bool {
        self.cursor.committed() < self.given && !self.cursor.replays().is_empty()
    }

    /// Letters that are to be given now, one entry each even where an entry was refused twice.
    fn take_replays(&mut self) -> Vec<Entry> {
        if self.is_replay_ahead() {
            return Vec::new();
        }
        let letters = self.cursor.replays().clone();
        let mut entries: Vec<_> = letters.iter().filter_map(DeadLetter::entry).collect();
        entries.dedup_by_key(|entry| entry.index);
        if let Some(last) = entries.last() {
            self.replaying = Some(Replaying { last: last.index, position: self.reader.position(), letters });
        }
        entries
    }

    /// Marks the letters before an index.
    async fn mark_replayed(&mut self, next_index: u64) -> Result<(), SinkError> {
        let Some(replaying) = &mut self.replaying else { return Ok(()) };
        let is_done = |letter: &DeadLetter| letter.index.is_none_or(|index| index < next_index);
        let (done, left) = std::mem::take(&mut replaying.letters).into_iter().partition(is_done);
        replaying.letters = left;
        let done: Vec<DeadLetter> = done;
        if replaying.letters.is_empty() {
            self.replaying = None;
        }
        for letter in done {
            let number = letter.number;
            self.with_letters(move |letters| letters.mark_replayed(&letter.component, number)).await?;
            self.cursor.replays().retain(|waiting| waiting.number != number);
        }
        Ok(())
    }

    /// States that the sink will never receive some entries. Released ones have been stated by whoever released them.
    async fn state_missing(&self, indices: std::ops::Range<u64>, reason: Missing) -> Result<(), SinkError> {
        if reason == Missing::Released {
            return Ok(());
        }
        let sink = &self.cursor.name;
        let detail = format!(
            "entries {} to {} are damaged; the sink {sink} has not received them",
            indices.start,
            indices.end - 1
        );
        warn!(sink, detail, "the journal is damaged");
        let now = self.clock.now();
        let statement = crate::statements::gap(now, now, Some(now), "journal-damage", Some(detail));
        let batch = crate::statements::batch(&statement).map_err(SinkError::Journal)?;
        crate::statements::write(&self.cursor.journal, batch).await.map_err(SinkError::Journal)
    }

    /// What a letter about an entry does to the disk, on a thread that may block.
    async fn with_letters(
        &self,
        work: impl FnOnce(&mut DeadLetters) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), SinkError> {
        let dead_letters = Arc::clone(&self.dead_letters);
        let done =
            tokio::task::spawn_blocking(move || work(&mut dead_letters.lock().unwrap_or_else(PoisonError::into_inner)));
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SinkError::Journal(format!("dead letters: {error}"))),
            Err(error) => Err(SinkError::Journal(format!("dead letters: {error}"))),
        }
    }
}

#[async_trait]
impl Pull for JournalPull {
    async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Entry>, SinkError> {
        if self.replaying.is_some() || self.is_replay_ahead() {
            tokio::time::sleep(wait).await;
            return Ok(Vec::new());
        }
        let replays = self.take_replays();
        if !replays.is_empty() {
            return Ok(replays);
        }
        // The cursor may have been moved on past entries that this sink was too slow for.
        if self.reader.position() < self.cursor.committed() {
            self.reader = self.cursor.journal.reader(self.cursor.committed());
        }
        let cursor = Arc::clone(&self.cursor);
        let not_before = self.kept_up.map(|given| given + BREATH);
        let reader = &mut self.reader;
        let next = async {
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            reader.next(max_bytes).await
        };
        let read = tokio::select! {
            read = timeout(wait, next) => read,
            () = cursor.replay_added.notified() => return Ok(self.take_replays()),
        };
        match read {
            Err(_) => Ok(Vec::new()),
            Ok(Err(error)) => Err(SinkError::Journal(error.to_string())),
            Ok(Ok(ReadItem::Entries(entries))) => {
                let has_all = self.reader.position() >= self.cursor.journal.durable();
                self.kept_up = has_all.then(Instant::now);
                self.given = entries.last().map_or(self.given, |last| last.index + 1);
                Ok(entries)
            }
            Ok(Ok(ReadItem::Missing { indices, reason })) => {
                self.state_missing(indices, reason).await?;
                Ok(Vec::new())
            }
        }
    }

    async fn commit(&mut self, next_index: u64, state: Vec<u8>) -> Result<(), SinkError> {
        let before = self.cursor.committed();
        let replayed = self.replaying.as_ref().filter(|replaying| next_index <= replaying.last + 1);
        let (is_replay, position) = replayed.map_or((false, next_index), |replaying| (true, replaying.position));
        self.cursor.store(position, &state).await.map_err(SinkError::Journal)?;
        self.delivered.inc_by(self.cursor.committed() - before);
        let waiting = self.cursor.journal.durable().saturating_sub(self.cursor.committed());
        self.lag.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if is_replay { self.mark_replayed(next_index).await } else { Ok(()) }
    }

    async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        if entry.kind != EntryKind::Record {
            return Ok(());
        }
        let (component, reason, now) = (self.cursor.name.clone(), reason.to_owned(), self.clock.now());
        let entry = entry.clone();
        self.with_letters(move |letters| letters.put_entry(&component, &entry, &reason, now)).await?;
        self.rejected.inc();
        Ok(())
    }
}
