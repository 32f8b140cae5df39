//! The values that an operation created or updated.

use std::borrow::Cow;
use std::collections::HashSet;

use actlog_core::Field;
use memchr::memmem;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::context::Context;
use crate::json::{self, Pair};
use crate::tables::{self, MessageCategory};
use crate::value::{self, Entity, PrincipalAccess};

/// Alias of the image that asynchronous posts bring along for the row's name.
const NAME_IMAGE: &str = "AsynchronousStepPrimaryName";

/// Parameters that other fields of the record hold.
const TOLD_ELSEWHERE: [&str; 12] = [
    "Target",
    "EntityMoniker",
    "Query",
    "FetchXml",
    "QueryExpression",
    "QuerySet",
    "RelatedEntities",
    "SelectedRecords",
    "SelectedEntities",
    "ColumnSet",
    "Targets",
    "x-ms-app-name",
];

/// Parameters that say how the server should work or how the client shows it; nothing for an auditor.
const SWITCHES: [&str; 8] = [
    "SuppressDuplicateDetection",
    "CalculateMatchCodeSynchronously",
    "ConcurrencyBehavior",
    "ReturnRowVersion",
    "LayoutXml",
    "QueryApi",
    "QueryParameters",
    "TargetReference",
];

/// What an event says of values.
#[derive(Debug, Default)]
pub(crate) struct Values<'a> {
    /// Columns that were created or updated.
    pub(crate) fields: Vec<Field<'a>>,
    /// Parameters that are no such columns, as texts.
    pub(crate) parameters: Vec<Field<'a>>,
    /// Rows that were created along with the Target, as it names them.
    pub(crate) related: Option<&'a RawValue>,
}

/// Whether the request only reads; what it was asked with is then no created or updated value.
pub(crate) fn is_reading(request: &str) -> bool {
    use MessageCategory::{Export, Read, ReadMultiple, SigninProbe};
    matches!(tables::message_category(request), Some(Read | ReadMultiple | Export | SigninProbe))
        || request.starts_with("Retrieve")
        || request.starts_with("Export")
}

/// Collects the values. `entity` and `id` are those of the record.
pub(crate) fn values<'a>(context: &Context<'a>, request: &str, entity: &str, id: Option<Uuid>) -> Values<'a> {
    let mut values = Values::default();
    let target = caller_target(context).or_else(|| target_row(context));
    let has_target = target.is_some();
    if let Some(row) = target {
        values.fields.extend(row.attributes.into_iter().map(|pair| field("", pair)));
        values.related = row.related_entities;
    }
    if let Some(rows) = context.input("Targets").and_then(json::read::<Rows<'_>>) {
        for (place, row) in rows.entities.into_iter().enumerate() {
            let prefix = format!("{}.", place + 1);
            values.fields.extend(row.attributes.into_iter().map(|pair| field(&prefix, pair)));
        }
    }
    let changing = !has_target && !is_reading(request);
    for pair in &context.input_parameters {
        let (name, Some(value)) = (pair.key.0.as_ref(), pair.value) else { continue };
        // A parameter of these names that could not be read as what it should be is not told elsewhere.
        let elsewhere =
            TOLD_ELSEWHERE.contains(&name) && !(value.get().starts_with('"') && name == "Query" && !is_markup(value));
        if elsewhere || SWITCHES.contains(&name) || id.is_some() && names_row(value, id) {
            continue;
        }
        if changing {
            add_parameter(&mut values.fields, name, value, entity);
        } else if let Some(text) = value::parameter_text(name, value) {
            values.parameters.push(Field::new(pair.key.0.clone(), text));
        }
    }
    values
}

/// Whether a text parameter holds FetchXML rather than words to search for.
pub(crate) fn is_markup(value: &RawValue) -> bool {
    json::text(value).is_some_and(|text| text.trim_ascii_start().starts_with('<'))
}

/// Whether the value is the record's own row: its GUID, or a reference to it.
fn names_row(value: &RawValue, id: Option<Uuid>) -> bool {
    match value.get().as_bytes().first() {
        Some(b'"') => json::guid(value) == id,
        Some(b'{') => {
            json::type_hint(value) == Some("EntityReference")
                && json::read::<value::Reference<'_>>(value).is_some_and(|reference| Some(reference.id) == id)
        }
        _ => false,
    }
}

/// A parameter of a request that changes something without a Target row, under the name of the column that it sets.
fn add_parameter<'a>(fields: &mut Vec<Field<'a>>, name: &str, value: &'a RawValue, entity: &str) {
    match json::type_hint(value) {
        Some("Entity") => {
            if let Some(row) = json::read::<Entity<'_>>(value) {
                let own = row.logical_name.as_ref().is_some_and(|name| name.0 == entity);
                let prefix = match &row.logical_name {
                    Some(name) if !own => format!("{}.", name.0),
                    _ => String::new(),
                };
                fields.extend(row.attributes.into_iter().map(|pair| field(&prefix, pair)));
                return;
            }
        }
        Some("PrincipalAccess") => {
            if let Some(access) = json::read::<PrincipalAccess<'_>>(value) {
                fields.push(Field::new("principal", access.principal.id.to_string()));
                fields.push(Field { name: "accessmask".into(), value: access.access_mask.and_then(value::text_of) });
                return;
            }
        }
        Some("Relationship") => {
            if let Some(schema) = json::read::<Relationship<'_>>(value).map(|relationship| relationship.schema_name.0) {
                fields.push(Field::new("relationship", schema));
                return;
            }
        }
        _ => {}
    }
    let column = match name {
        "State" => Cow::Borrowed("statecode"),
        "Status" => Cow::Borrowed("statuscode"),
        "Assignee" => Cow::Borrowed("ownerid"),
        other => Cow::Owned(other.to_lowercase()),
    };
    fields.push(Field { name: column, value: value::parameter_text(name, value) });
}

fn field<'a>(prefix: &str, pair: Pair<'a>) -> Field<'a> {
    let value = pair.value.and_then(|value| value::text_of_named(&pair.key.0, value));
    let name = match (prefix, pair.key.0) {
        ("", name) if !name.bytes().any(|byte| byte.is_ascii_uppercase()) => name,
        (prefix, name) => Cow::Owned(format!("{prefix}{}", name.to_lowercase())),
    };
    Field { name, value }
}

/// The row that was sent: a Target with columns, not a mere reference.
fn target_row<'a>(context: &Context<'a>) -> Option<Entity<'a>> {
    context.input("Target").and_then(json::read)
}

/// What the caller sent, before the platform added columns of its own: the Target of the main stage (30), which is
/// this context's parent, if it is the main stage of the same operation on the same row.
fn caller_target<'a>(context: &Context<'a>) -> Option<Entity<'a>> {
    let parent = context.parent.as_deref()?;
    let same = |one: Option<&RawValue>, other: Option<&RawValue>| one.map(RawValue::get) == other.map(RawValue::get);
    let stage = parent.stage.and_then(json::integer);
    if !same(parent.message_name, context.message_name)
        || !same(parent.depth, context.depth)
        || !same(parent.primary_entity_name, context.primary_entity_name)
        || stage.is_some_and(|stage| stage != 30)
    {
        return None;
    }
    let caller = target_row(parent)?;
    let own_id = context.primary_id().or_else(|| context.output("id").and_then(json::non_zero_guid));
    // A row that is being created may have no id yet.
    let id = [Some(caller.id), parent.primary_id()].into_iter().flatten().find(|id| !id.is_nil());
    if id.is_some() && own_id.is_some() && id != own_id {
        return None;
    }
    // Asynchronous posts overwrite the parent's message and depth, so that it may be another operation on the same row:
    // then it has columns that this one lacks.
    if context.mode.and_then(json::integer) != Some(0) {
        let own = target_row(context)?;
        let columns: HashSet<_> = own.attributes.iter().map(|pair| pair.key.0.as_ref()).collect();
        if caller.attributes.iter().any(|pair| !columns.contains(pair.key.0.as_ref())) {
            return None;
        }
    }
    Some(caller)
}

/// The value of the row's name column: from the image that asynchronous posts bring, else from the columns sent, else
/// from the Target as the platform completed it.
pub(crate) fn primary_field_value<'a>(
    context: &Context<'a>,
    entity: &str,
    fields: &[Field<'a>],
) -> Option<Cow<'a, str>> {
    for images in [context.post_entity_images, context.pre_entity_images].into_iter().flatten() {
        if memmem::find(images.get().as_bytes(), NAME_IMAGE.as_bytes()).is_none() {
            continue;
        }
        let images = json::read::<Vec<Pair<'_>>>(images).unwrap_or_default();
        let image = json::lookup(&images, NAME_IMAGE).and_then(json::read::<Entity<'_>>);
        // It holds the key and the name; for a row without a name only the key.
        if let Some(image) = image {
            let is_key = |value: &RawValue| json::guid(value) == Some(image.id);
            let name = image.attributes.iter().filter_map(|pair| pair.value).find(|value| !is_key(value));
            return name.and_then(value::text_of);
        }
    }
    let column = name_column(entity);
    if let Some(field) = fields.iter().find(|field| field.name == column) {
        return field.value.clone();
    }
    let target = context.input("Target")?;
    // A look for the quoted name spares most rows a second reading.
    memmem::find(target.get().as_bytes(), format!("\"{column}\"").as_bytes())?;
    json::read::<Entity<'_>>(target)?.attribute(&column).and_then(value::text_of)
}

/// The column that holds the name of a row of this entity.
fn name_column(entity: &str) -> Cow<'_, str> {
    match entity {
        "contact" | "lead" | "systemuser" => "fullname".into(),
        "incident" | "kbarticle" | "knowledgearticle" | "contract" | "contractdetail" => "title".into(),
        "activitypointer"
        | "annotation"
        | "appointment"
        | "campaignresponse"
        | "email"
        | "fax"
        | "incidentresolution"
        | "letter"
        | "opportunityclose"
        | "orderclose"
        | "phonecall"
        | "quoteclose"
        | "recurringappointmentmaster"
        | "serviceappointment"
        | "socialactivity"
        | "task" => "subject".into(),
        // Tables of publishers: the prefix and "name".
        _ => match tables::publisher_prefix(entity) {
            Some(prefix) => format!("{prefix}_name").into(),
            None => "name".into(),
        },
    }
}

/// The rows of an `EntityCollection`.
#[derive(serde::Deserialize)]
struct Rows<'a> {
    #[serde(rename = "Entities", borrow)]
    entities: Vec<Entity<'a>>,
}

#[derive(serde::Deserialize)]
struct Relationship<'a> {
    #[serde(rename = "SchemaName", borrow)]
    schema_name: json::Text<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, attributes: &str) -> String {
        format!(
            r#"{{"key":"Target","value":{{"__type":"Entity:x","Attributes":[{attributes}],"Id":"{id}","LogicalName":"account"}}}}"#
        )
    }

    fn fields(body: &str) -> Vec<(String, Option<String>)> {
        let context = Context::parse(body).unwrap();
        let found = values(&context, "Update", "account", context.primary_id());
        found.fields.into_iter().map(|field| (field.name.into_owned(), field.value.map(Cow::into_owned))).collect()
    }

    const ID: &str = "0a0d8709-711e-4811-a952-000d3a732d76";
    const OTHER: &str = "dc136b61-6c1e-4811-a952-000d3a732d76";
    const NAME: &str = r#"{"key":"Name","value":"A"}"#;
    const BOTH: &str = r#"{"key":"name","value":"A"},{"key":"modifiedon","value":"\/Date(0)\/"}"#;

    fn body(mode: u8, parent_depth: u8, parent: &str) -> String {
        let target = row(ID, BOTH);
        format!(
            r#"{{"MessageName":"Update","Mode":{mode},"Depth":2,"PrimaryEntityName":"account","PrimaryEntityId":"{ID}","InputParameters":[{target}],
            "ParentContext":{{"MessageName":"Update","Depth":{parent_depth},"PrimaryEntityName":"account","Stage":30,"InputParameters":[{parent}]}}}}"#
        )
    }

    #[test]
    fn the_columns_that_the_caller_sent_are_preferred() {
        let callers = vec![("name".to_owned(), Some("A".to_owned()))];
        assert_eq!(fields(&body(0, 2, &row(ID, NAME))), callers);
        assert_eq!(fields(&body(1, 2, &row(ID, r#"{"key":"name","value":"A"}"#))), callers);
    }

    #[test]
    fn another_operation_is_not_taken_for_the_callers_own() {
        let completed =
            vec![("name".to_owned(), Some("A".into())), ("modifiedon".to_owned(), Some("1970-01-01T00:00:00Z".into()))];
        assert_eq!(fields(&body(0, 1, &row(ID, NAME))), completed, "a lower depth");
        assert_eq!(fields(&body(0, 2, &row(OTHER, NAME))), completed, "another row");
        assert_eq!(fields(&body(1, 2, &row(ID, r#"{"key":"fax","value":"1"}"#))), completed, "other columns");
        assert_eq!(fields(&body(0, 2, "")), completed, "no Target");
    }

    #[test]
    fn parameters_of_other_requests_become_the_columns_that_they_set() {
        let body = format!(
            r#"{{"MessageName":"X","InputParameters":[
            {{"key":"EntityMoniker","value":{{"__type":"EntityReference:x","Id":"{ID}"}}}},
            {{"key":"AccountId","value":"{ID}"}},
            {{"key":"State","value":{{"__type":"OptionSetValue:x","Value":1}}}},
            {{"key":"Status","value":{{"__type":"OptionSetValue:x","Value":5}}}},
            {{"key":"Assignee","value":{{"__type":"EntityReference:x","Id":"{OTHER}"}}}},
            {{"key":"Close","value":{{"__type":"Entity:x","Attributes":[{{"key":"subject","value":"Won"}}],"LogicalName":"opportunityclose"}}}},
            {{"key":"UpdateContent","value":{{"__type":"Entity:x","Attributes":[{{"key":"fax","value":"1"}}],"LogicalName":"account"}}}},
            {{"key":"PrincipalAccess","value":{{"__type":"PrincipalAccess:y","AccessMask":3,"Principal":{{"Id":"{OTHER}"}}}}}},
            {{"key":"File","value":[80,75]}}, {{"key":"Password","value":"x"}}, {{"key":"SuppressDuplicateDetection","value":true}}]}}"#
        );
        let context = Context::parse(&body).unwrap();
        let changed = values(&context, "X", "account", Uuid::try_parse(ID).ok());
        let texts: Vec<_> =
            changed.fields.iter().map(|field| (field.name.as_ref(), field.value.as_deref().unwrap())).collect();
        assert_eq!(
            texts,
            [
                ("statecode", "1"),
                ("statuscode", "5"),
                ("ownerid", OTHER),
                ("opportunityclose.subject", "Won"),
                ("fax", "1"),
                ("principal", OTHER),
                ("accessmask", "3"),
                ("file", "(2 bytes)"),
                ("password", "(left out)"),
            ]
        );
        assert!(changed.parameters.is_empty());
        let read = values(&context, "Retrieve", "account", Uuid::try_parse(ID).ok());
        assert!(read.fields.is_empty());
        assert_eq!(read.parameters[0], Field::new("State", "1"));
    }

    #[test]
    fn the_rows_of_a_bulk_request_are_numbered() {
        let body = r#"{"MessageName":"CreateMultiple","InputParameters":[{"key":"Targets","value":{"Entities":[
            {"Attributes":[{"key":"name","value":"A"}]},{"Attributes":[{"key":"name","value":"B"}]}]}}]}"#;
        assert_eq!(fields(body), [("1.name".into(), Some("A".into())), ("2.name".into(), Some("B".into()))]);
    }
}
