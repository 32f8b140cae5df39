//! Single values of Office records. Each function says besides whether what it gives holds the value exactly: what is
//! not held exactly is kept as it came as well.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use actlog_core::{AuditRecord, Field, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::json::{Members, Text, read, text};

/// A point in time: RFC 3339, with a blank in place of the `T` too; without a zone it is UTC. Exact as far as it has no
/// fractions of milliseconds.
pub(crate) fn time(text: &str) -> Option<(Timestamp, bool)> {
    /// Longer than any spelling of a time.
    const MAX_LENGTH: usize = 48;
    if text.len() > MAX_LENGTH || !text.is_ascii() {
        return None;
    }
    let time = Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}Z"))).ok()?;
    let fraction = text
        .split_once('.')
        .map_or("", |(_, rest)| rest.split_once(|c: char| !c.is_ascii_digit()).map_or(rest, |(digits, _)| digits));
    let leap_second = text.get(17..19) == Some("60");
    Some((time, fraction.len() <= 3 && !leap_second))
}

/// An address and the port that came with it: `1.2.3.4:5678`, `[2001:db8::1]:443`. What has another form is an address
/// without a port.
fn address(text: Cow<'_, str>) -> (Cow<'_, str>, Option<u16>) {
    let split = text.rsplit_once(':').and_then(|(host, digits)| {
        let port: u16 = digits.parse().ok().filter(|port: &u16| port.to_string() == digits)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_address = inner.map_or(host.parse::<Ipv4Addr>().is_ok(), |inner| inner.parse::<Ipv6Addr>().is_ok());
        is_address.then(|| (inner.unwrap_or(host).len(), usize::from(inner.is_some()), port))
    });
    match split {
        Some((length, start, port)) => (part(text, start, length), Some(port)),
        None => (text, None),
    }
}

/// Sets ClientIP and ClientPort.
pub(crate) fn set_address<'a>(record: &mut AuditRecord<'a>, text: Option<Cow<'a, str>>) {
    if let Some(text) = text {
        let (ip, port) = address(text);
        (record.client_ip, record.client_port) = (Some(ip), port);
    }
}

/// A part of a text, borrowed where the text is.
fn part(text: Cow<'_, str>, start: usize, length: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[start..start + length]),
        Cow::Owned(text) => Cow::Owned(text[start..start + length].to_owned()),
    }
}

/// Ids as a text with commas between them (and blanks after those), or as an array. Exact when each is a GUID.
pub(crate) fn ids(value: &RawValue) -> (Vec<Uuid>, bool) {
    let collect = |texts: &mut dyn Iterator<Item = &str>| {
        let (mut ids, mut exact) = (Vec::new(), true);
        for text in texts {
            match Uuid::try_parse(text.trim_ascii()) {
                Ok(id) => ids.push(id),
                Err(_) => exact = false,
            }
        }
        (ids, exact)
    };
    if let Some(text) = text(value) {
        return collect(&mut text.split(','));
    }
    match read::<Vec<Text<'_>>>(value) {
        Some(texts) => collect(&mut texts.iter().map(|text| text.0.as_ref())),
        None => (Vec::new(), false),
    }
}

/// Names and values: an array of `{"Name": …, "Value": …}`, also inside of a text. Exact when each value is a text, a
/// number, a truth value or null, and nothing else is there.
pub(crate) fn fields(value: &RawValue) -> (Vec<Field<'_>>, bool) {
    let Some(text) = text(value) else { return list(value.get()) };
    let (fields, exact) = list(&text);
    let owned = fields.into_iter().map(|Field { name, value }| Field {
        name: Cow::Owned(name.into_owned()),
        value: value.map(|value| Cow::Owned(value.into_owned())),
    });
    (owned.collect(), exact)
}

fn list(json: &str) -> (Vec<Field<'_>>, bool) {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(json) else { return (Vec::new(), false) };
    let mut exact = true;
    let fields = elements.into_iter().filter_map(|element| {
        let field = field(element);
        exact &= field.as_ref().is_some_and(|(_, exact)| *exact);
        field.map(|(field, _)| field)
    });
    (fields.collect(), exact)
}

fn field(element: &RawValue) -> Option<(Field<'_>, bool)> {
    let Members(members) = read(element)?;
    let find = |name: &str| members.iter().find(|(present, _)| present == name).map(|(_, value)| *value);
    let name = text(find("Name")?)?;
    let value = find("Value");
    let (value, is_simple) = match value {
        None => (None, false),
        Some(value) if value.get() == "null" => (None, true),
        Some(value) => match text(value) {
            Some(text) => (Some(text), true),
            // A text that can't be decoded begins with a quotation mark too: as JSON nothing of it is lost.
            None => (Some(Cow::Borrowed(value.get())), !value.get().starts_with(['"', '[', '{'])),
        },
    };
    Some((Field { name, value }, is_simple && members.len() == 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        for (spelling, expected, exact) in [
            ("2019-12-24T06:01:09", "2019-12-24T06:01:09Z", true),
            ("2022-12-12 15:57:57", "2022-12-12T15:57:57Z", true),
            ("2022-12-12T15:57:57Z", "2022-12-12T15:57:57Z", true),
            ("2022-12-12T15:57:57.25", "2022-12-12T15:57:57.250Z", true),
            ("2022-12-12T15:57:57.1234567Z", "2022-12-12T15:57:57.123Z", false),
            ("2022-12-12T17:57:57+02:00", "2022-12-12T15:57:57Z", true),
        ] {
            let (time, is_exact) = time(spelling).unwrap();
            assert_eq!((time.to_string().as_str(), is_exact), (expected, exact), "{spelling}");
        }
        for spelling in ["", "yesterday", "2022-13-12T00:00:00", "2022-12-12", "é", &"2".repeat(100)] {
            assert_eq!(time(spelling), None, "{spelling}");
        }
    }

    #[test]
    fn a_port_is_split_off_an_address_and_off_nothing_else() {
        for (text, ip, port) in [
            ("52.163.88.69:50749", "52.163.88.69", Some(50749)),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("[fd00::1]:0", "fd00::1", Some(0)),
            ("134.170.188.221", "134.170.188.221", None),
            ("::1", "::1", None),
            ("2001:db8::1:443", "2001:db8::1:443", None),
            ("1.2.3.4:99999", "1.2.3.4:99999", None),
            ("1.2.3.4:080", "1.2.3.4:080", None),
            ("1.2.3.4:+80", "1.2.3.4:+80", None),
            ("131.107.XXX.XX", "131.107.XXX.XX", None),
            ("host:80", "host:80", None),
            ("[::1]", "[::1]", None),
            (":80", ":80", None),
        ] {
            assert_eq!(address(text.into()), (ip.into(), port), "{text}");
            assert_eq!(address(text.to_owned().into()), (ip.into(), port), "{text}");
        }
        assert!(matches!(address("1.2.3.4:5".into()).0, Cow::Borrowed(_)));
    }

    #[test]
    fn ids_are_read_from_all_their_forms() {
        let (a, b) = ("0a0d8709-711e-e811-a952-000d3a732d76", "dc136b61-6c1e-e811-a952-000d3a732d76");
        let expected: Vec<Uuid> = [a, b].iter().map(|id| id.parse().unwrap()).collect();
        for json in [format!("\"{a},{b}\""), format!("\"{a}, {b}\""), format!("[\"{a}\", \"{b}\"]")] {
            assert_eq!(ids(&raw(&json)), (expected.clone(), true), "{json}");
        }
        assert_eq!(ids(&raw(&format!("\"{a},{b},0a0d8709-71\""))), (expected, false), "the last was cut");
        for json in ["\"\"", "\"N/A\"", "null", "5", "[5]"] {
            assert_eq!(ids(&raw(json)), (vec![], false), "{json}");
        }
    }

    #[test]
    fn fields_are_read_as_an_array_and_as_a_text_that_holds_one() {
        let expected = vec![Field::new("name", "Fourth \"Coffee\""), Field { name: "fax".into(), value: None }];
        let array = r#"[{"Name":"name","Value":"Fourth \"Coffee\""},{"Name":"fax","Value":null}]"#;
        assert_eq!(fields(&raw(array)), (expected.clone(), true));
        assert_eq!(fields(&raw(&serde_json::to_string(array).unwrap())), (expected, true));
        assert_eq!(fields(&raw("[]")), (vec![], true));
        assert_eq!(fields(&raw(r#"[{"Name":"n","Value":5}]"#)), (vec![Field::new("n", "5")], true));
        assert_eq!(fields(&raw(r#"[{"Name":"n","Value":{"a":[]}}]"#)), (vec![Field::new("n", r#"{"a":[]}"#)], false));
        assert_eq!(fields(&raw(r#"[{"Name":"n","Value":"v","More":1}]"#)), (vec![Field::new("n", "v")], false));
        assert_eq!(fields(&raw(r#"[{"Name":"n"}]"#)), (vec![Field { name: "n".into(), value: None }], false));
        for json in ["null", "\"\"", "\"N/A\"", "{}", "[[]]", r#"[{"Value":"v"}]"#] {
            assert_eq!(fields(&raw(json)), (vec![], false), "{json}");
        }
    }
}
