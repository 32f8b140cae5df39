//! From a post to a record in a file.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::path::Path;

use actlog_testkit::fixtures::webhook_captures;
use actlog_testkit::http::{Connection, post};
use actlog_testkit::process::{Actlog, free_address, wait_until};
use actlog_tests::{context, lines, records};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn config(address: std::net::SocketAddr, sink: &str) -> String {
    format!("[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n\n[sinks.audit]\ntype = \"file\"\n{sink}\n")
}

const JSONL: &str = "path = \"{data_dir}/audit/{date}.jsonl\"";

async fn wait_for_records(audit: &Path, count: usize) {
    wait_until(&format!("{count} records in {}", audit.display()), async || lines(audit) >= count).await;
}

#[tokio::test]
async fn a_posted_context_is_in_the_file_and_stays_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (address, audit) = (free_address(), folder.path().join("actlog-data/audit"));
    let mut actlog = Actlog::start(folder.path(), &config(address, JSONL)).await;
    let body = context("Update", "account", 1);
    assert_eq!(post(address, "/", &body).await.unwrap().status, 200);
    wait_for_records(&audit, 1).await;
    actlog.process.kill();
    actlog.restart().await;
    // The same body again is the same event; another one is not.
    assert_eq!(post(address, "/", &body).await.unwrap().status, 200);
    assert_eq!(post(address, "/", &context("Update", "account", 2)).await.unwrap().status, 200);
    wait_for_records(&audit, 2).await;
    actlog.stop().await;
    let records = records(&audit);
    assert_eq!(records.len(), 2, "{records:#?}");
    assert_eq!((&records[0]["Operation"], &records[0]["EntityName"]), (&"Update".into(), &"account".into()));
}

#[tokio::test]
async fn every_capture_is_accepted_and_becomes_a_record_of_its_own() {
    let Some(captures) = webhook_captures() else {
        actlog_testkit::skip!("the folder with captures is absent (ACTLOG_SHARED, or ../shared)");
    };
    let folder = tempfile::tempdir().unwrap();
    let (address, audit) = (free_address(), folder.path().join("actlog-data/audit"));
    let mut actlog = Actlog::start(folder.path(), &config(address, JSONL)).await;
    let mut connection = Connection::open(address).await.unwrap();
    let mut expected = 0;
    for capture in &captures {
        let answer = connection.request("POST", "/", &[JSON], &capture.bytes).await.unwrap();
        assert_eq!(answer.status, 200, "{}: {}", capture.name, answer.text());
        let parsed: serde_json::Value = serde_json::from_slice(&capture.bytes).unwrap();
        // The one message of the captures that the specification leaves out.
        expected += usize::from(parsed["MessageName"] != "WhoAmI");
    }
    wait_for_records(&audit, expected).await;
    actlog.stop().await;
    let records = records(&audit);
    assert_eq!(records.len(), expected);
    for record in &records {
        assert_eq!(record["RecordType"], 21, "{record:#}");
        for key in ["Operation", "EntityName", "Category", "Activity", "CreationTime", "PolicyVersion"] {
            assert!(!record[key].is_null(), "{key} is missing: {record:#}");
        }
    }
}

#[tokio::test]
async fn a_batch_is_one_answer_with_a_reason_for_each_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let (address, audit) = (free_address(), folder.path().join("actlog-data/audit"));
    let mut actlog = Actlog::start(folder.path(), &config(address, JSONL)).await;
    let mut connection = Connection::open(address).await.unwrap();
    let lines = [context("Create", "contact", 1), b"{\"a\":1}".to_vec(), context("Delete", "contact", 2)].join(&b'\n');
    let ndjson = ("Content-Type", "application/x-ndjson");
    let answer = connection.request("POST", "/", &[ndjson], &lines).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["accepted"], &body["rejected"][0]["line"]), (200, &2.into(), &2.into()), "{body}");
    assert!(body["rejected"][0]["reason"].as_str().unwrap().contains("MessageName"), "{body}");
    let answer = connection.request("POST", "/", &[ndjson], b"{}\n[]\n").await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    let array = [b"[".to_vec(), context("Create", "contact", 3), b"]".to_vec()].concat();
    let answer = connection.request("POST", "/", &[JSON], &array).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for_records(&audit, 3).await;
    actlog.stop().await;
}

/// The rows of a file in the specification's layout, as cells, without the header.
fn spec_rows(audit: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let file = std::fs::read_dir(audit).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace("&#124;", "|")).collect()
    };
    let mut rows: Vec<Vec<String>> = text.lines().filter(|line| !line.contains("---")).map(cells).collect();
    let header = rows.remove(0);
    (header, rows)
}

#[tokio::test]
async fn the_specifications_examples_come_out_in_its_layout_field_for_field() {
    let folder = tempfile::tempdir().unwrap();
    let (address, audit) = (free_address(), folder.path().join("actlog-data/audit"));
    let user = "3570e963-e69c-4f11-8a6b-000d3a318589";
    let sink = format!(
        "path = \"{{data_dir}}/audit/{{date}}.txt\"\nformat = \"spec\"\n\
         [sinks.audit.users.\"{user}\"]\nuser_key = \"10033XXXA49AXXXX\"\nclient_ip = \"131.107.XXX.XX\""
    );
    let mut actlog = Actlog::start(folder.path(), &config(address, &sink)).await;
    let mut connection = Connection::open(address).await.unwrap();
    let organization = ("x-ms-dynamics-organization", "orgname.onmicrosoft.com");
    // 2018-03-02T23:25:56Z, as all rows of the specification's examples have it.
    let created = "\\/Date(1520033156000)\\/";
    let account = "0a0d8709-711e-e811-a952-000d3a732d76";
    let common = |message: &str, entity: &str, id: &str, number: u32, correlation: &str| {
        format!(
            "{{\"CorrelationId\":\"{correlation}\",\"Depth\":1,\"InitiatingUserId\":\"{user}\",\"MessageName\":\"{message}\",\
             \"Mode\":0,\"OperationCreatedOn\":\"{created}\",\"OperationId\":\"00000000-0000-4000-8000-{number:012}\",\
             \"OrganizationId\":\"f42a590d-a29d-4f11-8a66-6045bd056902\",\"OrganizationName\":\"orgname\",\
             \"PrimaryEntityId\":\"{id}\",\"PrimaryEntityName\":\"{entity}\",\"Stage\":40,\"UserId\":\"{user}\""
        )
    };
    let none = "00000000-0000-0000-0000-000000000000";
    let contracts = "http:\\/\\/schemas.microsoft.com\\/xrm\\/2011\\/Contracts";
    let row = |id: &str| {
        format!("{{\"Attributes\":[{{\"key\":\"name\",\"value\":\"A\"}}],\"Id\":\"{id}\",\"LogicalName\":\"account\"}}")
    };
    let read = common("Retrieve", "account", account, 1, "10000000-0000-4000-8000-000000000001") + "}";
    let grid = common("RetrieveMultiple", "account", none, 2, "10000000-0000-4000-8000-000000000002")
        + &format!(
            ",\"InputParameters\":[{{\"key\":\"Query\",\"value\":{{\"__type\":\"QueryExpression:{contracts}\",\"Criteria\":{{\
             \"Conditions\":[{{\"AttributeName\":\"ownerid\",\"Operator\":41,\"Values\":[]}},\
             {{\"AttributeName\":\"statecode\",\"Operator\":0,\"Values\":[0]}}],\"FilterOperator\":0,\"Filters\":[]}},\
             \"EntityName\":\"account\",\"LinkEntities\":[]}}}}],\"OutputParameters\":[{{\"key\":\"BusinessEntityCollection\",\
             \"value\":{{\"__type\":\"EntityCollection:{contracts}\",\"Entities\":[{},{}],\"EntityName\":\"account\"}}}}]}}",
            row(account),
            row("dc136b61-6c1e-e811-a952-000d3a732d76")
        );
    let conversion = [
        ("Create", "contact", "23ad069e-4d22-e811-a953-000d3a732d76"),
        ("Create", "opportunity", "25ad069e-4d22-e811-a953-000d3a732d76"),
        ("Update", "opportunity", "25ad069e-4d22-e811-a953-000d3a732d76"),
        ("Update", "lead", "1cad069e-4d22-e811-a953-000d3a732d76"),
        ("Update", "lead", "1cad069e-4d22-e811-a953-000d3a732d76"),
    ];
    let mut bodies = vec![read, grid];
    for (number, (message, entity, id)) in (3..).zip(conversion) {
        bodies.push(common(message, entity, id, number, "10000000-0000-4000-8000-000000000003") + "}");
    }
    for body in &bodies {
        let answer = connection.request("POST", "/", &[JSON, organization], body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{}: {body}", answer.text());
    }
    wait_until("seven rows", async || lines(&audit) >= 8).await;
    actlog.stop().await;

    let (header, rows) = spec_rows(&audit);
    let names = [
        "ID",
        "UserKey",
        "ClientIP",
        "Operation",
        "Date",
        "EntityId",
        "EntityName",
        "Query",
        "QueryResults",
        "ItemURL",
    ];
    assert_eq!(header, names);
    // Example 1; the ID is of the event's own.
    let item_url = format!("https://orgname.onmicrosoft.com/main.aspx?etn=account&pagetype=entityrecord&id={account}");
    let common = ["10033XXXA49AXXXX", "131.107.XXX.XX"];
    let date = "3/2/2018 11:25:56 PM";
    assert_eq!(rows[0][1..], [common[0], common[1], "Retrieve", date, account, "Account", "N/A", "N/A", &item_url]);
    // Example 2.
    let query = "<filter type=\"and\"><condition column=\"ownerid\" operator=\"eq-userid\" />\
                 <condition column=\"statecode\" operator=\"eq\" value=\"0\" /></filter>";
    let results = format!("{account}, dc136b61-6c1e-e811-a952-000d3a732d76");
    assert_eq!(
        rows[1][1..],
        [common[0], common[1], "RetrieveMultiple", date, "N/A", "Account", query, &results, "N/A"]
    );
    // Example 3.
    let converted: Vec<_> =
        rows[2..].iter().map(|row| (row[3].as_str(), row[6].to_lowercase(), row[5].as_str())).collect();
    let expected: Vec<_> =
        conversion.iter().map(|(message, entity, id)| (*message, (*entity).to_owned(), *id)).collect();
    assert_eq!(converted, expected);
    let ids: std::collections::HashSet<_> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(ids.len(), 7, "every event has an ID of its own");
}
