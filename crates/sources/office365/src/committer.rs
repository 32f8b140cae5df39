//! Takes in order what the feeds hand over, and makes it durable together with the position.
//!
//! There is one committer, so that positions are emitted in their order. It does in turn what must be in turn: the index
//! is written and synced, dead letters are stored, and only then is the batch handed over whose position vouches for
//! both.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{Clock, EmitError, Gap, Prepared, Receipt, SourceError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Maker, Queue, encode};
use crate::feed::{Delivery, Reach, Shared};
use crate::figures::Problems;
use crate::position::Reached;
use crate::seen::{Key, Manifest, RECENT, Seen, day};

/// Batches whose receipts are open, at most.
const IN_FLIGHT: usize = 8;
/// A position without records waits so long for some.
const POSITION_EVERY: Duration = Duration::from_secs(30);
/// For how many days what was seen is remembered, before the present one.
const REMEMBERED: u32 = 8;
/// How long to wait at least, and at most, before the journal is tried again.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Where problems of the journal are listed.
const JOURNAL: &str = "journal";

/// How something ended that a shutdown may cut short.
enum Flow {
    On,
    Stop,
}

/// The one that takes in what the feeds hand over.
pub(crate) struct Committer {
    maker: Arc<Maker>,
    shared: Arc<Shared>,
    reached: Reached,
    shutdown: CancellationToken,
    clock: Arc<dyn Clock>,
    in_flight: VecDeque<Receipt>,
    /// Since when the position has been ahead of the one that was handed over.
    ahead_since: Option<Instant>,
    /// The day on which the index was last folded, and the keys that it has got since, about.
    folded: u32,
    recent: usize,
}

impl Committer {
    pub(crate) fn new(
        maker: Maker,
        shared: Arc<Shared>,
        reached: Reached,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Self {
        let folded = newest(&reached);
        let (maker, in_flight) = (Arc::new(maker), VecDeque::new());
        Self { maker, shared, reached, shutdown, clock, in_flight, ahead_since: None, folded, recent: 0 }
    }

    /// Runs until shutdown, or until nobody hands over anything. Everything that was handed over to the journal is
    /// durable when it returns well. `committed` is what the durable position names of the index.
    ///
    /// # Errors
    /// When journal or index fail.
    pub(crate) async fn run(
        mut self,
        committed: &Manifest,
        deliveries: &mut mpsc::Receiver<Delivery>,
    ) -> Result<(), SourceError> {
        let mut outcome = match self.settle(committed).await {
            Ok(Flow::On) => self.take_all(deliveries).await,
            Ok(Flow::Stop) => Ok(()),
            Err(error) => Err(error),
        };
        deliveries.close();
        while let Some(receipt) = self.in_flight.pop_front() {
            let durable = receipt.await.map(|_| ()).map_err(SourceError::from);
            outcome = outcome.and(durable);
        }
        outcome
    }

    async fn take_all(&mut self, deliveries: &mut mpsc::Receiver<Delivery>) -> Result<(), SourceError> {
        let mut queue = Queue::default();
        let mut held = None;
        loop {
            let delivery = match held.take() {
                Some(delivery) => Some(delivery),
                None => {
                    let position_is_due = self.ahead_since.map(|since| since + POSITION_EVERY);
                    tokio::select! {
                        () = self.shutdown.cancelled() => return Ok(()),
                        receipt = first(&mut self.in_flight), if !self.in_flight.is_empty() => {
                            self.in_flight.pop_front();
                            receipt?;
                            continue;
                        }
                        delivery = deliveries.recv() => delivery,
                        () = sleep_until(position_is_due) => None,
                    }
                }
            };
            let flow = match delivery {
                Some(Delivery::Blob(blob)) => {
                    queue.push(blob);
                    // What waits behind it shares its batch.
                    while held.is_none() && queue.bytes() < self.maker.batch_size {
                        match deliveries.try_recv() {
                            Ok(Delivery::Blob(blob)) => queue.push(blob),
                            Ok(other) => held = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.commit_all(&mut queue).await?
                }
                Some(Delivery::Lost { gap, content, day }) => self.lose(gap, content, day).await?,
                Some(Delivery::Missed { gap, reached }) => {
                    self.reach(reached);
                    self.state(gap).await?
                }
                Some(Delivery::Listed { reached, taken }) => {
                    if let Some(reached) = reached {
                        self.reach(reached);
                    }
                    // A feed that is gone has nothing to wait for.
                    let _ = taken.send(());
                    Flow::On
                }
                None if self.ahead_since.is_some() => self.commit_position(None).await?,
                None => return Ok(()),
            };
            if matches!(flow, Flow::Stop) || matches!(self.fold_if_due().await?, Flow::Stop) {
                return Ok(());
            }
        }
    }

    fn reach(&mut self, reach: Reach) {
        let of_tenant = self.reached.entry(reach.tenant).or_default();
        let until = of_tenant.entry(reach.content_type.to_owned()).or_insert(reach.until);
        *until = reach.until.max(*until);
        self.ahead_since.get_or_insert_with(Instant::now);
    }

    /// Makes everything in the queue durable, batch by batch.
    async fn commit_all(&mut self, queue: &mut Queue) -> Result<Flow, SourceError> {
        while !queue.is_empty() {
            if let Flow::Stop = self.wait_for_room().await? {
                return Ok(Flow::Stop);
            }
            let (maker, shared) = (Arc::clone(&self.maker), Arc::clone(&self.shared));
            let (mut taken, reached, received) = (std::mem::take(queue), self.reached.clone(), self.clock.now());
            let made = blocking(move || {
                let mut seen = lock(&shared);
                let made = maker.make(&mut taken, &mut seen, &reached, received, &shared.figures)?;
                Ok((taken, made, seen.recent()))
            });
            let (rest, (batch, prepared), recent) = made.await?;
            (*queue, self.recent) = (rest, recent);
            if let Flow::Stop = self.hand_over(batch, prepared).await? {
                return Ok(Flow::Stop);
            }
            if let Flow::Stop = self.fold_if_due().await? {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::On)
    }

    /// Waits until there are few open receipts and no pressure.
    async fn wait_for_room(&mut self) -> Result<Flow, SourceError> {
        while self.in_flight.len() >= IN_FLIGHT
            && let Some(receipt) = self.in_flight.pop_front()
        {
            receipt.await?;
        }
        loop {
            let pressure = std::future::ready(self.maker.emitter.pressure().map_or(Ok(()), Err));
            match attempt(&self.shared.problems, &self.shutdown, pressure).await? {
                Attempt::Done(()) => return Ok(Flow::On),
                Attempt::Again => {}
                Attempt::Stop => return Ok(Flow::Stop),
            }
        }
    }

    /// Stores what is no record with the dead letters, and then hands over the batch.
    async fn hand_over(&mut self, batch: Batch, prepared: Result<Prepared, EmitError>) -> Result<Flow, SourceError> {
        let (problems, shutdown) = (&self.shared.problems, &self.shutdown);
        for input in batch.rejected() {
            tracing::warn!(place = input.place, reason = input.reason, "input goes to the dead letters");
            loop {
                match attempt(problems, shutdown, self.maker.emitter.reject(input.clone())).await? {
                    Attempt::Done(()) => break,
                    Attempt::Again => {}
                    Attempt::Stop => return Ok(Flow::Stop),
                }
            }
        }
        self.ahead_since = None;
        let batch = Arc::new(batch);
        let mut ready = prepared?;
        loop {
            match attempt(problems, shutdown, self.maker.emitter.submit(ready)).await? {
                Attempt::Done(receipt) => {
                    self.in_flight.push_back(receipt);
                    return Ok(Flow::On);
                }
                Attempt::Stop => return Ok(Flow::Stop),
                // Submitting has used it up.
                Attempt::Again => {
                    let (maker, batch) = (Arc::clone(&self.maker), Arc::clone(&batch));
                    ready = blocking(move || Ok(maker.make_again(&batch))).await??;
                }
            }
        }
    }

    /// States that content can't be had, and that nobody need ask for it again.
    async fn lose(&mut self, gap: Gap, content: Key, day: u32) -> Result<Flow, SourceError> {
        let shared = Arc::clone(&self.shared);
        if !blocking(move || lock(&shared).insert(content, day)).await? {
            return Ok(Flow::On);
        }
        self.recent += 1;
        self.shared.figures.blobs_lost.inc();
        self.state(gap).await
    }

    async fn state(&mut self, gap: Gap) -> Result<Flow, SourceError> {
        tracing::warn!(reason = gap.reason, detail = gap.detail, "events may be missing");
        self.commit_position(Some(&gap)).await
    }

    /// Hands over the position, with a gap or alone.
    async fn commit_position(&mut self, gap: Option<&Gap>) -> Result<Flow, SourceError> {
        let (position, emitter) = (self.position().await?, &self.maker.emitter);
        loop {
            let work = async {
                match gap {
                    Some(gap) => emitter.state_gap(gap.clone(), Some(position.clone())).await,
                    None => emitter.emit(Vec::new(), Some(position.clone())).await,
                }
            };
            match attempt(&self.shared.problems, &self.shutdown, work).await? {
                Attempt::Done(receipt) => {
                    self.in_flight.push_back(receipt);
                    return Ok(Flow::On);
                }
                Attempt::Again => {}
                Attempt::Stop => return Ok(Flow::Stop),
            }
        }
    }

    /// The position, with everything durable that it vouches for.
    async fn position(&mut self) -> Result<Vec<u8>, SourceError> {
        self.ahead_since = None;
        let (shared, reached) = (Arc::clone(&self.shared), self.reached.clone());
        blocking(move || encode(&reached, lock(&shared).sync()?)).await
    }

    /// Folds the index when it has grown, and each day.
    async fn fold_if_due(&mut self) -> Result<Flow, SourceError> {
        let is_new_day = newest(&self.reached) > self.folded;
        if self.recent < RECENT && !(is_new_day && self.recent > 0) {
            return Ok(Flow::On);
        }
        // What is folded must be durable in the journal as well.
        while let Some(receipt) = self.in_flight.pop_front() {
            receipt.await?;
        }
        (self.folded, self.recent) = (newest(&self.reached), 0);
        let (shared, oldest) = (Arc::clone(&self.shared), oldest(&self.reached));
        let before = blocking(move || {
            let mut seen = lock(&shared);
            let before = seen.manifest();
            seen.fold(oldest).map(|()| before)
        });
        let before = before.await?;
        self.settle(&before).await
    }

    /// Makes durable what the index consists of, unless it is as `committed` says; and then removes the files that it
    /// does not consist of.
    async fn settle(&mut self, committed: &Manifest) -> Result<Flow, SourceError> {
        let shared = Arc::clone(&self.shared);
        if blocking(move || Ok(lock(&shared).manifest())).await? != *committed
            && let Flow::Stop = self.commit_position(None).await?
        {
            return Ok(Flow::Stop);
        }
        while let Some(receipt) = self.in_flight.pop_front() {
            receipt.await?;
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || lock(&shared).sweep()).await?;
        Ok(Flow::On)
    }
}

/// What an attempt came to.
enum Attempt<T> {
    Done(T),
    /// The journal was full, and some time has passed.
    Again,
    Stop,
}

/// Awaits the attempt to hand something over, and where the journal is full, the time until the next one.
async fn attempt<T>(
    problems: &Problems,
    shutdown: &CancellationToken,
    work: impl Future<Output = Result<T, EmitError>> + Send,
) -> Result<Attempt<T>, SourceError> {
    let outcome = tokio::select! {
        () = shutdown.cancelled() => return Ok(Attempt::Stop),
        outcome = work => outcome,
    };
    match outcome {
        Ok(done) => {
            problems.clear(JOURNAL);
            Ok(Attempt::Done(done))
        }
        Err(full @ EmitError::Full { retry_after, .. }) => {
            problems.set(JOURNAL, full.to_string());
            tokio::select! {
                () = shutdown.cancelled() => Ok(Attempt::Stop),
                () = tokio::time::sleep(retry_after.clamp(SHORTEST_RETRY, LONGEST_RETRY)) => Ok(Attempt::Again),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Seen> {
    // A panic elsewhere ends the source, and with it the index.
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The newest day that any feed has come to.
fn newest(reached: &Reached) -> u32 {
    reached.values().flat_map(|of_tenant| of_tenant.values()).max().map_or(0, |until| day(*until))
}

/// The oldest day that is remembered.
pub(crate) fn oldest(reached: &Reached) -> u32 {
    newest(reached).saturating_sub(REMEMBERED)
}

/// The index's work, which waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| SourceError::Other(format!("index of what was seen: {error}"))),
        Err(error) => Err(SourceError::Other(format!("index of what was seen: {error}"))),
    }
}

/// The first of a queue of receipts, which must not be empty.
async fn first(receipts: &mut VecDeque<Receipt>) -> Result<(), EmitError> {
    match receipts.front_mut() {
        Some(receipt) => receipt.await.map(|_| ()),
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
