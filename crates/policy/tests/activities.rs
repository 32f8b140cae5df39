//! The nine activities and the categories.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

mod common;

use actlog_core::{AuditRecord, Field};
use common::{applied, policy, record};

const OUT_OF_BOX: &str = "Accessed out-of-box entity";
const CUSTOM: &str = "Accessed custom entity";
const ADMIN: &str = "Accessed admin entity";
const BULK: &str = "Performed bulk actions (such as delete and import)";
const OTHER: &str = "Accessed other entity type";
const ADMIN_CENTER: &str = "Accessed Dynamics 365 admin center";
const TOOL: &str = "Accessed internal management tool";
const SIGN_IN: &str = "Signed in or out";
const PROCESS: &str = "Activated process or plug-in";

#[test]
fn all_nine_activities_are_told_by_message_entity_and_user() {
    let policy = policy(
        "messages.remove = ['WhoAmI', 'RetrieveAttribute']
         [[rules]]
         name = 'tool'
         action = 'internal-tool'
         app_names = ['tool']",
    );
    for (operation, entity, activity) in [
        ("Retrieve", "account", OUT_OF_BOX),
        ("Retrieve", "Account", OUT_OF_BOX),
        ("WinOpportunity", "opportunity", OUT_OF_BOX),
        ("Update", "opportunitysalesprocess", OUT_OF_BOX),
        ("Update", "msdyn_agentstatus", OUT_OF_BOX),
        ("Create", "new_invoice", CUSTOM),
        ("RetrieveMultiple", "shko_allfields", CUSTOM),
        ("Update", "systemuser", ADMIN),
        ("Create", "solution", ADMIN),
        ("AddMembersTeam", "team", ADMIN),
        ("PublishAllXml", "", ADMIN),
        ("ExportSolution", "", ADMIN),
        ("DeleteAttribute", "", ADMIN),
        ("RetrieveAttribute", "", ADMIN),
        ("Retrieve", "workflow", ADMIN),
        ("Retrieve", "plugintype", ADMIN),
        ("BulkDelete", "", BULK),
        ("CreateMultiple", "account", BULK),
        ("Create", "import", BULK),
        ("Delete", "bulkdeleteoperation", BULK),
        ("ExecuteWorkflow", "workflow", PROCESS),
        ("SetState", "workflow", PROCESS),
        ("SetState", "sdkmessageprocessingstep", PROCESS),
        ("SetState", "account", OUT_OF_BOX),
        ("WhoAmI", "", SIGN_IN),
        ("UserLoggedIn", "authentication", SIGN_IN),
        ("contoso_Approve", "", OTHER),
        ("Create", "Unknown", OTHER),
        ("Create", "somethingelse", OTHER),
    ] {
        let kept = applied(&policy, record(operation, entity));
        assert_eq!(kept.activity.as_deref(), Some(activity), "{operation} of {entity:?}");
        assert_eq!(kept.policy_version, Some(7));
        assert!(kept.category.is_some());
    }
    let by_tool = AuditRecord { app_name: Some("tool".into()), ..record("Update", "account") };
    assert_eq!(applied(&policy, by_tool).activity.as_deref(), Some(TOOL));
    let in_admin_center =
        AuditRecord { record_type: 256, workload: "PowerPlatform".into(), ..record("NewEnvironmentGroup", "") };
    assert_eq!(applied(&policy, in_admin_center).activity.as_deref(), Some(ADMIN_CENTER));
}

#[test]
fn links_that_give_rights_are_administration_and_other_links_are_not() {
    let policy = policy("");
    let linked = |operation: &str, relationship: &'static str| {
        let mut record = record(operation, "systemuser");
        record.fields = vec![Field::new("relationship", relationship)];
        let kept = applied(&policy, record);
        (kept.category.unwrap().into_owned(), kept.activity.unwrap().into_owned())
    };
    for operation in ["Associate", "Disassociate"] {
        for relationship in [
            "systemuserroles_association",
            "teamroles_association",
            "teammembership_association",
            "TeamRoles_Association",
        ] {
            assert_eq!(linked(operation, relationship), ("AdminSecurity".into(), ADMIN.into()), "{relationship}");
        }
        assert_eq!(linked(operation, "new_systemuser_account").0, "Relationship");
    }
}

#[test]
fn what_is_no_message_has_the_category_and_activity_of_its_row() {
    let policy = policy("");
    let of = |row: &str, user_type: Option<i32>, record: AuditRecord<'static>| {
        let mut record = AuditRecord { user_type, ..record };
        record.extra.insert("AdminEvent", row);
        let kept = applied(&policy, record);
        (kept.category.map(String::from), kept.activity.map(String::from))
    };
    let expected = |category: &str, activity: &str| (Some(category.to_owned()), Some(activity.to_owned()));
    for (row, category, activity) in [
        ("Publishing customizations", "AdminCustomization", ADMIN),
        ("Attribute deletes", "AdminMetadata", ADMIN),
        ("Team, user management", "AdminSecurity", ADMIN),
        ("Configure instance", "AdminOrganization", ADMIN),
        ("Admin activities", "AdminOrganization", ADMIN),
        ("another", "Other", OTHER),
    ] {
        assert_eq!(of(row, None, record("contoso_Something", "")), expected(category, activity), "{row}");
    }
    for (row, category) in
        [("Report Viewed", "Read"), ("Report Viewer Export", "Export"), ("Report Viewer Render Image", "Read")]
    {
        assert_eq!(of(row, None, record("ReportViewed", "report")), expected(category, OUT_OF_BOX), "{row}");
    }
    // A message that is known says more than the row.
    let by_support = of("All support CRUD activities", Some(3), record("Update", "account"));
    assert_eq!(by_support, expected("Update", OUT_OF_BOX));
    let backend = of("Backend commands", Some(3), record("RestartService", ""));
    assert_eq!(backend, expected("AdminOrganization", TOOL));
    let center = |row: &str| {
        let record = AuditRecord { record_type: 256, workload: "PowerPlatform".into(), ..record("X", "") };
        of(row, None, record)
    };
    assert_eq!(center("Team, user management"), expected("AdminSecurity", ADMIN_CENTER));
    assert_eq!(center("another"), expected("AdminOrganization", ADMIN_CENTER));
}

#[test]
fn an_update_switches_a_process_only_when_it_sets_its_state() {
    let policy = policy("");
    let update = |column: &'static str| {
        let mut record = record("Update", "workflow");
        record.fields = vec![Field::new(column, "1")];
        applied(&policy, record).activity.unwrap().into_owned()
    };
    assert_eq!(update("statecode"), PROCESS);
    assert_eq!(update("description"), ADMIN);
}

#[test]
fn a_message_of_the_office_feed_is_named_by_its_message_key() {
    let policy = policy("");
    let record = AuditRecord { operation: "CrmDefaultActivity".into(), ..record("RetrieveMultiple", "account") };
    let kept = applied(&policy, record);
    assert_eq!((kept.category.as_deref(), kept.activity.as_deref()), (Some("ReadMultiple"), Some(OUT_OF_BOX)));
}

#[test]
fn the_rows_of_an_export_have_the_category_of_the_export() {
    let policy = policy("");
    for (operation, category) in [("ExportToExcel", "ReadMultiple"), ("ExportDynamicToExcel", "Read")] {
        let rows = AuditRecord { operation: operation.into(), ..record("RetrieveMultiple", "account") };
        assert_eq!(applied(&policy, rows).category.as_deref(), Some(category));
    }
}

#[test]
fn publisher_prefixes_of_the_deployment_count_as_out_of_box() {
    let policy = policy("first_party_prefixes = ['contoso']");
    let activity = |entity: &str| applied(&policy, record("Create", entity)).activity.unwrap().into_owned();
    assert_eq!(activity("contoso_order"), OUT_OF_BOX);
    assert_eq!(activity("msdyn_order"), CUSTOM);
}

#[test]
fn the_compatible_mode_always_says_other_entity_type() {
    let policy = policy(
        "activities = 'other-entity-type'
         [[rules]]
         name = 'tool'
         action = 'internal-tool'
         app_names = ['tool']",
    );
    for (operation, entity) in [("Retrieve", "account"), ("BulkDelete", ""), ("UserLoggedIn", "authentication")] {
        let record = AuditRecord { app_name: Some("tool".into()), ..record(operation, entity) };
        assert_eq!(applied(&policy, record).activity.as_deref(), Some(OTHER));
    }
}
