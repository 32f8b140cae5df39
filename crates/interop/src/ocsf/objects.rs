//! The objects of events.

use actlog_core::AuditRecord;

use super::UNKNOWN;
use crate::json::Object;
use crate::reading::{client, entity as entity_name, host, present, upn};

/// Who did it.
pub(super) fn actor(record: &AuditRecord<'_>, actor: &mut Object<'_>) {
    let app = present(&record.app_name);
    actor.set_if("app_name", app);
    if let Some(id) = present(&record.service_context_id) {
        actor.object("session", |session| session.set("uid", id));
    }
    let is_known = present(&record.user_id).or(present(&record.user_upn)).or(present(&record.user_key)).is_some();
    if is_known || record.system_user_id.is_some() || app.is_none() {
        actor.object("user", |user| acting_user(record, user));
    }
}

/// The user who did it, or who signed in.
pub(super) fn acting_user(record: &AuditRecord<'_>, user: &mut Object<'_>) {
    let name = present(&record.user_upn).or(present(&record.user_id));
    let key = present(&record.user_key);
    if name.is_none() && key.is_none() && record.system_user_id.is_none() {
        user.set("name", UNKNOWN);
    }
    user.set_if("name", name);
    user.set_if("email_addr", upn(record).filter(|address| is_email(address)));
    match key {
        Some(key) => {
            user.set("uid", key);
            user.id("uid_alt", record.system_user_id);
        }
        None => user.id("uid", record.system_user_id),
    }
    if let Some(number) = record.user_type {
        let (id, name) = match number {
            0 => (1, "User"),
            2 => (2, "Admin"),
            4 => (3, "System"),
            5 | 6 => (4, "Service"),
            3 => (99, "Microsoft support"),
            _ => (99, "Other"),
        };
        user.set("type_id", id);
        user.set("type", name);
    }
}

/// What the schema takes for an address.
fn is_email(text: &str) -> bool {
    let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+,-./=?^_`{|}~".contains(c);
    let is_label = |text: &str, besides: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || besides.contains(c))
    };
    text.split_once('@').is_some_and(|(local, domain)| {
        let domain = domain.split_once('.');
        !local.is_empty()
            && local.chars().all(is_local)
            && domain.is_some_and(|(a, b)| is_label(a, "") && is_label(b, "."))
    })
}

/// The user that was changed: a row of the table `systemuser`.
pub(super) fn changed_user(record: &AuditRecord<'_>, user: &mut Object<'_>) {
    let account =
        record.fields.iter().find(|field| field.name == "domainname").and_then(|field| field.value.as_deref());
    let name = account.filter(|name| !name.is_empty()).or(present(&record.primary_field_value));
    row(name, record, user);
}

/// A row by its id and name; "Unknown" where it has neither.
fn row(name: Option<&str>, record: &AuditRecord<'_>, object: &mut Object<'_>) {
    object.id("uid", record.entity_id);
    object.set_if("name", name.or(record.entity_id.is_none().then_some(UNKNOWN)));
}

/// The team or role that was changed, with what was given to it or taken from it.
pub(super) fn group(record: &AuditRecord<'_>, activity: u8, event: &mut Object<'_>) {
    event.object("group", |group| {
        row(present(&record.primary_field_value), record, group);
        group.set_if("type", entity_name(record));
    });
    match (activity, &record.linked_results[..]) {
        // Several are in `unmapped`: the class has one user.
        (3 | 4, &[member]) => event.object("user", |user| user.id("uid", member)),
        (1 | 2, roles) if !roles.is_empty() => event.set("privileges", roles),
        (1 | 2, _) => {
            let privileges = record.fields.iter().find(|field| field.name == "privileges");
            if let Some(list) = privileges.and_then(|field| field.value.as_deref()) {
                event.set("privileges", list.split(", ").collect::<Vec<_>>());
            }
        }
        _ => {}
    }
}

/// The thing that was changed; the organisation where the operation is about no single one.
pub(super) fn entity(record: &AuditRecord<'_>, entity: &mut Object<'_>) {
    let table = entity_name(record);
    let name = present(&record.primary_field_value).or(present(&record.object_id));
    let has_organization = record.organization_id.is_some() || present(&record.crm_organization_unique_name).is_some();
    entity.id("uid", record.entity_id);
    match name.or(table) {
        Some(name) => entity.set("name", name),
        None if record.entity_id.is_none() && !has_organization => entity.set("name", UNKNOWN),
        None => {}
    }
    match table {
        Some("organization") => {
            entity.set("type_id", 4);
            entity.set("type", "Organization");
        }
        Some(table) => {
            entity.set("type_id", 99);
            entity.set("type", table);
        }
        None if name.is_none() && record.entity_id.is_none() && has_organization => {
            entity.set("type_id", 4);
            entity.set("type", "Organization");
        }
        None => {}
    }
    if has_organization {
        entity.object("org", |organization| {
            organization.id("uid", record.organization_id);
            organization.set_if("name", present(&record.crm_organization_unique_name));
        });
    }
}

/// Table, database and query of class 6005.
pub(super) fn datastore(record: &AuditRecord<'_>, event: &mut Object<'_>) {
    let table = entity_name(record);
    event.set("type_id", if table.is_some() { 3 } else { 1 });
    if let Some(name) = table {
        event.object("table", |table| table.set("name", name));
    }
    let name = present(&record.crm_organization_unique_name);
    if name.is_some() || record.organization_id.is_some() {
        event.object("database", |database| {
            database.set_if("name", name);
            database.id("uid", record.organization_id);
            database.set("type_id", 99);
            database.set("type", "Dataverse");
        });
    }
    if let Some(query) = present(&record.query) {
        event.object("query_info", |info| {
            info.id("uid", record.id);
            info.set("query_string", query);
            if !record.query_results.is_empty() {
                info.object("data", |data| {
                    data.set("count", record.query_results.len());
                    data.set("ids", &record.query_results);
                });
            }
        });
    }
}

/// The operation of class 6003, and what it was about.
pub(super) fn call(record: &AuditRecord<'_>, event: &mut Object<'_>) {
    event.object("api", |api| {
        api.set("operation", &record.operation);
        if let Some(name) = present(&record.service_name) {
            api.object("service", |service| service.set("name", name));
        }
    });
    let name = present(&record.primary_field_value).or(present(&record.object_id));
    if name.is_some() || record.entity_id.is_some() {
        event.object_in_array("resources", |resource| {
            resource.id("uid", record.entity_id);
            resource.set_if("name", name);
            resource.set_if("type", entity_name(record));
        });
    }
}

/// From where it came and, in classes that have it, where to.
pub(super) fn endpoints(record: &AuditRecord<'_>, has_destination: bool, event: &mut Object<'_>) {
    event.object("src_endpoint", |source| match (client(record), present(&record.client_ip)) {
        (Some((ip, port)), _) => {
            source.set("ip", ip);
            source.set_if("port", port);
        }
        // Office has names here too, such as that of its own service.
        (None, Some(name)) => source.set("svc_name", name),
        (None, None) => source.set("name", UNKNOWN),
    });
    if let Some(host) = host(record).filter(|_| has_destination) {
        event.object("dst_endpoint", |destination| destination.set("hostname", host));
    }
}

/// Browser and address of the row.
pub(super) fn http_request(record: &AuditRecord<'_>, event: &mut Object<'_>) {
    let (agent, url) = (present(&record.user_agent), present(&record.item_url));
    if agent.is_none() && url.is_none() {
        return;
    }
    event.object("http_request", |request| {
        request.set_if("user_agent", agent);
        if let Some(url) = url {
            request.object("url", |object| object.set("url_string", url));
        }
    });
}
