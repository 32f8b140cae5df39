//! Reading files through: chunks are read on one thread, mapped on several, and handed over in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Clock, Committed, Counter, EmitError, Emitter, Health, Receipt, RejectedInput, SourceContext,
    SourceError, Status,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::csv::rows;
use crate::cutter::{Settings, too_long};
use crate::divide::{Elements, Rejected, divide_line, lines};
use crate::inputs::Input;
use crate::mapping::{Mapped, map};
use crate::position::{MAXIMUM_FILES, Position};
use crate::reader::{Chunk, read_all};
use crate::{Arrival, Format, RECEIVED, REJECTED};

/// Chunks that are read ahead of mapping.
const READ_AHEAD: usize = 2;
/// Batches that wait for their receipts.
const IN_FLIGHT: usize = 8;
/// Shortest and longest wait before a full journal is tried again.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What is to be read, and how.
#[derive(Debug)]
pub(crate) struct Files<F> {
    pub(crate) format: Arc<F>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A chunk and what mapping made of it.
struct MappedChunk {
    chunk: Arc<Chunk>,
    mapped: Result<Mapped, EmitError>,
}

impl<F: Format> Files<F> {
    /// Reads all inputs to their end, or until `cx.shutdown` fires; then waits for what is in flight.
    pub(crate) async fn run(self, cx: SourceContext) -> Result<(), SourceError> {
        let position = start_position(&self.inputs, cx.position.as_deref())?;
        let progress = Progress::new(&self.inputs);
        let (sender, mut chunks) = mpsc::channel(READ_AHEAD);
        let (inputs, settings, count) = (self.inputs, self.settings, Arc::clone(&progress.count));
        // A thread of its own, and not the runtime's: reading standard input can't be interrupted, and must not keep the
        // process from ending. It ends by itself when `chunks` is dropped.
        let reader = move || read_all(&inputs, position, settings, &sender, &count);
        std::thread::Builder::new()
            .name("file-reader".to_owned())
            .spawn(reader)
            .map_err(|error| SourceError::Other(format!("the thread that reads files can't be started: {error}")))?;
        let line = Line {
            mapper: Arc::new(Mapper { format: self.format, emitter: cx.emitter, settings, clock: self.clock }),
            received: cx.metrics.counter(RECEIVED.0, RECEIVED.1, &[]),
            rejected: cx.metrics.counter(REJECTED.0, REJECTED.1, &[]),
            health: cx.health,
            shutdown: cx.shutdown,
        };
        let result = line.run(&mut chunks, &progress).await;
        progress.bar.finish_and_clear();
        result
    }
}

/// Where reading goes on, from what is stored of the last run.
fn start_position(inputs: &[Input], encoded: Option<&[u8]>) -> Result<Position, SourceError> {
    if inputs.len() > MAXIMUM_FILES {
        let message = format!("{} files are more than the {MAXIMUM_FILES} of one source", inputs.len());
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
    position.keep_only(inputs.iter().filter_map(|input| match input {
        Input::File(path, _) => Some(&**path),
        Input::Stdin => None,
    }));
    Ok(position)
}

/// What maps chunks, on blocking threads.
struct Mapper<F> {
    format: Arc<F>,
    emitter: Emitter,
    settings: Settings,
    clock: Arc<dyn Clock>,
}

impl<F: Format> Mapper<F> {
    fn map(&self, chunk: &Chunk) -> Result<Mapped, EmitError> {
        let elements = match &chunk.header {
            None => self.divide_lines(chunk),
            Some(header) => rows(&chunk.data, 0, chunk.lines_before, self.settings.max_line, header),
        };
        let envelope = self.format.envelope(Arrival { received: self.clock.now(), head: None, is_batch: true });
        let accept = |_: &AuditRecord<'_>| Ok(());
        match map(&*self.format, &elements, &envelope, &self.emitter, chunk.position.clone(), accept) {
            // Records can be larger than the lines that they come from. It would be so the next time as well.
            Err(error @ EmitError::TooLarge { .. }) => {
                let refuse = |_: &AuditRecord<'_>| Err(error.to_string());
                map(&*self.format, &elements, &envelope, &self.emitter, chunk.position.clone(), refuse)
            }
            other => other,
        }
    }

    fn divide_lines<'a>(&self, chunk: &'a Chunk) -> Elements<'a> {
        let mut elements = Elements { is_batch: true, ..Elements::default() };
        elements.list.reserve_exact(chunk.data.len() / 2048);
        for (line, text) in lines(&chunk.data) {
            let line = chunk.lines_before + line;
            match text.len() > self.settings.max_line {
                false => divide_line(&mut elements, &chunk.data, line, text),
                true => {
                    let reason = too_long(text.len() as u64, self.settings.max_line);
                    elements.refused.push(Rejected { line, reason, place: 0..0 });
                }
            }
        }
        elements
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
struct Line<F> {
    mapper: Arc<Mapper<F>>,
    received: Counter,
    rejected: Counter,
    health: Health,
    shutdown: CancellationToken,
}

impl<F: Format> Line<F> {
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
                // First: a batch that was given up because of it must not be overtaken by those behind it.
                biased;
                () = self.shutdown.cancelled() => break,
                receipt = front(&mut in_flight), if !in_flight.is_empty() => {
                    in_flight.pop_front();
                    outcome = receipt.map(|_: Committed| ()).map_err(SourceError::from);
                }
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

    /// Stores what can't be taken with the dead letters, and then hands the batch and its position over. While the journal
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
                biased;
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
    use super::*;

    #[test]
    fn a_position_of_another_version_is_refused_and_not_ignored() {
        assert!(start_position(&[], None).is_ok());
        assert!(start_position(&[], Some(&Position::default().encode())).is_ok());
        let error = start_position(&[], Some(&[99])).unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }
}
