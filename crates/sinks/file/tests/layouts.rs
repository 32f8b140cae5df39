//! What the files look like.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are parts of tests, where a panic is a failure"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use actlog_core::{AuditRecord, Entry, EntryKind, Extra, Field, Timestamp};
use common::{Bench, entry, record_entry, records};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}

/// The cells of a line of the spec layout.
fn cells(line: &str) -> Vec<&str> {
    line.strip_prefix("| ").unwrap().strip_suffix(" |").unwrap().split(" | ").collect()
}

const USER: &str = "3570e963-e69c-4f11-8a6b-000d3a318589";

fn base(id: &str, operation: &'static str, entity: &'static str) -> AuditRecord<'static> {
    AuditRecord {
        id: uuid(id),
        operation: operation.into(),
        creation_time: Timestamp::parse("2018-03-02T23:25:56Z").unwrap(),
        entity_name: Some(entity.into()),
        system_user_id: Some(uuid(USER)),
        ..Default::default()
    }
}

fn spec(extra: serde_json::Value) -> serde_json::Value {
    let mut config = json!({
        "path": "{data_dir}/audit.md", "format": "spec",
        "users": { USER: { "user_key": "10033XXXA49AXXXX", "client_ip": "131.107.XXX.XX" } },
    });
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    config
}

#[tokio::test]
async fn the_specifications_examples_1_and_2_come_out_field_for_field() {
    let account = "0a0d8709-711e-e811-a952-000d3a732d76";
    let url = format!("https://orgname.onmicrosoft.com/main.aspx?etn=account&pagetype=entityrecord&id={account}");
    let filter = r#"<filter type="and"><condition column="ownerid" operator="eq-userid" /><condition column="statecode" operator="eq" value="0" /></filter>"#;
    let read = AuditRecord {
        entity_id: Some(uuid(account)),
        item_url: Some(url.clone().into()),
        ..base("50e01c88-2e43-4005-8be8-9ceb172e2e90", "Retrieve", "account")
    };
    let grid = AuditRecord {
        query: Some(filter.into()),
        query_results: vec![uuid(account), uuid("dc136b61-6c1e-e811-a952-000d3a732d76")],
        ..base("ef83f463-b92f-455e-97a6-2060a47efe33", "RetrieveMultiple", "account")
    };
    let bench = Bench::new(spec(json!({})), vec![record_entry(0, &read), record_entry(1, &grid)]);
    bench.run().await.unwrap();
    let lines = bench.only_file();
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
    assert_eq!(cells(&lines[0]), names);
    assert_eq!(lines[1], "|---|---|---|---|---|---|---|---|---|---|");
    let (key, ip, date) = ("10033XXXA49AXXXX", "131.107.XXX.XX", "3/2/2018 11:25:56 PM");
    let first =
        ["50e01c88-2e43-4005-8be8-9ceb172e2e90", key, ip, "Retrieve", date, account, "Account", "N/A", "N/A", &url];
    assert_eq!(cells(&lines[2]), first);
    let results = format!("{account}, dc136b61-6c1e-e811-a952-000d3a732d76");
    let id = "ef83f463-b92f-455e-97a6-2060a47efe33";
    let second = [id, key, ip, "RetrieveMultiple", date, "N/A", "Account", filter, &results, "N/A"];
    assert_eq!(cells(&lines[3]), second);
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn the_specifications_example_3_comes_out_field_for_field() {
    let rows = [
        (
            "53c98033-cca4-4420-97e4-4c1b4f81e062",
            "23ad069e-4d22-e811-a953-000d3a732d76",
            "contact",
            "Contact",
            "Create",
        ),
        (
            "5aca837c-a1f5-4801-b770-5c66183a58aa",
            "25ad069e-4d22-e811-a953-000d3a732d76",
            "opportunity",
            "Opportunity",
            "Create",
        ),
        (
            "c9585748-fdbf-4ff7-970c-bb37f6aa2c36",
            "25ad069e-4d22-e811-a953-000d3a732d76",
            "opportunity",
            "Opportunity",
            "Update",
        ),
        ("a0469f30-078b-419d-be61-b04c9a34121f", "1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Lead", "Update"),
        ("0975bceb-07c7-4dc2-b621-5a7b245c36a4", "1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Lead", "Update"),
    ];
    let entries = rows.iter().enumerate().map(|(index, (id, entity, name, _, operation))| {
        record_entry(index as u64, &AuditRecord { entity_id: Some(uuid(entity)), ..base(id, operation, name) })
    });
    let config = spec(json!({ "columns": ["ID", "EntityID", "EntityName", "Operation"] }));
    let bench = Bench::new(config, entries.collect());
    bench.run().await.unwrap();
    let lines = bench.only_file();
    assert_eq!(lines[..2], ["| ID | EntityID | EntityName | Operation |", "|---|---|---|---|"]);
    for (line, (id, entity, _, display_name, operation)) in lines[2..].iter().zip(&rows) {
        assert_eq!(cells(line), [*id, entity, display_name, operation]);
    }
    assert_eq!(lines.len(), 7);
}

#[tokio::test]
async fn the_spec_layout_takes_display_names_from_the_table_and_fills_only_what_is_absent() {
    let id = "53c98033-cca4-4420-97e4-4c1b4f81e062";
    let known = AuditRecord { client_ip: Some("10.0.0.1".into()), ..base(id, "Update", "incident") };
    let other = AuditRecord { system_user_id: None, ..base(id, "Up|date", "new_project") };
    let config = spec(
        json!({ "display_names": { "incident": "Case" }, "columns": ["entityname", "ClientIP", "UserKey", "Operation"] }),
    );
    let bench = Bench::new(config, vec![record_entry(0, &known), record_entry(1, &other)]);
    bench.run().await.unwrap();
    let lines = bench.only_file();
    assert_eq!(lines[0], "| entityname | ClientIP | UserKey | Operation |");
    assert_eq!(lines[2], "| Case | 10.0.0.1 | 10033XXXA49AXXXX | Update |");
    assert_eq!(lines[3], r"| new_project | N/A | N/A | Up\|date |");
}

#[tokio::test]
async fn proof_adds_index_and_salt_and_the_stored_bytes_come_back_exactly() {
    let bench = Bench::new(json!({ "path": "{data_dir}/a.jsonl", "proof": true }), records(20));
    bench.run().await.unwrap();
    for (line, entry) in bench.only_file().iter().zip(&*bench.entries) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["JournalIndex"], entry.index);
        assert_eq!(value["JournalSalt"], format!("{:02x}", entry.salt[0]).repeat(32));
        let (members, _) = line.rsplit_once(r#","JournalIndex":"#).unwrap();
        assert_eq!(format!("{members}}}").as_bytes(), entry.bytes);
    }
    for format in ["csv", "spec"] {
        let config = json!({ "path": "{data_dir}/a", "format": format, "proof": true, "columns": ["Id"] });
        let bench = Bench::new(config, records(1));
        bench.run().await.unwrap();
        let lines = bench.only_file();
        assert!(lines[0].contains("JournalSalt") && lines.last().unwrap().contains(&"00".repeat(32)), "{lines:?}");
    }
}

#[tokio::test]
async fn statements_are_lines_of_their_own_only_when_asked_for() {
    let mut entries = records(3);
    entries[1] =
        Entry { kind: EntryKind::Statement, ..entry(1, r#"{"Statement":"stop","Time":"2018-03-02T23:25:56Z"}"#) };
    for wanted in [false, true] {
        let config = json!({ "path": "{data_dir}/{source}.jsonl", "statements": wanted });
        let bench = Bench::new(config, entries.clone());
        bench.run().await.unwrap();
        let files: BTreeMap<_, _> =
            bench.files().into_iter().map(|(path, lines)| (path.display().to_string(), lines.len())).collect();
        assert_eq!(files.get("/data/none.jsonl"), wanted.then_some(&1));
        assert_eq!(files["/data/crm.jsonl"], 2);
    }
}

#[tokio::test]
async fn what_can_have_no_line_goes_to_the_dead_letters_and_the_rest_is_written() {
    for (format, lines) in [("jsonl", 3), ("csv", 3 + 1)] {
        let mut entries = records(3);
        let odd = if format == "jsonl" { "{\"Id\":\n1}" } else { "[1]" };
        entries.insert(0, entry(0, odd));
        entries.push(entry(4, odd));
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.index = index as u64;
        }
        let bench = Bench::new(json!({ "path": "{data_dir}/a", "format": format }), entries);
        bench.run().await.unwrap();
        assert_eq!(bench.only_file().len(), lines, "{format}");
        let rejected: Vec<_> = bench.rejected.lock().unwrap().iter().map(|(index, _)| *index).collect();
        assert_eq!(rejected, [0, 4], "{format}: {:?}", bench.rejected);
        assert_eq!(bench.figure("rejected_total"), 2);
    }
}

#[tokio::test]
async fn the_entry_that_is_rejected_is_the_right_one_behind_a_file_that_was_begun() {
    let mut entries = records(7);
    assert!(entries[6].bytes.ends_with(br#""Source":"crm"}"#), "goes to a file that is open by then");
    let split = [b"{\n", &entries[6].bytes[1..]].concat();
    entries[6].bytes = split.into();
    let bench = Bench::new(json!({ "path": "{data_dir}/{source}.jsonl" }), entries);
    bench.run().await.unwrap();
    let rejected = bench.rejected.lock().unwrap().clone();
    assert_eq!(rejected, [(6, "the record has a line end in it".to_owned())]);
    assert_eq!(bench.files().iter().map(|(_, lines)| lines.len()).collect::<Vec<_>>(), [3, 3]);
}

#[tokio::test]
async fn a_file_whose_only_record_was_rejected_has_no_header_either() {
    let bench = Bench::new(json!({ "path": "{data_dir}/a.csv", "format": "csv" }), vec![entry(0, "[1]")]);
    bench.run().await.unwrap();
    assert!(bench.only_file().is_empty());
}

#[tokio::test]
async fn routes_name_organisations_as_the_deployment_does_and_no_value_leaves_its_folder() {
    let organization = uuid("f42a590d-a29d-4f11-8a66-6045bd056902");
    let place = |name: Option<&'static str>, id: Option<Uuid>| AuditRecord {
        crm_organization_unique_name: name.map(Into::into),
        organization_id: id,
        source: Some("../../etc/passwd\0\u{202e}".into()),
        ..Default::default()
    };
    let places = [
        place(Some("contoso"), Some(organization)),
        place(None, Some(organization)),
        place(Some("..\u{fc}/x"), None),
        place(None, None),
    ];
    let entries = places.iter().enumerate().map(|(index, record)| record_entry(index as u64, record));
    let bench = Bench::new(
        json!({ "path": "{data_dir}/{name}/{source}/{organization}-{date}T{hour}.jsonl" }),
        entries.collect(),
    );
    let bench = Bench { pace: Duration::from_secs(1), ..bench };
    bench.run().await.unwrap();
    let paths: Vec<_> = bench.files().into_iter().map(|(path, _)| path.display().to_string()).collect();
    let file = |organization: &str| format!("/data/audit/_._.._etc_passwd__/{organization}-2018-03-02T20.jsonl");
    assert_eq!(paths, [file("_.__x"), file("contoso"), file(&organization.to_string()), file("none")]);
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just("\0"),
        Just("\u{2028}"),
        Just("\u{85}"),
        Just("=1"),
        Just("@x"),
        Just("\""),
        Just("|"),
        Just(","),
        Just("\\"),
        Just("\u{1b}[2J"),
        Just("\u{202e}"),
        Just("text"),
        Just(" "),
        Just("}"),
    ];
    prop_oneof![proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()), any::<String>()]
}

prop_compose! {
    fn any_record()(texts in proptest::collection::vec(hostile(), 9), id: u128, truncated: bool) -> AuditRecord<'static> {
        let mut extra = Extra::default();
        extra.insert(texts[0].clone(), texts[1].as_str());
        AuditRecord {
            id: Uuid::from_u128(id),
            operation: texts[2].clone().into(),
            user_id: Some(texts[3].clone().into()),
            user_agent: Some(texts[4].clone().into()),
            query: Some(texts[5].clone().into()),
            fields: vec![Field::new(texts[6].clone(), texts[7].clone())],
            entity_name: Some(texts[8].clone().into()),
            query_results: vec![Uuid::from_u128(id); 2],
            truncated,
            extra,
            ..Default::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_record_is_one_line_in_every_layout_whatever_it_holds(records in proptest::collection::vec(any_record(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entries: Vec<_> = records.iter().enumerate().map(|(index, record)| record_entry(index as u64, record)).collect();
        for (format, header) in [("jsonl", 0), ("csv", 1), ("spec", 2)] {
            let bench = Bench::new(json!({ "path": "{data_dir}/a", "format": format }), entries.clone());
            runtime.block_on(bench.run()).unwrap();
            let lines = bench.only_file();
            prop_assert_eq!(lines.len(), header + records.len(), "{}: {:?}", format, lines);
            for (line, record) in lines[header..].iter().zip(&records) {
                match format {
                    "jsonl" => prop_assert_eq!(&AuditRecord::decode(line.as_bytes()).unwrap(), record),
                    "csv" => {
                        let mut reader = csv::ReaderBuilder::new().from_reader(lines[0].as_bytes());
                        let columns = reader.headers().unwrap().clone();
                        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
                        let row = reader.records().next().unwrap().unwrap();
                        prop_assert_eq!(row.len(), columns.len());
                        let cell = |name| &row[columns.iter().position(|column| column == name).unwrap()];
                        prop_assert_eq!(cell("Id"), record.id.to_string());
                        let fields: Vec<Field<'_>> = serde_json::from_str(cell("Fields")).unwrap();
                        prop_assert_eq!(&fields, &record.fields);
                        prop_assert!(reader.records().next().is_none());
                    }
                    _ => prop_assert_eq!(line.replace("\\\\", "").replace("\\|", "").matches('|').count(), 11),
                }
            }
        }
    }
}
