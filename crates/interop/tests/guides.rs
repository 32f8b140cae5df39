//! The files that the guides give to receivers declare what these formats write.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use actlog_interop::azure;
use actlog_interop::ecs::{self, EcsOptions};
use serde_json::Value;

fn file(name: &str) -> Value {
    let path = actlog_testkit::fixtures::workspace().join("docs/siem").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Names and types of columns.
fn columns(declared: &Value) -> BTreeMap<&str, &str> {
    let pairs = declared.as_array().unwrap().iter();
    pairs.map(|column| (column["name"].as_str().unwrap(), column["type"].as_str().unwrap())).collect()
}

#[test]
fn sentinels_table_and_rule_have_the_columns_of_the_rows() {
    let (table, rule) = (file("sentinel/table.json"), file("sentinel/data-collection-rule.json"));
    let table = columns(&table["properties"]["schema"]["columns"]);
    let streams = rule["resources"][0]["properties"]["streamDeclarations"].as_object().unwrap();
    let stream = columns(&streams.values().next().unwrap()["columns"]);
    assert_eq!(table, stream);
    let mut seen = BTreeMap::new();
    for record in common::samples() {
        let mut row = Vec::new();
        azure::row(&record, &mut row);
        let row: serde_json::Map<String, Value> = serde_json::from_slice(&row).unwrap();
        for (name, value) in row {
            let kind = table.get(name.as_str()).unwrap_or_else(|| panic!("there is no column {name}"));
            let is_right = match *kind {
                "datetime" | "string" => value.is_string(),
                "int" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                "long" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                "dynamic" => true,
                other => panic!("{other} is no type of a column"),
            };
            assert!(is_right, "{name}: {value}");
            seen.insert(name, kind);
        }
    }
    assert_eq!(seen.len(), table.len(), "columns that no row has");
}

#[test]
fn elastics_template_has_the_fields_of_the_documents() {
    let template = file("elastic/index-template.json");
    let properties = &template["template"]["mappings"]["properties"];
    // Sources keep members that are nested up to 128 deep; what exceeds the limit makes Elasticsearch refuse a document.
    let extra = &properties["o365"]["properties"]["audit"]["properties"]["Extra"];
    assert!(extra["depth_limit"].as_u64() >= Some(128), "{extra}");
    let options = EcsOptions { dataset: "actlog.audit".into(), namespace: "default".into() };
    for record in common::samples() {
        let mut document = Vec::new();
        ecs::document(&record, &options, &mut document);
        mapped("", &serde_json::from_slice(&document).unwrap(), properties);
    }
}

/// Every value is of a field that the template maps, and which can hold it.
fn mapped(path: &str, value: &Value, properties: &Value) {
    for (name, value) in value.as_object().unwrap() {
        let path = format!("{path}.{name}");
        let mapping = &properties[name];
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            match mapping["type"].as_str() {
                Some("flattened") => assert!(value.is_object(), "{path}"),
                Some("long" | "integer" | "unsigned_long") => {
                    assert!(value.is_i64() || value.is_u64(), "{path}: {value}")
                }
                Some("boolean") => assert!(value.is_boolean(), "{path}"),
                Some("date" | "ip" | "constant_keyword" | "wildcard" | "text" | "match_only_text") => {
                    assert!(value.is_string(), "{path}: {value}");
                }
                Some("keyword") => assert!(!value.is_object(), "{path}: {value}"),
                None | Some("object" | "nested") => {
                    assert!(mapping.is_object(), "{path} is not mapped");
                    mapped(&path, value, &mapping["properties"]);
                }
                Some(other) => panic!("{path} has the type {other}"),
            }
        }
    }
}
