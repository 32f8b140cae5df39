//! Reading files through: chunks are read on one thread, mapped on several, and handed over in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Clock, Committed, Counter, EmitError, Emitter, Health, Receipt, RejectedInput, SourceContext,
    SourceError, Status,
};
use actlog_dataverse::{Envelope, MappingOptions};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::contexts::{Mapped, Rejected, lines, map};
use crate::position::{MAXIMUM_FILES, Position};
use crate::reader::{Chunk, Input, Settings, read_all, too_long};

/// Largest batch, and longest line: either must fit, with what mapping adds, into one frame of the journal.
pub(crate) const MAXIMUM_BATCH: u64 = 16 << 20;
/// Chunks that are read ahead of mapping.
const READ_AHEAD: usize = 2;
/// Batches that wait for their receipts.
const IN_FLIGHT: usize = 8;
/// Shortest and longest wait before a full journal is tried again.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What is to be read, and how.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) inputs: Vec<Input>,
    pub(crate) settings: Settings,
    pub(crate) options: MappingOptions,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A chunk and what mapping made of it.
struct MappedChunk {
    chunk: Arc<Chunk>,
    mapped: Result<Mapped, EmitError>,
}

impl Files {
    /// Reads all inputs to their end, or until `cx.shutdown` fires; then waits for what is in flight.
    pub(crate) async fn run(self, cx: SourceContext) -> Result<(), SourceError> {
        let position = self.start_position(cx.position.as_deref())?;
        let progress = Progress::new(&self.inputs);
        let (sender, mut chunks) = mpsc::channel(READ_AHEAD);
        let (inputs, settings, count) = (self.inputs, self.settings, Arc::clone(&progress.count));
        // A thread of its own, and not the runtime's: reading standard input can't be interrupted, and must not keep the
        // process from ending. It ends by itself when `chunks` is dropped.
        let reader = move || read_all(&inputs, position, settings, &sender, &count);
        std::thread::Builder::new()
            .name("crm-reader".to_owned())
            .spawn(reader)
            .map_err(|error| SourceError::Other(format!("the thread that reads files can't be started: {error}")))?;
        let line = Line {
            mapper: Arc::new(Mapper { emitter: cx.emitter, settings, options: self.options, clock: self.clock }),
            received: cx.metrics.counter("actlog_source_received", "Contexts that came in", &[]),
            rejected: cx.metrics.counter("actlog_source_rejected", "Input that is no context", &[]),
            health: cx.health,
            shutdown: cx.shutdown,
        };
        let result = line.run(&mut chunks, &progress).await;
        progress.bar.finish_and_clear();
        result
    }

    fn start_position(&self, encoded: Option<&[u8]>) -> Result<Position, SourceError> {
        if self.inputs.len() > MAXIMUM_FILES {
            let message = format!("{} files are more than the {MAXIMUM_FILES} of one source", self.inputs.len());
            return Err(SourceError::Other(message));
        }
        let mut position = match encoded.map(Position::decode) {
            None => Position::default(),
            Some(Some(position)) => position,
            Some(None) => {
                let message = "the position of the last run is of another version of actlog; use that version, or give \
                               the source another name to read everything anew";
                return Err(SourceError::Other(message.to_owned()));
            }
        };
        position.keep_only(self.inputs.iter().filter_map(|input| match input {
            Input::File(path, _) => Some(&**path),
            Input::Stdin => None,
        }));
        Ok(position)
    }
}

/// What maps chunks, on blocking threads.
struct Mapper {
    emitter: Emitter,
    settings: Settings,
    options: MappingOptions,
    clock: Arc<dyn Clock>,
}

impl Mapper {
    fn map(&self, chunk: &Chunk) -> Result<Mapped, EmitError> {
        let mut contexts = Vec::with_capacity(chunk.data.len() / 2048);
        let mut overlong = Vec::new();
        for (line, context) in lines(&chunk.data) {
            match context.len() > self.settings.max_line {
                false => contexts.push((chunk.lines_before + line, context)),
                true => overlong.push((chunk.lines_before + line, context.len())),
            }
        }
        let envelope = Envelope::new(self.clock.now());
        let accept = |_: &AuditRecord<'_>| Ok(());
        let position = chunk.position.clone();
        let mut mapped = match map(&chunk.data, &contexts, &envelope, &self.options, &self.emitter, position, accept) {
            // Records can be larger than the lines that they come from. It would be so the next time as well.
            Err(error @ EmitError::TooLarge { .. }) => {
                let refuse = |_: &AuditRecord<'_>| Err(error.to_string());
                let position = chunk.position.clone();
                map(&chunk.data, &contexts, &envelope, &self.options, &self.emitter, position, refuse)?
            }
            other => other?,
        };
        for (line, length) in overlong {
            let reason = too_long(length as u64, self.settings.max_line);
            mapped.rejected.push(Rejected { line, reason, place: 0..0 });
        }
        Ok(mapped)
    }

    fn start(self: &Arc<Self>, chunk: Arc<Chunk>) -> JoinHandle<MappedChunk> {
        let mapper = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mapped = mapper.map(&chunk);
            MappedChunk { chunk, mapped }
        })
    }
}

/// The way of the chunks: read, mapping, in flight. Each stage is bounded and keeps the order, so that positions become
/// durable in the order of the files.
struct Line {
    mapper: Arc<Mapper>,
    received: Counter,
    rejected: Counter,
    health: Health,
    shutdown: CancellationToken,
}

impl Line {
    async fn run(
        &self,
        chunks: &mut mpsc::Receiver<Result<Chunk, SourceError>>,
        progress: &Progress,
    ) -> Result<(), SourceError> {
        let mapping_most = std::thread::available_parallelism().map_or(1, usize::from);
        let mut mapping: VecDeque<JoinHandle<MappedChunk>> = VecDeque::new();
        let mut in_flight: VecDeque<Receipt> = VecDeque::new();
        let mut outcome = Ok(());
        let mut is_read = false;
        while outcome.is_ok() && !(is_read && mapping.is_empty()) {
            progress.show();
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                chunk = chunks.recv(), if !is_read && mapping.len() < mapping_most => match chunk {
                    None => is_read = true,
                    Some(Ok(chunk)) => mapping.push_back(self.mapper.start(Arc::new(chunk))),
                    // What was read before it is safe first.
                    Some(Err(error)) => {
                        is_read = true;
                        outcome = self.hand_over_all(&mut mapping, &mut in_flight).await.and(Err(error));
                    }
                },
                mapped = front(&mut mapping), if !mapping.is_empty() && in_flight.len() < IN_FLIGHT => {
                    mapping.pop_front();
                    outcome = self.hand_over(mapped, &mut in_flight).await;
                }
                receipt = front(&mut in_flight), if !in_flight.is_empty() => {
                    in_flight.pop_front();
                    outcome = receipt.map(|_: Committed| ()).map_err(SourceError::from);
                }
            }
        }
        chunks.close();
        // What isn't handed over yet is read again by the next run; but its threads must not outlive this one.
        for task in mapping {
            let _ = task.await;
        }
        for receipt in in_flight {
            let durable = receipt.await.map(|_| ()).map_err(SourceError::from);
            outcome = outcome.and(durable);
        }
        outcome
    }

    async fn hand_over_all(
        &self,
        mapping: &mut VecDeque<JoinHandle<MappedChunk>>,
        in_flight: &mut VecDeque<Receipt>,
    ) -> Result<(), SourceError> {
        while let Some(task) = mapping.pop_front() {
            self.hand_over(task.await, in_flight).await?;
        }
        Ok(())
    }

    /// Stores what is no context with the dead letters, and then hands the batch and its position over. While the journal
    /// is full, it tries again; what it gives up at shutdown is read again by the next run.
    async fn hand_over(
        &self,
        mapped: Result<MappedChunk, JoinError>,
        in_flight: &mut VecDeque<Receipt>,
    ) -> Result<(), SourceError> {
        let mut mapped = mapped.map_err(mapping_failed)?;
        let (mut are_letters_stored, mut has_waited) = (false, false);
        loop {
            let MappedChunk { chunk, mapped: result } = mapped;
            let attempt = async {
                let batch = result?;
                if !are_letters_stored {
                    self.reject(&chunk, &batch.rejected).await?;
                    are_letters_stored = true;
                    self.received.inc_by((batch.accepted + batch.rejected.len()) as u64);
                }
                self.mapper.emitter.submit(batch.prepared).await
            };
            let attempt = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                attempt = attempt => attempt,
            };
            match attempt {
                Ok(receipt) => {
                    if has_waited {
                        self.health.set(Status::Ok);
                    }
                    in_flight.push_back(receipt);
                    return Ok(());
                }
                Err(full @ EmitError::Full { retry_after, .. }) => {
                    self.health.set(Status::Degraded { reason: full.to_string() });
                    has_waited = true;
                    tokio::select! {
                        () = self.shutdown.cancelled() => return Ok(()),
                        () = tokio::time::sleep(retry_after.clamp(SHORTEST_RETRY, LONGEST_RETRY)) => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // Submitting has used the batch up.
            mapped = self.mapper.start(chunk).await.map_err(mapping_failed)?;
        }
    }

    async fn reject(&self, chunk: &Chunk, rejected: &[Rejected]) -> Result<(), EmitError> {
        let letters = rejected.iter().map(|one| (one.line, one.reason.as_str(), &chunk.data[one.place.clone()]));
        let trouble = chunk.trouble.iter().map(|one| (one.line, one.reason.as_str(), one.sample.as_slice()));
        for (line, reason, bytes) in letters.chain(trouble) {
            let place = format!("{} line {line}", chunk.name);
            tracing::warn!(%place, reason, "input goes to the dead letters");
            let input = RejectedInput { place, reason: reason.to_owned(), organization: None, bytes };
            self.mapper.emitter.reject(input).await?;
            self.rejected.inc();
        }
        Ok(())
    }
}

fn mapping_failed(error: JoinError) -> SourceError {
    SourceError::Other(format!("mapping a chunk of lines failed: {error}"))
}

/// The first of a queue of futures. The queue must not be empty.
async fn front<F: Future + Unpin>(queue: &mut VecDeque<F>) -> F::Output {
    match queue.front_mut() {
        Some(first) => first.await,
        None => std::future::pending().await,
    }
}

/// A bar on the terminal; where standard error is none, nothing is shown.
struct Progress {
    bar: ProgressBar,
    /// Bytes read so far, as they are stored.
    count: Arc<AtomicU64>,
}

impl Progress {
    fn new(inputs: &[Input]) -> Self {
        let lengths: Option<u64> = inputs
            .iter()
            .map(|input| match input {
                Input::File(_, length) => Some(*length),
                Input::Stdin => None,
            })
            .sum();
        let bar = ProgressBar::with_draw_target(lengths, ProgressDrawTarget::stderr());
        let template = match lengths {
            Some(_) => "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        // A template that can't be read would merely look different.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, count: Arc::default() }
    }

    fn show(&self) {
        self.bar.set_position(self.count.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::SystemClock;

    use super::*;

    #[test]
    fn a_position_of_another_version_is_refused_and_not_ignored() {
        let settings = Settings { batch_size: 1, max_line: 1 };
        let options = MappingOptions::default();
        let files = Files { inputs: Vec::new(), settings, options, clock: Arc::new(SystemClock) };
        assert!(files.start_position(None).is_ok());
        assert!(files.start_position(Some(&Position::default().encode())).is_ok());
        let error = files.start_position(Some(&[99])).unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }
}
