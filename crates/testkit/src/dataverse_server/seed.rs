//! What a new environment holds.

use serde_json::json;
use uuid::Uuid;

use super::DataverseServer;
use super::schema::{ATTRIBUTE_OF, ATTRIBUTES, DEFINITIONS};

/// Tables, their names as publishers write them, and whether the audit switch can be changed.
const TABLES: [(&str, &str, &str, bool); 11] = [
    ("account", "Account", "accounts", true),
    ("asyncoperation", "AsyncOperation", "asyncoperations", false),
    ("contact", "Contact", "contacts", true),
    ("email", "Email", "emails", true),
    ("incident", "Incident", "incidents", true),
    ("lead", "Lead", "leads", true),
    ("new_project", "new_Project", "new_projects", true),
    ("opportunity", "Opportunity", "opportunities", true),
    ("role", "Role", "roles", true),
    ("systemuser", "SystemUser", "systemusers", true),
    ("team", "Team", "teams", true),
];

/// Business data: what these messages exist for.
const BUSINESS: &[&str] = &["account", "contact", "email", "incident", "lead", "new_project", "opportunity"];
/// Every table above.
const EVERY: &[&str] = &[
    "account",
    "asyncoperation",
    "contact",
    "email",
    "incident",
    "lead",
    "new_project",
    "opportunity",
    "role",
    "systemuser",
    "team",
];

/// Messages and the tables that steps can be registered for; `none` for messages that are about no table.
const MESSAGES: &[(&str, &[&str])] = &[
    ("AddMembers", &["team"]),
    ("Assign", BUSINESS),
    ("Associate", &["none"]),
    ("Close", &["incident"]),
    ("Create", EVERY),
    ("CreateMultiple", EVERY),
    ("Delete", EVERY),
    ("Disassociate", &["none"]),
    ("Execute", &["none"]),
    ("ExportToExcel", &["none"]),
    ("GrantAccess", BUSINESS),
    ("Lose", &["opportunity"]),
    ("Merge", &["account", "contact", "incident", "lead"]),
    ("ModifyAccess", BUSINESS),
    ("Publish", &["none"]),
    ("PublishAll", &["none"]),
    ("QualifyLead", &["lead"]),
    ("RemoveMembers", &["team"]),
    ("RemoveRelated", &["none"]),
    ("Retrieve", EVERY),
    ("RetrieveEntityChanges", EVERY),
    ("RetrieveMultiple", EVERY),
    ("RevokeAccess", BUSINESS),
    ("Send", &["email"]),
    ("SetRelated", &["none"]),
    ("SetState", BUSINESS),
    ("SetStateDynamicEntity", BUSINESS),
    ("Update", EVERY),
    ("UpdateMultiple", EVERY),
    ("WhoAmI", &["none"]),
    ("Win", &["opportunity"]),
];

/// Messages that no step can be registered for.
const CLOSED: &[&str] = &["CreateEntity", "DeleteAttribute", "ImportSolution", "RetrieveEntity"];

/// Ids are the same each time, so that what a test prints is too.
fn id(kind: u16, number: usize) -> Uuid {
    Uuid::from_u128((u128::from(kind) << 112) | 0x0000_4000_8000_0000_0000_0000 | number as u128)
}

pub(super) fn plant(server: &DataverseServer) {
    server.insert(
        "organizations",
        json!({
            "organizationid": DataverseServer::ORGANIZATION_ID, "name": "contoso",
            "isauditenabled": true, "isreadauditenabled": true, "isuseraccessauditenabled": true,
            "useraccessauditinginterval": 4, "auditretentionperiodv2": 30, "auditsettings": null,
        }),
    );
    let mut filters = 0;
    let open = MESSAGES.iter().map(|(name, tables)| (*name, *tables, true));
    let closed = CLOSED.iter().map(|name| (*name, &["none"][..], false));
    for (number, (name, tables, allowed)) in open.chain(closed).enumerate() {
        let message = id(1, number);
        server.insert("sdkmessages", json!({ "sdkmessageid": message, "name": name, "isprivate": false }));
        for table in tables {
            filters += 1;
            server.insert(
                "sdkmessagefilters",
                json!({
                    "sdkmessagefilterid": id(2, filters), "_sdkmessageid_value": message,
                    "primaryobjecttypecode": table, "iscustomprocessingstepallowed": allowed, "isvisible": true,
                }),
            );
        }
    }
    server.insert("sdkmessages", json!({ "sdkmessageid": id(1, 1000), "name": "Internal", "isprivate": true }));

    for (number, (logical_name, schema_name, set, can_be_changed)) in TABLES.into_iter().enumerate() {
        let managed = |value: bool, can_be_changed: bool| {
            json!({
                "Value": value, "CanBeChanged": can_be_changed, "ManagedPropertyLogicalName": "canmodifyauditsettings",
            })
        };
        let definition = id(3, number);
        server.insert(
            DEFINITIONS,
            json!({
                "MetadataId": definition, "LogicalName": logical_name, "SchemaName": schema_name,
                "EntitySetName": set, "ObjectTypeCode": number + 1, "IsCustomEntity": logical_name.contains('_'),
                "IsAuditEnabled": managed(false, can_be_changed),
                "IsRetrieveAuditEnabled": false, "IsRetrieveMultipleAuditEnabled": false,
            }),
        );
        let columns = [
            ("name", "String", true),
            ("description", "Memo", true),
            ("ownerid", "Owner", true),
            ("createdon", "DateTime", false),
        ];
        for (column, (name, kind, changeable)) in columns.into_iter().enumerate() {
            server.insert(
                ATTRIBUTES,
                json!({
                    "@odata.type": format!("#Microsoft.Dynamics.CRM.{kind}AttributeMetadata"),
                    "MetadataId": id(4, 100 * number + column), "LogicalName": name, "SchemaName": name,
                    "AttributeType": kind, "IsAuditEnabled": managed(true, changeable), ATTRIBUTE_OF: definition,
                }),
            );
        }
    }
}
