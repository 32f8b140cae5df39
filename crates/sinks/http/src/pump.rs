//! What runs between the journal and the deliveries: gathers pieces into batches, lets several of them be delivered at
//! once, and commits in the journal's order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{Entry, SinkContext, SinkError};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::delivery::{Delivery, Fatal, Refused, length};
use crate::encode::{Encoder, Piece};

/// About how many bytes of entries are pulled at once.
const PULL_BYTES: usize = 1 << 20;
/// How long to wait for entries when nothing else is to be done.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait for entries while batches are on their way; what became of them is looked at after that.
const BUSY: Duration = Duration::from_millis(50);
/// What batches on their way may still take after shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// How much makes a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// Everything between the journal and the deliveries. Besides what was pulled last, it holds as many batches as may be
/// on their way.
pub(crate) struct Pump {
    encoder: Arc<Encoder>,
    delivery: Arc<Delivery>,
    limits: Limits,
    concurrency: usize,
    gathering: Option<Gathering>,
    ready: VecDeque<Vec<Piece>>,
    /// In the journal's order, as they were begun.
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// Ends its tasks when it is dropped.
    tasks: JoinSet<(u64, Result<Refused, Fatal>)>,
    /// The index behind the last entry that was pulled.
    pulled_to: Option<u64>,
    committed: u64,
    /// Entries behind the cursor that are with the dead letters; of a divided record several parts may be refused.
    dead: BTreeSet<u64>,
    /// Whether dead letters are being tried again. Their indices lie before those of what was pulled earlier, so nothing
    /// is pulled or committed until all of it is done with.
    is_replay: bool,
}

/// A batch that waits for more.
struct Gathering {
    pieces: Vec<Piece>,
    bytes: usize,
    due: Instant,
}

/// A batch on its way.
struct Flight {
    number: u64,
    /// Index of its first entry.
    first: u64,
    is_done: bool,
}

impl Pump {
    pub(crate) fn new(encoder: Encoder, delivery: Delivery, limits: Limits, concurrency: usize) -> Self {
        Self {
            encoder: Arc::new(encoder),
            delivery: Arc::new(delivery),
            limits,
            concurrency,
            gathering: None,
            ready: VecDeque::new(),
            flights: VecDeque::new(),
            next_flight: 0,
            tasks: JoinSet::new(),
            pulled_to: None,
            committed: 0,
            dead: BTreeSet::new(),
            is_replay: false,
        }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let shutdown = cx.shutdown.clone();
        while !shutdown.is_cancelled() {
            while let Some(joined) = self.tasks.try_join_next() {
                self.settle(joined, cx).await?;
            }
            self.launch();
            self.commit(cx).await?;
            if !self.ready.is_empty() || self.is_replay {
                tokio::select! {
                    joined = self.tasks.join_next() => {
                        if let Some(joined) = joined {
                            self.settle(joined, cx).await?;
                        }
                    }
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
            let entries = cx.next(PULL_BYTES.min(self.limits.bytes), self.wait()).await?;
            self.take(entries, cx).await?;
        }
        self.finish(cx).await
    }

    /// Lets batches on their way come to their end, if that is near; everything else stays in the journal.
    async fn finish(mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let deadline = Instant::now() + GRACE;
        while !self.delivery.circuit.is_open()
            && let Ok(Some(joined)) = timeout_at(deadline, self.tasks.join_next()).await
        {
            match joined {
                Ok((_, Err(Fatal(reason)))) => tracing::warn!("at shutdown: {reason}"),
                joined => self.settle(joined, cx).await?,
            }
        }
        self.commit(cx).await
    }

    /// How long to wait for entries.
    fn wait(&self) -> Duration {
        let longest = if self.tasks.is_empty() { IDLE } else { BUSY };
        let due = self.gathering.as_ref().map(|gathering| gathering.due);
        due.map_or(longest, |due| due.saturating_duration_since(Instant::now()).min(longest))
    }

    async fn take(&mut self, entries: Vec<Entry>, cx: &mut SinkContext) -> Result<(), SinkError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        match self.pulled_to {
            None => self.committed = first.index,
            Some(pulled_to) if first.index < pulled_to => {
                self.is_replay = true;
                self.close_batch();
            }
            Some(_) => {}
        }
        self.pulled_to = Some(last.index + 1);
        let encoder = Arc::clone(&self.encoder);
        let encoded = tokio::task::spawn_blocking(move || encoder.encode(entries)).await.map_err(ended)?;
        for (entry, reason) in encoded.refused {
            self.reject(&entry, &reason, cx).await?;
        }
        for piece in encoded.pieces {
            self.gather(piece);
        }
        if self.is_replay {
            self.close_batch();
        }
        Ok(())
    }

    fn gather(&mut self, piece: Piece) {
        let frame = self.delivery.format.frame();
        let (empty, more) = (length(frame, &[]), piece.bytes.len() + frame.between.len());
        if self.gathering.as_ref().is_some_and(|gathering| gathering.bytes + more > self.limits.bytes) {
            self.close_batch();
        }
        let gathering = self.gathering.get_or_insert_with(|| Gathering {
            pieces: Vec::new(),
            bytes: empty,
            due: Instant::now() + self.limits.age,
        });
        gathering.bytes += more;
        gathering.pieces.push(piece);
        if gathering.pieces.len() >= self.limits.count {
            self.close_batch();
        }
    }

    fn close_batch(&mut self) {
        self.ready.extend(self.gathering.take().map(|gathering| gathering.pieces));
    }

    /// Lets as many batches be delivered as may be on their way at once.
    fn launch(&mut self) {
        if self.gathering.as_ref().is_some_and(|gathering| gathering.due <= Instant::now()) {
            self.close_batch();
        }
        while self.tasks.len() < self.concurrency
            && let Some(pieces) = self.ready.pop_front()
        {
            let number = self.next_flight;
            self.next_flight += 1;
            let first = pieces.first().map_or(0, |piece| piece.entry.index);
            self.flights.push_back(Flight { number, first, is_done: false });
            let delivery = Arc::clone(&self.delivery);
            self.tasks.spawn(async move { (number, delivery.deliver(pieces).await) });
        }
    }

    async fn settle(
        &mut self,
        joined: Result<(u64, Result<Refused, Fatal>), JoinError>,
        cx: &mut SinkContext,
    ) -> Result<(), SinkError> {
        let (number, outcome) = joined.map_err(ended)?;
        let refused = match outcome {
            Ok(refused) => refused,
            Err(Fatal(reason)) => {
                // What others have delivered need not be delivered again.
                self.commit(cx).await?;
                return Err(SinkError::Other(reason));
            }
        };
        for (entry, reason) in refused {
            self.reject(&entry, &reason, cx).await?;
        }
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) {
            flight.is_done = true;
        }
        Ok(())
    }

    async fn reject(&mut self, entry: &Entry, reason: &str, cx: &mut SinkContext) -> Result<(), SinkError> {
        if !self.dead.contains(&entry.index) {
            cx.reject(entry, reason).await?;
            self.dead.insert(entry.index);
        }
        Ok(())
    }

    /// Commits up to the first entry that is not done with.
    async fn commit(&mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let Some(pulled_to) = self.pulled_to else { return Ok(()) };
        while self.flights.front().is_some_and(|flight| flight.is_done) {
            self.flights.pop_front();
        }
        let waiting = self.ready.front().or(self.gathering.as_ref().map(|gathering| &gathering.pieces));
        let waiting = waiting.and_then(|pieces| pieces.first()).map(|piece| piece.entry.index);
        let open = self.flights.front().map(|flight| flight.first).or(waiting);
        if self.is_replay {
            if open.is_some() {
                return Ok(());
            }
            self.is_replay = false;
        } else if open.unwrap_or(pulled_to) <= self.committed {
            return Ok(());
        }
        let done_to = open.unwrap_or(pulled_to);
        cx.commit(done_to, Vec::new()).await?;
        self.committed = done_to;
        self.dead = self.dead.split_off(&done_to);
        Ok(())
    }
}

fn ended(error: JoinError) -> SinkError {
    SinkError::Other(format!("a delivery ended early: {error}"))
}
