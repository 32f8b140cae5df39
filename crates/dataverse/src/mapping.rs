//! From one posted context to one audit record. The rules, member by member, are in `docs/crm-mapping.md`.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Field, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::context::{Context, ContextError};
use crate::enclosing::{Enclosing, enclosing};
use crate::json::{self, Text};
use crate::query::{self, Query};
use crate::tables::{self, MessageCategory};
use crate::value::{Entity, Reference};
use crate::{extra, fields, identity, results, text};

/// What stands for the entity where nothing tells it, as in Microsoft's own records.
const UNKNOWN_ENTITY: &str = "Unknown";

/// What the transport knows beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// When the post arrived. It stands for the event's time where the body has none.
    pub received: Timestamp,
    /// Host name of the environment: header `x-ms-dynamics-organization`, or what is configured.
    pub organization_host: Option<&'a str>,
    /// Header `x-ms-dynamics-entity-name`: used where the body names no entity.
    pub entity_name: Option<&'a str>,
    /// Header `x-ms-dynamics-request-name`: used where the body names no message.
    pub request_name: Option<&'a str>,
    /// Header `x-ms-correlation-request-id`: used where the body has no CorrelationId.
    pub correlation_id: Option<Uuid>,
    /// Whether the header `x-ms-dynamics-msg-size-exceeded` was there: the platform removed members from the body.
    pub size_exceeded: bool,
}

impl<'a> Envelope<'a> {
    /// A body without headers, such as a line of a file.
    pub fn new(received: Timestamp) -> Self {
        Self {
            received,
            organization_host: None,
            entity_name: None,
            request_name: None,
            correlation_id: None,
            size_exceeded: false,
        }
    }

    /// The message that the headers name.
    fn message(&self) -> Option<&'a str> {
        self.request_name.filter(|name| !name.is_empty())
    }
}

/// Choices of a deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingOptions {
    /// Repair texts that are wholly UTF-8 read as Windows-1252, as some environments deliver them.
    pub repair_text: bool,
    /// Append the filters of linked entities to Query, each in a `<link-entity>`; the specification's form has the
    /// outermost filter only.
    pub extended_query: bool,
}

/// Maps one `RemoteExecutionContext` in JSON to its audit record, which borrows from the body what it can.
///
/// Unknown members, members of an unexpected type and trimmed or old dialects are no errors: what the record has no key
/// for is under `Extra`. The policy's fields (Category, Activity, PolicyVersion) and Source are left to the emitter.
///
/// # Errors
/// When the body is not JSON in UTF-8, is nested too deep, holds more of something than any context, or names no message.
pub fn map_context<'a>(
    body: &'a [u8],
    envelope: &Envelope<'a>,
    options: &MappingOptions,
) -> Result<AuditRecord<'a>, ContextError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    let json = std::str::from_utf8(body).map_err(|error| ContextError::NotJson {
        reason: format!("it is not UTF-8 at byte {}", error.valid_up_to()),
    })?;
    let context = Context::parse(json)?;
    let message = context
        .message()
        .or_else(|| envelope.message().map(Cow::Borrowed))
        .ok_or(ContextError::NotAContext { missing: "it has no MessageName (a text)" })?;
    let query = query_of(&context, options.extended_query);
    let enclosing = enclosing(&context);
    let entity = entity_name(&context, &query, envelope);
    let request = tables::request_name(&message, &entity).map_or_else(|| message.clone(), Cow::Borrowed);
    let operation = export_around(&message, enclosing.as_ref()).unwrap_or_else(|| request.clone());
    let id = entity_id(&context, &entity);
    let values = fields::values(&context, &request, &entity, id);
    let found = results::results(&context, &message, values.related);

    let user_id = guid(context.user_id);
    let instance_url = instance_url(envelope.organization_host);
    let item_url = item_url(instance_url.as_deref(), &entity, id);
    let primary_field_value = fields::primary_field_value(&context, &entity, &values.fields);
    let unread = found.unread;
    let mut record = AuditRecord {
        id: identity::record_id(body, &context),
        record_type: RECORD_TYPE_CRM,
        version: 1,
        workload: WORKLOAD_CRM.into(),
        creation_time: created(&context).unwrap_or(envelope.received),
        operation,
        organization_id: guid(context.organization_id),
        crm_organization_unique_name: name(context.organization_name),
        user_id: user_id.map(|id| Cow::Owned(id.to_string())),
        user_key: guid(context.user_entra_id).map(|id| Cow::Owned(id.to_string())),
        system_user_id: user_id,
        initiating_user_id: guid(context.initiating_user_id).filter(|&initiating| Some(initiating) != user_id),
        result_status: (context.stage.and_then(json::integer) == Some(40)).then_some(Cow::Borrowed("Success")),
        correlation_id: guid(context.correlation_id).or(envelope.correlation_id),
        instance_url,
        item_url,
        item_type: Some(entity.clone()),
        user_agent: name(context.initiating_user_agent),
        entity_id: id,
        entity_name: Some(entity),
        fields: values.fields,
        query_results: found.rows.list,
        linked_results: found.linked.list,
        primary_field_value,
        app_name: app_name(&context),
        collected_time: Some(envelope.received),
        truncated: envelope.size_exceeded || extra::size_exceeded(&context),
        ..AuditRecord::default()
    };
    extra::fill(&mut record.extra, &context, &values.parameters, enclosing.as_ref(), &query, &unread);
    record.message = Some(message);
    record.query = query.filter.map(Cow::Owned);
    if options.repair_text {
        repair(&mut record);
    }
    Ok(record)
}

/// The query of the request, whichever parameter holds it.
fn query_of<'a>(context: &Context<'a>, extended: bool) -> Query<'a> {
    if let Some(set) = context.input("QuerySet").and_then(json::elements) {
        // The queries of a bulk deletion, one after the other.
        let queries = set.into_iter().map(|query| query::read(query, extended));
        return queries
            .reduce(|mut all, query| {
                all.filter = match (all.filter, query.filter) {
                    (Some(all), Some(next)) => Some(all + &next),
                    (all, next) => all.or(next),
                };
                (all.problem, all.raw) = (all.problem.or(query.problem), all.raw.or(query.raw));
                all
            })
            .unwrap_or_default();
    }
    let parameter = ["Query", "FetchXml", "QueryExpression"].iter().find_map(|name| {
        // Some requests have words to search for under the name Query.
        context.input(name).filter(|value| value.get().starts_with('{') || fields::is_markup(value))
    });
    parameter.map(|value| query::read(value, extended)).unwrap_or_default()
}

/// What the primary entity is; where the platform says "none", what the parameters say.
fn entity_name<'a>(context: &Context<'a>, query: &Query<'a>, envelope: &Envelope<'a>) -> Cow<'a, str> {
    let header = || envelope.entity_name.filter(|name| !name.is_empty() && *name != "none").map(Cow::Borrowed);
    let named = context.primary_entity().or_else(|| {
        let of_row = |name| context.input(name).and_then(json::read::<Named<'_>>).and_then(|row| row.logical_name);
        let of_rows = |name| context.input(name).and_then(json::read::<Rows<'_>>).and_then(|rows| rows.entity_name);
        let text = |name| context.input(name).and_then(json::non_empty_text);
        ["Target", "EntityMoniker", "LeadId"]
            .into_iter()
            .find_map(of_row)
            .or_else(|| of_rows("Targets"))
            .map(|name| name.0)
            .or_else(|| query.entity.clone())
            .or_else(|| ["EntityLogicalName", "EntityName"].into_iter().find_map(text))
            .or_else(|| context.input("EntityTypeCode").and_then(entity_of_type_code))
            .filter(|name| !name.is_empty() && name != "none")
    });
    named.or_else(header).unwrap_or(Cow::Borrowed(UNKNOWN_ENTITY))
}

/// Exports name their entity by number, or by name in spite of the parameter's.
fn entity_of_type_code(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = json::text(value);
    let code = text.as_deref().unwrap_or(value.get()).parse().ok();
    match code {
        Some(code) => tables::entity_of_type_code(code).map(|entity| Cow::Borrowed(entity.logical_name)),
        None => text.filter(|text| !text.is_empty()),
    }
}

/// The row that the event is about, if it is about one.
fn entity_id(context: &Context<'_>, entity: &str) -> Option<Uuid> {
    let of_row = |name| {
        let row = context.input(name)?;
        json::non_zero_guid(row).or_else(|| json::read::<Entity<'_>>(row)?.row_id()).or_else(|| reference_id(row))
    };
    context
        .primary_id()
        .or_else(|| of_row("Target"))
        .or_else(|| of_row("EntityMoniker"))
        .or_else(|| context.output("id").and_then(json::non_zero_guid))
        .or_else(|| context.input_parameters.iter().find_map(|pair| key_of(pair.key.0.as_ref(), pair.value?, entity)))
}

/// The row's key where a parameter holds it: `TeamId` of a team, or the column `opportunityid` of the row that closes
/// an opportunity.
fn key_of(name: &str, value: &RawValue, entity: &str) -> Option<Uuid> {
    let is_key = |name: &str| {
        let stem = name.len().checked_sub(2).and_then(|end| Some((name.get(..end)?, name.get(end..)?)));
        stem.is_some_and(|(stem, id)| stem.eq_ignore_ascii_case(entity) && id.eq_ignore_ascii_case("id"))
    };
    if is_key(name) {
        return json::non_zero_guid(value).or_else(|| reference_id(value));
    }
    if json::type_hint(value) != Some("Entity") {
        return None;
    }
    let row = json::read::<Entity<'_>>(value)?;
    let key = row.attributes.iter().find(|pair| is_key(&pair.key.0))?.value?;
    json::non_zero_guid(key).or_else(|| reference_id(key))
}

fn reference_id(value: &RawValue) -> Option<Uuid> {
    json::read::<Reference<'_>>(value).map(|reference| reference.id).filter(|id| !id.is_nil())
}

/// The export whose rows a RetrieveMultiple reads, if it runs inside of one.
fn export_around<'a>(message: &str, enclosing: Option<&Enclosing<'a>>) -> Option<Cow<'a, str>> {
    let around = enclosing.filter(|_| message == "RetrieveMultiple")?;
    (tables::message_category(&around.message) == Some(MessageCategory::Export)).then(|| around.message.clone())
}

/// When the operation began, in either of the serializer's forms or in RFC 3339.
fn created(context: &Context<'_>) -> Option<Timestamp> {
    let text = context.operation_created_on.and_then(json::text)?;
    json::date(&text).or_else(|| Timestamp::parse(&text).ok())
}

fn guid(value: Option<&RawValue>) -> Option<Uuid> {
    value.and_then(json::non_zero_guid)
}

fn name<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    value.and_then(json::non_empty_text)
}

/// `https://` and the host, where it looks like one; old environments send a bare name.
fn instance_url(host: Option<&str>) -> Option<Cow<'static, str>> {
    let host = host?.trim();
    let host = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
    let is_host = host.contains('.')
        && host.len() <= 255
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
    is_host.then(|| format!("https://{host}").into())
}

/// The page that shows the row. Logical names need no escaping; what isn't one gets no page.
fn item_url(instance: Option<&str>, entity: &str, id: Option<Uuid>) -> Option<Cow<'static, str>> {
    let (instance, id) = (instance?, id?);
    let is_name = entity.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then(|| format!("{instance}/main.aspx?etn={entity}&pagetype=entityrecord&id={id}").into())
}

/// The model-driven app, which the platform puts into one of three places.
fn app_name<'a>(context: &Context<'a>) -> Option<Cow<'a, str>> {
    const KEY: &str = "x-ms-app-name";
    let parent = context.parent.as_deref().and_then(|parent| parent.input(KEY));
    name(context.input(KEY).or_else(|| json::lookup(&context.shared_variables, KEY)).or(parent))
}

fn repair(record: &mut AuditRecord<'_>) {
    let texts = record.fields.iter_mut().map(|Field { value, .. }| value);
    for value in texts.chain([&mut record.primary_field_value, &mut record.query]).flatten() {
        if let Some(repaired) = text::repaired(value) {
            *value = repaired.into();
        }
    }
}

/// Anything that has a logical name: a row or a reference.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(rename = "LogicalName", borrow, default)]
    logical_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(rename = "EntityName", borrow, default)]
    entity_name: Option<Text<'a>>,
}
