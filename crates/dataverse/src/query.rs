//! The filter of a query in the specification's form.
//!
//! Its second example prints `<filter type="and"><condition column="ownerid" operator="eq-userid" /></filter>`: the
//! outermost filter as FetchXML has it, with `column` in place of `attribute`. The same form is made of the SDK's three
//! kinds of query: `QueryExpression`, `QueryByAttribute`, and FetchXML (see [`crate::fetch`]).

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fetch;
use crate::json::{self, Text};
use crate::tables;
use crate::value;

/// What a query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    /// Logical name of the entity that is asked for.
    pub(crate) entity: Option<Cow<'a, str>>,
    /// The filter, if there is one.
    pub(crate) filter: Option<String>,
    /// Why the filter could not be made, if so; `raw` is then what arrived.
    pub(crate) problem: Option<String>,
    /// The query as it arrived, where it could not be read.
    pub(crate) raw: Option<Cow<'a, str>>,
}

/// Reads a `Query` or `FetchXml` parameter. `extended` appends the filters of linked entities, each in a
/// `<link-entity>`.
pub(crate) fn read(parameter: &RawValue, extended: bool) -> Query<'_> {
    if let Some(text) = json::text(parameter) {
        return of_fetch(text, extended);
    }
    let Some(shape) = json::read::<Shape<'_>>(parameter) else {
        return unreadable(parameter, "it has none of the known shapes");
    };
    match json::type_hint(parameter) {
        Some("FetchExpression") => of_fetch_expression(parameter, shape, extended),
        Some("QueryByAttribute") => of_query_by_attribute(parameter, shape),
        Some("QueryExpression") => of_query_expression(parameter, shape, extended),
        // Without a hint the members tell.
        _ if shape.query.is_some() => of_fetch_expression(parameter, shape, extended),
        _ if shape.attributes.is_some() => of_query_by_attribute(parameter, shape),
        _ => of_query_expression(parameter, shape, extended),
    }
}

/// The members of all three kinds.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    #[serde(borrow, default)]
    entity_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    criteria: Option<&'a RawValue>,
    #[serde(borrow, default)]
    link_entities: Option<&'a RawValue>,
    #[serde(borrow, default)]
    query: Option<Text<'a>>,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    values: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterExpression<'a> {
    #[serde(borrow, default)]
    conditions: Option<Vec<ConditionExpression<'a>>>,
    #[serde(default)]
    filter_operator: Option<u8>,
    #[serde(borrow, default)]
    filters: Option<Vec<FilterExpression<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConditionExpression<'a> {
    #[serde(borrow, default)]
    attribute_name: Option<Text<'a>>,
    #[serde(default)]
    compare_columns: Option<bool>,
    #[serde(default)]
    operator: u32,
    #[serde(borrow, default)]
    values: Option<Vec<Option<&'a RawValue>>>,
    #[serde(borrow, default)]
    entity_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LinkEntity<'a> {
    #[serde(default)]
    join_operator: u8,
    #[serde(borrow, default)]
    link_criteria: Option<FilterExpression<'a>>,
    #[serde(borrow, default)]
    link_entities: Option<Vec<LinkEntity<'a>>>,
    #[serde(borrow, default)]
    link_from_attribute_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    link_to_attribute_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    link_to_entity_name: Option<Text<'a>>,
}

fn of_fetch_expression<'a>(parameter: &'a RawValue, shape: Shape<'a>, extended: bool) -> Query<'a> {
    match shape.query {
        Some(Text(fetch)) => of_fetch(fetch, extended),
        None => unreadable(parameter, "the FetchExpression has no Query"),
    }
}

fn of_fetch(text: Cow<'_, str>, extended: bool) -> Query<'_> {
    match fetch::read(&text, extended) {
        Ok(read) => Query { entity: read.entity.map(Cow::Owned), filter: read.filter, ..Query::default() },
        Err(problem) => Query { problem: Some(problem.to_string()), raw: Some(text), ..Query::default() },
    }
}

fn of_query_expression<'a>(parameter: &'a RawValue, shape: Shape<'a>, extended: bool) -> Query<'a> {
    let mut out = String::new();
    let mut understood = true;
    if let Some(criteria) = shape.criteria {
        match json::read(criteria) {
            Some(filter) => write_filter(&mut out, &filter),
            None => understood = false,
        }
    }
    if let Some(links) = shape.link_entities.filter(|_| extended) {
        match json::read::<Vec<LinkEntity<'_>>>(links) {
            Some(links) => links.iter().for_each(|link| write_link(&mut out, link)),
            None => understood = false,
        }
    }
    let entity = shape.entity_name.map(|name| name.0);
    if !understood {
        return Query { entity, ..unreadable(parameter, "its filter has an unknown shape") };
    }
    Query { entity, filter: (!out.is_empty()).then_some(out), ..Query::default() }
}

fn of_query_by_attribute<'a>(parameter: &'a RawValue, shape: Shape<'a>) -> Query<'a> {
    let entity = shape.entity_name.map(|name| name.0);
    let names = shape.attributes.and_then(json::read::<Vec<Text<'_>>>);
    let values = shape.values.map_or_else(|| Some(Vec::new()), json::read::<Vec<Option<&RawValue>>>);
    let (Some(names), Some(values)) = (names, values) else {
        return Query { entity, ..unreadable(parameter, "its columns or values have an unknown shape") };
    };
    let mut out = String::new();
    if !names.is_empty() {
        out.push_str("<filter type=\"and\">");
        for (place, name) in names.iter().enumerate() {
            let value = values.get(place).copied().flatten().and_then(value::text_of);
            open_condition(&mut out, None, &name.0, if value.is_some() { "eq" } else { "null" });
            if let Some(value) = value {
                write_attribute(&mut out, "value", &value);
            }
            out.push_str(" />");
        }
        out.push_str("</filter>");
    }
    Query { entity, filter: (!out.is_empty()).then_some(out), ..Query::default() }
}

fn unreadable<'a>(parameter: &'a RawValue, problem: &str) -> Query<'a> {
    let (problem, raw) = (Some(problem.to_owned()), Some(Cow::Borrowed(parameter.get())));
    Query { problem, raw, ..Query::default() }
}

/// The recursion is bounded by that of the JSON reader, which made the tree.
fn write_filter(out: &mut String, filter: &FilterExpression<'_>) {
    let conditions = filter.conditions.as_deref().unwrap_or_default();
    let filters = filter.filters.as_deref().unwrap_or_default();
    if conditions.is_empty() && filters.is_empty() {
        return;
    }
    let start = out.len();
    out.push_str(if filter.filter_operator == Some(1) { "<filter type=\"or\">" } else { "<filter type=\"and\">" });
    let inside = out.len();
    conditions.iter().for_each(|condition| write_condition(out, condition));
    filters.iter().for_each(|filter| write_filter(out, filter));
    if out.len() == inside {
        // Only empty filters in it.
        out.truncate(start);
    } else {
        out.push_str("</filter>");
    }
}

fn write_condition(out: &mut String, condition: &ConditionExpression<'_>) {
    let number;
    let operator = match tables::operator_name(condition.operator).or(tables::operator_sdk_name(condition.operator)) {
        Some(name) => name,
        None => {
            number = condition.operator.to_string();
            &number
        }
    };
    let entity = condition.entity_name.as_ref().map(|name| name.0.as_ref());
    let column = condition.attribute_name.as_ref().map_or("", |name| name.0.as_ref());
    open_condition(out, entity, column, operator);
    // A list may come as one value: In with an array.
    let mut values = Vec::new();
    for value in condition.values.iter().flatten() {
        match value.and_then(json::elements) {
            Some(elements) => values.extend(elements.into_iter().map(Some)),
            None => values.push(*value),
        }
    }
    let text = |value: &Option<&RawValue>| value.and_then(value::text_of).unwrap_or_default().into_owned();
    match values.as_slice() {
        [] => out.push_str(" />"),
        [column] if condition.compare_columns == Some(true) => {
            write_attribute(out, "valueof", &text(column));
            out.push_str(" />");
        }
        [value] => {
            write_attribute(out, "value", &text(value));
            out.push_str(" />");
        }
        values => {
            out.push('>');
            for value in values {
                out.push_str("<value>");
                escape(out, &text(value));
                out.push_str("</value>");
            }
            out.push_str("</condition>");
        }
    }
}

fn write_link(out: &mut String, link: &LinkEntity<'_>) {
    let text = |name: &Option<Text<'_>>| name.as_ref().map_or(String::new(), |name| name.0.to_string());
    let mut inside = String::new();
    if let Some(filter) = &link.link_criteria {
        write_filter(&mut inside, filter);
    }
    link.link_entities.iter().flatten().for_each(|inner| write_link(&mut inside, inner));
    out.push_str("<link-entity");
    write_attribute(out, "name", &text(&link.link_to_entity_name));
    // FetchXML names the two columns from the linked entity's point of view.
    write_attribute(out, "from", &text(&link.link_to_attribute_name));
    write_attribute(out, "to", &text(&link.link_from_attribute_name));
    // JoinOperator and FetchXML's names of it; inner is what goes without saying.
    const LINK_TYPES: [&str; 10] = [
        "inner",
        "outer",
        "natural",
        "matchfirstrowusingcrossapply",
        "in",
        "exists",
        "any",
        "not any",
        "all",
        "not all",
    ];
    if let Some(link_type) = LINK_TYPES.get(usize::from(link.join_operator)).filter(|_| link.join_operator > 0) {
        write_attribute(out, "link-type", link_type);
    }
    if inside.is_empty() {
        out.push_str(" />");
    } else {
        let _ = write!(out, ">{inside}</link-entity>");
    }
}

/// Writes a condition up to its operator; the caller adds the value and the end.
pub(crate) fn open_condition(out: &mut String, entity: Option<&str>, column: &str, operator: &str) {
    out.push_str("<condition");
    if let Some(entity) = entity.filter(|entity| !entity.is_empty()) {
        write_attribute(out, "entityname", entity);
    }
    write_attribute(out, "column", column);
    write_attribute(out, "operator", operator);
}

/// Appends ` name="value"`.
pub(crate) fn write_attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

/// Appends text so that it means the same inside of an element and of a quoted attribute. White space other than
/// blanks is written as character references, which XML readers don't normalise away.
pub(crate) fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            // XML has no way to write the other control characters.
            control if control < ' ' || control == '\u{fffe}' || control == '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(json: &str) -> String {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let query = read(&raw, false);
        assert_eq!(query.problem, None, "{json}");
        query.filter.unwrap_or_default()
    }

    fn expression(criteria: &str) -> String {
        format!(
            r#"{{"__type":"QueryExpression:http:\/\/x","Criteria":{criteria},"EntityName":"account","LinkEntities":[]}}"#
        )
    }

    #[test]
    fn the_three_kinds_of_query_give_the_form_of_the_specification() {
        let expected = r#"<filter type="and"><condition column="ownerid" operator="eq-userid" /><condition column="statecode" operator="eq" value="0" /></filter>"#;
        let criteria = r#"{"Conditions":[{"AttributeName":"ownerid","Operator":41,"Values":[],"EntityName":null},{"AttributeName":"statecode","Operator":0,"Values":[0],"EntityName":null}],"FilterOperator":0,"Filters":[]}"#;
        assert_eq!(filter_of(&expression(criteria)), expected);
        let fetch = r#"{"__type":"FetchExpression:http:\/\/x","Query":"<fetch><entity name=\"account\"><filter type=\"and\"><condition attribute=\"ownerid\" operator=\"eq-userid\" \/><condition attribute=\"statecode\" operator=\"eq\" value=\"0\" \/><\/filter><\/entity><\/fetch>"}"#;
        assert_eq!(filter_of(fetch), expected);
        assert_eq!(
            filter_of(
                r#"{"__type":"QueryByAttribute:x","Attributes":["lastname","fax"],"EntityName":"contact","Values":["Glynn",null]}"#
            ),
            r#"<filter type="and"><condition column="lastname" operator="eq" value="Glynn" /><condition column="fax" operator="null" /></filter>"#
        );
    }

    #[test]
    fn nested_filters_lists_and_markup_are_written_as_fetchxml_has_them() {
        let criteria = r#"{"Conditions":[{"AttributeName":"industry","Operator":8,"Values":[1,2],"EntityName":"a"}],"FilterOperator":0,
            "Filters":[{"Conditions":[{"AttributeName":"name","Operator":6,"Values":["%<\"&'>%"]}],"FilterOperator":1,"Filters":[{"Conditions":[],"FilterOperator":0,"Filters":[]}]}]}"#;
        assert_eq!(
            filter_of(&expression(criteria)),
            "<filter type=\"and\"><condition entityname=\"a\" column=\"industry\" operator=\"in\"><value>1</value><value>2</value></condition>\
             <filter type=\"or\"><condition column=\"name\" operator=\"like\" value=\"%&lt;&quot;&amp;'&gt;%\" /></filter></filter>"
        );
        let dates = r#"{"Conditions":[{"AttributeName":"createdon","Operator":10,"Values":["\/Date(0)\/","\/Date(86400000+0000)\/"]},{"AttributeName":"x","Operator":9,"Values":[[5,6]]},{"AttributeName":"a","CompareColumns":true,"Operator":0,"Values":["b"]},{"AttributeName":"y","Operator":45,"Values":[]},{"AttributeName":"z","Operator":4000,"Values":[]}]}"#;
        assert_eq!(
            filter_of(&expression(dates)),
            "<filter type=\"and\"><condition column=\"createdon\" operator=\"between\"><value>1970-01-01T00:00:00Z</value><value>1970-01-02T00:00:00Z</value></condition>\
             <condition column=\"x\" operator=\"not-in\"><value>5</value><value>6</value></condition>\
             <condition column=\"a\" operator=\"eq\" valueof=\"b\" /><condition column=\"y\" operator=\"ChildOf\" /><condition column=\"z\" operator=\"4000\" /></filter>"
        );
    }

    #[test]
    fn no_filter_is_no_query() {
        assert_eq!(filter_of(&expression("null")), "");
        assert_eq!(filter_of(&expression(r#"{"Conditions":[],"Filters":[{"Conditions":[],"Filters":null}]}"#)), "");
        assert_eq!(
            filter_of(r#"{"__type":"QueryByAttribute:x","Attributes":[],"EntityName":"contact","Values":[]}"#),
            ""
        );
    }

    #[test]
    fn what_cannot_be_read_keeps_its_raw_text_and_says_why() {
        for json in ["7", r#"{"__type":"QueryExpression:x","Criteria":[1],"EntityName":"account"}"#, "\"<nofetch/>\""] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            let query = read(&raw, false);
            assert!(query.problem.is_some() && query.raw.is_some() && query.filter.is_none(), "{json}");
        }
        let raw = RawValue::from_string(r#"{"Criteria":[1],"EntityName":"account"}"#.to_owned()).unwrap();
        assert_eq!(read(&raw, false).entity.as_deref(), Some("account"));
    }

    #[test]
    fn linked_entities_join_in_the_extended_form_only() {
        let json = r#"{"__type":"QueryExpression:x","Criteria":null,"EntityName":"account","LinkEntities":[{"JoinOperator":1,"LinkCriteria":{"Conditions":[{"AttributeName":"city","Operator":0,"Values":["Rome"]}],"FilterOperator":0,"Filters":[]},"LinkEntities":[],"LinkFromAttributeName":"accountid","LinkToAttributeName":"parentcustomerid","LinkToEntityName":"contact"}]}"#;
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(read(&raw, false).filter, None);
        assert_eq!(
            read(&raw, true).filter.unwrap(),
            r#"<link-entity name="contact" from="parentcustomerid" to="accountid" link-type="outer"><filter type="and"><condition column="city" operator="eq" value="Rome" /></filter></link-entity>"#
        );
    }
}
