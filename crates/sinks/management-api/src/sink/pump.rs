//! What runs between the journal and the store.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{BuildContext, Entry, EntryKind, Health, Metrics, SinkContext, SinkError, Status};
use actlog_office::output::OutputOptions;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claims::Claims;
use super::figures::SinkFigures;
use super::packer::{Packed, Packer};
use crate::config::Config;
use crate::store::{BlobRead, Coverage, PublishError, Publisher, Store, Unclaimed};

/// About how many bytes are pulled at once.
const PULL_BYTES: usize = 1 << 20;
/// How often it looks for content that has expired, and at how things are.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Organisations without a tenant that are named.
const NAMED: usize = 5;

/// What is stored with the cursor.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// The last round there was, so that its loss is noticed.
    round: Option<u64>,
}

/// Packer and publisher; one thread at a time uses them: the one that the run waits for.
struct Works {
    packer: Packer,
    publisher: Publisher,
}

/// Asks another part of the sink what is wrong with it, for a person.
pub(super) type Problem = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Pulls, publishes, commits.
pub(super) struct Pump {
    works: Arc<Mutex<Works>>,
    store: Store,
    /// What else is wrong with the sink.
    problem: Problem,
    figures: SinkFigures,
    age: Duration,
    /// Entries that the store had before this run; none once they are behind, or the journal is another one.
    covered: Option<Coverage>,
    /// The first entry that is not done with; none if nothing came since the last commit.
    next_index: Option<u64>,
    /// When what was taken must be published.
    due: Option<Instant>,
    housekeeping: Instant,
    /// What was lost, for a person; it stays until the next start.
    damage: Option<String>,
    /// Why nothing can be published at present.
    full: Option<String>,
}

impl Pump {
    pub(super) fn new(
        config: &Config,
        build: &BuildContext,
        store: &Store,
        problem: Problem,
        state: Option<&[u8]>,
        metrics: &Metrics,
    ) -> Result<Self, SinkError> {
        let other = |error: &dyn std::fmt::Display| SinkError::Other(error.to_string());
        let tenants = config.tenants(&build.organizations).map_err(|error| other(&error))?;
        let publisher =
            store.take_publisher().ok_or_else(|| other(&"the feed's content is published by another run"))?;
        let state: State = match state {
            // The cursor's state is no reason to stop; without it only a loss would not be noticed.
            Some(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
            None => State::default(),
        };
        let mut damage = publisher.problem().map(str::to_owned);
        if let Some(round) = state.round
            && publisher.last_round() < Some(round)
        {
            let last = publisher.last_round().map_or_else(|| "none".to_owned(), |last| last.to_string());
            damage =
                Some(format!("content is missing: {round} was the last round, and on disk the last one is {last}"));
        }
        if let Some(damage) = &damage {
            tracing::error!("{damage}");
        }
        let claims = Claims::new(&build.organizations, tenants.iter().map(|tenant| tenant.id));
        let options = tenants.iter().map(|tenant| OutputOptions {
            mode: tenant.mode,
            max_record_bytes: tenant.max_record_bytes,
            tenant: tenant.id,
        });
        let coverage = publisher.coverage();
        let packer = Packer::new(claims, options, store.blob_bytes(), coverage).map_err(|error| other(&error))?;
        Ok(Self {
            works: Arc::new(Mutex::new(Works { packer, publisher })),
            store: store.clone(),
            problem,
            figures: SinkFigures::new(metrics),
            age: config.blob_age.0,
            covered: Some(coverage),
            next_index: None,
            due: None,
            housekeeping: Instant::now(),
            damage,
            full: None,
        })
    }

    /// Runs until shutdown; then everything that was taken is published.
    pub(super) async fn run(&mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let (shutdown, health) = (cx.shutdown.clone(), cx.health.clone());
        self.claim(&shutdown, &health).await?;
        loop {
            let stopping = cx.shutdown.is_cancelled();
            if self.must_publish(stopping) && self.publish(&health).await? {
                self.commit(cx).await?;
            }
            if stopping {
                return Ok(());
            }
            if self.housekeeping <= Instant::now() {
                self.keep_house(&health).await?;
            }
            if self.full.is_some() {
                // What was taken stays; the journal keeps the rest.
                rest(&shutdown).await;
                continue;
            }
            let entries = cx.next(PULL_BYTES, self.wait()).await?;
            self.take(entries, cx).await?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Works> {
        // A panic while it was held has ended the run with an error already.
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with_works<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Works) -> R + Send + 'static,
    ) -> Result<R, SinkError> {
        let works = Arc::clone(&self.works);
        let done = tokio::task::spawn_blocking(move || work(&mut works.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(|error| SinkError::Other(format!("the thread that packs content ended early: {error}")))
    }

    fn must_publish(&self, stopping: bool) -> bool {
        let due = self.due.is_some_and(|due| stopping || due <= Instant::now());
        self.next_index.is_some() && (due || self.lock().packer.is_full())
    }

    /// Publishes what was taken. False when there is no room: everything stays as it is.
    async fn publish(&mut self, health: &Health) -> Result<bool, SinkError> {
        let (is_new, full) = match self.with_works(Works::publish).await? {
            Ok(is_new) => (is_new, None),
            Err(PublishError::Full(reason)) => (false, Some(reason)),
            Err(PublishError::Store(error)) => return Err(error.into()),
            Err(error @ PublishError::Packing(_)) => return Err(SinkError::Other(error.to_string())),
        };
        self.figures.rounds.inc_by(u64::from(is_new));
        let changed = self.full != full;
        if changed {
            match &full {
                Some(reason) => tracing::warn!("{reason}"),
                None => tracing::info!("there is room for content again"),
            }
            self.full = full;
        }
        if is_new || changed {
            self.report(health);
        }
        Ok(self.full.is_none())
    }

    async fn commit(&mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let Some(next_index) = self.next_index else { return Ok(()) };
        let state = State { round: self.lock().publisher.last_round() };
        let state = serde_json::to_vec(&state).map_err(|error| SinkError::Other(error.to_string()))?;
        cx.commit(next_index, state).await?;
        (self.next_index, self.due) = (None, None);
        Ok(())
    }

    /// Packs entries; whenever a round is full it is published.
    async fn take(&mut self, entries: Vec<Entry>, cx: &mut SinkContext) -> Result<(), SinkError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let next_index = last.index + 1;
        let entries: Arc<[Entry]> = entries.into_iter().filter(|entry| !self.is_covered(entry)).collect();
        self.due.get_or_insert_with(|| Instant::now() + self.age);
        let mut from = 0;
        while from < entries.len() {
            let batch = Arc::clone(&entries);
            let packed = self.with_works(move |works| works.packer.take(&batch[from..])).await?;
            let Packed { done, rejected } = packed.map_err(|error| SinkError::Other(format!("packing: {error}")))?;
            for (place, reason) in rejected {
                self.figures.rejected.inc();
                cx.reject(&entries[from + place], &reason).await?;
            }
            from += done;
            if from == entries.len() {
                break;
            }
            self.next_index = Some(entries[from].index);
            let (shutdown, health) = (cx.shutdown.clone(), cx.health.clone());
            if !self.publish_at_last(&shutdown, &health).await? {
                // Nothing of this was committed: the journal hands it out again.
                (self.next_index, self.due) = (None, None);
                return Ok(());
            }
            self.commit(cx).await?;
            self.due = Some(Instant::now() + self.age);
        }
        self.next_index = Some(next_index);
        Ok(())
    }

    /// Whether the store has an entry from before this run.
    ///
    /// After a crash between a round and its commit, the journal hands out that round's entries again, and nothing
    /// before them. Whatever else comes is from another journal: then everything is taken.
    fn is_covered(&mut self, entry: &Entry) -> bool {
        let Some(Coverage { first: Some((index, id)), next }) = self.covered else { return false };
        if entry.kind == EntryKind::Statement {
            return false;
        }
        let is_another = entry.index < index || (entry.index == index && entry.id != id);
        if is_another {
            tracing::warn!("the journal is not the one that the feed's content came from; everything in it is taken");
        }
        if is_another || entry.index >= next {
            self.covered = None;
            return false;
        }
        true
    }

    /// Takes up records of organisations that no tenant claimed when they came, and one does now.
    async fn claim(&mut self, shutdown: &CancellationToken, health: &Health) -> Result<(), SinkError> {
        for Unclaimed { organization, records, last } in self.store.unclaimed() {
            let (mut after, mut is_claimed) = (None, false);
            while let Some((created, blob)) =
                self.store.unclaimed_blob(organization, after).filter(|(at, _)| *at <= last)
            {
                after = Some(created);
                let work = move |works: &mut Works| works.claim(organization, created, &blob, is_claimed);
                let looked = self.with_works(work).await?;
                match looked.map_err(|error| SinkError::Other(format!("packing: {error}")))? {
                    Looked::Taken => is_claimed = true,
                    Looked::Nobodys => break,
                    Looked::Unreadable(error) => {
                        tracing::error!(%organization, "records of an organisation can't be looked at: {error}");
                        self.damage = Some(format!("content that no tenant claimed can't be read: {error}"));
                    }
                }
                if self.lock().packer.is_full() && !self.publish_at_last(shutdown, health).await? {
                    return Ok(());
                }
            }
            if is_claimed {
                let name = self.lock().packer.name(organization).unwrap_or_default().to_owned();
                tracing::info!(records, name, "a tenant claims records of an organisation that none claimed before");
            }
        }
        self.publish_at_last(shutdown, health).await?;
        Ok(())
    }

    /// Publishes, and waits for room where there is none; false at shutdown, when there was none until then.
    async fn publish_at_last(&mut self, shutdown: &CancellationToken, health: &Health) -> Result<bool, SinkError> {
        while !self.publish(health).await? {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            rest(shutdown).await;
        }
        Ok(true)
    }

    /// Removes what has expired, and says how things are.
    async fn keep_house(&mut self, health: &Health) -> Result<(), SinkError> {
        self.with_works(|works| works.publisher.expire()).await??;
        self.report(health);
        self.housekeeping = Instant::now() + HOUSEKEEPING;
        Ok(())
    }

    fn report(&self, health: &Health) {
        let figures = self.store.figures();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.figures.blobs.set(gauge(figures.blobs));
        self.figures.bytes.set(gauge(figures.bytes));
        self.figures.oldest.set(gauge(figures.oldest.as_secs()));
        let unclaimed = self.store.unclaimed();
        self.figures.unclaimed.set(gauge(unclaimed.iter().map(|kept| kept.records).sum()));
        let problems = [self.full.clone(), self.damage.clone(), (self.problem)(), self.unclaimed(&unclaimed)];
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        health.set(match problems.is_empty() {
            true => Status::Ok,
            false => Status::Degraded { reason: problems.join("; ") },
        });
    }

    /// What no tenant claims, for a person.
    fn unclaimed(&self, organizations: &[Unclaimed]) -> Option<String> {
        if organizations.is_empty() {
            return None;
        }
        let works = self.lock();
        let mut named: Vec<String> = organizations
            .iter()
            .map(|kept| {
                let name = works.packer.name(kept.organization).unwrap_or("an organisation");
                format!("{name}: {}", kept.records)
            })
            .collect();
        named.sort_unstable();
        let others = named.len().saturating_sub(NAMED);
        named.truncate(NAMED);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        let records: u64 = organizations.iter().map(|kept| kept.records).sum();
        Some(format!(
            "{records} records are kept and served to nobody, because no tenant claims their organisation ({}{others}); \
             add tenant = \"…\" to [organizations.NAME]",
            named.join(", ")
        ))
    }

    /// How long to wait for entries.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let next = self.due.map_or(self.housekeeping, |due| due.min(self.housekeeping));
        next.saturating_duration_since(now)
    }
}

impl Works {
    /// Publishes what was gathered; false when there was nothing.
    fn publish(&mut self) -> Result<bool, PublishError> {
        let is_empty = self.packer.is_empty();
        if !is_empty {
            let round = self.packer.round().map_err(PublishError::Packing)?;
            self.publisher.publish(round)?;
        }
        self.packer.published();
        Ok(!is_empty)
    }

    /// Takes up a blob, if a tenant claims it now; all its records are of one origin.
    fn claim(&mut self, organization: Uuid, created: i64, blob: &BlobRead, is_claimed: bool) -> io::Result<Looked> {
        let content = match blob.read() {
            Ok(content) => content,
            Err(error) => return Ok(Looked::Unreadable(error)),
        };
        let records: Vec<&RawValue> = match serde_json::from_slice(&content) {
            Ok(records) => records,
            Err(error) => return Ok(Looked::Unreadable(error.into())),
        };
        let first = records.first().filter(|_| !is_claimed);
        match first.map_or(Ok(true), |first| self.packer.is_claimed(organization, first)) {
            Ok(true) => {}
            Ok(false) => return Ok(Looked::Nobodys),
            Err(error) => return Ok(Looked::Unreadable(error.into())),
        }
        self.packer.take_unclaimed(organization, created, &records)?;
        Ok(Looked::Taken)
    }
}

/// What was found of a blob that no tenant claimed when it was written.
enum Looked {
    /// A tenant claims it: its records are in the round.
    Taken,
    /// No tenant claims it still.
    Nobodys,
    /// It is left as it is.
    Unreadable(io::Error),
}

/// Waits a while, or for the shutdown.
async fn rest(shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(HOUSEKEEPING) => {}
        () = shutdown.cancelled() => {}
    }
}
