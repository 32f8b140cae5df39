//! What the checks of a source work in: its adapter, the harness, and a ledger of what became of each event.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actlog_core::SourceDescriptor;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Answer, Outcome, SourceHarness, SourceRun, SourceUnderTest, Upstream, Violation, checks, violation};

/// An adapter, the harness, and what the upstream has seen.
pub(super) struct World<S> {
    pub(super) deadline: Duration,
    pub(super) adapter: Arc<S>,
    pub(super) harness: SourceHarness,
    descriptor: SourceDescriptor,
    ledger: Arc<Mutex<Ledger>>,
}

/// What is known of the events.
#[derive(Default)]
pub(super) struct Ledger {
    read: usize,
    pub(super) durable: BTreeMap<u64, Uuid>,
    acknowledged: BTreeSet<u64>,
    violation: Option<Violation>,
}

impl Ledger {
    fn violate(&mut self, clause: &'static str, message: String) {
        self.violation.get_or_insert(Violation { clause, message });
    }

    /// Reads on in the durable records.
    fn update<S: SourceUnderTest>(&mut self, adapter: &S, harness: &SourceHarness) {
        for stored in harness.durable_from(self.read) {
            self.read += 1;
            let id = stored.record.id;
            match adapter.event_of(&stored.record) {
                None => self.violate("SRC-2", format!("the record {id} is of no event that was offered")),
                Some(event) => {
                    if let Some(first) = self.durable.insert(event, id) {
                        let message = format!("event {event} became two records, {first} and {id}");
                        self.violate("SRC-9", message);
                    }
                }
            }
        }
    }
}

impl<S: SourceUnderTest> World<S> {
    pub(super) fn new(adapter: S) -> Self {
        Self {
            deadline: adapter.deadline(),
            adapter: Arc::new(adapter),
            harness: SourceHarness::new(),
            descriptor: SourceDescriptor::of::<S::Plugin>("under-test", "0.0.0"),
            ledger: Arc::default(),
        }
    }

    pub(super) fn is_pull(&self) -> bool {
        self.adapter.upstream() == Upstream::Pull
    }

    pub(super) fn ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.update(&*self.adapter, &self.harness);
        look(&mut ledger)
    }

    /// What went wrong in the ledger, if anything.
    pub(super) fn verdict(&self) -> Outcome {
        self.ledger(|ledger| ledger.violation.clone().map_or(Ok(()), Err))
    }

    pub(super) async fn wait(&self, ready: impl FnMut(&SourceHarness) -> bool) -> bool {
        self.harness.wait_for(self.deadline, ready).await
    }

    /// Builds the source and runs it; a build that fails is tried again, as the runtime does, until the deadline.
    pub(super) async fn start(&self) -> Result<SourceRun, Violation> {
        let table = checks::table(&self.adapter.config())?;
        let factory = (self.descriptor.load)(table)
            .or_else(|error| violation("CFG-1", format!("the adapter's configuration is refused: {error}")))?;
        let deadline = Instant::now() + self.deadline;
        loop {
            match factory.build(&self.adapter.build_context().named("under-test")).await {
                Ok(source) => return Ok(self.harness.start("under-test", self.descriptor.kind, source)),
                Err(error) if Instant::now() > deadline => {
                    return violation("SRC-10", format!("the source can't be built (again): {error}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Starts the source and offers the events, in the order that its upstream asks for.
    pub(super) async fn start_with(&self, events: Range<u64>) -> Result<(SourceRun, Offers), Violation> {
        if self.is_pull() {
            let mut offers = self.offer(events);
            self.answers(&mut offers).await?;
            return Ok((self.start().await?, Offers::new()));
        }
        let run = self.start().await?;
        Ok((run, self.offer(events)))
    }

    /// Offers events, at once where the upstream pushes, else one after the other.
    pub(super) fn offer(&self, events: impl IntoIterator<Item = u64>) -> Offers {
        let mut offers = Offers::new();
        let events: Vec<u64> = events.into_iter().collect();
        if self.is_pull() {
            let adapter = Arc::clone(&self.adapter);
            offers.spawn(async move {
                let mut answers = Vec::new();
                for event in events {
                    answers.push((event, adapter.offer(event).await));
                }
                answers
            });
            return offers;
        }
        for event in events {
            let (adapter, harness, ledger) =
                (Arc::clone(&self.adapter), self.harness.clone(), Arc::clone(&self.ledger));
            offers.spawn(async move {
                let answer = adapter.offer(event).await;
                // Looked at in this moment: an acknowledgement is a lie when the event is not durable by now.
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.update(&*adapter, &harness);
                match answer {
                    Answer::Acknowledged => {
                        ledger.acknowledged.insert(event);
                        if !ledger.durable.contains_key(&event) {
                            ledger.violate("SRC-1", format!("event {event} was acknowledged and is not durable"));
                        }
                    }
                    Answer::Refused => {
                        ledger.violate(
                            "SRC-3",
                            format!("event {event} was refused for good, though nothing is wrong with it"),
                        );
                    }
                    Answer::Busy | Answer::Lost | Answer::Kept => {}
                }
                vec![(event, answer)]
            });
        }
        offers
    }

    /// Waits for the answers of all offers.
    pub(super) async fn answers(&self, offers: &mut Offers) -> Result<Vec<(u64, Answer)>, Violation> {
        let collect = async {
            let mut answers = Vec::new();
            while let Some(answer) = offers.join_next().await {
                match answer {
                    Ok(some) => answers.extend(some),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            answers
        };
        match tokio::time::timeout(self.deadline, collect).await {
            Ok(answers) => Ok(answers),
            Err(_) => violation("SRC-2", "an offered event got no answer within the deadline"),
        }
    }

    /// Brings everything to its end: restarts the source where it has ended, offers again what is not acknowledged,
    /// until all events are durable and, where the upstream waits for that, acknowledged.
    pub(super) async fn finish(&self, mut run: SourceRun, events: Range<u64>) -> Result<SourceRun, Violation> {
        let deadline = Instant::now() + self.deadline;
        loop {
            if run.is_finished() && !self.missing(&events).is_empty() {
                if let Some(Ok(())) = run.finished(self.deadline).await {
                    let message = format!("the source ended well without the events {:?}", self.missing(&events));
                    return violation("SRC-2", message);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                run = self.start().await?;
            }
            let missing = self.missing(&events);
            self.verdict()?;
            if missing.is_empty() {
                return Ok(run);
            }
            if Instant::now() > deadline {
                let what = if self.is_pull() { "durable" } else { "durable and acknowledged" };
                return violation(
                    "SRC-2",
                    format!("within the deadline these events did not become {what}: {missing:?}"),
                );
            }
            if self.is_pull() {
                let pause = Duration::from_millis(50);
                self.harness.wait_for(pause, |_| self.missing(&events).is_empty() || run.is_finished()).await;
            } else {
                let mut offers = self.offer(missing);
                let answers = self.answers(&mut offers).await?;
                if answers.iter().any(|(_, answer)| *answer != Answer::Acknowledged) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    pub(super) fn missing(&self, events: &Range<u64>) -> Vec<u64> {
        let pull = self.is_pull();
        self.ledger(|ledger| {
            let done =
                |event: &u64| ledger.durable.contains_key(event) && (pull || ledger.acknowledged.contains(event));
            events.clone().filter(|event| !done(event)).collect()
        })
    }

    /// Tells the source to stop and waits for its return (SRC-7), and for everything of it to be gone (SRC-8).
    pub(super) async fn stop(&self, mut run: SourceRun) -> Outcome {
        let had_ended = run.is_finished();
        run.shutdown.cancel();
        match run.finished(self.deadline).await {
            None => {
                run.kill().await;
                return violation("SRC-7", "the source did not return within the deadline after shutdown");
            }
            Some(Err(error)) if !had_ended => {
                return violation("SRC-7", format!("the source answered shutdown with an error: {error}"));
            }
            Some(_) => {}
        }
        let emissions = self.harness.emissions();
        if !run.let_go(self.deadline).await {
            return violation("SRC-8", "the source returned, and something of it still holds its emitter");
        }
        if self.harness.emissions() != emissions {
            return violation("SRC-8", "the source returned, and something of it emitted after that");
        }
        self.verdict()
    }
}

/// Offers under way, each ending in events and their answers.
pub(super) type Offers = JoinSet<Vec<(u64, Answer)>>;
