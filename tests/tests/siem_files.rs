//! The files that users copy into their SIEM agree with what actlog sends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use actlog_core::{AuditRecord, Field, Timestamp};
use actlog_interop::{azure, ecs};
use actlog_office::output::{Mode, OutputOptions, to_office};
use actlog_testkit::fixtures::workspace;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;
use uuid::Uuid;

fn file(name: &str) -> String {
    std::fs::read_to_string(workspace().join("docs/siem").join(name)).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&file(name)).unwrap()
}

/// A record with every key; the JSON Schema of the record says which there are.
fn full() -> AuditRecord<'static> {
    let text = || Some("ada@contoso.com".into());
    let id = Some(Uuid::max());
    let mut record = AuditRecord {
        id: Uuid::max(),
        record_type: 21,
        version: 1,
        workload: "CRM".into(),
        creation_time: Timestamp::from_unix_milliseconds(1_772_528_400_123),
        operation: "Update".into(),
        message: text(),
        organization_id: id,
        crm_organization_unique_name: text(),
        user_id: text(),
        user_key: text(),
        user_type: Some(2),
        user_upn: text(),
        system_user_id: id,
        initiating_user_id: id,
        client_ip: Some("10.1.2.3".into()),
        client_port: Some(443),
        result_status: Some("Success".into()),
        correlation_id: id,
        instance_url: Some("https://contoso.crm.dynamics.com".into()),
        item_url: text(),
        item_type: text(),
        user_agent: text(),
        entity_id: id,
        entity_name: Some("account".into()),
        fields: vec![Field::new("name", "Fourth Coffee")],
        query: text(),
        query_results: vec![Uuid::max()],
        linked_results: vec![Uuid::max()],
        service_name: text(),
        service_context_id: text(),
        service_context_id_type: text(),
        primary_field_value: text(),
        object_id: text(),
        app_name: text(),
        content_type: None,
        category: text(),
        activity: text(),
        policy_version: Some(1),
        source: text(),
        collected_time: Some(Timestamp::default()),
        truncated: true,
        ..AuditRecord::default()
    };
    record.extra.insert("Stage", 40_i64);
    let written = serde_json::to_value(&record).unwrap();
    let schema = serde_json::to_value(AuditRecord::schema()).unwrap();
    for key in schema["properties"].as_object().unwrap().keys().filter(|key| *key != "ContentType") {
        assert!(written.get(key).is_some(), "give the record of this test a {key}");
    }
    record
}

/// What the record is in a form that is appended to bytes.
fn written(write: impl FnOnce(&AuditRecord<'_>, &mut Vec<u8>), content_type: bool) -> Value {
    let mut record = full();
    record.content_type = content_type.then(|| "Audit.General".into());
    let mut out = Vec::new();
    write(&record, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_elastic_template_maps_every_field_of_a_document_with_a_type_that_takes_it() {
    let options = ecs::EcsOptions { dataset: "actlog.audit".to_owned(), namespace: "default".to_owned() };
    let document = written(|record, out| ecs::document(record, &options, out), true);
    let template = json("elastic/index-template.json");
    assert_eq!(template["index_patterns"], serde_json::json!(["logs-actlog.audit-*"]));
    let mut used = BTreeSet::new();
    assert_is_mapped(&document, &template["template"]["mappings"], "", &mut used);
    let mut known = BTreeSet::new();
    collect_mapped(&template["template"]["mappings"], "", &mut known);
    // The template's fields are those of documents, and no others.
    assert_eq!(known.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new());
    let policy = template["template"]["settings"]["index.lifecycle.name"].as_str().unwrap();
    assert!(file("elastic.md").contains(&format!("_ilm/policy/{policy}")));
    assert!(json("elastic/lifecycle.json")["policy"]["phases"]["delete"]["min_age"].is_string());
}

fn assert_is_mapped(value: &Value, mapping: &Value, path: &str, used: &mut BTreeSet<String>) {
    if let Value::Array(elements) = value {
        for element in elements {
            assert_is_mapped(element, mapping, path, used);
        }
        return;
    }
    let Some(kind) = mapping["type"].as_str() else {
        let Value::Object(members) = value else { panic!("{path} is an object in the template, and {value} here") };
        for (name, value) in members {
            assert_is_mapped(value, &mapping["properties"][name], &format!("{path}.{name}"), used);
        }
        return;
    };
    used.insert(path.to_owned());
    let fits = match kind {
        "keyword" | "constant_keyword" => value.is_string() || value.is_number(),
        "date" => value.as_str().is_some_and(|text| Timestamp::parse(text).is_ok()),
        "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
        "long" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "flattened" => value.is_object(),
        other => panic!("{path}: a type that this test doesn't know: {other}"),
    };
    assert!(fits, "{path} is {kind} in the template, and {value} here");
    // A longer term than Lucene takes would make the document be refused.
    assert!(!matches!(kind, "keyword" | "flattened") || mapping["ignore_above"].as_u64() <= Some(8191), "{path}");
    assert!(kind != "constant_keyword" || mapping.get("value").is_none_or(|constant| constant == value), "{path}");
}

fn collect_mapped(mapping: &Value, path: &str, known: &mut BTreeSet<String>) {
    match mapping["properties"].as_object() {
        None => {
            known.insert(path.to_owned());
        }
        Some(members) => {
            members.iter().for_each(|(name, inner)| collect_mapped(inner, &format!("{path}.{name}"), known))
        }
    }
}

fn columns(list: &Value) -> BTreeMap<String, String> {
    let column =
        |column: &Value| (column["name"].as_str().unwrap().to_owned(), column["type"].as_str().unwrap().to_owned());
    list.as_array().unwrap().iter().map(column).collect()
}

#[test]
fn the_sentinel_table_has_the_columns_of_a_row_and_their_types() {
    let row = written(azure::row, true);
    let table = json("sentinel/table.json");
    let columns = columns(&table["properties"]["schema"]["columns"]);
    let Value::Object(row) = row else { panic!("a row is an object") };
    assert_eq!(columns.keys().collect::<BTreeSet<_>>(), row.keys().collect());
    for (name, value) in row {
        let fits = match columns[&name].as_str() {
            "string" => value.is_string(),
            "datetime" => value.as_str().is_some_and(|text| Timestamp::parse(text).is_ok()),
            "int" | "long" => value.is_i64(),
            "boolean" => value.is_boolean(),
            "dynamic" => value.is_object() || value.is_array(),
            other => panic!("{name}: {other}"),
        };
        assert!(fits, "{name} is {}, and {value} here", columns[&name]);
        assert!(!azure::RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)), "{name} is reserved");
        assert!(name.len() <= 45, "{name} is too long for a column");
    }
}

#[test]
fn the_sentinel_rule_takes_the_columns_of_the_table_to_the_table() {
    let table = json("sentinel/table.json");
    let schema = &table["properties"]["schema"];
    let rule = json("sentinel/data-collection-rule.json");
    let properties = &rule["resources"][0]["properties"];
    let stream = format!("Custom-{}", schema["name"].as_str().unwrap());
    assert_eq!(columns(&properties["streamDeclarations"][&stream]["columns"]), columns(&schema["columns"]));
    let flow = &properties["dataFlows"][0];
    assert_eq!(
        (&flow["streams"][0], &flow["outputStream"]),
        (&Value::from(stream.as_str()), &Value::from(stream.as_str()))
    );
    assert_eq!(flow["destinations"][0], properties["destinations"]["logAnalytics"][0]["name"]);
    assert!(file("sentinel.md").contains(&format!("stream = \"{stream}\"")));
}

#[test]
fn the_sentinel_function_has_the_columns_that_rules_read_and_reads_columns_that_there_are() {
    let text = file("sentinel/DataverseActivity.kql");
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let (table, projected) = code.split_once("| project").unwrap();
    let schema = json("sentinel/table.json")["properties"]["schema"].clone();
    assert_eq!(table.lines().next(), schema["name"].as_str());
    let mut known: BTreeSet<String> = columns(&schema["columns"]).into_keys().collect();
    // Every table has these; the rest are functions and words of the language.
    known.extend(["TenantId", "coalesce", "strcat", "dynamic"].map(str::to_owned));
    let mut given = BTreeSet::new();
    for line in projected.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty()) {
        let (name, expression) = line.split_once(" = ").unwrap_or((line, line));
        assert!(given.insert(name.to_owned()), "{name} is there twice");
        let outside_of_texts: String = expression.split('"').step_by(2).collect();
        for word in
            outside_of_texts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
        {
            assert!(known.contains(word), "{word} is no column");
        }
    }
    // The columns of Sentinel's table DataverseActivity, as its rules use them.
    let expected = "TimeGenerated ClientIp CorrelationId CrmOrganizationUniqueName EntityId EntityName Fields InstanceUrl \
                    ItemType ItemUrl Message Operation OrganizationId OriginalObjectId Query QueryResults ResultStatus \
                    ServiceContextId ServiceContextIdType ServiceName SourceRecordId SourceSystem SystemUserId TenantId \
                    Type UserAgent UserId UserKey UserType";
    assert_eq!(given, expected.split_whitespace().map(str::to_owned).collect());
}

#[test]
fn the_wazuh_rules_read_members_that_the_feed_has() {
    let observed = written(
        |record, out| {
            let options = OutputOptions { mode: Mode::Observed, max_record_bytes: 3072, tenant: Uuid::max() };
            to_office(record, &options, &mut |_, bytes| out.extend_from_slice(bytes)).unwrap();
        },
        false,
    );
    let text = file("wazuh/actlog_rules.xml");
    let mut reader = Reader::from_str(&text);
    let (mut ids, mut parents, mut inside) = (BTreeSet::new(), Vec::new(), Vec::new());
    let member = |name: &str| {
        let name = name.strip_prefix("office365.").unwrap_or_else(|| panic!("{name} is not of the integration"));
        assert!(observed.get(name).is_some() || name == "Part", "no record has a member {name}");
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(element) => {
                for attribute in element.attributes().map(Result::unwrap) {
                    let value = attribute.value.to_string();
                    match (element.name().as_ref(), attribute.key.as_ref()) {
                        ("rule", "id") => {
                            let id: u32 = value.parse().unwrap();
                            assert!((100_000..120_000).contains(&id) && ids.insert(id), "{id} is not free");
                        }
                        ("rule", "level") => assert!(value.parse::<u8>().unwrap() <= 15, "{value}"),
                        ("field", "name") => member(&value),
                        _ => {}
                    }
                }
                inside.push(element.name().as_ref().to_owned());
            }
            Event::End(_) => {
                inside.pop();
            }
            Event::Text(text) => {
                let text = text.to_string();
                match inside.last().map(String::as_str) {
                    Some("if_sid" | "if_matched_sid") => parents.push(text.parse::<u32>().unwrap()),
                    Some("same_field") => member(&text),
                    Some("description") => {
                        text.split("$(").skip(1).for_each(|rest| member(rest.split_once(')').unwrap().0));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    assert!(ids.len() > 10 && inside.is_empty());
    // The parent is a rule before it, or Wazuh's own of records of Dynamics 365.
    assert!(parents.iter().all(|parent| *parent == 91_551 || ids.contains(parent)), "{parents:?}");
    assert_eq!(parents.len(), ids.len());
}

#[test]
fn the_splunk_settings_read_keys_that_records_have() {
    let mut stanzas = 0;
    let schema = serde_json::to_value(AuditRecord::schema()).unwrap();
    for line in file("splunk/props.conf").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(stanza) = line.strip_prefix('[') {
            assert!(file("splunk.md").contains(&format!("sourcetype = \"{}\"", stanza.trim_end_matches(']'))));
            stanzas += 1;
            continue;
        }
        let (name, expression) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        if !name.starts_with("EVAL-") {
            continue;
        }
        let outside_of_texts: String = expression.split('"').step_by(2).collect();
        for word in outside_of_texts.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            let is_key = schema["properties"].get(word).is_some();
            assert!(
                is_key || ["coalesce", "case", "if", "match", "OR"].contains(&word),
                "{word} is no key of a record"
            );
        }
    }
    assert_eq!(stanzas, 1);
}
