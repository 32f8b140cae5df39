//! The cursor passes what is done with, in the journal's order, and nothing else.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bench;
mod receivers;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{
    BuildContext, Emit, EmitError, Emitter, Entry, Gap, Health, Metrics, Prepared, Pull, Receipt, RejectedInput,
    SinkContext, SinkDescriptor, SinkError, SystemClock,
};
use actlog_sink_http::HttpSink;
use actlog_testkit::records::Records;
use actlog_testkit::server::{Bytes, Request, Server, StatusCode, empty};
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use bench::Bench;
use receivers::{Receiver, UNACCEPTABLE, plain};
use tokio_util::sync::CancellationToken;

fn ndjson(url: &str) -> String {
    format!("url = \"{url}\"\nformat = \"ndjson\"\nclient.allow_private = true\n")
}

#[tokio::test(start_paused = true)]
async fn the_cursor_never_passes_a_batch_that_is_still_on_its_way() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&release);
    let mut bench = Bench::new();
    let late = bench.append(10)[3];
    let server = Server::start(move |request: Request<Bytes>| {
        let held = Arc::clone(&held);
        async move {
            let is_late = request.body().starts_with(format!("{{\"Id\":\"{late}\"").as_bytes());
            if is_late {
                held.acquire().await.unwrap().forget();
            }
            empty(StatusCode::OK)
        }
    })
    .await;
    let batch = "batch = { count = 1, age = \"10 ms\" }\nconcurrency = 3\nclient.timeout = \"1 hour\"\n";
    let run = bench.start(&format!("{}{batch}", ndjson(&server.url()))).await;
    let delivered =
        || bench.harness.metrics_text().contains("actlog_sink_delivered_total{sink=\"receiver\",kind=\"http\"} 9");
    while !delivered() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.harness.wait(|harness| harness.cursor() >= 3).await);
    // Time for a commit that must not come.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.harness.cursor(), 3);
    release.add_permits(1);
    bench.committed().await;
    Bench::stop(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_among_a_thousand_is_found_and_its_neighbours_arrive() {
    let receiver = Receiver::start(plain::Plain::ndjson()).await;
    let mut bench = Bench::new();
    let mut ids = bench.append(613);
    let mut record = Records::new(9).next_record();
    record.user_agent = Some(UNACCEPTABLE.into());
    let poison = bench.harness.append(&record);
    ids.extend(bench.append(386));
    let run =
        bench.start(&format!("url = \"{}\"\nformat = \"ndjson\"\nclient.allow_private = true\n", receiver.url())).await;
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    assert_eq!(bench.harness.dead_letters().keys().collect::<Vec<_>>(), [&poison]);
    // Halving: twice for each of the ten bits of a place among a thousand.
    assert!(receiver.seen().len() <= 2 * 10 + 2, "{} requests", receiver.seen().len());
    Bench::stop(run).await;
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_everything_makes_no_dead_letters_unless_that_is_what_is_wanted() {
    let receiver = Receiver::start(plain::Plain { most: 0, ..plain::Plain::ndjson() }).await;
    let mut bench = Bench::new();
    bench.append(100);
    let run = bench.start(&ndjson(&receiver.url())).await;
    let reason = bench::failure(run).await;
    assert!(reason.contains("status 413") && reason.contains("to each of 20 records; check url"), "{reason}");
    assert_eq!((bench.harness.cursor(), bench.harness.dead_letters().len()), (0, 0));
    let run = bench.start(&format!("{}status = {{ reject = [413] }}\n", ndjson(&receiver.url()))).await;
    bench.committed().await;
    assert_eq!(bench.harness.dead_letters().len(), 100);
    Bench::stop(run).await;
}

struct NoJournal;

#[async_trait]
impl Emit for NoJournal {
    fn prepare(
        &self,
        _: &str,
        _: Vec<actlog_core::AuditRecord<'_>>,
        _: Option<Vec<u8>>,
    ) -> Result<Prepared, EmitError> {
        Err(EmitError::Closed)
    }

    async fn submit(&self, _: Prepared) -> Result<Receipt, EmitError> {
        Err(EmitError::Closed)
    }

    async fn state_gap(&self, _: &str, _: Gap, _: Option<Vec<u8>>) -> Result<Receipt, EmitError> {
        Err(EmitError::Closed)
    }

    async fn reject(&self, _: &str, _: RejectedInput<'_>) -> Result<(), EmitError> {
        Ok(())
    }

    fn pressure(&self) -> Option<EmitError> {
        None
    }
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// Entries with these indices were given.
    Given(u64, u64),
    Committed(u64),
}

/// Gives what it is told, pull by pull.
struct Script {
    pulls: VecDeque<Vec<Entry>>,
    events: Arc<Mutex<Vec<Event>>>,
}

#[async_trait]
impl Pull for Script {
    async fn next(&mut self, _: usize, wait: Duration) -> Result<Vec<Entry>, SinkError> {
        let Some(entries) = self.pulls.pop_front() else {
            tokio::time::sleep(wait).await;
            return Ok(Vec::new());
        };
        let (first, last) = (entries.first().unwrap().index, entries.last().unwrap().index);
        self.events.lock().unwrap().push(Event::Given(first, last));
        Ok(entries)
    }

    async fn commit(&mut self, next_index: u64, _: Vec<u8>) -> Result<(), SinkError> {
        self.events.lock().unwrap().push(Event::Committed(next_index));
        Ok(())
    }

    async fn reject(&mut self, entry: &Entry, reason: &str) -> Result<(), SinkError> {
        panic!("entry {} is refused: {reason}", entry.index);
    }
}

/// While dead letters are tried again, what is committed is about them; so what was pulled before must be done with
/// first, and is committed with them.
#[tokio::test(start_paused = true)]
async fn dead_letters_that_are_tried_again_are_committed_behind_all_that_was_on_its_way() {
    let receiver = Receiver::start(plain::Plain::ndjson()).await;
    let harness = Bench::new();
    let journal = actlog_testkit::compliance::SinkHarness::new();
    let mut records = Records::new(5);
    for _ in 0..100 {
        journal.append(&records.next_record());
    }
    let entries = journal.entries();
    let of = |indices: &[usize]| indices.iter().map(|index| entries[*index].clone()).collect::<Vec<_>>();
    let events = Arc::new(Mutex::new(Vec::new()));
    let pulls = [entries[40..60].to_vec(), of(&[3, 17, 39]), entries[60..70].to_vec(), of(&[5])];
    let script = Script { pulls: pulls.into(), events: Arc::clone(&events) };
    // The first answers are late: everything is on its way when the letters come.
    receiver.answer_next(503, &[("retry-after", "60")], "");
    let config = format!("{}concurrency = 2\nbatch = {{ count = 7, age = \"10 ms\" }}\n", ndjson(&receiver.url()));
    let factory = (SinkDescriptor::of::<HttpSink>("test", "0.0.0").load)(toml::from_str(&config).unwrap()).unwrap();
    let mut context = BuildContext::new("/data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
    context.config_dir = harness.folder.path().to_owned();
    let sink = factory.build(&context).await.unwrap();
    let shutdown = CancellationToken::new();
    let (metrics, health) = (Metrics::default(), Health::default());
    let emitter = Emitter::new("receiver", Arc::new(NoJournal));
    let cx = SinkContext::new(emitter, Box::new(script), None, shutdown.clone(), metrics, health);
    let run = tokio::spawn(sink.run(cx));
    while events.lock().unwrap().last() != Some(&Event::Committed(6)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shutdown.cancel();
    run.await.unwrap().unwrap();
    let events = events.lock().unwrap();
    let at = |event: Event| events.iter().position(|found| *found == event).unwrap_or_else(|| panic!("{events:?}"));
    for (given, committed) in [(Event::Given(3, 39), Event::Committed(40)), (Event::Given(5, 5), Event::Committed(6))] {
        assert_eq!(at(committed), at(given) + 1, "nothing is pulled or committed between: {events:?}");
    }
    assert_eq!(receiver.ids().len(), 20 + 3 + 10 + 1);
}
