//! Headers of syslog messages, read back by the grammar of RFC 5424.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use actlog_core::{AuditRecord, Timestamp};
use actlog_interop::syslog::{LONGEST_HEADER, SyslogOptions, header};
use actlog_testkit::records::Records;
use proptest::prelude::*;
use uuid::Uuid;

/// A header taken apart.
#[derive(Debug)]
struct Header {
    priority: u16,
    time: String,
    host: String,
    app: String,
    process: String,
    message_id: String,
    element: Option<(String, BTreeMap<String, String>)>,
}

/// Takes a header apart, as strictly as the grammar of RFC 5424, section 6.
fn parse(text: &str) -> Result<Header, String> {
    let rest = text.strip_prefix('<').ok_or("no <")?;
    let (priority, rest) = rest.split_once('>').ok_or("no >")?;
    let rest = rest.strip_prefix("1 ").ok_or("not version 1")?;
    let mut fields = rest.splitn(6, ' ');
    let mut field = |limit: usize| {
        let field = fields.next().ok_or("a field is missing")?;
        let fits = (1..=limit).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(field.to_owned()) } else { Err(format!("the field {field:?}")) }
    };
    let (time, host, app, process, message_id) = (field(32)?, field(255)?, field(48)?, field(128)?, field(32)?);
    let rest = fields.next().ok_or("no structured data")?;
    let element = match rest {
        "- " => None,
        _ => Some(element(rest.strip_suffix("] ").ok_or("no ] and blank at the end")?)?),
    };
    let priority = priority.parse().map_err(|_| "no priority")?;
    Ok(Header { priority, time, host, app, process, message_id, element })
}

fn element(text: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let text = text.strip_prefix('[').ok_or("no [")?;
    let (name, mut rest) = text.split_once(' ').ok_or("no parameter")?;
    let mut parameters = BTreeMap::new();
    loop {
        let (key, behind) = rest.split_once("=\"").ok_or("no =\"")?;
        let fits = (1..=32).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let mut value = String::new();
        let mut characters = behind.char_indices();
        let end = loop {
            match characters.next().ok_or("a value without an end")? {
                (at, '"') => break at,
                (_, '\\') => value.push(characters.next().ok_or("a backslash at the end")?.1),
                (_, c) if c == ']' || c.is_ascii_control() => return Err(format!("{c:?} in a value")),
                (_, c) => value.push(c),
            }
        };
        if !fits || parameters.insert(key.to_owned(), value).is_some() {
            return Err(format!("the parameter {key:?}"));
        }
        match &behind[end + 1..] {
            "" => return Ok((name.to_owned(), parameters)),
            more => rest = more.strip_prefix(' ').ok_or("no blank between parameters")?,
        }
    }
}

fn options() -> SyslogOptions {
    SyslogOptions { facility: 16, hostname: "audit.example".into(), app_name: "actlog".into(), structured_data: true }
}

fn made(record: &AuditRecord<'_>, options: &SyslogOptions) -> Header {
    let mut bytes = Vec::new();
    header(record, options, &mut bytes);
    assert!(bytes.len() <= LONGEST_HEADER, "{} bytes", bytes.len());
    let text = String::from_utf8(bytes).unwrap();
    parse(&text).unwrap_or_else(|problem| panic!("{problem} in {text}"))
}

#[test]
fn the_header_says_when_who_what_and_about_which_record() {
    let record = AuditRecord {
        id: Uuid::from_u128(1),
        creation_time: Timestamp::parse("2018-03-02T23:25:56Z").unwrap(),
        operation: "Update".into(),
        result_status: Some("Success".into()),
        entity_name: Some(r#"a"b\c]d"#.into()),
        ..Default::default()
    };
    let mut text = Vec::new();
    header(&record, &options(), &mut text);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        r#"<134>1 2018-03-02T23:25:56.000Z audit.example actlog - Update [actlog@32473 Id="00000000-0000-0000-0000-000000000001" EntityName="a\"b\\c\]d" ResultStatus="Success"] "#,
    );
    let failed = AuditRecord { result_status: Some("FAILED".into()), ..record };
    let plain = SyslogOptions { facility: 200, structured_data: false, ..options() };
    let header = made(&failed, &plain);
    assert_eq!((header.priority, header.element), (23 * 8 + 4, None));
}

#[test]
fn what_is_empty_is_nil_and_what_may_not_stand_in_a_header_does_not() {
    let empty = SyslogOptions { hostname: String::new(), app_name: String::new(), ..options() };
    let header = made(&AuditRecord::default(), &empty);
    assert_eq!([&*header.host, &*header.app, &*header.process, &*header.message_id], ["-"; 4]);
    let long = AuditRecord { operation: format!("Run report ü{}", "x".repeat(50)).into(), ..Default::default() };
    assert_eq!(made(&long, &options()).message_id, format!("Run_report__{}", "x".repeat(20)));
    for record in Records::new(1).nasty().take(200) {
        let header = made(&record, &options());
        assert_eq!(header.element.unwrap().1["Id"], record.id.to_string());
        assert_eq!(Timestamp::parse(&header.time).unwrap(), record.creation_time);
    }
}

proptest! {
    #[test]
    fn whatever_the_record_holds_the_header_keeps_to_the_grammar(
        texts in proptest::collection::vec(".*|[\\\\\"\\]\n]{0,600}|[漢ß]{0,300}", 7),
        milliseconds: i64,
    ) {
        let text = |place: usize| Some(texts[place].clone().into());
        let record = AuditRecord {
            creation_time: Timestamp::from_unix_milliseconds(milliseconds),
            operation: texts[0].clone().into(),
            user_id: text(1),
            client_ip: text(2),
            entity_name: text(3),
            result_status: text(4),
            correlation_id: Some(Uuid::nil()),
            organization_id: Some(Uuid::nil()),
            entity_id: Some(Uuid::nil()),
            ..Default::default()
        };
        let options = SyslogOptions { hostname: texts[5].clone(), app_name: texts[6].clone(), ..options() };
        let parameters = made(&record, &options).element.unwrap().1;
        for (name, text) in [("UserId", &texts[1]), ("ClientIP", &texts[2]), ("EntityName", &texts[3]), ("ResultStatus", &texts[4])] {
            let shown: String = text.chars().map(|c| if c.is_ascii_control() { ' ' } else { c }).collect();
            prop_assert!(shown.starts_with(&parameters[name]), "{}", name);
            prop_assert!(parameters[name].len() == shown.len() || parameters[name].len() > 256 - 4, "{}", name);
        }
    }
}
