//! Audit flags of Dataverse become a policy, and a policy says which flags it asks for.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;

use actlog_dataverse::customizations::{AuditFlags, EntityFlags, ManagedFlag, OrganizationFlags, read};
use actlog_policy::{PolicyDocument, changes};
use actlog_testkit::{fixtures, skip};
use common::{decide, record};
use proptest::prelude::*;

fn flag(value: impl Into<Option<bool>>) -> ManagedFlag {
    ManagedFlag { value: value.into(), can_be_changed: None }
}

fn columns<'a>(columns: impl IntoIterator<Item = (&'a str, Option<bool>)>) -> BTreeMap<String, ManagedFlag> {
    columns.into_iter().map(|(name, value)| (name.to_owned(), flag(value))).collect()
}

fn entity(audit: Option<bool>, retrieve: Option<bool>, retrieve_multiple: Option<bool>) -> EntityFlags {
    EntityFlags { audit: flag(audit), retrieve, retrieve_multiple, attributes: BTreeMap::new() }
}

fn flags(entities: impl IntoIterator<Item = (&'static str, EntityFlags)>) -> AuditFlags {
    let entities = entities.into_iter().map(|(name, flags)| (name.to_owned(), flags)).collect();
    AuditFlags { entities, ..AuditFlags::default() }
}

fn document(text: &str) -> PolicyDocument {
    PolicyDocument::parse(text).unwrap()
}

fn default() -> PolicyDocument {
    document(PolicyDocument::DEFAULT_TEXT)
}

/// What a policy does with reading and changing an account.
fn of_account(document: &PolicyDocument) -> [String; 3] {
    let policy = common::policy(&toml::to_string(document).unwrap());
    ["Retrieve", "RetrieveMultiple", "Update"].map(|message| decide(&policy, record(message, "account")))
}

#[test]
fn flags_become_the_settings_that_they_are() {
    let account = EntityFlags {
        attributes: columns([("name", Some(true)), ("fax", Some(false)), ("telex", None)]),
        ..entity(Some(true), Some(true), Some(false))
    };
    let mut flags = flags([("account", account), ("new_thing", entity(Some(false), Some(true), Some(true)))]);
    flags.organization = OrganizationFlags { auditing: Some(true), user_access: Some(false), read: Some(true) };
    let imported = default().with_flags(&flags, None);
    let expected = [
        "audit_user_access: true -> false",
        "entities.account.auditing: (not set) -> true",
        "entities.account.multiple_record: (not set) -> false",
        "entities.account.single_record: (not set) -> true",
        "entities.account.unaudited_columns: (not set) -> [\"fax\"]",
        "entities.new_thing.auditing: (not set) -> false",
        "entities.new_thing.multiple_record: (not set) -> true",
        "entities.new_thing.single_record: (not set) -> true",
    ];
    assert_eq!(changes(&default(), &imported.document), expected);
    assert_eq!(of_account(&imported.document), ["kept", "multiple-record", "kept"]);
    assert_eq!(
        imported.notes,
        ["auditing of a column is unknown, so it is audited unless the policy itself says otherwise: account.telex"]
    );
    assert_eq!(imported.document.with_flags(&flags, None), imported, "a second time changes nothing");
}

#[test]
fn what_is_unknown_is_audited_unless_the_policy_says_otherwise_of_that_entity() {
    let flags = flags([("account", entity(Some(true), None, None)), ("contact", EntityFlags::default())]);
    let kept = ["kept"; 3];
    for (text, expected) in [
        ("", kept),
        ("all_entities.single_record = false\nall_entities.multiple_record = false", kept),
        ("all_entities.auditing = false\nareas.common = false", kept),
        ("[entities.account]\nsingle_record = false", ["single-record", "kept", "kept"]),
    ] {
        let imported = document(text).with_flags(&flags, None);
        assert_eq!(of_account(&imported.document), expected, "{text}");
        assert!(!imported.document.entities.contains_key("contact"), "nothing is known of contacts");
        let said = imported.notes.join("\n");
        for expected in ["single record auditing is unknown", "multiple record", "no flags are known", "contact"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    let unknown = self::flags([(
        "account",
        EntityFlags { attributes: columns([("a", Some(true))]), ..entity(None, None, None) },
    )]);
    let imported = document("areas.common = false").with_flags(&unknown, None);
    assert_eq!(of_account(&imported.document), kept);
}

#[test]
fn columns_that_the_policy_leaves_out_come_back_when_dataverse_audits_them() {
    let with = |value| {
        let attributes = columns([("fax", Some(value)), ("secret", Some(true))]);
        flags([("account", EntityFlags { attributes, ..entity(Some(true), Some(true), Some(true)) })])
    };
    let start = document(
        "[all_entities]\nunaudited_columns = ['secret']\n[entities.account]\nunaudited_columns = ['fax', 'telex']",
    );
    let list = |flags: &AuditFlags| {
        start.with_flags(flags, None).document.entities["account"].unaudited_columns.clone().unwrap()
    };
    assert_eq!(list(&with(true)), ["telex"]);
    assert_eq!(list(&with(false)), ["fax", "telex"]);
    let notes = start.with_flags(&with(true), None).notes;
    assert!(notes.iter().any(|note| note.contains("all_entities.unaudited_columns: account.secret")), "{notes:?}");
}

#[test]
fn an_organisation_takes_flags_for_itself() {
    let flags = flags([("account", entity(Some(false), Some(true), Some(true)))]);
    let start = document("[organizations.Contoso]\nstart_read_auditing = false");
    let imported = start.with_flags(&flags, Some("contoso")).document;
    assert_eq!(changes(&start, &imported).len(), 3, "{:?}", changes(&start, &imported));
    assert_eq!(imported.organizations["Contoso"].entities["account"].auditing, Some(false));
    assert_eq!(of_account(&imported), ["read-auditing", "read-auditing", "entity"], "the records are Contoso's");
    assert!(imported.entities.is_empty());
    let wanted = imported.audit_flags(&flags, Some("CONTOSO"));
    assert_eq!((wanted.organization.read, wanted.entities["account"].audit.value), (Some(false), Some(false)));
    let others = imported.audit_flags(&flags, Some("fabrikam"));
    assert_eq!((others.organization.read, others.entities["account"].audit.value), (Some(true), Some(true)));
}

#[test]
fn a_policy_asks_for_the_flags_of_areas_and_all_entities() {
    let policy = document(
        "start_auditing = false\n[areas]\nsales = false\n[all_entities]\nmultiple_record = false\nunaudited_columns = ['fax']\n\
         [entities.quote]\nauditing = true\nunaudited_columns = ['b']",
    );
    let fixed = ManagedFlag { value: Some(true), can_be_changed: Some(false) };
    let mut quote =
        EntityFlags { attributes: columns([("a", None), ("b", Some(true)), ("fax", None)]), ..EntityFlags::default() };
    quote.audit = fixed;
    let known = flags([("quote", quote), ("invoice", EntityFlags::default()), ("x_y", EntityFlags::default())]);
    let wanted = policy.audit_flags(&known, None);
    assert_eq!(
        wanted.organization,
        OrganizationFlags { auditing: Some(false), user_access: Some(true), read: Some(true) }
    );
    assert_eq!(wanted.entities["quote"].audit, fixed, "whether it can be changed is not the policy's to say");
    assert_eq!(
        wanted.entities["quote"].attributes,
        columns([("a", Some(true)), ("b", Some(false)), ("fax", Some(false))])
    );
    assert_eq!(wanted.entities["invoice"], entity(Some(false), Some(true), Some(false)));
    assert_eq!(wanted.entities["x_y"], entity(Some(true), Some(true), Some(false)));
}

#[test]
fn a_captured_solution_becomes_its_flags() {
    let Some(folder) = fixtures::shared() else {
        skip!("there are no captured solutions");
    };
    let folder = folder.join("fixtures/dataverse/customizations");
    for (file, entity, unaudited) in [
        ("ColumnLevelSecuritySampleSolution.zip", "sample_example", 11),
        ("UpsertSample_1_0_0_0_managed.zip", "sample_product", 12),
        ("powercat-creator-kit_cat_Sample_Entity.xml", "cat_sample", 11),
    ] {
        let flags = read(Cursor::new(std::fs::read(folder.join(file)).unwrap()), file).unwrap();
        let imported = default().with_flags(&flags, None);
        let settings = &imported.document.entities[entity];
        let known = &flags.entities[entity];
        assert_eq!(settings.auditing, Some(false), "{file}");
        assert_eq!((settings.single_record, settings.multiple_record), (known.retrieve, known.retrieve_multiple));
        assert_eq!(settings.unaudited_columns.as_ref().unwrap().len(), unaudited, "{file}");
        let text = toml::to_string(&imported.document).unwrap();
        assert_eq!(document(&text), imported.document);
        common::policy(&text);
        assert_eq!(imported.notes.is_empty(), known.retrieve.is_some(), "{:?}", imported.notes);
    }
}

proptest! {
    #[test]
    fn a_policy_asks_for_the_flags_that_were_taken_over(
        known in prop::collection::btree_map("[a-z]{1,4}_[a-z]{1,4}", (any::<bool>(), any::<bool>(), any::<bool>(), prop::collection::btree_map("[a-z]{1,5}", any::<bool>(), 0..4)), 0..6),
        switches in any::<[bool; 3]>(),
        organization in prop::option::of(Just("contoso")),
        start in prop::sample::select(vec!["", "all_entities.auditing = false", "[organizations.contoso]\nstart_auditing = false", "[entities.a_a]\nunaudited_columns = ['a', 'b']"]),
    ) {
        let mut flags = AuditFlags { source: "the policy".to_owned(), ..AuditFlags::default() };
        let [auditing, user_access, read] = switches.map(Some);
        flags.organization = OrganizationFlags { auditing, user_access, read };
        for (name, (audit, retrieve, multiple, attributes)) in known {
            let attributes = attributes.into_iter().map(|(name, value)| (name, flag(value))).collect();
            flags.entities.insert(name, EntityFlags { attributes, ..entity(Some(audit), Some(retrieve), Some(multiple)) });
        }
        let imported = document(start).with_flags(&flags, organization);
        prop_assert!(imported.notes.is_empty());
        prop_assert_eq!(imported.document.audit_flags(&flags, organization), flags);
    }
}
