//! Which rows an operation returned, and which others it touched.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::context::Context;
use crate::json::{self, Text};
use crate::value::{Entity, Reference};

/// How deep related entities may hold related entities.
const MAX_RELATED: usize = 4;
/// Parameters that name the rows which a document export takes, as documents are made of rows picked in a grid.
const EXPORTED_ROWS: [&str; 2] = ["SelectedRecords", "SelectedEntities"];
/// Exports of the one row that is their Target.
const EXPORTS_OF_TARGET: [&str; 5] =
    ["ExportToWord", "ExportWordDocument", "ExportTemplateToWord", "ExportPdfDocument", "SetWordTemplate"];
/// Parameters that name further rows which a request links, adds, removes or merges.
const LINKED_INPUTS: [&str; 6] = ["RelatedEntities", "MemberIds", "MemberId", "SubordinateId", "Moniker2", "Targets"];
/// Requests whose EntityId is the row that joins or leaves.
const MEMBER_REQUESTS: [&str; 6] =
    ["AddMember", "RemoveMember", "AddItem", "RemoveItem", "AddListMembers", "QualifyMember"];
/// Answers that name rows which came into being.
const LINKED_OUTPUTS: [&str; 3] = ["CreatedEntities", "Ids", "Targets"];

/// The ids of rows, each once, in their order.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pub(crate) list: Vec<Uuid>,
    seen: HashSet<Uuid>,
}

impl Ids {
    fn add(&mut self, id: Uuid) {
        if !id.is_nil() && self.seen.insert(id) {
            self.list.push(id);
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The rows that the operation returned or exported.
    pub(crate) rows: Ids,
    /// Rows linked with them in the answer, and rows that the request touched besides its own.
    pub(crate) linked: Ids,
    /// Parameters that should name rows and could not be read.
    pub(crate) unread: Vec<&'static str>,
}

/// Collects the ids. `message` is the pipeline's name, `created_along` the related rows of the Target.
pub(crate) fn results(context: &Context<'_>, message: &str, created_along: Option<&RawValue>) -> Results {
    let mut results = Results::default();
    if let Some(collection) = context.output("BusinessEntityCollection") {
        match json::read::<EntityCollection<'_>>(collection) {
            Some(collection) => collection.entities.iter().for_each(|row| results.add_row(row)),
            None => results.unread.push("BusinessEntityCollection"),
        }
    }
    // The row itself is the record's EntityId; what it brought along is not.
    if let Some(row) = context.output("BusinessEntity") {
        match json::read::<Entity<'_>>(row) {
            Some(row) => results.add_related(row.related_entities, 0),
            None => results.unread.push("BusinessEntity"),
        }
    }
    for name in EXPORTED_ROWS {
        if let Some(value) = context.input(name) {
            let before = results.rows.list.len();
            add_ids(&mut results.rows, value);
            if results.rows.list.len() == before {
                results.unread.push(name);
            }
        }
    }
    if results.rows.list.is_empty() && EXPORTS_OF_TARGET.contains(&message) {
        context.input("Target").into_iter().for_each(|target| add_ids(&mut results.rows, target));
    }
    results.add_related(created_along, 0);
    for value in LINKED_INPUTS.iter().filter_map(|name| context.input(name)) {
        add_ids(&mut results.linked, value);
    }
    if MEMBER_REQUESTS.contains(&message) {
        ["EntityId", "ItemId"]
            .iter()
            .filter_map(|name| context.input(name))
            .for_each(|id| add_ids(&mut results.linked, id));
    }
    for value in LINKED_OUTPUTS.iter().filter_map(|name| context.output(name)) {
        add_ids(&mut results.linked, value);
    }
    results
}

impl Results {
    fn add_row(&mut self, row: &Entity<'_>) {
        if let Some(id) = row.row_id() {
            self.rows.add(id);
        }
        for pair in &row.attributes {
            if let Some(value) = pair.value.filter(|value| json::type_hint(value) == Some("AliasedValue")) {
                linked_row(value).into_iter().for_each(|id| self.linked.add(id));
            }
        }
        self.add_related(row.related_entities, 0);
    }

    fn add_related(&mut self, related: Option<&RawValue>, level: usize) {
        let Some(related) = related.filter(|related| level < MAX_RELATED && related.get() != "[]") else { return };
        for relation in json::read::<Vec<Related<'_>>>(related).unwrap_or_default() {
            for row in relation.value.iter().flat_map(|collection| &collection.entities) {
                row.row_id().into_iter().for_each(|id| self.linked.add(id));
                self.add_related(row.related_entities, level + 1);
            }
        }
    }
}

/// The id of the linked row that an aliased column comes from, where the column is that row's key.
fn linked_row(value: &RawValue) -> Option<Uuid> {
    let aliased = json::read::<AliasedValue<'_>>(value)?;
    let (entity, column) = (aliased.entity.0, aliased.column.0);
    let inner = aliased.value?;
    if let Some(id) = json::guid(inner) {
        let is_key = column.strip_suffix("id").is_some_and(|stem| stem == entity) || column == "activityid";
        return is_key.then_some(id);
    }
    json::read::<Reference<'_>>(inner)
        .filter(|reference| reference.logical_name.as_ref().is_some_and(|name| name.0 == entity))
        .map(|reference| reference.id)
}

/// Adds what names rows in any of the forms that occur: a GUID, a text that lists GUIDs (plain, in braces, or as a JSON
/// array), a reference, a row, and arrays and collections of these.
fn add_ids(ids: &mut Ids, value: &RawValue) {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => {
            let text = json::text(value).unwrap_or_default();
            let part = |character: char| !(character.is_ascii_hexdigit() || character == '-');
            text.split(part)
                .filter(|part| part.len() == 36)
                .filter_map(|part| Uuid::try_parse(part).ok())
                .for_each(|id| ids.add(id));
        }
        Some(b'[') => json::elements(value).unwrap_or_default().into_iter().for_each(|element| match element.get() {
            // Lists of lists don't occur: what stands in a list is a GUID or a row.
            nested if nested.starts_with('[') => {}
            _ => add_ids(ids, element),
        }),
        Some(b'{') => {
            if let Some(collection) = json::read::<EntityCollection<'_>>(value) {
                collection.entities.iter().filter_map(Entity::row_id).for_each(|id| ids.add(id));
            } else if let Some(row) = json::read::<Entity<'_>>(value) {
                row.row_id().into_iter().for_each(|id| ids.add(id));
            } else if let Some(reference) = json::read::<Reference<'_>>(value) {
                ids.add(reference.id);
            }
        }
        _ => {}
    }
}

#[derive(Deserialize)]
struct EntityCollection<'a> {
    #[serde(rename = "Entities", borrow)]
    entities: Vec<Entity<'a>>,
}

/// One relationship and the rows that came along by it.
#[derive(Deserialize)]
struct Related<'a> {
    #[serde(borrow, default)]
    value: Option<EntityCollection<'a>>,
}

#[derive(Deserialize)]
struct AliasedValue<'a> {
    #[serde(rename = "AttributeLogicalName", borrow)]
    column: Text<'a>,
    #[serde(rename = "EntityLogicalName", borrow)]
    entity: Text<'a>,
    #[serde(rename = "Value", borrow, default)]
    value: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0a0d8709-711e-4811-a952-000d3a732d76";
    const B: &str = "dc136b61-6c1e-4811-a952-000d3a732d76";
    const C: &str = "23ad069e-4d22-4811-a953-000d3a732d76";

    fn of(message: &str, inputs: &str, outputs: &str) -> (Vec<String>, Vec<String>, Vec<&'static str>) {
        let body = format!(r#"{{"InputParameters":[{inputs}],"OutputParameters":[{outputs}]}}"#);
        let found = results(&Context::parse(&body).unwrap(), message, None);
        let texts = |ids: Ids| ids.list.iter().map(Uuid::to_string).collect();
        (texts(found.rows), texts(found.linked), found.unread)
    }

    #[test]
    fn rows_are_listed_once_in_their_order_with_the_rows_linked_to_them() {
        let aliased = |column: &str, value: &str| {
            format!(
                r#"{{"key":"c.x","value":{{"__type":"AliasedValue:x","AttributeLogicalName":"{column}","EntityLogicalName":"contact","Value":{value}}}}}"#
            )
        };
        let attributes = [
            aliased("contactid", &format!("\"{C}\"")),
            aliased("accountid", &format!("\"{B}\"")),
            aliased(
                "parentcustomerid",
                &format!(r#"{{"__type":"EntityReference:x","Id":"{B}","LogicalName":"account"}}"#),
            ),
            aliased("fullname", "\"Kim\""),
        ]
        .join(",");
        let row = |id: &str, attributes: &str| {
            format!(r#"{{"Attributes":[{attributes}],"Id":"{id}","LogicalName":"account","RelatedEntities":[]}}"#)
        };
        let zero = "00000000-0000-0000-0000-000000000000";
        let by_key = row(zero, &format!(r#"{{"key":"accountid","value":"{A}"}}"#));
        let rows = [row(B, &attributes), by_key.clone(), row(B, ""), row(zero, "")].join(",");
        let output = format!(
            r#"{{"key":"BusinessEntityCollection","value":{{"__type":"EntityCollection:x","Entities":[{rows}]}}}}"#
        );
        assert_eq!(of("RetrieveMultiple", "", &output), (vec![B.into(), A.into()], vec![C.into()], vec![]));
        let broken = r#"{"key":"BusinessEntityCollection","value":{"Entities":[1]}}"#;
        assert_eq!(of("RetrieveMultiple", "", broken), (vec![], vec![], vec!["BusinessEntityCollection"]));
    }

    #[test]
    fn a_row_that_was_read_alone_brings_its_related_rows() {
        let related = format!(
            r#"[{{"key":{{"SchemaName":"r"}},"value":{{"Entities":[{{"Attributes":[],"Id":"{C}","LogicalName":"contact"}}]}}}}]"#
        );
        let output = format!(
            r#"{{"key":"BusinessEntity","value":{{"Attributes":[],"Id":"{A}","LogicalName":"account","RelatedEntities":{related}}}}}"#
        );
        assert_eq!(of("Retrieve", "", &output), (vec![], vec![C.into()], vec![]));
    }

    #[test]
    fn document_exports_name_the_rows_exported() {
        let parameter = |name: &str, value: &str| format!(r#"{{"key":"{name}","value":{value}}}"#);
        let both = (vec![A.to_owned(), B.to_owned()], vec![], vec![]);
        for value in [
            format!(r#""[\"{{{A}}}\",\"{{{B}}}\"]""#),
            format!(r#""{A},{B}""#),
            format!(r#"["{A}","{B}"]"#),
            format!(r#"[{{"__type":"EntityReference:x","Id":"{A}"}},{{"Id":"{B}"}}]"#),
            format!(r#"{{"Entities":[{{"Attributes":[],"Id":"{A}"}},{{"Attributes":[],"Id":"{B}"}}]}}"#),
        ] {
            assert_eq!(of("ExportWordDocument", &parameter("SelectedRecords", &value), ""), both, "{value}");
        }
        let target =
            parameter("Target", &format!(r#"{{"__type":"EntityReference:x","Id":"{A}","LogicalName":"account"}}"#));
        assert_eq!(of("ExportToWord", &target, "").0, [A]);
        assert!(of("Delete", &target, "").0.is_empty());
        assert_eq!(of("ExportWordDocument", &parameter("SelectedRecords", "7"), "").2, ["SelectedRecords"]);
    }

    #[test]
    fn rows_that_a_request_links_are_linked_results() {
        let guids = format!(r#"{{"key":"MemberIds","value":["{A}","{B}","{A}"]}}"#);
        assert_eq!(of("AddMembers", &guids, "").1, [A, B]);
        let member = format!(r#"{{"key":"ListId","value":"{A}"}},{{"key":"EntityId","value":"{C}"}}"#);
        assert_eq!(of("AddMember", &member, "").1, [C]);
        let created = format!(
            r#"{{"key":"CreatedEntities","value":[{{"__type":"EntityReference:x","Id":"{C}","LogicalName":"contact"}}]}}"#
        );
        assert_eq!(of("QualifyLead", "", &created).1, [C]);
    }
}
