//! Whole bodies and the records that they must give.
//!
//! `tests/data` holds contexts that this project generated, each with its record (`….record.json`). Captures of real
//! environments are not part of the repository: they are read from the folder that `ACTLOG_SHARED` names (else `shared`
//! beside the workspace), and the tests on them say so when it is not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use actlog_core::{AuditRecord, Timestamp};
use actlog_dataverse::{ContextError, Envelope, MappingOptions, map_context};
use proptest::prelude::*;
use serde_json::Value;

const RECEIVED: &str = "2024-11-08T09:00:00Z";

fn envelope() -> Envelope<'static> {
    Envelope {
        organization_host: Some("contoso.crm.dynamics.com"),
        ..Envelope::new(Timestamp::parse(RECEIVED).unwrap())
    }
}

fn map(body: &[u8]) -> AuditRecord<'_> {
    map_context(body, &envelope(), &MappingOptions::default()).unwrap()
}

fn as_json(record: &AuditRecord<'_>) -> Value {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    assert_eq!(&AuditRecord::decode(&bytes).unwrap(), record, "a record reads back as it was");
    serde_json::from_slice(&bytes).unwrap()
}

fn data(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The bodies in a folder of JSON files: name and content, without the files of headers.
fn bodies(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut bodies: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".json") && !name.ends_with(".record.json") && !name.ends_with(".headers.json")
        })
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    bodies.sort();
    bodies
}

fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ACTLOG_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let folder = root.join("fixtures/dataverse").join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: there is no {}", folder.display());
    None
}

#[test]
fn every_generated_context_gives_its_record() {
    let bodies = bodies(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
    assert_eq!(bodies.len(), 20);
    for (name, body) in bodies {
        let expected: Value = serde_json::from_slice(&data(&name.replace(".json", ".record.json"))).unwrap();
        let record = as_json(&map(&body));
        assert_eq!(record, expected, "{name}: {}", serde_json::to_string_pretty(&record).unwrap());
    }
}

/// What a capture must give: file, operation, entity, row, number of fields, one telling field, and text that must be
/// somewhere in the record.
type Capture = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    usize,
    Option<(&'static str, &'static str)>,
    &'static [&'static str],
);

const CAPTURES: [Capture; 9] = [
    (
        "albanianxrm-account-update-2018.json",
        "Update",
        "account",
        Some("ec4e2f7d-9d60-e811-a95a-000d3af24950"),
        2,
        Some(("telephone1", "1111")),
        &["\"CreationTime\":\"2018-05-31T09:05:30.151Z\""],
    ),
    (
        "albanianxrm-fromactivityentities-1.json",
        "Update",
        "new_customactivity",
        Some("841579d9-7e63-ef11-9e4a-00155d0001ea"),
        6,
        Some(("statuscode", "4")),
        &["\"ParentMessage\":\"SetState\"", "\"PrimaryFieldValue\":\"This is a subject\""],
    ),
    (
        "albanianxrm-fromallfieldtypes-1.json",
        "Create",
        "shko_allfields",
        Some("6420f0cc-916b-ee11-9ae6-000d3a688809"),
        15,
        Some(("shko_choices", "342490001,342490002")),
        &["\"Unknown\":null", "\"AppName\":\"shko_Quick\"", "\"UserKey\":\"3d280606-3712-4759-b6b9-7302f8d1a3b0\""],
    ),
    (
        "albanianxrm-fromtextsamples-4.json",
        "Update",
        "contact",
        Some("6d81597f-0f9f-e711-8122-000d3aa2331c"),
        2,
        Some(("firstname", "James")),
        &["\"PrimaryFieldValue\":\"James Glynn (sample)\"", "\"CreationTime\":\"2017-09-26T07:04:08Z\""],
    ),
    (
        "everestate-lead-create-sync.json",
        "Create",
        "lead",
        Some("e837c9ec-8151-e811-a950-000d3a391928"),
        9,
        Some(("description", "")),
        &["\"PrimaryFieldValue\":\"Max Mustermann\"", "\"ResultStatus\":\"Success\""],
    ),
    (
        "everestate-lead-delete-async.json",
        "Delete",
        "lead",
        Some("b9581547-2a60-e811-a952-000d3a391928"),
        0,
        None,
        &[
            "\"InitiatingUserId\":\"593db65c-9747-e811-a94f-000d3a395ecc\"",
            "\"SystemUserId\":\"7174cfdf-98e4-4fb7-ada5-34c031b52c02\"",
        ],
    ),
    (
        "msdocs-contactcenter-agentstatus-update-async.json",
        "Update",
        "msdyn_agentstatus",
        Some("00aa00aa-bb11-cc22-dd33-44ee44ee44ee"),
        9,
        Some(("msdyn_presencemodifiedby", "AGENT")),
        &[
            "\"UserAgent\":\"Microsoft.CCaaS.AssignmentEngineVNext.AssignmentEngineVNext (DataverseSvcClient:1.1.0.11)\"",
        ],
    ),
    (
        "dialects/albanianxrm-fromtextsamples-1.json",
        "Update",
        "account",
        Some("ec4e2f7d-9d60-e811-a95a-000d3af24950"),
        2,
        Some(("telephone1", "1111")),
        &[],
    ),
    (
        "dialects/fusebit-incident-create-trimmed.json",
        "Create",
        "incident",
        None,
        0,
        None,
        &["\"CreationTime\":\"2022-09-29T22:45:20.252Z\""],
    ),
];

#[test]
fn every_capture_gives_its_record() {
    let Some(folder) = shared("webhook") else { return };
    for (file, operation, entity, id, fields, telling, texts) in CAPTURES {
        let body = fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let record = map(&body);
        assert_eq!((record.operation.as_ref(), record.entity_name.as_deref()), (operation, Some(entity)), "{file}");
        assert_eq!(record.entity_id.map(|id| id.to_string()).as_deref(), id, "{file}");
        assert_eq!(record.fields.len(), fields, "{file}: {:?}", record.fields);
        if let Some((name, value)) = telling {
            let field =
                record.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("{file}: {name}"));
            assert_eq!(field.value.as_deref(), Some(value), "{file}");
        }
        let json = as_json(&record).to_string();
        let missing: Vec<_> = texts.iter().filter(|text| !json.contains(**text)).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} in {json}");
    }
}

#[test]
fn every_other_capture_is_accepted_too() {
    for folder in ["webhook", "webhook/dialects", "generated"] {
        for (name, body) in shared(folder).map(|folder| bodies(&folder)).unwrap_or_default() {
            let record = map(&body);
            assert!(!record.operation.is_empty() && record.organization_id.is_some(), "{name}");
            as_json(&record);
        }
    }
}

/// A generated body with other values in it.
fn with(name: &str, replacements: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::from_utf8(data(name)).unwrap();
    for (from, to) in replacements {
        assert!(body.contains(from), "{name} has no {from}");
        body = body.replace(from, to);
    }
    body.into_bytes()
}

#[test]
fn the_first_example_of_the_specification_comes_out() {
    let body = with(
        "retrieve-account.json",
        &[
            ("0a0d8709-711e-4811-a952-000d3a732d76", "0a0d8709-711e-e811-a952-000d3a732d76"),
            ("Date(1731053107000)", "Date(1520033156000)"),
        ],
    );
    let envelope = Envelope { organization_host: Some("orgname.onmicrosoft.com"), ..envelope() };
    let record = map_context(&body, &envelope, &MappingOptions::default()).unwrap();
    assert_eq!(record.operation, "Retrieve");
    assert_eq!(record.creation_time.to_string(), "2018-03-02T23:25:56Z");
    assert_eq!(record.entity_id.unwrap().to_string(), "0a0d8709-711e-e811-a952-000d3a732d76");
    assert_eq!(record.entity_name.as_deref(), Some("account"));
    assert_eq!((record.query.as_deref(), record.query_results.len()), (None, 0), "N/A");
    assert_eq!(
        record.item_url.as_deref(),
        Some(
            "https://orgname.onmicrosoft.com/main.aspx?etn=account&pagetype=entityrecord&id=0a0d8709-711e-e811-a952-000d3a732d76"
        )
    );
}

#[test]
fn the_second_example_of_the_specification_comes_out_for_grids_and_exports() {
    let ids = [("0a0d8709-711e-4811", "0a0d8709-711e-e811"), ("dc136b61-6c1e-4811", "dc136b61-6c1e-e811")];
    for (name, operation) in [
        ("retrievemultiple-queryexpression-account.json", "RetrieveMultiple"),
        ("retrievemultiple-fetchexpression-account.json", "RetrieveMultiple"),
        ("retrievemultiple-under-exporttoexcel.json", "ExportToExcel"),
    ] {
        let body = with(name, &ids);
        let record = map(&body);
        assert_eq!(
            (record.operation.as_ref(), record.message.as_deref()),
            (operation, Some("RetrieveMultiple")),
            "{name}"
        );
        assert_eq!((record.entity_id, record.item_url.as_deref()), (None, None), "{name}");
        assert_eq!(record.entity_name.as_deref(), Some("account"), "{name}");
        assert_eq!(
            record.query.as_deref(),
            Some(
                r#"<filter type="and"><condition column="ownerid" operator="eq-userid" /><condition column="statecode" operator="eq" value="0" /></filter>"#
            ),
            "{name}"
        );
        let results: Vec<_> = record.query_results.iter().map(ToString::to_string).collect();
        assert_eq!(
            results.join(", "),
            "0a0d8709-711e-e811-a952-000d3a732d76, dc136b61-6c1e-e811-a952-000d3a732d76",
            "{name}"
        );
    }
    let (inner, export) = (data("retrievemultiple-under-exporttoexcel.json"), data("exporttoexcel.json"));
    assert_eq!(map(&inner).correlation_id, map(&export).correlation_id, "the correlation ties an export to its rows");
}

#[test]
fn the_third_example_of_the_specification_comes_out_as_five_records() {
    let (contact, opportunity, lead) = (
        "23ad069e-4d22-e811-a953-000d3a732d76",
        "25ad069e-4d22-e811-a953-000d3a732d76",
        "1cad069e-4d22-e811-a953-000d3a732d76",
    );
    let rows = [
        ("Create", "contact", contact, "lastname"),
        ("Create", "opportunity", opportunity, "name"),
        ("Update", "opportunity", opportunity, "estimatedvalue"),
        ("Update", "lead", lead, "statecode"),
        ("Update", "lead", lead, "qualifyingopportunityid"),
    ];
    let mut ids = HashSet::new();
    for (message, entity, id, column) in rows {
        let body = with(
            "create-systemuser.json",
            &[
                ("\"MessageName\":\"Create\"", &format!("\"MessageName\":\"{message}\"")),
                ("\"systemuser\"", &format!("\"{entity}\"")),
                ("8e7b2a53-2803-d0a8-5a8e-6258b28b9a36", id),
                ("\"domainname\"", &format!("\"{column}\"")),
            ],
        );
        let record = map(&body);
        let row =
            (record.operation.as_ref(), record.entity_name.as_deref().unwrap(), record.entity_id.unwrap().to_string());
        assert_eq!(row, (message, entity, id.to_owned()));
        assert!(
            ids.insert(record.id),
            "events of one synchronous request share their OperationId and must differ in Id"
        );
    }
}

#[test]
fn the_same_body_gives_the_same_id_whatever_came_around_it() {
    let body = data("create-systemuser.json");
    let id = map(&body).id;
    let other = Envelope {
        organization_host: None,
        entity_name: Some("x"),
        request_name: Some("y"),
        size_exceeded: true,
        ..Envelope::new(Timestamp::default())
    };
    let options = MappingOptions { repair_text: true, extended_query: true };
    assert_eq!(map_context(&body, &other, &options).unwrap().id, id);
    let framed = [b"\xEF\xBB\xBF\r\n ".as_slice(), &body, b" \n"].concat();
    assert_eq!(map(&framed).id, id, "a line of a file with a mark or white space around it");
    assert_ne!(map(&with("create-systemuser.json", &[("kim@", "tim@")])).id, id);
    assert_eq!(id.to_string(), as_json(&map(&body))["Id"], "and for ever: the record in tests/data has it");

    // An asynchronous delivery is known by its OperationId; without one, by its body.
    let asynchronous = |operation: &str, name: &str| {
        let body = with(
            "create-systemuser.json",
            &[("\"Mode\":0", "\"Mode\":1"), ("6ecece63-1c9c-fe15-5be4-d166ee6e4cf0", operation), ("kim@", name)],
        );
        map(&body).id
    };
    let (one, two) = ("11111111-1c9c-fe15-5be4-d166ee6e4cf0", "22222222-1c9c-fe15-5be4-d166ee6e4cf0");
    assert_eq!(asynchronous(one, "kim@"), asynchronous(one, "tim@"));
    assert_ne!(asynchronous(one, "kim@"), asynchronous(two, "kim@"));
    let zero = "00000000-0000-0000-0000-000000000000";
    assert_ne!(asynchronous(zero, "kim@"), asynchronous(zero, "tim@"));
}

#[test]
fn headers_fill_what_the_body_lacks() {
    let headers = Envelope {
        entity_name: Some("incident"),
        request_name: Some("Close"),
        correlation_id: Some("8730209f-c00c-2ec4-7b56-f7582b3793d0".parse().unwrap()),
        size_exceeded: true,
        ..envelope()
    };
    let record = map_context(b"{\"Colour\":[1,\n2]}", &headers, &MappingOptions::default()).unwrap();
    assert_eq!((record.operation.as_ref(), record.message.as_deref()), ("CloseIncident", Some("Close")));
    assert_eq!(record.correlation_id, headers.correlation_id);
    assert_eq!(record.creation_time.to_string(), RECEIVED);
    assert!(record.truncated && record.result_status.is_none());
    assert_eq!(record.extra.get("Colour").unwrap().get(), "[1, 2]");
    // The body knows better where it says something.
    let body = data("whoami.json");
    let record = map_context(&body, &headers, &MappingOptions::default()).unwrap();
    assert_eq!((record.operation.as_ref(), record.entity_name.as_deref()), ("WhoAmI", Some("incident")));
}

#[test]
fn posts_that_the_platform_cut_are_marked() {
    assert!(!map(b"{\"MessageName\":\"Update\",\"MessageMaxSizeExceeded\":false}").truncated);
    assert!(map(b"{\"MessageName\":\"Update\",\"MessageMaxSizeExceeded\":true}").truncated);
    assert!(
        map(br#"{"MessageName":"Update","SharedVariables":[{"key":"MessageMaxSizeExceeded","value":"True"}]}"#)
            .truncated
    );
}

#[test]
fn what_is_no_context_is_refused_with_what_is_missing() {
    let refused = |body: &[u8]| map_context(body, &envelope(), &MappingOptions::default()).unwrap_err();
    assert!(matches!(refused(b"MessageName=Create"), ContextError::NotJson { .. }));
    assert!(
        matches!(refused(b"{\"MessageName\":\"\xff\"}"), ContextError::NotJson { reason } if reason.contains("byte 16"))
    );
    assert!(matches!(refused(b"[]"), ContextError::NotAContext { .. }));
    assert_eq!(
        refused(b"{\"MessageName\":7}").to_string(),
        "the body is not an execution context: it has no MessageName (a text)"
    );
    assert!(matches!(refused("[".repeat(100_000).as_bytes()), ContextError::TooDeep { .. }));
}

#[test]
fn members_of_unexpected_types_are_kept_under_extra() {
    let body = br#"{"MessageName":"Update","Depth":"one","UserId":{"a":1},"InputParameters":"none","OwningExtension":5,"PrimaryEntityId":"zz"}"#;
    let record = map(body);
    for (name, value) in [
        ("Depth", "\"one\""),
        ("UserId", "{\"a\":1}"),
        ("InputParameters", "\"none\""),
        ("OwningExtension", "5"),
        ("PrimaryEntityId", "\"zz\""),
    ] {
        assert_eq!(record.extra.get(name).unwrap().get(), value, "{name}");
    }
    let long = format!(
        r#"{{"MessageName":"Update","Colour":"{}","Depths":{}1{}}}"#,
        "x".repeat(10_000),
        "[".repeat(100),
        "]".repeat(100)
    );
    let record = map(long.as_bytes());
    assert_eq!(record.extra.get("Colour").unwrap().get(), "\"(10002 bytes left out)\"");
    assert_eq!(record.extra.get("Depths").unwrap().get(), "\"(201 bytes left out)\"");
}

#[test]
fn a_query_that_cannot_be_rewritten_never_fails_the_record() {
    for fetch in [
        "<!DOCTYPE x [<!ENTITY a 'b'>]><fetch><entity name='a'/></fetch>".to_owned(),
        "<".repeat(9000),
        "<fetch>".repeat(5000),
    ] {
        let body = format!(
            r#"{{"MessageName":"RetrieveMultiple","InputParameters":[{{"key":"Query","value":{{"__type":"FetchExpression:x","Query":"{fetch}"}}}}]}}"#
        );
        let record = map(body.as_bytes());
        assert_eq!(record.query, None);
        assert!(record.extra.get("QueryProblem").is_some());
        assert!(record.extra.get("Query").unwrap().get().len() <= 4098);
    }
    // Words to search for are a parameter like others.
    let record =
        map(br#"{"MessageName":"RetrieveTrendingDocuments","InputParameters":[{"key":"Query","value":"budget"}]}"#);
    assert_eq!(record.extra.get("InputParameters").unwrap().get(), r#"{"Query":"budget"}"#);
    let bulk = br#"{"MessageName":"BulkDelete","InputParameters":[{"key":"QuerySet","value":[{"__type":"QueryByAttribute:x","Attributes":["a"],"Values":[1],"EntityName":"task"},{"__type":"QueryByAttribute:x","Attributes":["b"],"Values":[2],"EntityName":"fax"}]}]}"#;
    let record = map(bulk);
    assert_eq!(
        record.query.unwrap(),
        r#"<filter type="and"><condition column="a" operator="eq" value="1" /></filter><filter type="and"><condition column="b" operator="eq" value="2" /></filter>"#
    );
    assert_eq!(record.entity_name.as_deref(), Some("task"));
}

#[test]
fn misread_text_is_repaired_when_asked_for() {
    let body = with("create-systemuser.json", &[("kim@contoso.com", "M\u{c3}\u{bc}ller")]);
    let value = |options: &MappingOptions| {
        let record = map_context(&body, &envelope(), options).unwrap();
        record.fields[0].value.clone().unwrap().into_owned()
    };
    assert_eq!(value(&MappingOptions::default()), "M\u{c3}\u{bc}ller");
    assert_eq!(value(&MappingOptions { repair_text: true, ..MappingOptions::default() }), "Müller");
}

#[test]
fn names_that_are_no_host_give_no_url() {
    let body = data("create-systemuser.json");
    for (host, url) in [
        ("https://contoso.crm4.dynamics.com/", Some("https://contoso.crm4.dynamics.com")),
        ("contoso", None),
        ("evil.example/x?y=", None),
        ("", None),
    ] {
        let envelope = Envelope { organization_host: Some(host), ..envelope() };
        let record = map_context(&body, &envelope, &MappingOptions::default()).unwrap();
        assert_eq!(record.instance_url.as_deref(), url, "{host}");
    }
}

#[test]
fn secrets_and_files_stay_out_of_the_record() {
    let body = with("create-systemuser.json", &[("\"domainname\"", "\"password\""), ("kim@contoso.com", "hunter2")]);
    assert!(!as_json(&map(&body)).to_string().contains("hunter2"));
    let body = with("importsolution.json", &[("[80,75,3,4]", "[72,117,110,116]")]);
    let json = as_json(&map(&body)).to_string();
    assert!(json.contains("(4 bytes)") && !json.contains("SHVudA"), "{json}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = map_context(&body, &envelope(), &MappingOptions::default());
    }

    #[test]
    fn no_change_to_a_body_makes_it_panic(
        file in 0_usize..20,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..4), 1..6),
    ) {
        const PIECES: [&str; 13] =
            ["null", "\"\\ud83d\"", "{}", "[]", "\"\"", "-1e999", "\"__type\":\"Entity:x\",", "[[[[", "\"/Date(-)/\"", ",", "\u{0}", "\\", "é"];
        let (_, mut body) = bodies(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")).swap_remove(file);
        for (place, other, kind) in changes {
            let at = place.index(body.len());
            match kind {
                0 => body[at] = u8::try_from(other.index(256)).unwrap(),
                1 => body.truncate(at.max(1)),
                2 => {
                    let end = at + other.index(body.len() - at).min(80);
                    body.drain(at..end.max(at));
                }
                _ => {
                    let piece = PIECES[other.index(PIECES.len())];
                    // In place of a whole value, so that the body stays JSON more often than not.
                    let colon = body[at..].iter().position(|&byte| byte == b':').map_or(at, |found| at + found + 1);
                    let end = body[colon..].iter().position(|&byte| matches!(byte, b',' | b'}' | b']')).map_or(colon, |found| colon + found);
                    body.splice(colon..end, piece.bytes());
                }
            }
            if body.is_empty() {
                body.push(b'{');
            }
        }
        for extended_query in [false, true] {
            if let Ok(record) = map_context(&body, &envelope(), &MappingOptions { repair_text: true, extended_query }) {
                as_json(&record);
            }
        }
    }
}
