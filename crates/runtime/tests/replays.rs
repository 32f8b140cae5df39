//! Dead letters that are replayed to a sink which commits later than it pulls.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{EntryKind, Sink, SinkContext, SinkError, Source, SourceContext, SourceError};
use actlog_runtime::{Plan, Request, ask};
use async_trait::async_trait;
use support::{Deployment, event, pace, sink, source, wait_until};

/// Emits twelve events, and stays until the shutdown.
struct Events;

#[async_trait]
impl Source for Events {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        for number in 0..12 {
            cx.emitter.emit(vec![event("test", number)], None).await?.await?;
        }
        cx.shutdown.cancelled().await;
        Ok(())
    }
}

/// Refuses one record the first time it sees it. While it lags, it commits nothing but the first two entries that it was
/// given, once `two` is set, as a sink does whose receiver answers late.
#[derive(Clone, Default)]
struct Late {
    refused: Arc<AtomicBool>,
    lags: Arc<AtomicBool>,
    two: Arc<AtomicBool>,
    given: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Sink for Late {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        while !cx.shutdown.is_cancelled() {
            for entry in cx.next(1, Duration::from_millis(20)).await? {
                self.given.lock().unwrap().push(entry.index);
                let is_fifth = entry.kind == EntryKind::Record && self.given.lock().unwrap().len() == 5;
                if is_fifth && !self.refused.swap(true, Ordering::Relaxed) {
                    cx.reject(&entry, "refused").await?;
                }
            }
            let given = self.given.lock().unwrap().clone();
            let Some(last) = given.last() else { continue };
            if self.two.load(Ordering::Relaxed) {
                cx.commit(given[1] + 1, Vec::new()).await?;
                self.two.store(false, Ordering::Relaxed);
            } else if !self.lags.load(Ordering::Relaxed) {
                cx.commit(last + 1, Vec::new()).await?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_commit_of_what_was_given_before_a_replay_is_not_taken_for_one_of_the_replay() {
    let deployment = Deployment::new(1);
    let late = Late::default();
    late.lags.store(true, Ordering::Relaxed);
    let sinks = vec![sink("audit", {
        let late = late.clone();
        move || late.clone()
    })];
    let plan = Plan { sources: vec![source("events", || Events)], sinks, ..Plan::default() };
    deployment.live_well(plan, async {
        let status = async || ask(&deployment.data_dir(), &Request::Status).await.unwrap();
        let cursor = async || status().await["cursors"]["audit"]["next_index"].as_u64().unwrap();
        wait_until("everything is given", || late.given.lock().unwrap().len() > 12).await;
        let letter = deployment.letters()[0].clone();
        let replay = Request::ReplayDeadLetters { component: "audit".into(), numbers: vec![letter.number] };
        ask(&deployment.data_dir(), &replay).await.unwrap();
        // The sink asks for more all the time; it must not get the letter while it is behind.
        for _ in 0..20 {
            pace().await;
        }
        late.two.store(true, Ordering::Relaxed);
        wait_until("two entries are committed", || !late.two.load(Ordering::Relaxed)).await;
        assert_eq!(cursor().await, late.given.lock().unwrap()[1] + 1);
        late.lags.store(false, Ordering::Relaxed);
        wait_until("the letter is delivered", || deployment.letters().is_empty()).await;
        assert_eq!(late.given.lock().unwrap().iter().filter(|index| Some(**index) == letter.index).count(), 2);
    });
}
