//! The audit table: what becomes of its rows, and what is done when the environment gives less than it should.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{AuditRecord, Status};
use actlog_testkit::compliance::{DEADLINE, SourceHarness, SourceRun};
use common::{TestClock, World, number_of, polling};
use serde_json::{Value, json};
use uuid::Uuid;

/// The records so far, in the order of their numbers.
fn records(harness: &SourceHarness) -> Vec<AuditRecord<'static>> {
    let mut records: Vec<_> = harness.durable().into_iter().map(|stored| stored.record).collect();
    records.sort_by_key(number_of);
    records
}

async fn wait_for(harness: &SourceHarness, count: usize) -> Vec<AuditRecord<'static>> {
    let found = harness.wait(|harness| harness.durable().len() >= count).await;
    assert!(found, "{} records of {count}", harness.durable().len());
    records(harness)
}

async fn stop(mut run: SourceRun) {
    run.shutdown.cancel();
    run.finished(DEADLINE).await.expect("the source did not stop").as_ref().unwrap();
}

fn extra<'a>(record: &'a AuditRecord<'_>, name: &str) -> &'a str {
    record.extra.get(name).map_or("", |json| json.get())
}

#[tokio::test]
async fn actions_become_the_operations_that_webhooks_have_for_them() {
    let world = World::new().await;
    let cases = [
        (31, "list", "AddMemberList", "AddMember", "\"Team, user management\""),
        (32, "list", "RemoveMemberList", "RemoveMember", "\"Team, user management\""),
        (35, "team", "AddMembersTeam", "AddMembers", "\"Team, user management\""),
        (36, "team", "RemoveMembersTeam", "RemoveMembers", "\"Team, user management\""),
        (53, "team", "Associate", "Associate", "\"Team, user management\""),
        (54, "team", "Disassociate", "Disassociate", "\"Team, user management\""),
        (55, "systemuser", "Associate", "Associate", "\"Team, user management\""),
        (56, "systemuser", "Disassociate", "Disassociate", "\"Team, user management\""),
        (57, "role", "AddPrivilegesRole", "AddPrivileges", "\"Team, user management\""),
        (58, "role", "RemovePrivilegeRole", "RemovePrivilege", "\"Team, user management\""),
        (59, "role", "ReplacePrivilegesRole", "ReplacePrivileges", "\"Team, user management\""),
        (60, "importmap", "ImportMappingsImportMap", "ImportMappingsImportMap", "\"Configure instance\""),
        (63, "organization", "EnabledForOrganization", "EnabledForOrganization", "\"Configure instance\""),
        (64, "systemuser", "UserSignIn", "UserSignIn", ""),
        (65, "systemuser", "UserSignIn", "UserSignIn", ""),
        (100, "entity", "DeleteEntity", "DeleteEntity", "\"Attribute deletes\""),
        (101, "attribute", "DeleteAttribute", "DeleteAttribute", "\"Attribute deletes\""),
        (102, "entity", "AuditChangeAtEntityLevel", "Audit Change at Entity Level", "\"Configure instance\""),
        (104, "organization", "AuditChangeAtOrgLevel", "Audit Change at Org Level", "\"Configure instance\""),
        (110, "organization", "AuditDisabled", "Audit Disabled", "\"Configure instance\""),
        (111, "organization", "DeleteAuditData", "Audit Log Deletion", "\"Configure instance\""),
        (113, "organization", "UserAccessAuditStopped", "User Access Audit Stopped", "\"Configure instance\""),
        (1, "systemuser", "Create", "Create", "\"Team, user management\""),
        (2, "team", "Update", "Update", "\"Team, user management\""),
        (3, "role", "Delete", "Delete", "\"Team, user management\""),
    ];
    for (number, (action, table, ..)) in (0..).zip(&cases) {
        world.audit(number, &format!("2024-05-01T10:00:{number:02}Z"), *action, table);
    }
    // Rows that are none of the source's business.
    world.audit(900, "2024-05-01T10:00:30Z", 2, "account");
    world.audit(901, "2024-05-01T10:00:30Z", 13, "account");
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    let records = wait_for(&harness, cases.len()).await;
    stop(run).await;
    assert_eq!(records.len(), cases.len());
    for (record, (action, table, operation, message, row)) in records.iter().zip(cases) {
        assert_eq!((&*record.operation, record.message.as_deref()), (operation, Some(message)), "{action}");
        assert_eq!(extra(record, "AdminEvent"), row, "{action}");
        assert_eq!(extra(record, "AuditAction"), action.to_string());
        let entity = if matches!(action, 64 | 65) { "authentication" } else { table };
        assert_eq!(record.entity_name.as_deref(), Some(entity), "{action}");
        assert_eq!(record.entity_id.is_some(), entity != "authentication", "{action}");
        assert_eq!(record.system_user_id, Some(Uuid::from_u128(7)));
        assert_eq!(record.crm_organization_unique_name.as_deref(), Some("unq1"));
        assert_eq!(record.correlation_id, None);
    }
    assert_eq!(extra(&records[13], "AuditActionLabel"), "\"User Access via Web\"");
    assert_eq!(records[13].creation_time.to_string(), "2024-05-01T10:00:13Z");
    assert_eq!(world.server.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn details_say_who_was_added_which_privileges_and_what_the_values_were() {
    let world = World::new().await;
    let detail = |kind: &str, mut detail: Value| {
        detail["@odata.type"] = json!(format!("#Microsoft.Dynamics.CRM.{kind}"));
        detail
    };
    let id = Uuid::from_u128(0x99);
    let user = json!({ "@odata.type": "#Microsoft.Dynamics.CRM.systemuser", "systemuserid": id, "ownerid": id });
    let cases = [
        (
            35,
            "team",
            detail(
                "RelationshipAuditDetail",
                json!({
                    "RelationshipName": "teammembership_association", "TargetRecords": [user],
                }),
            ),
        ),
        (
            55,
            "systemuser",
            detail(
                "RelationshipAuditDetail",
                json!({
                    "RelationshipName": "systemuserroles_association",
                    "TargetRecords": [{ "@odata.type": "#Microsoft.Dynamics.CRM.role", "roleid": id, "name": "Basic" }],
                }),
            ),
        ),
        (
            59,
            "role",
            detail(
                "RolePrivilegeAuditDetail",
                json!({
                    "OldRolePrivileges": [{ "PrivilegeId": id, "Depth": "Local" }],
                    "NewRolePrivileges": [{ "PrivilegeId": id, "Depth": "Global", "PrivilegeName": "prvReadAccount" }],
                    "InvalidNewPrivileges": [],
                }),
            ),
        ),
        (
            2,
            "systemuser",
            detail(
                "AttributeAuditDetail",
                json!({
                    "OldValue": {
                        "@odata.type": "#Microsoft.Dynamics.CRM.systemuser", "isdisabled": false, "title": "Clerk",
                        "_positionid_value": id, "_positionid_value@OData.Community.Display.V1.FormattedValue": "Head",
                    },
                    "NewValue": { "@odata.type": "#Microsoft.Dynamics.CRM.systemuser", "isdisabled": true, "title": "x…" },
                    "InvalidNewValueAttributes": ["old"], "DeletedAttributes": { "Count": 0, "Keys": [], "Values": [] },
                }),
            ),
        ),
        (
            3,
            "team",
            detail(
                "AttributeAuditDetail",
                json!({
                    "OldValue": { "@odata.type": "#Microsoft.Dynamics.CRM.team", "name": "Sales" }, "NewValue": null,
                }),
            ),
        ),
        (100, "entity", detail("SomethingNew", json!({ "Answer": 42 }))),
        (
            1,
            "role",
            detail("AttributeAuditDetail", json!({ "NewValue": { "name": format!("{}…", "x".repeat(5000)) } })),
        ),
    ];
    for (number, (action, table, detail)) in (0..).zip(cases) {
        let row = world.audit(number, "2024-05-01T10:00:00Z", action, table);
        world.server.set_audit_detail(row, detail);
    }
    // More than is kept of one row.
    let huge = world.audit(7, "2024-05-01T10:00:00Z", 2, "role");
    world.server.set_audit_detail(huge, json!({ "text": "x".repeat(2 << 20) }));
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    let records = wait_for(&harness, 8).await;
    stop(run).await;
    let fields = |record: &AuditRecord<'_>| -> Vec<(String, Option<String>)> {
        let fields = record.fields.iter();
        fields.map(|field| (field.name.to_string(), field.value.as_deref().map(str::to_owned))).collect()
    };
    let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    assert_eq!(fields(&records[0]), [set("memberids", &id.to_string())]);
    assert_eq!(records[0].linked_results, [id]);
    assert_eq!(fields(&records[1]), [set("relationship", "systemuserroles_association")]);
    assert_eq!(records[1].linked_results, [id]);
    assert_eq!(fields(&records[2]), [set("privileges", "prvReadAccount Global")]);
    assert_eq!(extra(&records[2], "OldValues"), format!("{{\"privileges\":\"{id} Local\"}}"));
    let cleared = ("positionid".to_owned(), None);
    assert_eq!(fields(&records[3]), [set("isdisabled", "true"), set("title", "x…"), cleared]);
    let old = format!("{{\"isdisabled\":\"false\",\"positionid\":\"{id}\",\"title\":\"Clerk\"}}");
    assert_eq!(extra(&records[3], "OldValues"), old);
    assert_eq!(extra(&records[3], "InvalidNewValueAttributes"), "[\"old\"]");
    assert!(!records[3].truncated);
    assert_eq!((fields(&records[4]), extra(&records[4], "OldValues")), (vec![], "{\"name\":\"Sales\"}"));
    assert!(extra(&records[5], "AuditDetails").contains("\"Answer\":42"));
    assert!(records[6].truncated);
    assert_eq!(extra(&records[7], "AuditDetails"), "\"too large\"");
}

#[tokio::test]
async fn late_rows_are_found_and_no_row_is_taken_twice_across_restarts() {
    let world = World::new().await;
    for number in 0..10 {
        world.audit(number, &format!("2024-05-01T10:0{number}:00Z"), 55, "systemuser");
    }
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    wait_for(&harness, 10).await;
    // Appears late, between rows that were read.
    world.audit(10, "2024-05-01T10:04:30Z", 55, "systemuser");
    wait_for(&harness, 11).await;
    stop(run).await;
    world.audit(11, "2024-05-01T10:02:30Z", 55, "systemuser");
    world.audit(12, "2024-05-01T10:09:00Z", 55, "systemuser");
    world.server.clear_requests();
    let run = world.start(&harness, polling()).await;
    let records = wait_for(&harness, 13).await;
    stop(run).await;
    assert_eq!(records.iter().filter_map(number_of).collect::<Vec<_>>(), (0..13).collect::<Vec<_>>());
    assert_eq!(harness.duplicates(), 0);
    let details =
        world.server.requests().iter().filter(|request| request.path.contains("RetrieveAuditDetails")).count();
    assert_eq!(details, 2, "details of rows that are known are not asked for again");
}

#[tokio::test]
async fn a_busy_environment_loses_nothing() {
    let world = World::new().await;
    for number in 0..60 {
        world.audit(number, &format!("2024-05-01T10:00:{number:02}Z"), 57, "role");
    }
    world.server.refuse_at_random(3, 150, 0);
    world.server.fail_next(2, 503, Some(Duration::ZERO));
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    let records = wait_for(&harness, 60).await;
    stop(run).await;
    assert_eq!(records.iter().filter_map(number_of).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    assert_eq!(harness.duplicates(), 0);
}

#[tokio::test]
async fn a_look_that_fails_ends_the_run_and_a_fresh_one_goes_on() {
    let world = World::new().await;
    for number in 0..9 {
        world.audit(number, &format!("2024-05-01T10:00:{number:02}Z"), 57, "role");
    }
    let harness = SourceHarness::new();
    let mut run = world.start(&harness, polling()).await;
    wait_for(&harness, 9).await;
    world.server.fail_next(1, 500, None);
    let ended = run.finished(DEADLINE).await.expect("the run goes on").as_ref().unwrap_err().to_string();
    assert!(ended.contains("500"), "{ended}");
    world.audit(9, "2024-05-01T10:00:09Z", 57, "role");
    let run = world.start(&harness, polling()).await;
    wait_for(&harness, 10).await;
    stop(run).await;
    assert_eq!(harness.duplicates(), 0);
}

#[tokio::test]
async fn refused_details_degrade_the_health_and_cost_no_record() {
    let world = World::new().await;
    world.server.refuse_audit_details(true);
    world.audit(0, "2024-05-01T10:00:00Z", 55, "systemuser");
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    let records = wait_for(&harness, 1).await;
    assert_eq!(extra(&records[0], "AuditDetails"), "\"refused\"");
    // What the action itself says is there all the same.
    assert_eq!(records[0].fields[0].value.as_deref(), Some("systemuserroles_association"));
    let degraded = |status: Status| matches!(status, Status::Degraded { reason } if reason.contains("View Audit"));
    until("the health is degraded", || degraded(run.health.get())).await;
    world.server.refuse_audit_details(false);
    world.audit(1, "2024-05-01T10:00:01Z", 55, "systemuser");
    wait_for(&harness, 2).await;
    until("the health is good again", || run.health.get() == Status::Ok).await;
    stop(run).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

#[tokio::test]
async fn an_environment_that_audits_nothing_is_said_to() {
    let world = World::new().await;
    world.server.change(
        "organizations",
        actlog_testkit::dataverse_server::DataverseServer::ORGANIZATION_ID,
        json!({ "isauditenabled": false }),
    );
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    let degraded = |status: Status| matches!(status, Status::Degraded { reason } if reason.contains("switched off"));
    until("the health is degraded", || degraded(run.health.get())).await;
    stop(run).await;
}

#[tokio::test]
async fn what_the_retention_has_deleted_unread_is_stated_once_as_a_gap() {
    let mut world = World::new().await;
    let clock = TestClock::new("2024-05-01T12:00:00Z");
    world.clock = Arc::clone(&clock) as _;
    world.audit(0, "2024-05-01T10:00:00Z", 55, "systemuser");
    let harness = SourceHarness::new();
    let run = world.start(&harness, polling()).await;
    wait_for(&harness, 1).await;
    // The next row carries how far the table was read.
    clock.set("2024-05-01T12:30:00Z");
    world.server.clear_requests();
    until("another look", || world.server.requests().iter().filter(|one| one.path == "audits").count() > 2).await;
    world.audit(1, "2024-05-01T12:29:00Z", 55, "systemuser");
    wait_for(&harness, 2).await;
    stop(run).await;
    assert_eq!(harness.gaps(), []);
    // Away for 40 days; the environment keeps 30.
    clock.set("2024-06-10T12:30:00Z");
    for _ in 0..2 {
        let run = world.start(&harness, polling()).await;
        world.server.clear_requests();
        until("a look", || world.server.requests().iter().any(|one| one.path == "audits")).await;
        stop(run).await;
    }
    let gaps = harness.gaps();
    let [gap] = &gaps[..] else { panic!("not one gap: {gaps:?}") };
    assert_eq!(gap.from.to_string(), "2024-05-01T12:30:00Z");
    assert_eq!(gap.to.unwrap().to_string(), "2024-05-11T12:30:00Z");
    assert_eq!(gap.reason, "expired");
}

#[tokio::test]
async fn a_configured_id_that_is_not_the_environments_is_refused() {
    let world = World::new().await;
    let mut cx = world.build_context();
    let mut organizations = (*cx.organizations).clone();
    organizations.get_mut("contoso").unwrap().id = Some(Uuid::from_u128(1));
    cx.organizations = Arc::new(organizations);
    let mut run = common::start(&SourceHarness::new(), &cx, polling()).await;
    let error = run.finished(DEADLINE).await.expect("the run goes on").as_ref().unwrap_err().to_string();
    assert!(error.contains("[organizations.contoso]") && error.contains("url"), "{error}");
}

#[tokio::test]
async fn without_the_right_secret_the_error_says_what_to_do_and_not_the_secret() {
    let world = World::new().await;
    world.server.entra().change_secret("another");
    let mut run = world.start(&SourceHarness::new(), polling()).await;
    let error = run.finished(DEADLINE).await.expect("the run goes on").as_ref().unwrap_err().to_string();
    assert!(error.contains("AADSTS7000215") && !error.contains("stand-in~secret"), "{error}");
}
