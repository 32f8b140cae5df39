//! Events, rows of the execution log and Office records, by HTTP and from files; and what the policy makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use actlog_core::{AuditRecord, SystemClock};
use actlog_policy::{Decision, Policy, PolicyDocument};
use actlog_testkit::compliance::{DEADLINE, SourceHarness};
use actlog_testkit::http::{self, Response};
use actlog_testkit::{fixtures, skip};
use common::{World, build_context, polling, start};
use serde_json::{Value, json};

/// The records that files in the folder hold.
async fn read(folder: &Path, config: Value) -> (Vec<AuditRecord<'static>>, SourceHarness) {
    let harness = SourceHarness::new();
    let mut run = start(&harness, &build_context(folder, Arc::new(SystemClock)), config).await;
    run.finished(DEADLINE).await.expect("the files have no end").as_ref().unwrap();
    (harness.durable().into_iter().map(|stored| stored.record).collect(), harness)
}

/// Category and activity by the default policy.
fn classified(mut record: AuditRecord<'static>) -> (String, String) {
    let policy = Policy::compile(&PolicyDocument::default(), 1, None).unwrap();
    assert_eq!(policy.apply(&mut record), Decision::Keep, "{}", record.operation);
    (record.category.unwrap_or_default().into_owned(), record.activity.unwrap_or_default().into_owned())
}

#[tokio::test]
async fn rows_of_the_execution_log_are_read_from_csv() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "\
InstanceName,ItemPath,UserName,ExecutionId,RequestType,Format,Parameters,ItemAction,TimeStart,Status,RowCount
SQL1,/Contoso_MSCRM/{4d4b0a21-711e-e811-a952-000d3a732d76},CONTOSO\\kim,ab1,Interactive,RPL,,Render,2018-03-02 23:25:56.250,rsSuccess,42
SQL1,/Contoso_MSCRM/{4d4b0a21-711e-e811-a952-000d3a732d76},CONTOSO\\kim,ab1,Interactive,EXCELOPENXML,\"a=1&b=\"\"x, y\"\"\",Render,2018-03-02 23:26:10,rsSuccess,42
SQL1,/Contoso_MSCRM/{4d4b0a21-711e-e811-a952-000d3a732d76},CONTOSO\\kim,ab1,Interactive,IMAGE,,Render,2018-03-02 23:26:12,rsSuccess,0
SQL1,/Contoso_MSCRM/Top,CONTOSO\\kim,ab2,Interactive,RPL,,Render,yesterday,rsSuccess,0
";
    std::fs::write(folder.path().join("log.csv"), csv).unwrap();
    let (records, harness) = read(folder.path(), json!({ "path": "log.csv", "format": "execution-log" })).await;
    let operations: Vec<_> = records.iter().map(|record| &*record.operation).collect();
    assert_eq!(operations, ["ReportViewed", "ReportViewerExport", "ReportViewerRenderImage"]);
    assert_eq!(records[1].extra.get("Parameters").unwrap().get(), r#""a=1&b=\"x, y\"""#);
    let dead = harness.dead_letters();
    assert!(dead.len() == 1 && dead[0].place.contains("line 5") && dead[0].reason.contains("TimeStart"), "{dead:?}");
    let categories: Vec<_> = records.into_iter().map(classified).collect();
    let of = |category: &str| (category.to_owned(), "Accessed out-of-box entity".to_owned());
    assert_eq!(categories, [of("Read"), of("Export"), of("Read")]);
}

#[tokio::test]
async fn events_are_taken_by_http_and_what_is_none_is_told_what_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let harness = SourceHarness::new();
    let config = json!({ "listen": address.to_string() });
    let mut run = start(&harness, &build_context(folder.path(), Arc::new(SystemClock)), config).await;
    let post = |body: Value| async move { http::post(address, "/", body.to_string().as_bytes()).await.unwrap() };
    let event = |name: &str, operation: &str| {
        json!({
            "Event": name, "Operation": operation, "UserId": "kim@contoso.com", "CreationTime": "2024-05-01T10:00:00Z",
        })
    };
    for (name, operation, category, activity) in [
        ("BackupAndRestore", "BackupEnvironment", "AdminOrganization", "Accessed Dynamics 365 admin center"),
        ("ManageApplications", "ConvertTrial", "AdminOrganization", "Accessed Dynamics 365 admin center"),
        ("PublishingCustomizations", "PublishAllXml", "AdminCustomization", "Accessed admin entity"),
        ("ConfigureInstance", "ImportSolution", "AdminSolution", "Accessed admin entity"),
        ("BackendCommands", "RestartService", "AdminOrganization", "Accessed internal management tool"),
        ("SignOut", "UserSignOut", "SignIn", "Signed in or out"),
    ] {
        assert_eq!(post(event(name, operation)).await.status, 200, "{name}");
        let record = harness.durable().pop().unwrap().record;
        assert_eq!(record.operation, operation);
        assert_eq!(classified(record), (category.to_owned(), activity.to_owned()), "{name}");
    }
    let refused: Response = post(event("Backup", "x")).await;
    assert_eq!(refused.status, 400);
    let text = refused.text();
    assert!(text.contains("not-an-event") && text.contains("`BackupAndRestore`"), "{text}");
    run.shutdown.cancel();
    run.finished(DEADLINE).await.expect("the source did not stop").as_ref().unwrap();
}

#[tokio::test]
async fn what_the_admin_center_reports_is_read_in_the_shape_of_the_office_feed() {
    let Some(shared) = fixtures::shared() else { skip!("there are no captures") };
    let file = shared.join("fixtures/dataverse/audit/purview_lockbox_propertycollection.json");
    let properties: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let record = json!({
        "Id": "0a0d8709-711e-e811-a952-000d3a732d76", "RecordType": 256, "CreationTime": "2024-05-01T10:00:00",
        "Operation": "LockboxRequestOperation", "Workload": "PowerPlatform", "UserType": 2,
        "PropertyCollection": properties,
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.ndjson"), record.to_string()).unwrap();
    let (records, _) = read(folder.path(), json!({ "path": "*.ndjson", "format": "office" })).await;
    let [record] = &records[..] else { panic!("{} records", records.len()) };
    assert_eq!(record.operation, "LockboxRequestOperation");
    assert_eq!(record.user_id.as_deref(), Some("Test user"));
    assert_eq!(record.extra.get("AdminEvent").unwrap().get(), "\"All support CRUD activities\"");
    let expected = ("AdminOrganization".to_owned(), "Accessed Dynamics 365 admin center".to_owned());
    assert_eq!(classified(record.clone()), expected);
}

#[tokio::test]
async fn a_report_on_administration_sees_what_the_audit_table_says() {
    let world = World::new().await;
    let signed_in = ("SignIn", "Signed in or out");
    let cases = [
        (35, "team", "AdminSecurity", "Accessed admin entity"),
        (55, "systemuser", "AdminSecurity", "Accessed admin entity"),
        (54, "team", "AdminSecurity", "Accessed admin entity"),
        (59, "role", "AdminSecurity", "Accessed admin entity"),
        (64, "systemuser", signed_in.0, signed_in.1),
        (65, "systemuser", signed_in.0, signed_in.1),
        (101, "attribute", "AdminMetadata", "Accessed admin entity"),
        (110, "organization", "AdminOrganization", "Accessed admin entity"),
        (111, "organization", "AdminOrganization", "Accessed admin entity"),
        (2, "systemuser", "Update", "Accessed admin entity"),
    ];
    for (number, (action, table, ..)) in (0..).zip(&cases) {
        world.audit(number, &format!("2024-05-01T10:00:{number:02}Z"), *action, table);
    }
    let harness = SourceHarness::new();
    let mut run = world.start(&harness, polling()).await;
    assert!(harness.wait(|harness| harness.durable().len() == cases.len()).await);
    run.shutdown.cancel();
    run.finished(DEADLINE).await.expect("the source did not stop").as_ref().unwrap();
    for (stored, (action, _, category, activity)) in harness.durable().into_iter().zip(cases) {
        assert_eq!(classified(stored.record), (category.to_owned(), activity.to_owned()), "{action}");
    }
}
