//! Rows of the specification's tables, through the whole program: what is done in Dynamics 365 is in the log, as what it
//! was. `docs/coverage.md` names these tests among others.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::fixtures::workspace;
use actlog_testkit::http::{Connection, post};
use actlog_testkit::process::{Actlog, Process, binary, free_address, wait_until};
use actlog_tests::{context, lines, records};
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
    let rows = records.iter();
    let rows = rows.map(|record| (text(record, "EntityId"), text(record, "EntityName"), text(record, "Operation")));
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

/// Reads what sources have in their files through a whole run of the program, which ends by itself.
async fn read_files(files: &[(&str, &str)], sources: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let config = format!(
        "admin.listen = \"off\"\n{sources}\n[sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n"
    );
    std::fs::write(folder.path().join("actlog.toml"), config).unwrap();
    let mut command = Command::new(binary());
    command.arg("run").current_dir(folder.path());
    let mut run = Process::start("run", folder.path(), &mut command);
    assert!(run.ended().await.success(), "{}", run.stderr());
    records(&folder.path().join("actlog-data/audit"))
}

/// The specification's row that each record belongs to, and what the policy makes of it.
fn rows(records: &[Value]) -> Vec<[&str; 4]> {
    fn row(record: &Value) -> [&str; 4] {
        let event = text(&record["Extra"], "AdminEvent");
        [text(record, "Operation"), event, text(record, "Category"), text(record, "Activity")]
    }
    records.iter().map(row).collect()
}

#[tokio::test]
async fn backups_restores_and_environments_are_told_by_what_the_admin_center_reports() {
    const CENTER: &str = "Accessed Dynamics 365 admin center";
    let record = |number: u32, operation: &str, environment: &str| {
        let property = |name: &str, value: &str| json!({ "Name": name, "Value": value });
        json!({
            "Id": uuid::Uuid::from_u128(u128::from(number)), "RecordType": 256, "Version": 1, "Workload": "PowerPlatform",
            "CreationTime": format!("2026-01-01T00:00:{number:02}"), "Operation": operation, "UserType": 2,
            "OrganizationId": "41463f53-8812-40f4-890f-865bf6e35190", "ResultStatus": "Succeeded",
            "PropertyCollection": [
                property("powerplatform.analytics.activity.name", operation),
                property("powerplatform.analytics.resource.environment.id", environment),
                property("enduser.principal_name", "ann@contoso.com"),
                property("enduser.ip_address", "131.107.1.20"),
                property("version", "1.0"),
                property("type", "PowerPlatformAdministratorActivityRecord"),
            ],
        })
        .to_string()
    };
    let events = [
        ("Backed up environment", "Backup and restore"),
        ("RestoredEnvironment", "Backup and restore"),
        ("Provisioned environment", "Manage applications"),
        ("Deleted environment", "Manage applications"),
        ("TrialConvertToProduction", "Manage applications"),
    ];
    let environment = "0d6fb9a3-7f1b-4e3c-9a1e-2f7d6c5b4a39";
    let lines = (1..).zip(events).map(|(number, (operation, _))| record(number, operation, environment) + "\n");
    let lines: String = lines.collect();
    let source = "[sources.center]\ntype = \"admin\"\npath = \"center.ndjson\"\nformat = \"office\"\n";
    let records = read_files(&[("center.ndjson", &lines)], source).await;
    let expected: Vec<_> = events.map(|(operation, row)| [operation, row, "AdminOrganization", CENTER]).into();
    assert_eq!(rows(&records), expected);
    for record in &records {
        assert_eq!(
            (text(record, "UserId"), text(record, "ClientIP")),
            ("ann@contoso.com", "131.107.1.20"),
            "{record:#}"
        );
        assert!(record.to_string().contains(environment), "{record:#}");
    }
}

#[tokio::test]
async fn reports_viewed_exported_and_drawn_are_read_from_the_report_servers_own_log() {
    let log = "\
InstanceName,ItemPath,UserName,ExecutionId,RequestType,Format,ItemAction,TimeStart,Status
SQL1,/Contoso_MSCRM/Top Accounts,CONTOSO\\ann,a1,Interactive,RPL,Render,2018-03-02 23:25:56.250,rsSuccess
SQL1,/Contoso_MSCRM/Top Accounts,CONTOSO\\ann,a1,Interactive,EXCELOPENXML,Render,2018-03-02 23:26:10,rsSuccess
SQL1,/Contoso_MSCRM/Top Accounts,CONTOSO\\ann,a1,Interactive,IMAGE,Render,2018-03-02 23:26:12,rsSuccess
";
    let source = "[sources.reports]\ntype = \"admin\"\npath = \"log.csv\"\nformat = \"execution-log\"\n";
    let records = read_files(&[("log.csv", log)], source).await;
    const REPORT: &str = "Accessed out-of-box entity";
    let expected = [
        ["ReportViewed", "Report Viewed", "Read", REPORT],
        ["ReportViewerExport", "Report Viewer Export", "Export", REPORT],
        ["ReportViewerRenderImage", "Report Viewer Render Image", "Read", REPORT],
    ];
    assert_eq!(rows(&records), expected);
    assert!(records.iter().all(|record| text(record, "UserId") == "CONTOSO\\ann" && record["EntityName"] == "report"));
}

#[tokio::test]
async fn what_has_no_interface_is_taken_from_tools_of_ones_own() {
    let event = |number: usize, event: &str, operation: &str| {
        json!({ "Event": event, "Operation": operation, "UserId": "ann@contoso.com",
                "CreationTime": format!("2026-01-01T00:00:{number:02}Z") })
        .to_string()
            + "\n"
    };
    let events = [
        ("AttributeDeletes", "DeleteAttribute", "Attribute deletes"),
        ("BackupAndRestore", "RestoreEnvironment", "Backup and restore"),
        ("SupportCrud", "Update", "All support CRUD activities"),
        ("AdminActivities", "ChangedSetting", "Admin activities"),
        ("BackendCommands", "RestartService", "Backend commands"),
        ("ReportViewed", "ReportViewed", "Report Viewed"),
        ("SignOut", "UserSignOut", ""),
    ];
    let lines: String =
        events.iter().enumerate().map(|(number, (name, operation, _))| event(number, name, operation)).collect();
    let source = "[sources.tools]\ntype = \"admin\"\npath = \"events.ndjson\"\n";
    let records = read_files(&[("events.ndjson", &lines)], source).await;
    let named: Vec<_> = rows(&records).into_iter().map(|[operation, row, ..]| (operation, row)).collect();
    assert_eq!(named, events.map(|(_, operation, row)| (operation, row)));
    let types: Vec<_> = records.iter().map(|record| record["UserType"].as_i64()).collect();
    assert_eq!(types[2..5], [Some(3), None, Some(3)], "what Microsoft's engineers do is told by the type of user");
    assert_eq!((text(&records[6], "EntityName"), text(&records[6], "Category")), ("authentication", "SignIn"));
}

#[tokio::test]
async fn a_surround_app_sends_records_of_its_own() {
    let record = json!({
        "Operation": "Update", "Message": "Update", "CreationTime": "2026-01-01T00:00:00Z", "UserId": "ann@contoso.com",
        "OrganizationId": "f42a590d-a29d-4f11-8a66-6045bd056902", "EntityName": "account",
        "EntityId": "0a0d8709-711e-e811-a952-000d3a732d76", "UserAgent": "Contoso.Sync/2.1", "ServiceName": "Contoso.Sync",
        "Fields": [{ "Name": "name", "Value": "Fourth Coffee" }],
    });
    let source = "[sources.apps]\ntype = \"records\"\npath = \"apps.ndjson\"\n";
    let records = read_files(&[("apps.ndjson", &format!("{record}\n"))], source).await;
    let [taken] = &records[..] else { panic!("{records:#?}") };
    for (key, value) in record.as_object().unwrap() {
        assert_eq!(&taken[key], value, "{key}");
    }
    assert_eq!((text(taken, "Category"), text(taken, "Source"), text(taken, "Workload")), ("Update", "apps", "CRM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_column_members_of_teams_and_rights_are_found_in_the_audit_table() {
    let server = DataverseServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
    let user = server.insert("systemusers", json!({ "domainname": "ann@contoso.com", "fullname": "Ann" }));
    let actions = [(101, "attribute"), (35, "team"), (55, "systemuser"), (57, "role"), (64, "systemuser")];
    for (action, table) in actions {
        server.insert(
            "audits",
            json!({ "action": action, "operation": 4, "objecttypecode": table, "_userid_value": user,
                    "_objectid_value": user }),
        );
    }
    let config = format!(
        "{}\n[sources.audits]\ntype = \"admin\"\npoll = \"100 ms\"\nclient = {{ allow_private = true }}\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n",
        server.organization("contoso")
    );
    let mut actlog = Actlog::start(folder.path(), &config).await;
    let audit = folder.path().join("actlog-data/audit");
    wait_until("a record for each row", async || lines(&audit) >= actions.len()).await;
    actlog.stop().await;
    let records = records(&audit);
    let found: BTreeSet<_> = rows(&records).into_iter().map(|[_, row, category, _]| (row, category)).collect();
    let expected = [("Attribute deletes", "AdminMetadata"), ("Team, user management", "AdminSecurity"), ("", "SignIn")];
    assert_eq!(found, BTreeSet::from(expected), "{records:#?}");
    assert_eq!(server.violations(), Vec::<String>::new());
}
