//! CEF messages, read back by a parser that takes them apart as the standard says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use actlog_core::{AuditRecord, Field, Timestamp};
use actlog_interop::cef;
use actlog_testkit::records::Records;
use proptest::prelude::*;
use uuid::Uuid;

/// A message taken apart: the seven fields behind `CEF:0`, and the pairs.
#[derive(Debug, PartialEq)]
struct Message {
    header: [String; 6],
    pairs: BTreeMap<String, String>,
}

/// Takes a message apart, strictly: escapes are those of their place, keys are letters and digits and come once.
fn parse(text: &str) -> Result<Message, String> {
    if let Some(control) = text.chars().find(char::is_ascii_control) {
        return Err(format!("the control character {control:?}"));
    }
    let mut rest = text.strip_prefix("CEF:0|").ok_or("no CEF:0|")?;
    let mut header = Vec::new();
    while header.len() < 6 {
        let (field, behind) = until(rest, &['|'])?;
        rest = behind.ok_or("the header ends early")?;
        header.push(unescape(field, &[('|', '|')])?);
    }
    // A value ends before the blank in front of the next key, and a key before the next `=` that is not escaped.
    let mut pairs = BTreeMap::new();
    while !rest.is_empty() {
        let (key, behind) = until(rest, &['='])?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("the key {key:?}"));
        }
        let behind = behind.ok_or("a key without a value")?;
        let (value, next) = match until(behind, &['='])? {
            (all, None) => (all, ""),
            (value_and_key, Some(_)) => {
                let (value, _) = value_and_key.rsplit_once(' ').ok_or("no blank before a key")?;
                (value, &behind[value.len() + 1..])
            }
        };
        let value = unescape(value, &[('=', '='), ('n', '\n'), ('r', '\r')])?;
        if pairs.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key} comes twice"));
        }
        rest = next;
    }
    Ok(Message { header: header.try_into().unwrap(), pairs })
}

/// What is before the first of these characters that isn't escaped, and what is behind it.
fn until<'t>(text: &'t str, ends: &[char]) -> Result<(&'t str, Option<&'t str>), String> {
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => _ = characters.next().ok_or("a backslash at the end")?,
            c if ends.contains(&c) => return Ok((&text[..at], Some(&text[at + 1..]))),
            _ => {}
        }
    }
    Ok((text, None))
}

fn unescape(text: &str, known: &[(char, char)]) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some(escaped) => {
                    let found = known.iter().find(|(letter, _)| *letter == escaped);
                    found.ok_or_else(|| format!("the escape \\{escaped}"))?.1
                }
                None => return Err("a backslash at the end".into()),
            },
            c => c,
        });
    }
    Ok(plain)
}

fn message(record: &AuditRecord<'_>) -> Message {
    let mut bytes = Vec::new();
    cef::message(record, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    parse(&text).unwrap_or_else(|problem| panic!("{problem} in {text}"))
}

/// What a text comes back as: control characters but line ends have no form in CEF.
fn carried(text: &str) -> String {
    let kept = |c: char| c == '\n' || c == '\r' || !c.is_ascii_control();
    text.chars().map(|c| if kept(c) { c } else { '\u{fffd}' }).collect()
}

#[test]
fn every_key_of_the_table_holds_what_the_table_says() {
    let id = |last: u128| Uuid::from_u128(last);
    let mut record = AuditRecord {
        id: id(1),
        creation_time: Timestamp::parse("2018-03-02T23:25:56.250Z").unwrap(),
        operation: "Up|date".into(),
        category: Some("Update".into()),
        result_status: Some("Failed".into()),
        user_id: Some("a=b@contoso.com".into()),
        system_user_id: Some(id(2)),
        user_key: Some("10033FFF".into()),
        client_ip: Some("10.0.0.1".into()),
        client_port: Some(4711),
        item_url: Some("https://contoso.crm.dynamics.com/main.aspx?etn=account&id=1".into()),
        user_agent: Some("Mozilla/5.0 (Windows NT 10.0)".into()),
        instance_url: Some("https://contoso.crm.dynamics.com:443/".into()),
        organization_id: Some(id(3)),
        entity_name: Some("account".into()),
        entity_id: Some(id(4)),
        correlation_id: Some(id(5)),
        crm_organization_unique_name: Some("contoso".into()),
        activity: Some("Sensitive".into()),
        query: Some(r#"<filter type="and" />"#.into()),
        query_results: vec![id(6), id(7)],
        fields: vec![Field::new("name", "two\nlines \\ =x")],
        ..Default::default()
    };
    record.extra.insert("Part", 1_i64);
    let Message { header, pairs } = message(&record);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(header, ["actlog", "actlog", version, "Up|date", "Up|date account", "5"]);
    let results = format!("{},{}", id(6), id(7));
    let expected = [
        ("externalId", &*id(1).to_string()),
        ("rt", "1520033156250"),
        ("act", "Up|date"),
        ("cat", "Update"),
        ("outcome", "Failed"),
        ("suser", "a=b@contoso.com"),
        ("suid", &id(2).to_string()),
        ("src", "10.0.0.1"),
        ("spt", "4711"),
        ("request", "https://contoso.crm.dynamics.com/main.aspx?etn=account&id=1"),
        ("requestClientApplication", "Mozilla/5.0 (Windows NT 10.0)"),
        ("dhost", "contoso.crm.dynamics.com"),
        ("deviceExternalId", &id(3).to_string()),
        ("cs1Label", "EntityName"),
        ("cs1", "account"),
        ("cs2Label", "EntityId"),
        ("cs2", &id(4).to_string()),
        ("cs3Label", "CorrelationId"),
        ("cs3", &id(5).to_string()),
        ("cs4Label", "CrmOrganizationUniqueName"),
        ("cs4", "contoso"),
        ("cs5Label", "Activity"),
        ("cs5", "Sensitive"),
        ("cs6Label", "Query"),
        ("cs6", r#"<filter type="and" />"#),
        ("flexString1Label", "QueryResults"),
        ("flexString1", &results),
        ("flexString2Label", "Fields"),
        ("actlogExtra", r#"{"Part":1}"#),
        ("flexString2", r#"[{"Name":"name","Value":"two\nlines \\ =x"}]"#),
    ];
    let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(pairs, expected);
}

#[test]
fn an_address_has_the_key_of_its_kind_and_what_is_no_address_has_none() {
    let pairs = |ip: &'static str| message(&AuditRecord { client_ip: Some(ip.into()), ..Default::default() }).pairs;
    assert_eq!(pairs("2001:db8::1")["c6a2"], "2001:db8::1");
    assert_eq!(pairs("2001:db8::1")["c6a2Label"], "Source IPv6 Address");
    assert!(!pairs("2001:db8::1").contains_key("src"));
    assert!(pairs("<hidden>").keys().all(|key| !["src", "c6a2", "c6a2Label"].contains(&key.as_str())));
    let urls = ["https://u:p@[2001:db8::1]:8443/x", "ftp://h?x", "no url", "https:///x"];
    let hosts = urls.map(|url| {
        message(&AuditRecord { instance_url: Some(url.into()), ..Default::default() }).pairs.remove("dhost")
    });
    assert_eq!(hosts, [Some("[2001:db8::1]".into()), Some("h".into()), None, None]);
}

#[test]
fn an_empty_record_is_a_message_too() {
    let Message { header, pairs } = message(&AuditRecord::default());
    assert_eq!(header[3..], ["", "", "3"]);
    assert_eq!(pairs.into_keys().collect::<Vec<_>>(), ["act", "externalId", "rt"]);
}

#[test]
fn records_with_nasty_texts_come_back() {
    for record in Records::new(1).nasty().take(200) {
        let pairs = message(&record).pairs;
        assert_eq!(pairs["requestClientApplication"], carried(record.user_agent.as_deref().unwrap()));
        if !record.fields.is_empty() {
            // JSON escapes control characters itself, except DEL.
            let fields: Vec<Field<'_>> = serde_json::from_str(&pairs["flexString2"]).unwrap();
            let values =
                |fields: &[Field<'_>]| fields.iter().map(|f| f.value.as_deref().map(no_del)).collect::<Vec<_>>();
            assert_eq!(values(&fields), values(&record.fields));
        }
    }
}

fn no_del(text: &str) -> String {
    text.replace('\u{7f}', "\u{fffd}")
}

/// Texts full of what has a meaning in CEF.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\\"),
        Just("="),
        Just("|"),
        Just(" "),
        Just("\n"),
        Just("\r"),
        Just("\0"),
        Just("\t"),
        Just("\u{7f}"),
        Just(" act=x"),
        Just("\\n"),
        Just("CEF:0|"),
        Just("漢"),
        Just("\u{2028}"),
        Just("a"),
    ];
    prop_oneof![proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn every_text_comes_back_from_every_place(texts in proptest::collection::vec(hostile(), 12)) {
        let text = |place: usize| Some(texts[place].clone().into());
        let record = AuditRecord {
            operation: texts[0].clone().into(),
            entity_name: text(1),
            category: text(2),
            result_status: text(3),
            user_id: text(4),
            user_key: text(5),
            item_url: text(6),
            user_agent: text(7),
            crm_organization_unique_name: text(8),
            activity: text(9),
            query: text(10),
            instance_url: text(11),
            client_ip: text(11),
            ..Default::default()
        };
        let Message { header, pairs } = message(&record);
        let in_header = |text: &str| carried(text).replace(['\n', '\r'], "\u{fffd}");
        prop_assert_eq!(&header[3], &in_header(&texts[0]));
        prop_assert_eq!(&header[4], &in_header(&format!("{} {}", texts[0], texts[1])));
        let keys = ["act", "cs1", "cat", "outcome", "suser", "suid", "request", "requestClientApplication", "cs4", "cs5", "cs6"];
        for (key, text) in keys.iter().zip(&texts) {
            prop_assert_eq!(&pairs[*key], &carried(text), "{}", key);
        }
    }
}
