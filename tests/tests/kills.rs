//! `kill -9` in the middle of a pull: nothing is lost, and nothing comes twice. (The feed of Office 365 has a test of its
//! own, `office365.rs`; posts have `torture.rs`.)

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::process::{Actlog, wait_until};
use actlog_tests::{lines, records};
use serde_json::{Value, json};
use uuid::Uuid;

const SINK: &str =
    "\n[sinks.audit]\ntype = \"file\"\npath = \"{data_dir}/audit/{date}.jsonl\"\ncommit_interval = \"50 ms\"\n";

/// Kills the process each time that some more records have come, until all are there and the source has done what it
/// does then.
async fn kill_while_reading(
    folder: &Path,
    config: &str,
    (count, kills): (usize, usize),
    mut has_gone_on: impl FnMut(&Actlog) -> bool,
) -> Vec<Value> {
    let audit = folder.join("actlog-data/audit");
    let mut actlog = Actlog::start(folder, config).await;
    for kill in 1..=kills {
        let some = count * kill / (kills + 2);
        wait_until(&format!("{some} records"), async || lines(&audit) >= some).await;
        assert!(lines(&audit) < count, "the input is too short to be killed in its middle");
        actlog.process.kill();
        actlog.restart().await;
    }
    wait_until(&format!("{count} records"), async || lines(&audit) >= count).await;
    // What comes twice has come by then; stopping writes what the journal holds.
    wait_until("the source has gone on", async || has_gone_on(&actlog)).await;
    actlog.stop().await;
    records(&audit)
}

fn is_each_once(records: &[Value], key: &str, expected: impl Iterator<Item = String>) {
    let expected: BTreeSet<String> = expected.collect();
    let found: BTreeSet<String> = records.iter().map(|record| record[key].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected);
    assert_eq!(records.len(), expected.len(), "some records came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_the_audit_table_is_read_lose_and_double_no_row() {
    const ROWS: u128 = 3000;
    let server = DataverseServer::start().await;
    let row = |number: u128| Uuid::from_u128(number + 1);
    let begin = actlog_core::Clock::now(&actlog_core::SystemClock).plus_milliseconds(-3_600_000);
    for number in 0..ROWS {
        // Several rows at the same instant, as the table has them; more of them than a page holds.
        let created = begin.plus_milliseconds(i64::try_from(number / 70).unwrap() * 1000);
        server.insert(
            "audits",
            json!({ "auditid": row(number), "createdon": created, "action": 64, "operation": 4,
                    "objecttypecode": "systemuser", "_objectid_value": row(number), "_userid_value": row(number) }),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
    let config = format!(
        "{}\n[sources.administration]\ntype = \"admin\"\npoll = \"1 s\"\npage_size = 50\n\
         client = {{ allow_private = true }}\n{SINK}",
        server.organization("contoso")
    );
    // Having read the table to its end, it looks at it twice more.
    let looks = || server.requests().iter().filter(|request| request.path == "audits").count();
    let mut at_the_end = None;
    let looked_again = |_: &Actlog| looks() >= *at_the_end.get_or_insert_with(looks) + 2;
    let records = kill_while_reading(folder.path(), &config, (ROWS as usize, 4), looked_again).await;
    is_each_once(&records, "SystemUserId", (0..ROWS).map(|number| row(number).to_string()));
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_while_a_file_of_records_is_read_lose_and_double_no_line() {
    const RECORDS: u128 = 60_000;
    let mut text = String::new();
    let entity = |number: u128| Uuid::from_u128(number + 1).to_string();
    for number in 0..RECORDS {
        let record = json!({ "CreationTime": "2026-03-02T08:00:00Z", "Operation": "Update", "EntityName": "account",
                             "EntityId": entity(number) });
        writeln!(text, "{record}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("records.ndjson"), text).unwrap();
    // The listener that nobody uses keeps the process from ending by itself.
    let idle = actlog_testkit::process::free_address();
    let config = format!(
        "[sources.app]\ntype = \"records\"\npath = \"records.ndjson\"\nbatch_size = \"16 KiB\"\n\n\
         [sources.idle]\ntype = \"records\"\nlisten = \"{idle}\"\n{SINK}"
    );
    let has_ended = |actlog: &Actlog| {
        let status: Value = serde_json::from_slice(&actlog.command(&["status", "--json"]).stdout).unwrap();
        status["sources"]["app"]["status"] == "stopped"
    };
    let records = kill_while_reading(folder.path(), &config, (RECORDS as usize, 3), has_ended).await;
    is_each_once(&records, "EntityId", (0..RECORDS).map(entity));
}
