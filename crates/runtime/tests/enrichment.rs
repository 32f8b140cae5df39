//! What the runtime promises about enrichments, and about gaps that sources state.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]
#![allow(dead_code, reason = "the support is shared with other tests")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use actlog_core::{
    AuditRecord, BatchSink, BuildContext, BuildError, ConfigError, Delivery, Enrichment, EnrichmentContext,
    EnrichmentError, EnrichmentFactory, Entry, EntryKind, Gap, Metrics, Sink, SinkContext, SinkError, Source,
    SourceContext, SourceError, Statement, Timestamp, run_batches,
};
use actlog_runtime::{EnrichmentPlan, Plan, RunError, SinkPlan};
use async_trait::async_trait;
use support::{Deployment, End, event, sink, source, wait_until};

/// Keeps all entries.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Entry>>>);

#[async_trait]
impl Sink for Keeper {
    async fn run(mut self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        run_batches(&mut *self, cx).await
    }
}

#[async_trait]
impl BatchSink for Keeper {
    fn wants_statements(&self) -> bool {
        true
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Delivery {
        self.0.lock().unwrap().extend(entries.iter().cloned());
        Delivery::Delivered
    }
}

impl Keeper {
    fn plan(&self) -> SinkPlan {
        let keeper = self.clone();
        sink("keeper", move || keeper.clone())
    }

    fn agents(&self) -> Vec<String> {
        let entries = self.0.lock().unwrap();
        let records = entries.iter().filter(|entry| entry.kind == EntryKind::Record);
        records
            .map(|entry| AuditRecord::decode(&entry.bytes).unwrap().user_agent.unwrap_or_default().into_owned())
            .collect()
    }

    fn gaps(&self) -> Vec<(Option<String>, String)> {
        let entries = self.0.lock().unwrap();
        let statements = entries.iter().filter(|entry| entry.kind == EntryKind::Statement);
        let gap = |entry: &Entry| match serde_json::from_slice(&entry.bytes).unwrap() {
            Statement::Gap { component, reason, .. } => Some((component, reason)),
            _ => None,
        };
        statements.filter_map(gap).collect()
    }
}

/// Appends its letter to the user agent, and fails now and then when it runs.
#[derive(Clone)]
struct Letter {
    letter: char,
    runs: Arc<AtomicU32>,
}

#[async_trait]
impl Enrichment for Letter {
    fn complete(&self, record: &mut AuditRecord<'_>) {
        let agent = record.user_agent.take().unwrap_or_default();
        record.user_agent = Some(format!("{agent}{}", self.letter).into());
    }

    async fn run(self: Arc<Self>, cx: EnrichmentContext) -> Result<(), EnrichmentError> {
        if self.runs.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(EnrichmentError("not yet".to_owned()));
        }
        cx.shutdown.cancelled().await;
        Ok(())
    }
}

struct Make(Result<Letter, &'static str>);

#[async_trait]
impl EnrichmentFactory for Make {
    async fn build(&self, _: &BuildContext, _: &Metrics) -> Result<Arc<dyn Enrichment>, BuildError> {
        match &self.0 {
            Ok(letter) => Ok(Arc::new(letter.clone())),
            Err(message) => Err(ConfigError::new("path", *message).into()),
        }
    }
}

fn enrichment(letter: char) -> (EnrichmentPlan, Arc<AtomicU32>) {
    let runs = Arc::default();
    let factory = Box::new(Make(Ok(Letter { letter, runs: Arc::clone(&runs) })));
    (EnrichmentPlan { name: letter.to_string(), kind: "letter", factory }, runs)
}

/// Emits an event, states a gap with a position, and comes to its end.
struct One;

#[async_trait]
impl Source for One {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        if cx.position.as_deref() == Some(b"behind the gap") {
            return Ok(());
        }
        cx.emitter.emit(vec![event("one", 1)], None).await?.await?;
        let at = |second: i64| Timestamp::from_unix_milliseconds(second * 1000);
        let gap = Gap { from: at(1), to: Some(at(2)), reason: "expired".to_owned(), detail: None };
        cx.emitter.state_gap(gap, Some(b"behind the gap".to_vec())).await?.await?;
        Ok(())
    }
}

#[test]
fn records_are_completed_in_the_order_of_names_and_go_on_being_when_a_refresh_fails() {
    let deployment = Deployment::new(1);
    let keeper = Keeper::default();
    let ((a, runs), (b, _)) = (enrichment('a'), enrichment('b'));
    let plan = Plan { sources: vec![source("one", || One)], sinks: vec![keeper.plan()], enrichments: vec![a, b] };
    // The run ends by itself; the enrichments are no reason to stay.
    deployment.live_well(plan, std::future::pending());
    assert_eq!(keeper.agents(), ["ab"]);
    assert!(runs.load(Ordering::SeqCst) >= 1);

    let (a, runs) = enrichment('a');
    let plan = Plan { enrichments: vec![a], sources: vec![source("idle", || Idle)], ..Plan::default() };
    deployment.live_well(plan, async {
        wait_until("the third run", || runs.load(Ordering::SeqCst) == 3).await;
    });
}

/// A source that keeps everything running until the shutdown.
struct Idle;

#[async_trait]
impl Source for Idle {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        cx.shutdown.cancelled().await;
        Ok(())
    }
}

#[test]
fn an_enrichment_that_cannot_be_made_keeps_the_run_from_beginning_and_names_its_key() {
    let deployment = Deployment::new(1);
    let factory = Box::new(Make(Err("there is no such file")));
    let plan = EnrichmentPlan { name: "users".to_owned(), kind: "letter", factory };
    let plan = Plan { enrichments: vec![plan], sources: vec![source("one", || One)], ..Plan::default() };
    match deployment.live(plan, std::future::pending()) {
        End::Returned(Err(RunError::Config(error))) => assert_eq!(error.path, "enrichments.users.path"),
        end => panic!("{end:?}"),
    }
}

#[test]
fn a_sources_gap_is_stated_once_together_with_its_position() {
    let deployment = Deployment::new(1);
    let keeper = Keeper::default();
    for _ in 0..2 {
        let plan = Plan { sources: vec![source("one", || One)], sinks: vec![keeper.plan()], ..Plan::default() };
        deployment.live_well(plan, std::future::pending());
    }
    let own: Vec<_> = keeper.gaps().into_iter().filter(|(component, _)| component.is_some()).collect();
    assert_eq!(own, [(Some("one".to_owned()), "expired".to_owned())]);
}
