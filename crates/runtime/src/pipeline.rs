//! The way of a record from a source into the journal: enrichment, policy, encoding, batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actlog_core::{
    AuditRecord, Clock, Committed, Counter, Emit, EmitError, Enrichment, EntryKind, Gap, Metrics, Prepared, Receipt,
    RejectedInput, Statement,
};
use actlog_journal::{Batch, CommitError, Journal, Pressure, SubmitError};
use actlog_policy::{Decision, Policy};
use arc_swap::ArcSwap;
use async_trait::async_trait;

use crate::dead_letters::DeadLetters;
use crate::statements;

/// Key of a source's position among the journal's states.
pub(crate) fn position_key(source: &str) -> String {
    format!("source/{source}")
}

/// What all emitters share.
pub(crate) struct Pipeline {
    pub(crate) journal: Journal,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) dead_letters: Arc<Mutex<DeadLetters>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// In the order in which they are applied; set once, before the first source runs.
    pub(crate) enrichments: OnceLock<Vec<Arc<dyn Enrichment>>>,
}

/// One component's way into the journal, with its counters.
pub(crate) struct ComponentEmit {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    written: Counter,
    duplicates: Counter,
    rejected: Counter,
    refused: Counter,
    excluded: Mutex<HashMap<String, Counter>>,
}

impl ComponentEmit {
    /// `metrics` carries the component's labels.
    pub(crate) fn new(pipeline: Arc<Pipeline>, metrics: Metrics) -> Self {
        Self {
            written: metrics.counter("actlog_records_written", "Records made durable in the journal", &[]),
            duplicates: metrics.counter(
                "actlog_records_duplicate",
                "Records dropped because the journal had them",
                &[],
            ),
            rejected: metrics.counter(
                "actlog_inputs_rejected",
                "Inputs that are no records, put to the dead letters",
                &[],
            ),
            refused: metrics.counter(
                "actlog_batches_refused",
                "Batches not taken in: journal full, or shutting down",
                &[],
            ),
            excluded: Mutex::default(),
            pipeline,
            metrics,
        }
    }

    fn count_excluded(&self, by_rule: HashMap<String, u64>) {
        let mut counters = self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, count) in by_rule {
            let counter = counters.entry(rule).or_insert_with_key(|rule| {
                let help = "Records left out by the audit policy, by rule";
                self.metrics.counter("actlog_policy_excluded_records", help, &[("rule", rule)])
            });
            counter.inc_by(count);
        }
    }
}

/// Space comes back when a sink catches up or somebody frees the disk: neither takes milliseconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

struct PreparedBatch {
    batch: Batch,
    excluded: HashMap<String, u64>,
}

#[async_trait]
impl Emit for ComponentEmit {
    fn prepare(
        &self,
        component: &str,
        records: Vec<AuditRecord<'_>>,
        position: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError> {
        /// What an encoded record takes, roughly; only to spare reallocations.
        const RECORD_BYTES: usize = 1536;
        let policy = self.pipeline.policy.load();
        let enrichments = self.pipeline.enrichments.get().map_or(&[][..], Vec::as_slice);
        let now = self.pipeline.clock.now();
        let mut salts = vec![[0; 32]; records.len()];
        getrandom::fill(salts.as_flattened_mut())
            .map_err(|error| EmitError::Storage(format!("the system gives no random bytes: {error}")))?;
        let mut batch = Batch::with_capacity(records.len() * RECORD_BYTES);
        let mut excluded = HashMap::<String, u64>::new();
        for (mut record, salt) in records.into_iter().zip(&salts) {
            if record.source.is_none() {
                record.source = Some(component.into());
            }
            record.collected_time.get_or_insert(now);
            // Before the policy: rules may be about users.
            for enrichment in enrichments {
                enrichment.complete(&mut record);
            }
            if let Decision::Exclude(rule) = policy.apply(&mut record) {
                match excluded.get_mut(rule) {
                    Some(count) => *count += 1,
                    None => drop(excluded.insert(rule.to_owned(), 1)),
                }
                continue;
            }
            batch
                .push(EntryKind::Record, record.id, record.creation_time, salt, |out| record.encode(out))
                .map_err(|error| EmitError::Storage(format!("record {} can't be encoded: {error}", record.id)))?;
        }
        if let Some(position) = position {
            batch.set_state(position_key(component), position);
        }
        if batch.bytes() > actlog_journal::MAX_BATCH {
            return Err(EmitError::TooLarge { bytes: batch.bytes(), limit: actlog_journal::MAX_BATCH });
        }
        Ok(Prepared::new(PreparedBatch { batch, excluded }))
    }

    async fn submit(&self, prepared: Prepared) -> Result<Receipt, EmitError> {
        let Some(PreparedBatch { batch, excluded }) = prepared.into_inner() else {
            return Err(EmitError::Storage("the batch was prepared by another emitter".into()));
        };
        let left_out = excluded.values().sum();
        if batch.is_empty() {
            self.count_excluded(excluded);
            return Ok(Receipt::new(async move { Ok(Committed { excluded: left_out, ..Committed::default() }) }));
        }
        let ticket = self.pipeline.journal.submit(batch).await.map_err(|error| {
            self.refused.inc();
            submit_error(error)
        })?;
        self.count_excluded(excluded);
        let (written, duplicates) = (self.written.clone(), self.duplicates.clone());
        Ok(Receipt::new(async move {
            let committed = ticket.await.map_err(commit_error)?;
            let committed = Committed {
                written: committed.written.into(),
                duplicates: committed.duplicates.into(),
                excluded: left_out,
            };
            written.inc_by(committed.written);
            duplicates.inc_by(committed.duplicates);
            Ok(committed)
        }))
    }

    async fn state_gap(&self, component: &str, gap: Gap, position: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        let Gap { from, to, reason, detail } = gap;
        let time = self.pipeline.clock.now();
        let statement = Statement::Gap { time, component: Some(component.to_owned()), from, to, reason, detail };
        let mut batch = Batch::new();
        statements::add(&mut batch, &statement).map_err(EmitError::Storage)?;
        if let Some(position) = position {
            batch.set_state(position_key(component), position);
        }
        self.submit(Prepared::new(PreparedBatch { batch, excluded: HashMap::new() })).await
    }

    async fn reject(&self, component: &str, input: RejectedInput<'_>) -> Result<(), EmitError> {
        let keep_bytes = {
            let organization = input.organization.map(|id| id.to_string());
            self.pipeline.policy.load().may_keep_raw(organization.as_deref())
        };
        let dead_letters = Arc::clone(&self.pipeline.dead_letters);
        let now = self.pipeline.clock.now();
        let component = component.to_owned();
        let RejectedInput { place, reason, organization, bytes } = input;
        let bytes = bytes.to_vec();
        let stored = tokio::task::spawn_blocking(move || {
            let input = RejectedInput { place, reason, organization, bytes: &bytes };
            let mut dead_letters = dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
            dead_letters.put_input(&component, &input, keep_bytes, now)
        });
        match stored.await {
            Ok(Ok(())) => {
                self.rejected.inc();
                Ok(())
            }
            Ok(Err(error)) => Err(EmitError::Storage(format!("dead letters: {error}"))),
            Err(error) => Err(EmitError::Storage(format!("dead letters: {error}"))),
        }
    }

    fn pressure(&self) -> Option<EmitError> {
        // While writing fails for another reason than space, only the next batch can show that it works again.
        self.pipeline
            .journal
            .pressure()
            .filter(|pressure| *pressure != Pressure::Failing)
            .map(|pressure| EmitError::Full { reason: pressure.to_string(), retry_after: RETRY_AFTER })
    }
}

fn submit_error(error: SubmitError) -> EmitError {
    match error {
        SubmitError::Full { pressure, retry_after } => EmitError::Full { reason: pressure.to_string(), retry_after },
        SubmitError::Closed => EmitError::Closed,
        error => EmitError::Storage(error.to_string()),
    }
}

fn commit_error(error: CommitError) -> EmitError {
    match error {
        CommitError::Full(pressure) => EmitError::Full { reason: pressure.to_string(), retry_after: RETRY_AFTER },
        CommitError::Closed => EmitError::Closed,
        error => EmitError::Storage(error.to_string()),
    }
}
