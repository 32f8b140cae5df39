//! What the tests share: a runtime in miniature, and what is in a message.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod receiver;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{AuditRecord, BuildContext, Sink, SinkPlugin, SystemClock};
use actlog_office::split::{NUMBERING, reassemble};
use actlog_sink_syslog::{SyslogConfig, SyslogSink};
use actlog_testkit::compliance::{DEADLINE, SinkHarness, SinkRun};
use actlog_testkit::storage::FaultStorage;
use tokio::time::Instant;
use uuid::Uuid;

/// What sinks of tests are built with; certificates are in `folder`.
pub(crate) fn build_context(folder: &Path) -> BuildContext {
    let mut context = BuildContext::new("/data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
    context.config_dir = folder.to_owned();
    context
}

/// A sink with this configuration, running.
pub(crate) async fn start(harness: &SinkHarness, config: &str, folder: &Path) -> SinkRun {
    let config: SyslogConfig = toml::from_str(config).unwrap();
    SyslogSink::validate(&config).unwrap();
    let sink: Box<dyn Sink> = Box::new(SyslogSink::build(&config, &build_context(folder)).await.unwrap());
    harness.start("siem", "syslog", sink)
}

/// Runs the sink until it has committed everything, and again after each failure, as the runtime does; then stops it.
/// Returns the reasons of the failures.
pub(crate) async fn deliver_all(harness: &SinkHarness, config: &str, folder: &Path) -> Vec<String> {
    let end = harness.entries().len() as u64;
    let deadline = Instant::now() + 3 * DEADLINE;
    let mut failures = Vec::new();
    loop {
        let mut run = start(harness, config, folder).await;
        while !run.is_finished() && harness.cursor() < end {
            assert!(Instant::now() < deadline, "the cursor is {} of {end}; failures: {failures:?}", harness.cursor());
            harness.wait_for(Duration::from_millis(50), |harness| harness.cursor() >= end).await;
        }
        run.shutdown.cancel();
        match run.finished(DEADLINE).await.expect("the sink ends when told to") {
            Err(error) => failures.push(error.to_string()),
            Ok(()) => assert!(harness.cursor() >= end, "the sink returned without an error before it was told to"),
        }
        if harness.cursor() >= end {
            return failures;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The JSON in an RFC 5424 message that was sent by this sink.
pub(crate) fn json(message: &str) -> &str {
    // Inside of structured data a quotation mark has a backslash before it, and so has a bracket.
    message.split_once("\"] ").unwrap_or_else(|| panic!("no structured data: {message}")).1
}

/// The records in messages, in order: the divided ones put together when their last part is there.
pub(crate) fn records<'m>(messages: impl IntoIterator<Item = &'m str>) -> Vec<AuditRecord<'static>> {
    let mut whole = Vec::new();
    let mut parts: Vec<AuditRecord<'static>> = Vec::new();
    for json in messages {
        let record = AuditRecord::decode(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
        let number = |name| Some(record.extra.get(name)?.get().parse::<usize>().unwrap());
        match (number(NUMBERING.0), number(NUMBERING.1)) {
            (Some(part), Some(count)) => {
                if part == 1 {
                    parts.clear();
                }
                parts.push(record);
                if part == count && parts.len() == count {
                    whole.push(reassemble(&parts).unwrap());
                }
            }
            _ => whole.push(record),
        }
    }
    whole
}

/// Ids of the records in CEF messages, in order: a divided one's when its last part is there. The parts' CorrelationId
/// is the Id of the whole.
pub(crate) fn ids_of_cef(messages: &[String]) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let mut parts = 0;
    for message in messages {
        let id = |key: &str| {
            let (_, behind) = message.split_once(key).unwrap_or_else(|| panic!("no {key} in {message}"));
            behind[..36].parse::<Uuid>().unwrap()
        };
        let number = |name: &str| {
            let (_, extra) = message.split_once(" actlogExtra=")?;
            let (_, behind) = extra.split_once(&format!("\"{name}\":"))?;
            behind.split([',', '}']).next()?.parse::<usize>().ok()
        };
        match (number(NUMBERING.0), number(NUMBERING.1)) {
            (Some(part), Some(count)) => {
                parts = if part == 1 { 1 } else { parts + 1 };
                if (part, parts) == (count, count) {
                    ids.push(id(" cs3="));
                }
            }
            _ => ids.push(id("|externalId=")),
        }
    }
    ids
}
