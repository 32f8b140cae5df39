//! Audit flags from solution files, their XML, and the Web API's metadata; and files that mean harm.
//!
//! Real solutions are not part of the repository: they are read from the folder that `ACTLOG_SHARED` names (else `shared`
//! beside the workspace), and the tests on them say so when it is not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use actlog_dataverse::customizations::{
    self, AttributeDefinition, AuditFlags, EntityDefinition, ManagedFlag, OrganizationRow, read,
};
use actlog_testkit::{fixtures, skip};
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A file of the captured solutions.
fn capture(name: &str) -> Option<Vec<u8>> {
    let folder = fixtures::shared()?.join("fixtures/dataverse");
    Some(std::fs::read(folder.join(name)).unwrap())
}

fn flags(bytes: &[u8]) -> AuditFlags {
    read(Cursor::new(bytes), "file").unwrap()
}

fn error(bytes: &[u8]) -> String {
    read(Cursor::new(bytes), "file").unwrap_err().to_string()
}

/// The names of the columns that have this flag.
fn columns(flags: &AuditFlags, entity: &str, value: Option<bool>) -> Vec<String> {
    let columns = &flags.entities[entity].attributes;
    columns.iter().filter(|(_, flag)| flag.value == value).map(|(name, _)| name.clone()).collect()
}

fn wrapped(entities: &str) -> String {
    format!("<ImportExportXml OrganizationVersion=\"9.2.1\"><Entities>{entities}</Entities><Roles /></ImportExportXml>")
}

fn entity(name: &str, inside: &str) -> String {
    format!("<Entity><Name>{name}</Name><EntityInfo><entity Name=\"{name}\">{inside}</entity></EntityInfo></Entity>")
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Replaces bytes wherever they are: archives that no writer makes.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut patched = bytes.to_vec();
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "the bytes to replace are there");
    for at in places {
        patched[at..at + to.len()].copy_from_slice(to);
    }
    patched
}

/// Where the archive's list names its first file.
fn directory(bytes: &[u8]) -> usize {
    (0..bytes.len()).rfind(|at| bytes[*at..].starts_with(b"PK\x01\x02")).unwrap()
}

#[test]
fn a_solution_of_version_9_gives_the_flags_it_holds() {
    let Some(xml) = capture("customizations/ColumnLevelSecuritySampleSolution.customizations.xml") else {
        skip!("there are no captured solutions");
    };
    let from_xml = flags(&xml);
    assert_eq!(from_xml.entities.keys().collect::<Vec<_>>(), ["sample_example"]);
    let entity = &from_xml.entities["sample_example"];
    assert_eq!(entity.audit, ManagedFlag { value: Some(false), can_be_changed: Some(true) });
    assert_eq!((entity.retrieve, entity.retrieve_multiple), (Some(false), Some(false)));
    let audited = [
        "importsequencenumber",
        "overriddencreatedon",
        "ownerid",
        "owningbusinessunit",
        "sample_dateofbirth",
        "sample_email",
        "sample_governmentid",
        "sample_name",
        "sample_telephonenumber",
        "statecode",
        "statuscode",
    ];
    assert_eq!(columns(&from_xml, "sample_example", Some(true)), audited);
    let unaudited = [
        "createdby",
        "createdon",
        "createdonbehalfby",
        "modifiedby",
        "modifiedon",
        "modifiedonbehalfby",
        "owningteam",
        "owninguser",
        "sample_exampleid",
        "timezoneruleversionnumber",
        "utcconversiontimezonecode",
    ];
    assert_eq!(columns(&from_xml, "sample_example", Some(false)), unaudited);
    assert!(columns(&from_xml, "sample_example", None).is_empty());
    assert!(from_xml.warnings.is_empty(), "{:?}", from_xml.warnings);

    let zip = capture("customizations/ColumnLevelSecuritySampleSolution.zip").unwrap();
    assert_eq!(flags(&zip), from_xml, "the archive says what the file in it says");

    // No public file has the flags of read auditing set, so they are set here.
    let set = String::from_utf8(xml).unwrap();
    let set = set
        .replace("<IsRetrieveAuditEnabled>0<", "<IsRetrieveAuditEnabled>1<")
        .replace("</OwnershipTypeMask>\r\n", "</OwnershipTypeMask>\n")
        .replace("<IsRetrieveMultipleAuditEnabled>0<", "<IsRetrieveMultipleAuditEnabled>1<");
    let set = flags(set.as_bytes());
    let entity = &set.entities["sample_example"];
    assert_eq!((entity.audit.value, entity.retrieve, entity.retrieve_multiple), (Some(false), Some(true), Some(true)));
    assert_eq!(entity.attributes, from_xml.entities["sample_example"].attributes);
}

#[test]
fn a_solution_before_version_9_has_unknown_flags_and_says_so() {
    let Some(xml) = capture("customizations/UpsertSample_1_0_0_0_managed.customizations.xml") else {
        skip!("there are no captured solutions");
    };
    let from_xml = flags(&xml);
    assert_eq!(from_xml.entities.keys().collect::<Vec<_>>(), ["sample_product"]);
    let entity = &from_xml.entities["sample_product"];
    assert_eq!((entity.audit.value, entity.retrieve, entity.retrieve_multiple), (Some(false), None, None));
    let audited = [
        "importsequencenumber",
        "overriddencreatedon",
        "ownerid",
        "owneridtype",
        "sample_category",
        "sample_make",
        "sample_name",
        "sample_productcode",
        "statecode",
        "statuscode",
    ];
    assert_eq!(columns(&from_xml, "sample_product", Some(true)), audited);
    assert_eq!(entity.attributes.len(), 22, "flags of relationships' fields are no columns of the entity");
    assert!(from_xml.warnings.iter().any(|warning| warning.contains("before 9")), "{:?}", from_xml.warnings);
    let zip = capture("customizations/UpsertSample_1_0_0_0_managed.zip").unwrap();
    assert_eq!(flags(&zip), from_xml);
}

#[test]
fn an_unpacked_entity_gives_its_flags() {
    let Some(xml) = capture("customizations/powercat-creator-kit_cat_Sample_Entity.xml") else {
        skip!("there are no captured solutions");
    };
    assert!(xml.starts_with(b"\xEF\xBB\xBF"), "it begins with a byte order mark");
    let flags = flags(&xml);
    let entity = &flags.entities["cat_sample"];
    assert_eq!(entity.audit, ManagedFlag { value: Some(false), can_be_changed: Some(true) });
    assert_eq!((entity.retrieve, entity.retrieve_multiple), (Some(false), Some(false)));
    assert_eq!((entity.attributes.len(), columns(&flags, "cat_sample", Some(true)).len()), (25, 14));
    // An unpacked entity never names the version: nothing is to be warned of.
    assert!(flags.warnings.is_empty());
}

#[test]
fn answers_of_the_web_api_give_the_same_flags() {
    let managed = |value, can_be_changed| ManagedFlag { value: Some(value), can_be_changed: Some(can_be_changed) };
    let entity = r#"{"@odata.context":"x","LogicalName":"account","IsAuditEnabled":{"Value":true,"CanBeChanged":false,
        "ManagedPropertyLogicalName":"canmodifyauditsettings"},"IsRetrieveAuditEnabled":true,
        "IsRetrieveMultipleAuditEnabled":{"Value":false},"Attributes":[{"@odata.type":"String","LogicalName":"name",
        "IsAuditEnabled":{"Value":false,"CanBeChanged":true}},{"LogicalName":"fax"}]}"#;
    let mut flags = AuditFlags::default();
    flags.add_entity(serde_json::from_str(entity).unwrap());
    let account = &flags.entities["account"];
    assert_eq!(
        (account.audit, account.retrieve, account.retrieve_multiple),
        (managed(true, false), Some(true), Some(false))
    );
    let expected = [("fax".to_owned(), ManagedFlag::default()), ("name".to_owned(), managed(false, true))];
    assert_eq!(account.attributes, BTreeMap::from(expected));
    let row: OrganizationRow = serde_json::from_str(r#"{"isauditenabled":true,"isreadauditenabled":null}"#).unwrap();
    flags.set_organization(&row);
    let organization = flags.organization;
    assert_eq!((organization.auditing, organization.user_access, organization.read), (Some(true), None, None));

    let Some(documented) = capture("entitydefinitions/EntityDefinition_sample_bankaccount_excerpt.json") else {
        skip!("there are no documented answers");
    };
    let documented: EntityDefinition = serde_json::from_slice(&documented).unwrap();
    assert_eq!(
        (documented.logical_name.as_str(), documented.is_audit_enabled),
        ("sample_bankaccount", managed(false, true))
    );
    assert_eq!(documented.is_retrieve_audit_enabled.value, Some(false));
    #[derive(serde::Deserialize)]
    struct Answer<T> {
        value: Vec<T>,
    }
    let columns = capture("entitydefinitions/Attributes_isauditenabled_response.json").unwrap();
    let columns: Answer<AttributeDefinition> = serde_json::from_slice(&columns).unwrap();
    assert_eq!(columns.value[0].is_audit_enabled, managed(true, true));
    let settings = capture("audit/organizations_audit_settings_response.json").unwrap();
    let settings = String::from_utf8(settings).unwrap().replace("<organizationid value>", &"0".repeat(32));
    let settings: Answer<OrganizationRow> = serde_json::from_str(&settings).unwrap();
    assert_eq!((settings.value[0].isauditenabled, settings.value[0].isreadauditenabled), (Some(true), None));
}

#[test]
fn names_are_logical_and_values_are_read_wherever_they_stand() {
    let xml = wrapped(&entity(
        "New_Thing",
        "<attributes><attribute PhysicalName=\"A\"><IsAuditEnabled>1</IsAuditEnabled></attribute>\
         <attribute PhysicalName=\"B\"><IsAuditEnabled>0</IsAuditEnabled><Name>bb</Name></attribute>\
         <attribute PhysicalName=\"C\"><LogicalName>c_C</LogicalName><Name>cc</Name><optionset><IsAuditEnabled>7</IsAuditEnabled></optionset></attribute>\
         </attributes><!-- <IsAuditEnabled>0</IsAuditEnabled> --><IsRetrieveAuditEnabled>\n <![CDATA[1]]></IsRetrieveAuditEnabled>\
         <IsRetrieveMultipleAuditEnabled>&#48;</IsRetrieveMultipleAuditEnabled><IsAuditEnabled />",
    ));
    let flags = flags(xml.as_bytes());
    let entity = &flags.entities["new_thing"];
    assert_eq!((entity.audit.value, entity.retrieve, entity.retrieve_multiple), (None, Some(true), Some(false)));
    let values: Vec<_> = entity.attributes.iter().map(|(name, flag)| (name.as_str(), flag.value)).collect();
    assert_eq!(values, [("a", Some(true)), ("bb", Some(false)), ("c_c", None)]);
    // A reference to an entity that the solution does not change.
    let unmodified = wrapped(
        "<Entity><Name>Account</Name><EntityInfo><entity Name=\"Account\" unmodified=\"1\"/></EntityInfo></Entity>",
    );
    assert_eq!(
        read(Cursor::new(unmodified), "file").unwrap().entities["account"],
        customizations::EntityFlags::default()
    );
}

#[test]
fn hostile_xml_is_refused_with_the_reason() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>";
    let deep = wrapped(&"<Entity>".repeat(1000));
    let long_name = format!("<{}>", "n".repeat(1000));
    let many: String = (0..20_000).map(|number| format!(" a{number}=''")).collect();
    let twice = wrapped(&(entity("a", "") + &entity("A", "")));
    let flag = |text: &str| wrapped(&entity("a", &format!("<IsAuditEnabled>{text}</IsAuditEnabled>")));
    let column = "<attribute PhysicalName='x'/>";
    let long_text = wrapped(&format!("<a>{}</a>", "x".repeat(20 * 1024 * 1024)));
    let long_comment = wrapped(&format!("<!--{}-->", "x".repeat(20 * 1024 * 1024)));
    for (xml, reason) in [
        (format!("{bomb}{}", wrapped(&entity("&b;", ""))), "document type"),
        (wrapped("&b;"), "unknown entity \"b\""),
        (flag("&lol9;"), "unknown entity \"lol9\""),
        (wrapped(&entity("&b;", "")), "XML is refused"),
        (wrapped("<!DOCTYPE x SYSTEM \"file:///etc/passwd\">"), "document type"),
        (deep, "nested deeper than 256"),
        (wrapped(&long_name), "name is longer"),
        (wrapped(&format!("<Entity><EntityInfo><entity{many}/></EntityInfo></Entity>")), "attributes"),
        (long_text, "one text or tag is longer"),
        (long_comment, "one text or tag is longer"),
        (twice, "the entity a is there twice"),
        (flag("2"), "is \"2\", not 0 or 1"),
        (flag(&"1".repeat(10_000)), "too long"),
        (flag("1</IsAuditEnabled><IsAuditEnabled>0"), "as 0 and as 1"),
        (wrapped(&entity("a b", "")), "no name of an entity"),
        (wrapped(&entity("../x", "")), "no name of an entity"),
        (wrapped("<Entity><EntityInfo><entity/></EntityInfo></Entity>"), "no Name"),
        (
            wrapped(&entity("a", &format!("<attributes>{column}{column}</attributes>"))),
            "the column x of a is there twice",
        ),
        (wrapped(&entity("a", "<attributes><attribute/></attributes>")), "a column of a has no name"),
        (wrapped("") + "<x/>", "second root"),
        (wrapped("") + "x", "text outside"),
        (wrapped("<Entity>").replace("</Entities>", ""), "expected `</Entity>`"),
        ("<ImportExportXml><Entities>".to_owned(), "ends inside"),
        ("<Workflow/>".to_owned(), "its root element is \"Workflow\""),
        ("PKxx".to_owned(), "no solution file"),
        (String::new(), "no root element"),
        ("{}".to_owned(), "no solution file"),
    ] {
        let error = error(xml.as_bytes());
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(error.len() < 500, "an error quotes little of the file: {error}");
    }
    let utf16: Vec<u8> = wrapped("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(error(&utf16).contains("save it as UTF-8"));
    assert!(error(&[b"\xFF\xFE", &utf16[..]].concat()).contains("save it as UTF-8"));
    assert!(error(b"<ImportExportXml>\xFF</ImportExportXml>").contains("UTF-8"));
}

#[test]
fn hostile_archives_are_refused_with_the_reason() {
    let good = wrapped(&entity("account", "<IsAuditEnabled>1</IsAuditEnabled>"));
    let good = good.as_bytes();
    let sound =
        archive(&[("customizations.xml", good), ("solution.xml", b"<x/>"), ("CanvasApps/a.msapp", b"PK\x03\x04")]);
    assert_eq!(flags(&sound).entities["account"].audit.value, Some(true));

    let nested = archive(&[("customizations.xml", good)]);
    let mut link = ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("customizations.xml", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let link = link.finish().unwrap().into_inner();
    let pair = archive(&[("customizations.xml", good), ("customizations.xmm", good)]);
    let mut encrypted = nested.clone();
    let at = directory(&encrypted);
    encrypted[at + 8] |= 1;
    let mut shorter = nested.clone();
    shorter[at + 24..at + 28].copy_from_slice(&20_u32.to_le_bytes());
    let mut corrupt = nested.clone();
    corrupt[40 + "customizations.xml".len()] ^= 0x55;
    let mut checksum = nested.clone();
    checksum[at + 16] ^= 1;
    let mut overlapping = pair.clone();
    let second = directory(&overlapping);
    let claimed = u32::try_from(pair.len()).unwrap();
    overlapping[second + 20..second + 24].copy_from_slice(&claimed.to_le_bytes());
    let mut claims = pair.clone();
    claims[second + 20..second + 24].copy_from_slice(&100_u32.to_le_bytes());
    claims[second + 24..second + 28].copy_from_slice(&u32::MAX.wrapping_sub(1).to_le_bytes());
    let spaces = [wrapped("").into_bytes(), vec![b' '; 8 * 1024 * 1024]].concat();
    for (bytes, reason) in [
        (archive(&[("customizations.xml", &spaces)]), "times as long decompressed"),
        (claims, "times as long decompressed"),
        (shorter, "larger than its declared uncompressed size"),
        (overlapping, "overlap"),
        (archive(&[("customizations.xml", good), ("../../etc/cron.d/x", b"x")]), "leads out of its folder"),
        (archive(&[("customizations.xml", good), ("a\\..\\..\\x", b"x")]), "leads out of its folder"),
        (archive(&[("customizations.xml", good), ("C:\\x", b"x")]), "leads out of its folder"),
        (patched(&pair, b"customizations.xmm", b"/ustomizations.xmm"), "leads out of its folder"),
        (patched(&pair, b"customizations.xmm", b"customizations.xml"), "same name"),
        (patched(&pair, b"customizations.xmm", b"Customizations.xml"), "twice"),
        (archive(&[("inner.zip", &nested), ("customizations.xml", good)]), "\"inner.zip\" in it is itself an archive"),
        (archive(&[("customizations.xml", &nested)]), "is itself an archive"),
        (archive(&[("solution.xml", good)]), "there is no customizations.xml"),
        (archive(&[]), "there is no customizations.xml"),
        (link, "is a link"),
        (encrypted, "is encrypted"),
        (nested[..nested.len() - 30].to_vec(), "the solution file is refused"),
    ] {
        let error = error(&bytes);
        assert!(error.contains(reason), "{reason}: {error}");
    }
    for bytes in [corrupt, checksum] {
        assert!(error(&bytes).contains("refused"));
    }
}

#[test]
fn an_archive_of_very_many_files_is_refused_before_they_are_listed() {
    // 66,000 empty entries whose local headers don't even exist; the second archive has a list beyond its limit.
    for (entries, extra, reason) in
        [(66_000_u32, 0_u16, "more than 65535 files"), (400_000, 0, "list of files is longer")]
    {
        let mut bytes = b"PK\x03\x04".to_vec();
        let start = u32::try_from(bytes.len()).unwrap();
        for number in 0..entries {
            let name = format!("{number:06}");
            bytes.extend(b"PK\x01\x02");
            bytes.extend([20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            bytes.extend(extra.to_le_bytes());
            bytes.extend([0; 14]);
            bytes.extend(name.bytes());
        }
        let size = u32::try_from(bytes.len()).unwrap() - start;
        let at = bytes.len() as u64;
        // More than 65,535 entries need the 64-bit form of the end.
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(u64::from(entries).to_le_bytes());
        bytes.extend(u64::from(entries).to_le_bytes());
        bytes.extend(u64::from(size).to_le_bytes());
        bytes.extend(u64::from(start).to_le_bytes());
        bytes.extend(b"PK\x06\x07");
        bytes.extend([0; 4]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(b"PK\x05\x06");
        bytes.extend([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0, 0]);
        let error = error(&bytes);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

proptest! {
    #[test]
    fn whatever_the_bytes_reading_ends(start in prop_oneof!["", "PK\u{3}\u{4}", "<ImportExportXml>", "<Entity><EntityInfo>"], bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(Cursor::new([start.as_bytes(), &bytes].concat()), "file");
    }

    #[test]
    fn a_damaged_solution_is_refused_or_read(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let column = "<attributes><attribute PhysicalName='x'><IsAuditEnabled>0</IsAuditEnabled></attribute></attributes>";
        let mut bytes = archive(&[("customizations.xml", wrapped(&entity("a", column)).as_bytes()), ("b", b"c")]);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = read(Cursor::new(bytes), "file");
    }

    #[test]
    fn flags_that_are_written_are_read(entities in prop::collection::btree_map("[a-z]{1,3}_[a-z0-9_]{1,20}", prop::collection::btree_map("[a-z][a-z0-9_]{0,20}", any::<Option<bool>>(), 0..5), 0..5), audit in any::<Option<bool>>()) {
        let element = |name: &str, value: Option<bool>| value.map_or_else(String::new, |value| format!("<{name}>{}</{name}>", u8::from(value)));
        let xml: String = entities.iter().map(|(name, columns)| {
            let columns: String = columns.iter().map(|(name, flag)| format!("<attribute PhysicalName=\"{}\">{}</attribute>", name.to_uppercase(), element("IsAuditEnabled", *flag))).collect();
            entity(name, &format!("<attributes>{columns}</attributes>{}", element("IsAuditEnabled", audit)))
        }).collect();
        let zip = archive(&[("customizations.xml", wrapped(&xml).as_bytes())]);
        let flags = flags(&zip);
        prop_assert_eq!(flags.entities.keys().collect::<Vec<_>>(), entities.keys().collect::<Vec<_>>());
        for (name, columns) in &entities {
            let read = &flags.entities[name];
            prop_assert_eq!(read.audit.value, audit);
            let values: BTreeMap<_, _> = read.attributes.iter().map(|(name, flag)| (name.clone(), flag.value)).collect();
            prop_assert_eq!(&values, columns);
        }
    }
}
