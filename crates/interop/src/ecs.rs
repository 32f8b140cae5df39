//! Documents in the Elastic Common Schema, for a data stream of Elasticsearch or OpenSearch.
//!
//! The whole record is under `o365.audit`, where Elastic's own integration for Office 365 has these names, so that what
//! was built for one works with the other. `o365.audit.Extra` holds whatever the products say: an index template should
//! map it as `flattened`, so that its members can't be of one type today and of another tomorrow.
//!
//! Field types are those of the ECS reference, 8.17: `client.ip` is there only if ClientIP is an address;
//! `client.address` is what the record says. `docs/mappings.md` has the table.

use actlog_core::AuditRecord;
use actlog_office::record_type_name;

use crate::json::{Object, write};
use crate::reading::{Area, Outcome, Sign, Verb, area, client, host, outcome, present, sign, upn, verb};

/// The version of the schema.
pub const VERSION: &str = "8.17.0";

/// Into which data stream documents go: `logs-{dataset}-{namespace}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcsOptions {
    /// `data_stream.dataset`, which is `event.dataset` too.
    pub dataset: String,
    /// `data_stream.namespace`.
    pub namespace: String,
}

/// Appends the record as one document, on one line, without a line end.
pub fn document(record: &AuditRecord<'_>, options: &EcsOptions, out: &mut Vec<u8>) {
    write(out, |document| {
        document.time("@timestamp", record.creation_time);
        document.object("data_stream", |stream| {
            stream.set("type", "logs");
            stream.set("dataset", &options.dataset);
            stream.set("namespace", &options.namespace);
        });
        document.object("ecs", |ecs| ecs.set("version", VERSION));
        document.object("event", |event| {
            event.id("id", record.id);
            event.set("kind", "event");
            event.set("action", &record.operation);
            match record_type_name(record.record_type) {
                Some(name) => event.set("code", name),
                None => event.set("code", record.record_type.to_string()),
            }
            event.set("provider", &record.workload);
            event.set("module", "actlog");
            event.set("dataset", &options.dataset);
            let (category, kind) = classification(record);
            event.set("category", [category]);
            event.set("type", [kind]);
            event.set_if("outcome", outcome(record).map(outcome_name));
            event.time("created", record.collected_time);
        });
        if record.organization_id.is_some() || record.crm_organization_unique_name.is_some() {
            document.object("organization", |organization| {
                organization.id("id", record.organization_id);
                organization.set_if("name", record.crm_organization_unique_name.as_ref());
            });
        }
        user(record, document);
        endpoints(record, document);
        if record.user_agent.is_some() {
            document.object("user_agent", |agent| agent.set_if("original", record.user_agent.as_ref()));
        }
        if record.item_url.is_some() {
            document.object("url", |url| url.set_if("original", record.item_url.as_ref()));
        }
        document.object("o365", |o365| o365.record("audit", record));
    });
}

/// `event.category` and `event.type`, of the pairs that ECS expects together.
fn classification(record: &AuditRecord<'_>) -> (&'static str, &'static str) {
    let verb = verb(record);
    match area(record) {
        Area::SignIn => match sign(record) {
            Some(Sign::In) => ("authentication", "start"),
            Some(Sign::Out) => ("authentication", "end"),
            None => ("authentication", "info"),
        },
        // Rows come and go by changing the database.
        Area::Rows => match verb {
            Verb::Read | Verb::Query => ("database", "access"),
            Verb::Create | Verb::Update | Verb::Delete | Verb::Change => ("database", "change"),
            Verb::Other => ("database", "info"),
        },
        Area::Accounts => match verb {
            Verb::Create => ("iam", "creation"),
            Verb::Delete => ("iam", "deletion"),
            Verb::Update | Verb::Change | Verb::Other => ("iam", "change"),
            Verb::Read | Verb::Query => ("iam", "info"),
        },
        area => {
            let category = if area == Area::Configuration { "configuration" } else { "api" };
            match verb {
                Verb::Create => (category, "creation"),
                Verb::Read | Verb::Query => (category, "access"),
                Verb::Update | Verb::Change => (category, "change"),
                Verb::Delete => (category, "deletion"),
                Verb::Other => (category, "info"),
            }
        }
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Other => "unknown",
    }
}

/// `user.*`: as Elastic has them, the id is the UPN where there is one, the name what stands before its `@`.
fn user(record: &AuditRecord<'_>, document: &mut Object<'_>) {
    let id = present(&record.user_id).or(present(&record.user_upn));
    if id.is_none() && record.system_user_id.is_none() {
        return;
    }
    document.object("user", |user| {
        match id {
            Some(id) => user.set("id", id),
            None => user.id("id", record.system_user_id),
        }
        if let Some(upn) = upn(record) {
            user.set("email", upn);
            if let Some((name, domain)) = upn.rsplit_once('@') {
                user.set("name", name);
                user.set("domain", domain);
            }
        }
    });
}

/// `client.*`, `source.*`, `related.*`.
fn endpoints(record: &AuditRecord<'_>, document: &mut Object<'_>) {
    let client = client(record);
    if let Some(address) = present(&record.client_ip) {
        for name in ["client", "source"] {
            document.object(name, |endpoint| {
                endpoint.set("address", address);
                if let Some((ip, port)) = client {
                    endpoint.set("ip", ip);
                    endpoint.set_if("port", port);
                }
            });
        }
    }
    let users =
        [present(&record.user_id), present(&record.user_upn).filter(|upn| record.user_id.as_deref() != Some(upn))];
    let mut users = users.into_iter().flatten().peekable();
    let host = host(record);
    if client.is_none() && users.peek().is_none() && host.is_none() {
        return;
    }
    document.object("related", |related| {
        if let Some((ip, _)) = client {
            related.set("ip", [ip]);
        }
        if users.peek().is_some() {
            related.set("user", users.collect::<Vec<_>>());
        }
        if let Some(host) = host {
            related.set("hosts", [host]);
        }
    });
}
