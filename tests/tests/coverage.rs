//! Rows of the specification's tables, through the whole program: what is done in Dynamics 365 is in the log, as what it
//! was. `docs/coverage.md` names these tests among others.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use actlog_testkit::fixtures::workspace;
use actlog_testkit::http::{Connection, post};
use actlog_testkit::process::{Actlog, free_address, wait_until};
use actlog_tests::{context, records};
use serde_json::{Value, json};

/// A running actlog whose records are in a file.
struct World {
    actlog: Actlog,
    folder: tempfile::TempDir,
    /// Where the source `dynamics` listens.
    address: SocketAddr,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = format!(
            "[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n\n\
             [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n"
        );
        let actlog = Actlog::start(folder.path(), &config).await;
        Self { actlog, folder, address }
    }

    async fn post(&self, body: &[u8]) {
        let answer = post(self.address, "/", body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Posts contexts that this project has generated, by the names of their files.
    async fn post_generated(&self, names: &[&str]) {
        for name in names {
            self.post(&generated(name)).await;
        }
    }

    fn publish(&self, policy: &str) {
        std::fs::write(self.folder.path().join("draft.toml"), policy).unwrap();
        for arguments in [&["policy", "draft", "draft.toml"][..], &["policy", "publish"]] {
            let output = self.actlog.command(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Waits for so many records, stops, and gives them.
    async fn records(mut self, count: usize) -> Vec<Value> {
        let audit = self.folder.path().join("actlog-data/audit");
        wait_until(&format!("{count} records"), async || lines(&audit) >= count).await;
        self.actlog.stop().await;
        let records = records(&audit);
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }
}

/// Whole lines in the files of a folder, while they are being written.
fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    files.map(|file| std::fs::read(file.path()).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()).sum()
}

fn generated(name: &str) -> Vec<u8> {
    std::fs::read(workspace().join("crates/dataverse/tests/data").join(name).with_extension("json")).unwrap()
}

/// A text member of a record.
fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_lead_conversion_arrives_as_five_records_that_one_correlation_id_ties_together() {
    // The specification's third example: its rows, in its order.
    const ROWS: [(&str, &str, &str); 5] = [
        ("23ad069e-4d22-e811-a953-000d3a732d76", "contact", "Create"),
        ("25ad069e-4d22-e811-a953-000d3a732d76", "opportunity", "Create"),
        ("25ad069e-4d22-e811-a953-000d3a732d76", "opportunity", "Update"),
        ("1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Update"),
        ("1cad069e-4d22-e811-a953-000d3a732d76", "lead", "Update"),
    ];
    let world = World::start().await;
    let request = "6ecece63-1c9c-4e15-9be4-d166ee6e4cf0";
    for (number, (id, entity, message)) in ROWS.into_iter().enumerate() {
        // Synchronous steps of one request share its OperationId; what they did differs.
        let body = json!({
            "MessageName": message, "PrimaryEntityName": entity, "PrimaryEntityId": id, "Stage": 40, "Mode": 0, "Depth": 2,
            "OperationId": request, "RequestId": request, "CorrelationId": request,
            "OrganizationId": "f42a590d-a29d-4f11-8a66-6045bd056902",
            "InputParameters": [{ "key": "Target", "value": {
                "__type": "Entity:http://schemas.microsoft.com/xrm/2011/Contracts", "LogicalName": entity, "Id": id,
                "Attributes": [{ "key": "description", "value": format!("step {number}") }],
            } }],
        });
        world.post(body.to_string().as_bytes()).await;
    }
    let records = world.records(5).await;
    let rows: Vec<_> =
        records.iter().map(|record| (text(record, "EntityId"), text(record, "EntityName"), text(record, "Operation")));
    assert_eq!(rows.collect::<Vec<_>>(), ROWS);
    let distinct = |key: &str| records.iter().map(|record| text(record, key)).collect::<BTreeSet<_>>();
    assert_eq!(distinct("CorrelationId"), BTreeSet::from([request]));
    assert_eq!(distinct("Id").len(), 5);
}

#[tokio::test]
async fn creating_reading_updating_and_deleting_a_row_are_recorded_as_what_they_are() {
    let world = World::start().await;
    let messages = ["Create", "Retrieve", "Update", "Delete"];
    for (number, message) in (1..).zip(messages) {
        world.post(&context(message, "account", number)).await;
    }
    world.post_generated(&["create-systemuser"]).await;
    let records = world.records(5).await;
    let categories: Vec<_> =
        records.iter().map(|record| (text(record, "Operation"), text(record, "Category"))).collect();
    let expected = [("Create", "Create"), ("Retrieve", "Read"), ("Update", "Update"), ("Delete", "Delete")];
    assert_eq!(categories[..4], expected);
    assert!(records[..4].iter().all(|record| text(record, "EntityName") == "account"));
    let values = &records[4]["Fields"];
    assert!(
        values.as_array().unwrap().contains(&json!({ "Name": "domainname", "Value": "kim@contoso.com" })),
        "{values}"
    );
}

#[tokio::test]
async fn rows_seen_in_lists_and_rows_exported_to_excel_are_named_with_the_query_that_chose_them() {
    let world = World::start().await;
    world
        .post_generated(&[
            "retrievemultiple-queryexpression-account",
            "retrievemultiple-fetchexpression-account",
            "exporttoexcel",
            "retrievemultiple-under-exporttoexcel",
        ])
        .await;
    let records = world.records(4).await;
    let operations: Vec<_> = records.iter().map(|record| text(record, "Operation")).collect();
    assert_eq!(operations, ["RetrieveMultiple", "RetrieveMultiple", "ExportToExcel", "ExportToExcel"]);
    for record in &records {
        assert_eq!((text(record, "Category"), text(record, "EntityName")), ("ReadMultiple", "account"), "{record:#}");
        assert!(text(record, "Query").starts_with("<filter type=\"and\"><condition column="), "{record:#}");
    }
    for with_rows in [&records[0], &records[1], &records[3]] {
        assert_eq!(with_rows["QueryResults"].as_array().map(Vec::len), Some(2), "{with_rows:#}");
    }
    assert_eq!(records[3]["CorrelationId"], records[2]["CorrelationId"], "the export and its rows belong together");
}

#[tokio::test]
async fn administration_that_dynamics_posts_is_told_from_use() {
    let world = World::start().await;
    let posts = [
        ("publish-all", "PublishAllXml", "AdminCustomization"),
        ("importsolution", "ImportSolution", "AdminSolution"),
        ("addmembers-team", "AddMembersTeam", "AdminSecurity"),
        ("associate-systemuserroles", "Associate", "AdminSecurity"),
        ("create-systemuser", "Create", "Create"),
    ];
    world.post_generated(&posts.map(|(name, ..)| name)).await;
    let records = world.records(posts.len()).await;
    for (record, (_, operation, category)) in records.iter().zip(posts) {
        assert_eq!((text(record, "Operation"), text(record, "Category")), (operation, category));
        assert_eq!(text(record, "Activity"), "Accessed admin entity", "{record:#}");
    }
    // Who was added to the team.
    assert_eq!(records[2]["LinkedResults"].as_array().map(Vec::len), Some(2), "{:#}", records[2]);
}

#[tokio::test]
async fn what_support_does_is_told_from_what_users_do_by_rule() {
    let world = World::start().await;
    // The user of the generated contexts; each has another one that initiates it, or none.
    world.publish(
        "[[rules]]\nname = \"support\"\naction = \"support-user\"\n\
         system_user_ids = [\"3570e963-e69c-4f11-8a6b-000d3a318589\"]\n",
    );
    world.post_generated(&["create-systemuser", "retrieve-account", "setstate-incident"]).await;
    world.post(&context("Update", "account", 1)).await;
    let records = world.records(4).await;
    let types: Vec<_> = records.iter().map(|record| record["UserType"].as_i64()).collect();
    assert_eq!(types, [Some(3), Some(3), Some(3), None], "{records:#?}");
}

#[tokio::test]
async fn calls_of_apps_through_the_sdk_say_which_program_made_them() {
    let world = World::start().await;
    let mut body: Value = serde_json::from_slice(&context("Update", "account", 1)).unwrap();
    body["InitiatingUserAgent"] = json!("Contoso.Sync/2.1 (DataverseSvcClient:1.1.0.11)");
    body["SharedVariables"] = json!([{ "key": "x-ms-app-name", "value": "contoso_surround" }]);
    let mut connection = Connection::open(world.address).await.unwrap();
    let headers = [("Content-Type", "application/json"), ("x-ms-dynamics-organization", "contoso.crm.dynamics.com")];
    let answer = connection.request("POST", "/", &headers, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(connection);
    let record = world.records(1).await.remove(0);
    assert_eq!(text(&record, "UserAgent"), "Contoso.Sync/2.1 (DataverseSvcClient:1.1.0.11)", "{record:#}");
    assert_eq!(text(&record, "AppName"), "contoso_surround", "{record:#}");
    assert_eq!(text(&record, "InstanceUrl"), "https://contoso.crm.dynamics.com");
}
