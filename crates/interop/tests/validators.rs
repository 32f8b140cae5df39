//! What others made to check these formats agrees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use actlog_core::{AuditRecord, Timestamp};
use actlog_interop::{cloudevents, ocsf, otlp};
use serde_json::Value;

/// Runs a script of `tests/peers` with this input; what it printed. None where the counterpart can't be had.
fn check(script: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let python = actlog_testkit::peers::python()?;
    let script = actlog_testkit::fixtures::workspace().join("tests/peers").join(script);
    let mut command = Command::new(python);
    command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A script that ends before it has read everything says why itself.
        scope.spawn(move || stdin.write_all(input));
        process.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// One line for each record.
fn lines(records: &[AuditRecord<'_>], write: impl Fn(&AuditRecord<'_>, &mut Vec<u8>)) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        write(record, &mut lines);
        lines.push(b'\n');
    }
    lines
}

#[test]
fn events_of_every_class_and_record_are_valid_ocsf() {
    let Some(counts) = check("check_ocsf.py", &[ocsf::VERSION], &lines(&common::samples(), ocsf::event)) else {
        return;
    };
    let classes: Vec<_> = counts.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(classes, ["3001", "3002", "3004", "3005", "3006", "6003", "6005"], "{counts}");
}

/// The records as `write` has them, between `begin` and `end`, with commas between.
fn list(
    records: &[AuditRecord<'_>],
    begin: &[u8],
    write: impl Fn(&AuditRecord<'_>, &[u8], &mut Vec<u8>),
    end: &[u8],
) -> Vec<u8> {
    let (mut list, mut body) = (begin.to_vec(), Vec::new());
    for (place, record) in records.iter().enumerate() {
        if place > 0 {
            list.push(b',');
        }
        body.clear();
        record.encode(&mut body).unwrap();
        write(record, &body, &mut list);
    }
    list.extend_from_slice(end);
    list
}

/// The record as JSON.
fn keys(record: &AuditRecord<'_>) -> Value {
    serde_json::to_value(record).unwrap()
}

/// The lines that a script printed, as JSON.
fn objects(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_cloudevents_sdk_reads_what_the_record_says() {
    let samples = common::samples();
    let Some(printed) = check("check_cloudevents.py", &[], &list(&samples, b"[", cloudevents::event, b"]")) else {
        return;
    };
    let events = objects(&printed);
    assert_eq!(events.len(), samples.len());
    for (event, record) in events.iter().zip(&samples) {
        assert_eq!(event["id"], record.id.to_string());
        let time = Timestamp::parse(event["time"].as_str().unwrap()).unwrap();
        assert_eq!(time, record.creation_time);
        let kind = event["type"].as_str().unwrap();
        assert_eq!(kind, format!("actlog.{}.{}", record.workload, record.operation));
        if let (Some(name), Some(id)) =
            (record.entity_name.as_deref().filter(|name| *name != "Unknown"), record.entity_id)
        {
            assert_eq!(event["subject"], format!("{name}/{id}"));
        }
        assert_eq!(event["data"], keys(record));
    }
}

#[test]
fn the_messages_of_the_otlp_protocol_hold_what_the_record_says() {
    let samples = common::samples();
    let (mut begin, mut end) = (Vec::new(), Vec::new());
    otlp::begin(&mut begin);
    otlp::end(&mut end);
    let Some(printed) = check("check_otlp.py", &[], &list(&samples, &begin, otlp::log_record, &end)) else { return };
    let logs = objects(&printed);
    assert_eq!(logs.len(), samples.len());
    let nanoseconds = |time: Timestamp| u64::try_from(time.unix_milliseconds()).unwrap() * 1_000_000;
    for (log, record) in logs.iter().zip(&samples) {
        assert_eq!((&log["service"], &log["scope"]), (&"actlog".into(), &"actlog".into()));
        assert_eq!(log["time"], nanoseconds(record.creation_time));
        assert_eq!(log["observed"], record.collected_time.map_or(0, nanoseconds));
        let failed = record.result_status.as_deref() == Some("Failed") || record.operation == "UserLoginFailed";
        assert_eq!(log["severity"], if failed { 13 } else { 9 });
        assert_eq!(log["event"], format!("actlog.{}.{}", record.workload, record.operation));
        assert_eq!(log["trace"], "");
        let attribute = |name: &str| &log["attributes"][name];
        assert_eq!(attribute("log.record.uid")["value"], record.id.to_string());
        if let Some(port) = record.client_port {
            assert_eq!(*attribute("client.port"), serde_json::json!({ "kind": "int_value", "value": port }));
        }
        if let Some(name) = record.entity_name.as_deref().filter(|name| !name.is_empty()) {
            assert_eq!(attribute("db.collection.name")["value"], name);
        }
        assert_eq!(serde_json::from_str::<Value>(log["body"].as_str().unwrap()).unwrap(), keys(record));
    }
}
