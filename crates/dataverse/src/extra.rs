//! What a context says and the record has no key for.

use actlog_core::{Extra, Field, Json};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::context::Context;
use crate::enclosing::Enclosing;
use crate::json::{self, Pair, Text};
use crate::query::Query;
use crate::value;

/// Members of unknown meaning are kept up to this length, in bytes; of longer ones the length.
const MAX_MEMBER: usize = 8 * 1024;
/// How deep a kept member may be nested, so that every reader of JSON can read the record.
const MAX_MEMBER_DEPTH: usize = 64;
/// A query that can't be rewritten is kept up to this length, in bytes.
const MAX_RAW_QUERY: usize = 4 * 1024;
/// The property by which the platform marks a message that it cut.
const SIZE_EXCEEDED: &str = "MessageMaxSizeExceeded";

/// Shared variables that say how the server works; nothing for an auditor. The app is the record's AppName.
const SWITCHES: [&str; 6] =
    ["IsAutoTransact", "DefaultsAddedFlag", "ChangedEntityTypes", "AcceptLang", "x-ms-app-name", SIZE_EXCEEDED];

/// Whether the body itself says that the platform cut it.
pub(crate) fn size_exceeded(context: &Context<'_>) -> bool {
    let marks = |name: &str, value: Option<&RawValue>| {
        name == SIZE_EXCEEDED && value.is_some_and(|value| !matches!(value.get(), "false" | "\"false\"" | "null"))
    };
    context.unknown.iter().any(|(name, value)| marks(name, Some(value)))
        || context.shared_variables.iter().chain(&context.input_parameters).any(|pair| marks(&pair.key.0, pair.value))
}

/// Adds the members. Unknown ones go first: where such a one has the name of one of ours, ours stays.
pub(crate) fn fill<'a>(
    extra: &mut Extra<'a>,
    context: &Context<'a>,
    parameters: &[Field<'a>],
    enclosing: Option<&Enclosing<'a>>,
    query: &Query<'a>,
    unread: &[&'static str],
) {
    for (name, value) in &context.unknown {
        extra.insert(name.clone(), bounded(name, value));
    }
    unexpected(extra, context);
    for (name, value) in [("Mode", context.mode), ("Stage", context.stage), ("Depth", context.depth)] {
        insert_if(extra, name, value.filter(|value| json::integer(value).is_some()));
    }
    for (name, value) in [
        ("OperationId", context.operation_id),
        ("RequestId", context.request_id),
        ("BusinessUnitId", context.business_unit_id),
    ] {
        insert_if(extra, name, value.filter(|value| json::non_zero_guid(value).is_some()));
    }
    let secondary = context.secondary_entity_name.and_then(json::non_empty_text);
    if let Some(name) = secondary.filter(|name| name != "none") {
        extra.insert("SecondaryEntityName", name.as_ref());
    }
    if guid(context.initiating_user_id) != guid(context.user_id) {
        let entra = context.initiating_user_entra_id.filter(|value| json::non_zero_guid(value).is_some());
        insert_if(extra, "InitiatingUserAzureActiveDirectoryObjectId", entra);
    }
    if let Some(step) = context.owning_extension.and_then(json::read::<Step<'_>>) {
        insert_if(extra, "OwningExtensionId", step.id.filter(|id| json::guid(id).is_some()));
        if let Some(name) = step.name.and_then(json::text) {
            extra.insert("OwningExtensionName", name.as_ref());
        }
    }
    if let Some(enclosing) = enclosing {
        extra.insert("ParentMessage", enclosing.message.as_ref());
        if let Some(entity) = &enclosing.entity {
            extra.insert("ParentEntityName", entity.as_ref());
        }
        if let Some(id) = enclosing.id {
            extra.insert("ParentEntityId", id);
        }
    }
    if let Some(columns) = context.input("ColumnSet").and_then(json::read::<ColumnSet<'_>>) {
        if columns.all_columns == Some(true) {
            extra.insert("Columns", "*");
        } else {
            insert_if(extra, "Columns", columns.columns.filter(|names| json::read::<Vec<Text<'_>>>(names).is_some()));
        }
    }
    insert_texts(extra, "InputParameters", parameters);
    insert_texts(extra, "SharedVariables", &shared_variables(&context.shared_variables));
    if let (Some(problem), Some(raw)) = (&query.problem, &query.raw) {
        extra.insert("QueryProblem", problem.as_str());
        let end = (0..=raw.len().min(MAX_RAW_QUERY)).rev().find(|&end| raw.is_char_boundary(end)).unwrap_or(0);
        extra.insert("Query", &raw[..end]);
    }
    if !unread.is_empty() {
        extra.insert("Unread", unread.join(", "));
    }
}

/// Known members of another type than the contract's: they are of no use to the record, but nothing is dropped.
fn unexpected<'a>(extra: &mut Extra<'a>, context: &Context<'a>) {
    let is_guid: fn(&RawValue) -> bool = |value| json::guid(value).is_some();
    let is_integer: fn(&RawValue) -> bool = |value| json::integer(value).is_some();
    let is_text: fn(&RawValue) -> bool = |value| json::text(value).is_some();
    let is_object: fn(&RawValue) -> bool = |value| value.get().starts_with('{');
    for (name, value, expected) in [
        ("BusinessUnitId", context.business_unit_id, is_guid),
        ("CorrelationId", context.correlation_id, is_guid),
        ("Depth", context.depth, is_integer),
        ("InitiatingUserAgent", context.initiating_user_agent, is_text),
        ("InitiatingUserAzureActiveDirectoryObjectId", context.initiating_user_entra_id, is_guid),
        ("InitiatingUserId", context.initiating_user_id, is_guid),
        ("MessageName", context.message_name, is_text),
        ("Mode", context.mode, is_integer),
        ("OperationCreatedOn", context.operation_created_on, is_text),
        ("OperationId", context.operation_id, is_guid),
        ("OrganizationId", context.organization_id, is_guid),
        ("OrganizationName", context.organization_name, is_text),
        ("OwningExtension", context.owning_extension, is_object),
        ("PrimaryEntityId", context.primary_entity_id, is_guid),
        ("PrimaryEntityName", context.primary_entity_name, is_text),
        ("RequestId", context.request_id, is_guid),
        ("SecondaryEntityName", context.secondary_entity_name, is_text),
        ("Stage", context.stage, is_integer),
        ("UserAzureActiveDirectoryObjectId", context.user_entra_id, is_guid),
        ("UserId", context.user_id, is_guid),
    ] {
        if let Some(value) = value.filter(|value| !expected(value)) {
            extra.insert(name, bounded(name, value));
        }
    }
}

/// A member as it stands, unless it is too long or nested too deep, or its name says that it is a secret. What ordinary
/// readers of JSON would stumble over (numbers out of any range, halves of characters) is kept as a text.
fn bounded<'a>(name: &str, value: &'a RawValue) -> Json<'a> {
    let json = value.get();
    if value::is_secret(name) || json.len() > MAX_MEMBER || json::nested_deeper_than(json, MAX_MEMBER_DEPTH) {
        return Json::from(format!("({} bytes left out)", json.len()));
    }
    // Members of unknown meaning are rare and short, so that reading them as a tree costs nothing.
    match json::read::<serde_json::Value>(value) {
        Some(_) => Json::raw(value),
        None => Json::from(json),
    }
}

fn insert_if<'a>(extra: &mut Extra<'a>, name: &'static str, value: Option<&'a RawValue>) {
    if let Some(value) = value {
        extra.insert(name, Json::raw(value));
    }
}

fn shared_variables<'a>(variables: &[Pair<'a>]) -> Vec<Field<'a>> {
    let telling = variables.iter().filter(|pair| !SWITCHES.contains(&pair.key.0.as_ref()));
    telling
        .filter_map(|pair| Some(Field::new(pair.key.0.clone(), value::parameter_text(&pair.key.0, pair.value?)?)))
        .collect()
}

fn insert_texts<'a>(extra: &mut Extra<'a>, name: &'static str, texts: &[Field<'a>]) {
    if texts.is_empty() {
        return;
    }
    // Texts always have a JSON form.
    if let Ok(object) = serde_json::value::to_raw_value(&Texts(texts)) {
        extra.insert(name, Json::Owned(object));
    }
}

fn guid(value: Option<&RawValue>) -> Option<Uuid> {
    value.and_then(json::guid)
}

/// Names and texts as a JSON object.
struct Texts<'t, 'a>(&'t [Field<'a>]);

impl Serialize for Texts<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|Field { name, value }| (name, value)))
    }
}

/// The step that posted: a row of `sdkmessageprocessingstep`.
#[derive(Deserialize)]
struct Step<'a> {
    #[serde(rename = "Id", borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(rename = "Name", borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ColumnSet<'a> {
    #[serde(rename = "AllColumns", default)]
    all_columns: Option<bool>,
    #[serde(rename = "Columns", borrow, default)]
    columns: Option<&'a RawValue>,
}
