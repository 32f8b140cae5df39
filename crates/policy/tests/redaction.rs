//! Field values that are hashed or left out, wherever they stand in a record.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

mod common;

use std::collections::HashMap;

use actlog_core::{AuditRecord, Field};
use actlog_policy::{OMITTED, Policy, PolicyDocument};
use common::{KEY, applied, policy, record};
use proptest::prelude::*;

fn contact() -> AuditRecord<'static> {
    let mut record = record("Update", "contact");
    record.fields = vec![
        Field::new("fullname", "Ada & \"Augusta\""),
        Field::new("statecode", "0"),
        Field { name: "fax".into(), value: None },
    ];
    record.query = Some(
        "<filter type=\"and\"><condition column=\"fullname\" operator=\"eq\" value=\"Ada &amp; &quot;Augusta&quot;\" />\
         <condition column=\"fax\" operator=\"not-null\" />\
         <condition column=\"statecode\" operator=\"in\"><value>0</value><value>1</value></condition></filter>"
            .into(),
    );
    record.primary_field_value = Some("Ada & \"Augusta\"".into());
    record.extra.insert("Stage", 40_i64);
    record.extra.insert("ParentMessage", "QualifyLead");
    record.extra.insert("OperationId", uuid::Uuid::nil());
    record.extra.insert("Subject", "Ada");
    record.extra.insert("Mode", serde_json::json!({ "name": "Ada" }));
    record
}

/// Values of Fields by column.
fn fields(record: &AuditRecord<'_>) -> HashMap<String, Option<String>> {
    record.fields.iter().map(|field| (field.name.to_string(), field.value.as_deref().map(str::to_owned))).collect()
}

#[test]
fn a_policy_that_keeps_values_changes_none() {
    let kept = applied(&policy("[entities.contact]\nvalues = 'keep'"), contact());
    let mut expected = contact();
    (expected.category, expected.activity, expected.policy_version) =
        (kept.category.clone(), kept.activity.clone(), Some(7));
    assert_eq!(kept, expected);
}

#[test]
fn omitted_values_are_nowhere_in_the_record() {
    let record = applied(&policy("[entities.contact]\nvalues = 'omit'"), contact());
    let fields = fields(&record);
    assert_eq!(fields["fullname"].as_deref(), Some(OMITTED));
    assert_eq!(fields["statecode"].as_deref(), Some(OMITTED));
    assert_eq!(fields["fax"], None);
    assert_eq!(
        record.query.as_deref(),
        Some(
            "<filter type=\"and\"><condition column=\"fullname\" operator=\"eq\" value=\"(omitted)\" />\
             <condition column=\"fax\" operator=\"not-null\" />\
             <condition column=\"statecode\" operator=\"in\"><value>(omitted)</value><value>(omitted)</value></condition></filter>"
        )
    );
    assert_eq!(record.primary_field_value.as_deref(), Some(OMITTED));
    let members: Vec<_> = record.extra.iter().map(|(name, _)| name).collect();
    assert_eq!(members, ["Stage", "ParentMessage", "OperationId"]);
}

#[test]
fn equal_values_of_a_column_have_equal_hashes_in_fields_and_query() {
    let policy = policy("[all_entities]\nvalues = 'hash'");
    let (first, second) = (applied(&policy, contact()), applied(&policy, contact()));
    assert_eq!(first, second);
    let hash = fields(&first)["fullname"].clone().unwrap();
    assert!(
        hash.len() == 37 && hash.starts_with("hmac:") && hash[5..].bytes().all(|b| b.is_ascii_hexdigit()),
        "{hash}"
    );
    let query = first.query.as_deref().unwrap();
    assert!(query.contains(&format!("column=\"fullname\" operator=\"eq\" value=\"{hash}\"")), "{query}");
    let state = fields(&first)["statecode"].clone().unwrap();
    assert!(query.contains(&format!("<value>{state}</value>")), "{query}");
    assert!(first.primary_field_value.as_deref().unwrap().starts_with("hmac:"));
    assert!(first.extra.get("Subject").unwrap().get().starts_with("\"hmac:"));
    assert!(first.extra.get("Mode").unwrap().get().starts_with("\"hmac:"));
    assert_eq!(first.extra.get("Stage").unwrap().get(), "40");

    let other_key = Policy::compile(&PolicyDocument::parse("all_entities.values = 'hash'").unwrap(), 7, Some(&[1; 32]));
    assert_ne!(fields(&applied(&other_key.unwrap(), contact()))["fullname"].as_deref(), Some(hash.as_str()));
}

#[test]
fn a_column_comes_before_its_entity_and_the_entity_before_all() {
    let policy = policy(
        "[all_entities]
         values = 'omit'
         columns = { statecode = 'keep' }
         [entities.contact]
         values = 'keep'
         columns = { fullname = 'hash' }
         [entities.lead]
         values = 'hash'
         [organizations.fabrikam.entities.contact]
         values = 'omit'",
    );
    let treatment = |organization: &'static str, entity: &'static str, column: &'static str| {
        let mut record = record("Update", entity);
        record.crm_organization_unique_name = Some(organization.into());
        record.fields = vec![Field::new(column, "x")];
        match applied(&policy, record).fields[0].value.as_deref().unwrap() {
            "x" => "keep",
            OMITTED => "omit",
            _ => "hash",
        }
    };
    for (organization, entity, column, expected) in [
        ("contoso", "contact", "fullname", "hash"),
        ("contoso", "contact", "FullName", "hash"),
        ("contoso", "contact", "fax", "keep"),
        ("contoso", "contact", "statecode", "keep"),
        ("contoso", "lead", "fullname", "hash"),
        ("contoso", "lead", "statecode", "keep"),
        ("contoso", "account", "name", "omit"),
        ("contoso", "account", "statecode", "keep"),
        ("fabrikam", "contact", "fullname", "hash"),
        ("fabrikam", "contact", "fax", "omit"),
    ] {
        assert_eq!(treatment(organization, entity, column), expected, "{organization} {entity}.{column}");
    }
}

#[test]
fn the_primary_field_may_be_any_column_so_the_strictest_treatment_holds_for_it() {
    let policy = policy("entities.contact.columns.fullname = 'omit'");
    let record = applied(&policy, contact());
    assert_eq!(record.primary_field_value.as_deref(), Some(OMITTED));
    assert_eq!(fields(&record)["statecode"].as_deref(), Some("0"));
}

#[test]
fn what_names_no_entity_gets_the_strictest_treatment_of_any() {
    let policy = policy("entities.contact.columns.fullname = 'omit'\nentities.lead.values = 'hash'");
    for entity in ["", "none", "Unknown"] {
        let record = AuditRecord { entity_name: Some(entity.into()), ..contact() };
        let fields = fields(&applied(&policy, record));
        assert_eq!(fields["fullname"].as_deref(), Some(OMITTED));
        assert!(fields["statecode"].as_deref().unwrap().starts_with("hmac:"));
    }
}

#[test]
fn a_column_that_every_entity_keeps_is_kept_where_the_entity_is_not_known() {
    let policy = policy(
        "all_entities.values = 'omit'\nall_entities.columns.statecode = 'keep'\nentities.lead.columns.fax = 'keep'",
    );
    let fields = fields(&applied(&policy, AuditRecord { entity_name: None, ..contact() }));
    assert_eq!((fields["statecode"].as_deref(), fields["fullname"].as_deref()), (Some("0"), Some(OMITTED)));
    let mut with_fax = record("Update", "");
    with_fax.fields = vec![Field::new("fax", "1")];
    assert_eq!(applied(&policy, with_fax).fields[0].value.as_deref(), Some(OMITTED));
}

#[test]
fn a_query_hides_the_literals_of_linked_entities() {
    let policy = policy("[entities.contact]\nvalues = 'omit'");
    let query = |text: &'static str| {
        let record = AuditRecord { query: Some(text.into()), ..record("RetrieveMultiple", "account") };
        applied(&policy, record).query.unwrap().into_owned()
    };
    assert_eq!(
        query(
            "<filter type=\"and\"><condition column=\"name\" operator=\"eq\" value=\"A\" />\
             <condition entityname=\"c\" column=\"fullname\" operator=\"eq\" value=\"Ada\" /></filter>\
             <link-entity name=\"contact\" to=\"primarycontactid\"><filter type=\"or\">\
             <condition column=\"fullname\" operator=\"like\" value='Ad\"a%' />\
             <condition column=\"parentid\" operator=\"eq\" uiname=\"Ada\" uitype=\"contact\" value=\"1\" /></filter></link-entity>\
             <link-entity name=\"lead\"><filter><condition column=\"x\" operator=\"eq\" value='L\"' /></filter></link-entity>"
        ),
        "<filter type=\"and\"><condition column=\"name\" operator=\"eq\" value=\"A\" />\
         <condition entityname=\"c\" column=\"fullname\" operator=\"eq\" value=\"(omitted)\" /></filter>\
         <link-entity name=\"contact\" to=\"primarycontactid\"><filter type=\"or\">\
         <condition column=\"fullname\" operator=\"like\" value=\"(omitted)\" />\
         <condition column=\"parentid\" operator=\"eq\" uiname=\"(omitted)\" uitype=\"contact\" value=\"(omitted)\" /></filter></link-entity>\
         <link-entity name=\"lead\"><filter><condition column=\"x\" operator=\"eq\" value=\"L&quot;\" /></filter></link-entity>"
    );
    let whole = "<fetch top=\"5\"><entity name=\"contact\"><filter><condition attribute=\"fax\" operator=\"in\">\
                 <value>a&amp;b</value></condition></filter></entity></fetch>";
    assert_eq!(query(whole), whole.replace("a&amp;b", OMITTED));
}

#[test]
fn what_stands_where_a_name_should_is_taken_for_a_literal() {
    let query = "<filter type=\"and\"><condition column=\"Ada Lovelace\" operator=\"eq\" /></filter>";
    let record = AuditRecord { query: Some(query.into()), ..record("RetrieveMultiple", "account") };
    let record = applied(&policy("[entities.account]\nvalues = 'omit'"), record);
    assert_eq!(record.query.unwrap(), query.replace("Ada Lovelace", OMITTED));
}

#[test]
fn a_query_that_is_not_understood_is_left_out_as_a_whole() {
    let policy = policy("[entities.account]\nvalues = 'omit'");
    for text in [
        "Ada",
        "<filter><condition column=\"name\" value=\"Ada\"></filter>",
        "<filter><condition column=\"name\" value=\"&Ada;\" /></filter>",
        "<filter><![CDATA[Ada]]></filter>",
        "<filter><!-- Ada --></filter>",
        "<!DOCTYPE Ada><filter />",
        "<filter><Ada /></filter>",
        "<filter><condition Ada~=\"1\" /></filter>",
        "<filter>",
        "",
    ] {
        let record = AuditRecord { query: Some(text.into()), ..record("RetrieveMultiple", "account") };
        assert_eq!(applied(&policy, record).query.as_deref(), Some(OMITTED), "{text}");
    }
    let deep = format!("{}{}", "<filter>".repeat(100_000), "</filter>".repeat(100_000));
    let record = AuditRecord { query: Some(deep.into()), ..record("RetrieveMultiple", "account") };
    assert_eq!(applied(&policy, record).query.as_deref(), Some(OMITTED));
}

#[test]
fn extra_of_an_entity_that_keeps_its_values_may_hold_those_of_another() {
    let policy = policy("[entities.lead]\nvalues = 'omit'");
    let record = applied(&policy, contact());
    assert!(record.extra.get("Subject").is_none());
    assert_eq!(fields(&record)["fullname"].as_deref(), Some("Ada & \"Augusta\""));
}

#[test]
fn other_products_follow_what_holds_for_all_entities() {
    let exchange = || {
        let mut record = AuditRecord { workload: "Exchange".into(), ..contact() };
        record.extra.insert("Subject", "Ada");
        record
    };
    let kept = applied(&policy("[entities.contact]\nvalues = 'omit'"), exchange());
    assert!(kept.extra.get("Subject").is_some());
    let omitted = applied(&policy("[all_entities]\nvalues = 'omit'"), exchange());
    assert!(omitted.extra.get("Subject").is_none());
}

#[test]
fn raw_input_may_be_kept_only_where_no_value_is_to_be_hidden() {
    let nothing_hidden = policy("entities.contact.unaudited_columns = ['fax']");
    assert!(nothing_hidden.may_keep_raw(None) && nothing_hidden.may_keep_raw(Some("contoso")));
    let column_hidden = policy("entities.contact.columns.fax = 'omit'");
    assert!(!column_hidden.may_keep_raw(None) && !column_hidden.may_keep_raw(Some("contoso")));
    let id = uuid::Uuid::from_u128(9);
    let one_organisation = policy(&format!("organizations.{id}.all_entities.values = 'hash'"));
    assert!(!one_organisation.may_keep_raw(None));
    assert!(!one_organisation.may_keep_raw(Some(&id.to_string())));
    assert!(one_organisation.may_keep_raw(Some("contoso")));
}

/// Stands in every generated value; `~` is in no name, so that it can't pass for structure.
const SECRET: &str = "S~E~C~R~E~T";

fn secret_text() -> impl Strategy<Value = String> {
    ("\\PC{0,6}", "[\\PC\n<>&\"']{0,6}").prop_map(|(before, after)| format!("{before}{SECRET}{after}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn query_with_secrets() -> impl Strategy<Value = String> {
    let condition = ("[a-z]{1,8}", secret_text(), any::<bool>()).prop_map(|(column, value, as_attribute)| {
        let value = escaped(&value);
        match as_attribute {
            true => format!("<condition column=\"{column}\" operator=\"eq\" value=\"{value}\" />"),
            false => format!("<condition column=\"{column}\" operator=\"in\"><value>{value}</value></condition>"),
        }
    });
    let well_formed = proptest::collection::vec(condition, 0..4)
        .prop_map(|conditions| format!("<filter type=\"and\">{}</filter>", conditions.concat()))
        .boxed();
    // Anything may come; damage at a random place makes what is nearly a query.
    let damaged = (well_formed.clone(), any::<prop::sample::Index>(), "[<>/&\"'= a-z!\\[\\]-]{0,3}").prop_map(
        |(query, place, junk)| {
            let mut chars: Vec<char> = query.chars().collect();
            let place = place.index(chars.len());
            chars.splice(place..(place + 1).min(chars.len()), junk.chars());
            chars.into_iter().collect::<String>()
        },
    );
    prop_oneof![well_formed, damaged, secret_text()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_record_never_holds_a_value_that_is_hashed_or_left_out(
        columns in proptest::collection::vec(("[a-zA-Z_]{1,12}", secret_text()), 0..6),
        query in query_with_secrets(),
        primary in secret_text(),
        extra in proptest::collection::vec(
            (prop_oneof![Just("Stage".to_owned()), Just("ParentMessage".to_owned()), "[A-Za-z]{1,10}"], secret_text()), 0..4),
        hash in any::<bool>(),
        entity in prop_oneof![Just("contact"), Just("Contact"), Just("new_x"), Just("none"), Just("")],
        workload in prop_oneof![Just("CRM"), Just("Exchange")],
    ) {
        let policy = policy(&format!("all_entities.values = '{}'", if hash { "hash" } else { "omit" }));
        let mut record = record("Update", entity);
        record.workload = workload.into();
        record.fields = columns.into_iter().map(|(name, value)| Field::new(name, value)).collect();
        record.query = Some(query.into());
        record.primary_field_value = Some(primary.into());
        for (name, value) in extra {
            record.extra.insert(name, serde_json::json!({ "deep": [value] }));
        }
        let mut bytes = Vec::new();
        applied(&policy, record).encode(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        prop_assert!(!text.contains(SECRET), "{text}");
        prop_assert!(!text.contains(std::str::from_utf8(KEY).unwrap()));
    }
}
