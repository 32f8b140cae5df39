//! Events of tools of one's own: a small, strict JSON format, described in `docs/admin-events.md`.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Extra, Field, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use actlog_intake::{Arrival, Format, record_id};
use serde::Deserialize;
use uuid::{Uuid, uuid};

use crate::event::{ADMIN_EVENT, Event};

/// Namespace of the Ids of events. Changing it would make every event a new one.
const NAMESPACE: Uuid = uuid!("3d0e8f52-6a1b-5c94-9e07-51b6c2a8f4d3");
/// `RecordType` "PowerPlatformAdministratorActivity" of the Office 365 feed: what is done in the admin centre.
const RECORD_TYPE_ADMIN_CENTER: i32 = 256;
/// `Workload` of such records.
const WORKLOAD_POWER_PLATFORM: &str = "PowerPlatform";
/// `UserType` of Microsoft's support engineers.
const USER_TYPE_SUPPORT: i32 = 3;

/// One event as it comes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Input<'a> {
    event: Event,
    #[serde(borrow)]
    operation: Option<Cow<'a, str>>,
    creation_time: Timestamp,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    id: Option<Uuid>,
    organization_id: Option<Uuid>,
    #[serde(borrow)]
    crm_organization_unique_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_key: Option<Cow<'a, str>>,
    system_user_id: Option<Uuid>,
    #[serde(borrow, rename = "ClientIP")]
    client_ip: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result_status: Option<Cow<'a, str>>,
    correlation_id: Option<Uuid>,
    #[serde(borrow)]
    instance_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    entity_name: Option<Cow<'a, str>>,
    entity_id: Option<Uuid>,
    #[serde(borrow)]
    object_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    app_name: Option<Cow<'a, str>>,
    #[serde(default)]
    fields: Vec<Field<'static>>,
    #[serde(default)]
    extra: Extra<'static>,
}

/// Events in JSON.
#[derive(Debug)]
pub(crate) struct Events;

impl Format for Events {
    const ELEMENT: &'static str = "an event of administration in JSON";
    const REFUSAL: &'static str = "not-an-event";
    type Envelope<'a> = Timestamp;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Timestamp {
        arrival.received
    }

    fn map<'a>(&self, element: &'a [u8], received: &Timestamp) -> Result<AuditRecord<'a>, String> {
        let input: Input<'a> = serde_json::from_slice(element).map_err(|error| error.to_string())?;
        let event = input.event;
        let operation = input.operation.or(event.operation().map(Cow::Borrowed));
        let operation = operation.filter(|operation| !operation.is_empty()).ok_or_else(|| {
            format!("Operation is missing; say what was done, such as \"BackupEnvironment\" ({event:?} does not)")
        })?;
        if input.user_id.is_empty() {
            return Err("UserId is empty; say who did it".to_owned());
        }
        let (record_type, workload) = match event.is_of_admin_center() {
            true => (RECORD_TYPE_ADMIN_CENTER, WORKLOAD_POWER_PLATFORM),
            false => (RECORD_TYPE_CRM, WORKLOAD_CRM),
        };
        let mut extra: Extra<'a> = input.extra;
        if let Some(row) = event.row() {
            extra.insert(ADMIN_EVENT, row);
        }
        Ok(AuditRecord {
            id: record_id(&NAMESPACE, input.id, element.trim_ascii()),
            record_type,
            version: 1,
            workload: workload.into(),
            creation_time: input.creation_time,
            message: Some(operation.clone()),
            operation,
            organization_id: input.organization_id,
            crm_organization_unique_name: input.crm_organization_unique_name,
            user_id: Some(input.user_id),
            user_key: input.user_key,
            user_type: event.is_of_support().then_some(USER_TYPE_SUPPORT),
            system_user_id: input.system_user_id,
            client_ip: input.client_ip,
            user_agent: input.user_agent,
            result_status: input.result_status,
            correlation_id: input.correlation_id,
            instance_url: input.instance_url,
            entity_name: input.entity_name.or(event.entity().map(Cow::Borrowed)),
            entity_id: input.entity_id,
            object_id: input.object_id,
            app_name: input.app_name,
            fields: input.fields,
            collected_time: Some(*received),
            extra,
            ..AuditRecord::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(json: &str) -> Result<AuditRecord<'_>, String> {
        Events.map(json.as_bytes(), &Timestamp::default())
    }

    fn event(members: &str) -> String {
        format!("{{\"CreationTime\":\"2018-03-02T23:25:56Z\",\"UserId\":\"kim@contoso.com\",{members}}}")
    }

    #[test]
    fn every_event_says_its_row_and_where_it_belongs() {
        for (name, row, record_type, user_type) in [
            ("PublishingCustomizations", "Publishing customizations", 21, None),
            ("AttributeDeletes", "Attribute deletes", 21, None),
            ("TeamUserManagement", "Team, user management", 21, None),
            ("ConfigureInstance", "Configure instance", 21, None),
            ("BackupAndRestore", "Backup and restore", 256, None),
            ("ManageApplications", "Manage applications", 256, None),
            ("SupportCrud", "All support CRUD activities", 21, Some(3)),
            ("AdminActivities", "Admin activities", 256, None),
            ("BackendCommands", "Backend commands", 21, Some(3)),
            ("ReportViewed", "Report Viewed", 21, None),
            ("ReportViewerExport", "Report Viewer Export", 21, None),
            ("ReportViewerRenderImage", "Report Viewer Render Image", 21, None),
        ] {
            let json = event(&format!("\"Event\":\"{name}\",\"Operation\":\"DoIt\""));
            let record = map(&json).unwrap();
            assert_eq!(record.extra.get("AdminEvent").unwrap().get(), format!("\"{row}\""));
            assert_eq!((record.record_type, record.user_type), (record_type, user_type), "{name}");
            assert_eq!((&*record.operation, record.user_id.as_deref()), ("DoIt", Some("kim@contoso.com")));
        }
    }

    #[test]
    fn signing_in_and_out_are_known_by_their_entity() {
        for (name, operation) in [("SignIn", "UserSignIn"), ("SignOut", "UserSignOut")] {
            let json = event(&format!("\"Event\":\"{name}\",\"ClientIP\":\"203.0.113.7\""));
            let record = map(&json).unwrap();
            assert_eq!((&*record.operation, record.entity_name.as_deref()), (operation, Some("authentication")));
            assert_eq!(record.client_ip.as_deref(), Some("203.0.113.7"));
        }
    }

    #[test]
    fn an_event_has_the_same_id_each_time_it_is_sent() {
        let (one, other) = (event("\"Event\":\"SignIn\""), event("\"Event\":\"SignIn\",\"ResultStatus\":\"Failed\""));
        assert_eq!(map(&one).unwrap().id, map(&format!("  {one}\n")).unwrap().id);
        assert_ne!(map(&one).unwrap().id, map(&other).unwrap().id);
        let named = |more: &str| {
            let json = event(&format!("\"Event\":\"SignIn\",\"Id\":\"0a0d8709-711e-e811-a952-000d3a732d76\"{more}"));
            map(&json).unwrap().id
        };
        assert_eq!(named(""), named(",\"AppName\":\"x\""), "what is named is the same whatever else is said");
    }

    #[test]
    fn what_is_no_event_is_refused_with_what_would_be_right() {
        for (json, reason) in [
            (event("\"Event\":\"Backup\",\"Operation\":\"x\""), "BackupAndRestore"),
            (event("\"Event\":\"BackupAndRestore\""), "BackupEnvironment"),
            (event("\"Event\":\"BackupAndRestore\",\"Operation\":\"\""), "BackupEnvironment"),
            (event("\"Event\":\"SignIn\",\"Colour\":1"), "`Colour`, expected one of `Event`"),
            ("{\"Event\":\"SignIn\",\"UserId\":\"a\"}".to_owned(), "CreationTime"),
            ("{\"Event\":\"SignIn\",\"UserId\":\"a\",\"CreationTime\":\"yesterday\"}".to_owned(), "RFC 3339"),
            (
                "{\"Event\":\"SignIn\",\"UserId\":\"\",\"CreationTime\":\"2018-03-02T23:25:56Z\"}".to_owned(),
                "who did it",
            ),
            ("[]".to_owned(), ""),
        ] {
            let error = map(&json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
