//! Which class and which activity a record is an event of.

use actlog_core::{AuditRecord, WORKLOAD_CRM};

use crate::reading::{Area, Sign, Verb, area, entity, present, sign, verb};

/// The classes that records are events of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Account,
    Authentication,
    Entity,
    Access,
    Group,
    Api,
    Datastore,
}

impl Class {
    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Account => 3001,
            Self::Authentication => 3002,
            Self::Entity => 3004,
            Self::Access => 3005,
            Self::Group => 3006,
            Self::Api => 6003,
            Self::Datastore => 6005,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Account => "Account Change",
            Self::Authentication => "Authentication",
            Self::Entity => "Entity Management",
            Self::Access => "User Access Management",
            Self::Group => "Group Management",
            Self::Api => "API Activity",
            Self::Datastore => "Datastore Activity",
        }
    }
}

/// A class and one of its activities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classification<'r> {
    pub(super) class: Class,
    pub(super) activity: u8,
    /// The schema's name of the activity; for 99, "Other", that of the operation.
    pub(super) name: &'r str,
}

pub(super) fn classify<'r>(record: &'r AuditRecord<'_>) -> Classification<'r> {
    let (class, activity) = match area(record) {
        Area::SignIn => (Class::Authentication, authentication(record)),
        Area::Accounts => accounts(record),
        Area::Configuration => (Class::Entity, by_verb(record)),
        Area::Rows => match row_access(record) {
            Some(access) => (Class::Datastore, Some(access)),
            None => (Class::Api, by_verb(record)),
        },
        Area::Other => (Class::Api, by_verb(record)),
    };
    let (activity, name) = activity.unwrap_or((99, &record.operation));
    Classification { class, activity, name }
}

type Activity<'r> = Option<(u8, &'r str)>;

fn authentication(record: &AuditRecord<'_>) -> Activity<'static> {
    sign(record).map(|sign| match sign {
        Sign::In => (1, "Logon"),
        Sign::Out => (2, "Logoff"),
    })
}

/// Of classes 3004 and 6003, which number these alike.
fn by_verb(record: &AuditRecord<'_>) -> Activity<'static> {
    match verb(record) {
        Verb::Create => Some((1, "Create")),
        Verb::Read | Verb::Query => Some((2, "Read")),
        Verb::Update => Some((3, "Update")),
        Verb::Delete => Some((4, "Delete")),
        Verb::Change | Verb::Other => None,
    }
}

/// The messages that read and write rows and do nothing else; none where it is not known of which table or database.
fn row_access(record: &AuditRecord<'_>) -> Activity<'static> {
    let place = entity(record).is_some()
        || present(&record.crm_organization_unique_name).is_some()
        || record.organization_id.is_some();
    if record.workload != WORKLOAD_CRM || !place {
        return None;
    }
    match &*record.operation {
        "Retrieve" => Some((1, "Read")),
        "Update" | "UpdateMultiple" => Some((2, "Update")),
        "RetrieveMultiple" | "ExecuteFetch" | "RetrieveEntitiesForAggregateQuery" => Some((4, "Query")),
        operation if operation.starts_with("ExportToExcel") => Some((4, "Query")),
        // These create the row or update it, and don't say which.
        "Upsert" | "UpsertMultiple" => Some((5, "Write")),
        "Create" | "CreateMultiple" => Some((6, "Create")),
        "Delete" | "DeleteMultiple" => Some((7, "Delete")),
        _ => None,
    }
}

fn accounts<'r>(record: &'r AuditRecord<'_>) -> (Class, Activity<'r>) {
    let gives = record.operation.ends_with("Associate");
    let takes = record.operation.ends_with("Disassociate");
    let privileges = match (takes, gives) {
        (true, _) => Some((2, "Revoke Privileges")),
        (false, true) => Some((1, "Assign Privileges")),
        (false, false) => None,
    };
    let links = |relationship: &str| {
        privileges.is_some()
            && record.fields.iter().any(|field| {
                field.name == "relationship"
                    && field.value.as_deref().is_some_and(|name| name.to_ascii_lowercase().contains(relationship))
            })
    };
    match (&*record.operation, entity(record)) {
        (_, Some("systemuser")) if links("systemuserroles") && !record.linked_results.is_empty() => {
            (Class::Access, privileges)
        }
        ("Create", Some("systemuser")) => (Class::Account, Some((1, "Create"))),
        ("Delete", Some("systemuser")) => (Class::Account, Some((6, "Delete"))),
        (_, Some("systemuser")) => (Class::Account, None),
        (_, Some("team")) if links("teamroles") => (Class::Group, privileges),
        ("AddPrivilegesRole", _) => (Class::Group, Some((1, "Assign Privileges"))),
        ("RemovePrivilegeRole", _) => (Class::Group, Some((2, "Revoke Privileges"))),
        ("AddMembersTeam", _) => (Class::Group, Some((3, "Add User"))),
        ("RemoveMembersTeam", _) => (Class::Group, Some((4, "Remove User"))),
        ("Delete", Some("team" | "role")) => (Class::Group, Some((5, "Delete"))),
        ("Create", Some("team" | "role")) => (Class::Group, Some((6, "Create"))),
        (_, Some("team" | "role")) => (Class::Group, None),
        _ => (Class::Entity, by_verb(record)),
    }
}
