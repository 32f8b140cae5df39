//! Records as the feed has them: of many products, in the many ways in which these write the same thing.

use std::fmt::Write as _;

use actlog_core::Timestamp;
use uuid::Uuid;

use super::OfficeServer;
use crate::random::Random;

/// Record types that other products' records have, and some that no reference lists.
const OTHER_TYPES: [u32; 24] =
    [16, 18, 20, 24, 25, 28, 30, 35, 40, 45, 46, 47, 79, 83, 97, 117, 155, 187, 195, 278, 284, 357, 463, 9999];

/// Addresses as products write them; JSON values.
const ADDRESSES: [&str; 8] = [
    r#""131.107.1.20""#,
    r#""52.163.88.69:50749""#,
    r#""[2001:db8::8a2e:370:7334]:443""#,
    r#""2001:db8::1""#,
    r#""::1""#,
    r#""""#,
    "null",
    r#""131.107.XXX.XX""#,
];

/// Appends a record whose Id and time are given. `order` turns the order of its members.
pub(super) fn write(
    out: &mut String,
    mut random: Random,
    id: Uuid,
    content_type: &str,
    available: Timestamp,
    order: usize,
) {
    let mut members = Members(Vec::with_capacity(32));
    // Mostly up to 90 minutes before it becomes available; some days.
    let age = if random.per_mille(950) { random.below(5_400_000) } else { random.below(5 * 86_400_000) };
    let time = available.plus_milliseconds(-(age as i64)).to_datetime();
    let spelling = if random.per_mille(20) { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S" };
    members.text("CreationTime", &time.format(spelling).to_string());
    let id = if random.per_mille(20) { id.to_string().to_uppercase() } else { id.to_string() };
    members.text("Id", &id);
    members.text("OrganizationId", OfficeServer::TENANT);
    members.raw("Version", "1");
    let number = random.below(50);
    members.text("UserId", &format!("user{number}@contoso.onmicrosoft.com"));
    if random.per_mille(900) {
        members.text("UserKey", &format!("1003{number:012X}"));
    }
    members.raw("UserType", random.pick(&["0", "0", "2", "\"5\"", "null"]));
    if random.per_mille(700) {
        members.raw("ClientIP", random.pick(&ADDRESSES));
    }
    match content_type {
        "Audit.General" => match random.below(10) {
            0..=5 => dynamics(&mut members, &mut random),
            6 => admin_center(&mut members, &mut random),
            _ => other(&mut members, &mut random),
        },
        "Audit.AzureActiveDirectory" => entra(&mut members, &mut random),
        "Audit.Exchange" => {
            members.kind(
                random.pick(&["1", "2", "50"]),
                "Exchange",
                random.pick(&["Set-Mailbox", "MailItemsAccessed"]),
            );
            members.raw("ResultStatus", random.pick(&["\"True\"", "\"Succeeded\"", "null"]));
            members.raw("Parameters", r#"[{"Name":"Identity","Value":"user"},{"Name":"Force","Value":"True"}]"#);
        }
        "DLP.All" => {
            members.kind(random.pick(&["11", "13", "63"]), "Exchange", "DlpRuleMatch");
            members
                .raw("PolicyDetails", r#"[{"PolicyId":"1","Rules":[{"Severity":"High","Actions":["BlockAccess"]}]}]"#);
        }
        _ => {
            members.kind(random.pick(&["4", "6", "14"]), "SharePoint", random.pick(&["FileAccessed", "PageViewed"]));
            members.text("ItemType", "File");
            members.text("CorrelationId", &random.uuid().to_string());
            members.raw("EventData", r#""<Type>Edit<\/Type>\u00e9""#);
        }
    }
    let count = members.0.len();
    for place in 0..count {
        out.push(if place == 0 { '{' } else { ',' });
        out.push_str(&members.0[(place + order) % count]);
    }
    out.push('}');
}

fn dynamics(members: &mut Members, random: &mut Random) {
    let message = random.pick(&["RetrieveMultiple", "Retrieve", "Update", "Create", "ExportToExcel", "Delete", "Win"]);
    let entity = random.pick(&["account", "contact", "opportunity", "new_bankdetails"]);
    members.kind(random.pick(&["21", "21", "\"21\""]), "CRM", "CrmDefaultActivity");
    members.text("ResultStatus", "Success");
    members.text("ObjectId", &format!("{message} {entity}"));
    members.text("CrmOrganizationUniqueName", "orgc111a6c1");
    members.text("InstanceUrl", "https://contoso.crm.dynamics.com/");
    members.text("ItemUrl", "https://contoso.crm.dynamics.com/");
    members.text("ItemType", "Dynamics365");
    members.text("UserAgent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)");
    let none = random.per_mille(300);
    members.text("CorrelationId", &if none { Uuid::nil() } else { random.uuid() }.to_string());
    members.text("EntityId", &if none { Uuid::nil() } else { random.uuid() }.to_string());
    members.text("EntityName", entity);
    members.text("Message", message);
    if message == "RetrieveMultiple" || message == "ExportToExcel" {
        let separator = random.pick(&[",", ", "]);
        let ids: Vec<_> = (0..random.below(12)).map(|_| random.uuid().to_string()).collect();
        members.text("QueryResults", &ids.join(separator));
        members.raw(
            "Query",
            r#""<filter type=\"and\"><condition column=\"statecode\" operator=\"eq\" value=\"0\" /></filter>""#,
        );
    }
    members.raw(
        "Fields",
        random.pick(&[
            "[]",
            "null",
            r#"[{"Name":"name","Value":"Fourth Coffee"},{"Name":"fax","Value":null}]"#,
            r#""[{\"Name\":\"name\",\"Value\":\"Fourth Coffee\"}]""#,
        ]),
    );
}

fn admin_center(members: &mut Members, random: &mut Random) {
    let activity = random.pick(&["LockboxRequestOperation", "TrialConvertToProduction", "Backed up environment"]);
    members.kind("256", "PowerPlatform", activity);
    let environment = random.uuid();
    members.raw(
        "PropertyCollection",
        &format!(
            r#"[{{"Name":"powerplatform.analytics.activity.name","Value":"{activity}"}},{{"Name":"powerplatform.analytics.resource.environment.id","Value":"{environment}"}},{{"Name":"enduser.role","Value":"Admin"}}]"#
        ),
    );
}

fn entra(members: &mut Members, random: &mut Random) {
    if random.per_mille(300) {
        members.kind("8", "AzureActiveDirectory", "Update user.");
        members.raw("ModifiedProperties", r#"[{"Name":"StsRefreshTokensValidFrom","NewValue":"[]","OldValue":"[]"}]"#);
        return;
    }
    members.kind("15", "AzureActiveDirectory", random.pick(&["UserLoggedIn", "UserLoginFailed"]));
    members.text("ResultStatus", "Success");
    members.text("ActorIpAddress", "131.107.1.21");
    let application = ["00000007-0000-0000-c000-000000000000", "00000003-0000-0000-c000-000000000000"];
    members.text("ApplicationId", random.pick(&application));
    members.raw("Target", &format!(r#"[{{"ID":"{}","Type":0}}]"#, random.pick(&application)));
    members.raw(
        "ExtendedProperties",
        r#"[{"Name":"UserAgent","Value":"Edge"},{"Name":"RequestType","Value":"OAuth2:Authorize"}]"#,
    );
}

/// A product of which nothing is known.
fn other(members: &mut Members, random: &mut Random) {
    let number = random.pick(&OTHER_TYPES);
    members.kind(&number.to_string(), "Other", "Something");
    members.raw("Scope", random.pick(&["0", "\"1e9\"", "1.5", "-7"]));
    members
        .raw("AppAccessContext", r#"{"AADSessionId":"a","IssuedAtTime":"2026-01-01T00:00:00","UniqueTokenId":null}"#);
    members.raw("Deep", r#"{"a":[[{"b":[1,2,{"c":null}]}]],"d":"\ud83d\ude00"}"#);
}

/// Members as they are written.
struct Members(Vec<String>);

impl Members {
    fn kind(&mut self, record_type: &str, workload: &str, operation: &str) {
        self.raw("RecordType", record_type);
        self.text("Workload", workload);
        self.text("Operation", operation);
    }

    /// Texts here need no escapes.
    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &format!("\"{value}\""));
    }

    fn raw(&mut self, name: &str, json: &str) {
        let mut member = String::with_capacity(name.len() + json.len() + 3);
        // Writing to a text does not fail.
        let _ = write!(member, "\"{name}\":{json}");
        self.0.push(member);
    }
}
