//! Events of the Open Cybersecurity Schema Framework, OCSF.
//!
//! | what the record is about | class |
//! |---|---|
//! | reading and changing rows of Dynamics 365 with the basic messages | 6005 Datastore Activity |
//! | signing in and out | 3002 Authentication |
//! | a change of a user; roles for a user; a change of a team or role | 3001, 3005, 3006 |
//! | a change of customisations, solutions, settings, environments | 3004 Entity Management |
//! | every other operation, of whatever product | 6003 API Activity |
//!
//! The whole record is in `unmapped`, under its own keys. Attributes that the schema requires and the record has nothing
//! for are "Unknown", the schema's own word; nothing else is made up. `docs/mappings.md` has the table.

mod class;
mod objects;

use actlog_core::{AuditRecord, WORKLOAD_CRM};
use actlog_office::parts::NUMBERING;

use crate::json::{Object, write};
use crate::reading::{Outcome, outcome, present};
use class::{Class, Classification};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// What the schema says where nothing is known.
const UNKNOWN: &str = "Unknown";

/// Appends the record as one event, on one line, without a line end.
pub fn event(record: &AuditRecord<'_>, out: &mut Vec<u8>) {
    let Classification { class, activity, name } = class::classify(record);
    write(out, |event| {
        event.set("class_uid", class.uid());
        event.set("class_name", class.name());
        event.set("category_uid", class.uid() / 1000);
        event.set("activity_id", activity);
        event.set("activity_name", name);
        event.set("type_uid", class.uid() * 100 + u32::from(activity));
        event.set("time", record.creation_time.unix_milliseconds());
        event.set("severity_id", 1);
        status(record, event);
        event.object("metadata", |metadata| self::metadata(record, metadata));
        event.object("actor", |actor| objects::actor(record, actor));
        match class {
            Class::Datastore => objects::datastore(record, event),
            Class::Api => objects::call(record, event),
            Class::Authentication => {
                event.object("user", |user| objects::acting_user(record, user));
                let service = present(&record.service_name).or(present(&record.app_name));
                let service = service.or(Some(&*record.workload).filter(|workload| !workload.is_empty()));
                event.object("service", |object| object.set("name", service.unwrap_or(UNKNOWN)));
            }
            Class::Entity => event.object("entity", |entity| objects::entity(record, entity)),
            Class::Account => event.object("user", |user| objects::changed_user(record, user)),
            Class::Access => {
                event.object("user", |user| objects::changed_user(record, user));
                event.set("privileges", &record.linked_results);
            }
            Class::Group => objects::group(record, activity, event),
        }
        let has_destination = matches!(class, Class::Datastore | Class::Api | Class::Authentication);
        objects::endpoints(record, has_destination, event);
        objects::http_request(record, event);
        event.record("unmapped", record);
    });
}

fn status(record: &AuditRecord<'_>, event: &mut Object<'_>) {
    let said = present(&record.result_status);
    let Some(outcome) = outcome(record) else { return };
    let (id, name) = match outcome {
        Outcome::Success => (1, "Success"),
        Outcome::Failure => (2, "Failure"),
        Outcome::Other => (99, said.unwrap_or(UNKNOWN)),
    };
    event.set("status_id", id);
    event.set("status", name);
    event.set_if("status_code", said);
}

fn metadata(record: &AuditRecord<'_>, metadata: &mut Object<'_>) {
    metadata.set("version", VERSION);
    metadata.object("product", |product| {
        if record.workload == WORKLOAD_CRM {
            product.set("name", "Dynamics 365");
            product.set("vendor_name", "Microsoft");
        } else {
            product.set("name", if record.workload.is_empty() { UNKNOWN } else { &record.workload });
        }
    });
    metadata.id("uid", record.id);
    metadata.set("event_code", &record.operation);
    metadata.id("correlation_uid", record.correlation_id);
    metadata.id("tenant_uid", record.organization_id);
    metadata.set("log_provider", "actlog");
    metadata.set_if("log_source", record.source.as_ref());
    metadata.set_if("log_name", record.content_type.as_ref());
    metadata.set_if("sequence", part(record));
    metadata.time("original_time", record.creation_time);
    metadata.set_if("logged_time", record.collected_time.map(|time| time.unix_milliseconds()));
    if record.truncated {
        metadata.set("is_truncated", true);
    }
}

/// Which part of a divided record this is.
fn part(record: &AuditRecord<'_>) -> Option<i32> {
    record.extra.get(NUMBERING.0)?.get().parse().ok()
}
