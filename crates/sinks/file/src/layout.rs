//! What a file looks like: its header, and the line of an entry.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

use actlog_core::{Entry, EntryKind, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::columns::{self, JOURNAL_INDEX, JOURNAL_SALT};
use crate::config::{FileConfig, Format, User};
use crate::text::{Value, csv_cell, table_cell};

/// The columns of the specification's first example.
const SPEC_COLUMNS: [&str; 10] =
    ["ID", "UserKey", "ClientIP", "Operation", "Date", "EntityId", "EntityName", "Query", "QueryResults", "ItemURL"];

/// How entries become lines.
#[derive(Debug)]
pub(crate) enum Layout {
    /// The stored bytes.
    Jsonl { proof: bool, statements: bool },
    /// A header and a row of cells for each record.
    Table(Table),
}

/// A layout with columns.
#[derive(Debug)]
pub(crate) struct Table {
    titles: Vec<String>,
    /// The record's key of each column; behind them, in the spec layout, the one that users are looked up by.
    keys: Vec<&'static str>,
    style: Style,
}

#[derive(Debug)]
enum Style {
    Csv { raw: bool },
    Spec { display_names: BTreeMap<String, String>, users: HashMap<Uuid, User> },
}

impl Layout {
    pub(crate) fn new(config: &FileConfig) -> Self {
        let style = match config.format {
            Format::Jsonl => return Self::Jsonl { proof: config.proof, statements: config.statements },
            Format::Csv => Style::Csv { raw: config.raw_csv },
            Format::Spec => Style::Spec {
                display_names: config.display_names.clone(),
                users: config.users.iter().map(|(id, user)| (*id, user.clone())).collect(),
            },
        };
        let mut titles = config.columns.clone();
        if titles.is_empty() {
            let default = if matches!(style, Style::Csv { .. }) { &columns::KEYS[..] } else { &SPEC_COLUMNS[..] };
            titles = default.iter().filter(|key| **key != JOURNAL_INDEX).map(|key| (*key).to_owned()).collect();
        }
        for key in [JOURNAL_INDEX, JOURNAL_SALT] {
            if config.proof && !titles.iter().any(|title| columns::key(title) == Some(key)) {
                titles.push(key.to_owned());
            }
        }
        // The configuration was validated: every title has its key.
        let mut keys: Vec<_> = titles.iter().filter_map(|title| columns::key(title)).collect();
        if matches!(style, Style::Spec { .. }) {
            keys.push("SystemUserId");
        }
        Self::Table(Table { titles, keys, style })
    }

    /// Whether such entries have a line at all.
    pub(crate) fn wants(&self, kind: EntryKind) -> bool {
        kind == EntryKind::Record || matches!(self, Self::Jsonl { statements: true, .. })
    }

    /// Appends what a file begins with.
    pub(crate) fn header(&self, out: &mut Vec<u8>) {
        let Self::Table(table) = self else { return };
        match table.style {
            Style::Csv { .. } => out.extend_from_slice(table.titles.join(",").as_bytes()),
            Style::Spec { .. } => {
                out.extend_from_slice(format!("| {} |\n|", table.titles.join(" | ")).as_bytes());
                out.extend_from_slice("---|".repeat(table.titles.len()).as_bytes());
            }
        }
        out.push(b'\n');
    }

    /// Appends the line of an entry, with its end.
    ///
    /// # Errors
    /// Why the entry has no line, for the dead letters. What was appended until then is to be cut off.
    pub(crate) fn line(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Jsonl { proof, .. } => jsonl_line(entry, *proof, out)?,
            Self::Table(table) => table.row(entry, out).map_err(|error| format!("not a record: {error}"))?,
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The stored bytes as they are. A proof is put between them and their closing brace: cutting it out again gives the
/// bytes that the log commits to.
fn jsonl_line(entry: &Entry, proof: bool, out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = &entry.bytes[..];
    // Changing the bytes would break their proof; writing them would make two lines of one record.
    if memchr::memchr2(b'\n', b'\r', bytes).is_some() {
        return Err("the record has a line end in it".into());
    }
    if !proof {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let Some(members) = bytes.strip_suffix(b"}").filter(|members| members.len() > 1) else {
        return Err("the record is not a JSON object".into());
    };
    out.extend_from_slice(members);
    let mut salt = [0; 64];
    hex::encode_to_slice(entry.salt, &mut salt).map_err(|error| error.to_string())?;
    let salt = String::from_utf8_lossy(&salt);
    // Writing to a Vec can't fail.
    let _ = write!(out, r#","{JOURNAL_INDEX}":{},"{JOURNAL_SALT}":"{salt}"}}"#, entry.index);
    Ok(())
}

impl Table {
    fn row(&self, entry: &Entry, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let values = columns::read(&entry.bytes, &self.keys)?;
        match &self.style {
            Style::Csv { raw } => {
                for (place, (key, value)) in self.keys.iter().zip(values).enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    if let Some((text, kind)) = cell(key, value, entry) {
                        csv_cell(&text, kind, *raw, out);
                    }
                }
            }
            Style::Spec { display_names, users } => {
                let user_id = values.last().copied().flatten().and_then(columns::text);
                let user = user_id.and_then(|id| users.get(&Uuid::try_parse(&id).ok()?));
                for (key, value) in self.keys[..self.titles.len()].iter().zip(values) {
                    let (text, kind) = match (cell(key, value, entry), *key) {
                        (Some((time, kind)), "CreationTime" | "CollectedTime") => (spec_time(time), kind),
                        (Some((name, kind)), "EntityName" | "ItemType") => (display_name(name, display_names), kind),
                        (Some(cell), _) => cell,
                        (None, key) => {
                            let text = match key {
                                "UserKey" => user.and_then(|user| user.user_key.as_deref()),
                                "ClientIP" => user.and_then(|user| user.client_ip.as_deref()),
                                _ => None,
                            };
                            (Cow::Borrowed(text.unwrap_or("N/A")), Value::Text)
                        }
                    };
                    out.extend_from_slice(b"| ");
                    table_cell(&text, kind, out);
                    out.push(b' ');
                }
                out.push(b'|');
            }
        }
        Ok(())
    }
}

/// What stands in a column; none where the record has nothing.
fn cell<'a>(key: &str, value: Option<&'a RawValue>, entry: &Entry) -> Option<(Cow<'a, str>, Value)> {
    match key {
        JOURNAL_INDEX => return Some((entry.index.to_string().into(), Value::Text)),
        JOURNAL_SALT => return Some((hex::encode(entry.salt).into(), Value::Text)),
        _ => {}
    }
    let value = value?;
    if matches!(key, "QueryResults" | "LinkedResults")
        && let Ok(ids) = serde_json::from_str::<Vec<Cow<'_, str>>>(value.get())
    {
        return Some((ids.join(", ").into(), Value::Text));
    }
    let json = value.get().starts_with(['[', '{']);
    let text = columns::text(value).unwrap_or(Cow::Borrowed(value.get()));
    Some((text, if json { Value::Json } else { Value::Text }))
}

/// A time as in the specification's examples: `3/2/2018 11:25:56 PM`, UTC.
fn spec_time(time: Cow<'_, str>) -> Cow<'_, str> {
    match Timestamp::parse(&time) {
        Ok(time) => time.to_datetime().format("%-m/%-d/%Y %-I:%M:%S %p").to_string().into(),
        Err(_) => time,
    }
}

fn display_name<'a>(name: Cow<'a, str>, configured: &'a BTreeMap<String, String>) -> Cow<'a, str> {
    if let Some(display_name) = configured.get(name.as_ref()) {
        return Cow::Borrowed(display_name);
    }
    match name.as_bytes() {
        [first, rest @ ..] if first.is_ascii_lowercase() && rest.iter().all(u8::is_ascii_lowercase) => {
            let mut name = name.into_owned();
            name[..1].make_ascii_uppercase();
            name.into()
        }
        _ => name,
    }
}
