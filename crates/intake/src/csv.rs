//! CSV (RFC 4180): rows become JSON objects.

use std::borrow::Cow;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use crate::cutter::too_long;
use crate::divide::{Element, Elements, Rejected};

/// Most columns.
const MAXIMUM_COLUMNS: usize = 1000;
/// Longest name of a column, in bytes.
const LONGEST_NAME: usize = 128;
/// How many times as large as the rows their JSON objects may be, which repeat the names of the columns; and what is
/// granted besides.
const LARGEST_GROWTH: (usize, usize) = (16, 1 << 20);

/// The names of the columns, from the first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Each as JSON, with the colon behind it.
    members: Vec<String>,
}

impl Header {
    /// Reads the first row; gives the place behind it as well. A byte order mark is passed over.
    pub(crate) fn read(text: &[u8]) -> Result<(Self, usize), String> {
        let wrong = |what: &str| Err(format!("the first line is no header of a CSV: {what}"));
        let mark = if text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let row = &text[mark..];
        let end = RowEnds::default().next_in(row).unwrap_or(row.len());
        let mut parser = Parser::default();
        let names = match parser.parse(&row[..end]) {
            Ok(names) => names,
            Err(reason) => return wrong(&reason),
        };
        let mut members: Vec<String> = Vec::with_capacity(names.len());
        for (column, name) in (1..).zip(names) {
            let Ok(name) = std::str::from_utf8(name) else { return wrong(&format!("column {column} is not UTF-8")) };
            if name.is_empty() || name.len() > LONGEST_NAME {
                return wrong(&format!("the name of column {column} must have 1 to {LONGEST_NAME} bytes"));
            }
            let member = format!("{}:", serde_json::Value::from(name));
            if members.contains(&member) {
                return wrong(&format!("two columns have the name {name:?}"));
            }
            members.push(member);
        }
        match members.is_empty() {
            true => wrong("it is empty"),
            false => Ok((Self { members }, mark + end)),
        }
    }
}

/// The rows behind `start` as elements. `lines_before` are the line ends of the input in front of `text`, and `longest`
/// is what a row may have in bytes.
pub(crate) fn rows<'a>(text: &[u8], start: usize, lines_before: u64, longest: usize, header: &Header) -> Elements<'a> {
    let mut elements = Elements { is_batch: true, ..Elements::default() };
    let mut parser = Parser::default();
    let mut room = (text.len() - start).saturating_mul(LARGEST_GROWTH.0).saturating_add(LARGEST_GROWTH.1);
    let mut line = lines_before + count_lines(&text[..start]) + 1;
    let mut at = start;
    while at < text.len() {
        let mut ends = RowEnds::default();
        let end = ends.next_in(&text[at..]).map_or(text.len(), |length| at + length);
        let is_open = ends == RowEnds::Quoted;
        // The line alone is at fault; those behind it are rows of their own.
        let end = if is_open { memchr::memchr(b'\n', &text[at..]).map_or(end, |length| at + length + 1) } else { end };
        let (row, place) = (&text[at..end], at..end);
        let json = match row.len() > longest {
            _ if is_open => Some(Err("a quote is not closed".to_owned())),
            true => Some(Err(too_long(row.len() as u64, longest))),
            false => object(header, &mut parser, row, room),
        };
        match json {
            None => {}
            Some(Ok(json)) => {
                room -= json.len();
                elements.list.push(Element { line, bytes: Cow::Owned(json), place });
            }
            Some(Err(reason)) => elements.refused.push(Rejected { line, reason, place }),
        }
        line += count_lines(row);
        at = end;
    }
    elements
}

fn count_lines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// A row as a JSON object of at most `room` bytes; none for a blank line.
fn object(header: &Header, parser: &mut Parser, row: &[u8], room: usize) -> Option<Result<Vec<u8>, String>> {
    if row.trim_ascii().is_empty() {
        return None;
    }
    Some(parser.parse(row).and_then(|values| {
        let (expected, found) = (header.members.len(), values.len());
        if found != expected {
            return Err(format!("the row has {found} columns, and the header has {expected}"));
        }
        let mut json = vec![b'{'];
        for (column, (member, value)) in (1..).zip(header.members.iter().zip(values)) {
            if value.is_empty() {
                continue;
            }
            let value = std::str::from_utf8(value).map_err(|_| format!("column {column} is not UTF-8"))?;
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(member.as_bytes());
            // A text always has a JSON form.
            serde_json::to_writer(&mut json, value).map_err(|error| error.to_string())?;
            if json.len() >= room {
                return Err("the rows take too much room as JSON; give fewer at a time (batch_size of files)".into());
            }
        }
        json.push(b'}');
        Ok(json)
    }))
}

/// Divides a row into its values.
struct Parser {
    reader: Reader,
    values: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for Parser {
    fn default() -> Self {
        let reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { reader, values: Vec::new(), ends: vec![0; MAXIMUM_COLUMNS + 2] }
    }
}

impl Parser {
    /// The values of a row, with or without its line end.
    fn parse(&mut self, row: &[u8]) -> Result<Vec<&[u8]>, String> {
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        self.reader.reset();
        // Unquoting makes a text shorter, never longer; and the parser wants room even where it needs none.
        self.values.resize(row.len() + 1, 0);
        let (mut read, mut written, mut columns) = (0, 0, 0);
        loop {
            let (result, more_read, more_written, more_columns) =
                self.reader.read_record(&row[read..], &mut self.values[written..], &mut self.ends[columns..]);
            read += more_read;
            written += more_written;
            columns += more_columns;
            match result {
                // Once the input is empty it is the end of the record.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => break,
            }
            if columns > MAXIMUM_COLUMNS {
                break;
            }
        }
        if columns > MAXIMUM_COLUMNS {
            return Err(format!("it has more than {MAXIMUM_COLUMNS} columns"));
        }
        let mut start = 0;
        Ok(self.ends[..columns].iter().map(|end| &self.values[std::mem::replace(&mut start, *end)..*end]).collect())
    }
}

/// Finds where rows end: at line ends outside of quotes. Quotes count as `csv_core` counts them: a value is quoted when
/// it begins with a quote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RowEnds {
    /// At the beginning of a value.
    #[default]
    Beginning,
    /// In a value without quotes, or behind the end of its quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote in a quoted value: its end, or the first of two.
    Quote,
}

impl RowEnds {
    /// The place behind the next end of a row. Goes on in the middle of a row where it was there.
    pub(crate) fn next_in(&mut self, bytes: &[u8]) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Beginning | Self::Quote, b'"') => Self::Quoted,
                (Self::Quoted, b'"') => Self::Quote,
                (Self::Quoted, _) => Self::Quoted,
                (_, b'\n') => {
                    *self = Self::Beginning;
                    return Some(place + 1);
                }
                (_, b',') => Self::Beginning,
                _ => Self::Plain,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::divide::{Form, divide};

    type Lines = Vec<(u64, String)>;

    fn texts(body: &[u8]) -> (Lines, Lines) {
        let elements = divide(body, Form::Csv).unwrap();
        let list = elements.list.iter().map(|one| (one.line, String::from_utf8(one.bytes.to_vec()).unwrap())).collect();
        (list, elements.refused.into_iter().map(|one| (one.line, one.reason)).collect())
    }

    #[test]
    fn rows_become_objects_named_by_the_header() {
        let body = b"\xEF\xBB\xBFA,\"B \"\"b\"\"\",C\r\n1,\"two\nlines, \"\"quoted\"\"\",3\r\n\r\n,,x\n";
        let (list, refused) = texts(body);
        assert_eq!(
            list,
            [(2, r#"{"A":"1","B \"b\"":"two\nlines, \"quoted\"","C":"3"}"#.to_owned()), (5, r#"{"C":"x"}"#.to_owned())]
        );
        assert!(refused.is_empty());
        assert_eq!(texts(b"A,B\n1,\"2\"").0, [(2, r#"{"A":"1","B":"2"}"#.to_owned())]);
    }

    #[test]
    fn a_row_that_does_not_fit_the_header_is_refused_and_its_neighbours_are_not() {
        let (list, refused) = texts(b"A,B\n1,2\n1\n1,2,3\n\xFF,2\n5,6\n7,\"8\n9,0\n");
        assert_eq!(list.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 6, 8]);
        let reasons: Vec<_> = refused.iter().map(|(line, reason)| (*line, reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                (3, "the row has 1 columns, and the header has 2"),
                (4, "the row has 3 columns, and the header has 2"),
                (5, "column 1 is not UTF-8"),
                (7, "a quote is not closed"),
            ]
        );
    }

    #[test]
    fn a_first_line_that_is_no_header_is_refused_with_the_reason() {
        let many = "a,".repeat(MAXIMUM_COLUMNS);
        for (body, reason) in [
            ("", "it is empty"),
            ("A,,B\n", "column 2"),
            ("A,B,A\n", "\"A\""),
            (&"x".repeat(129), "1 to 128 bytes"),
            (&many, "more than 1000 columns"),
        ] {
            let error = divide(body.as_bytes(), Form::Csv).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(divide(b"A\xFF\n", Form::Csv).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn rows_can_not_grow_without_bound() {
        let header: Vec<String> = (0..500).map(|column| format!("{column}{}", "x".repeat(120))).collect();
        let row = vec!["1"; 500].join(",");
        let body = format!("{}\n{}", header.join(","), format!("{row}\n").repeat(1000));
        let elements = divide(body.as_bytes(), Form::Csv).unwrap();
        let bytes: usize = elements.list.iter().map(|one| one.bytes.len()).sum();
        assert!(bytes <= body.len() * LARGEST_GROWTH.0 + LARGEST_GROWTH.1, "{bytes}");
        assert_eq!(elements.list.len() + elements.refused.len(), 1000);
        assert!(elements.refused[0].reason.contains("too much room"), "{}", elements.refused[0].reason);
    }

    proptest! {
        /// Whatever the values: written as CSV and read, they are the same; and rows end where the library ends them.
        #[test]
        fn values_survive_and_rows_end_where_they_should(
            table in prop::collection::vec(prop::collection::vec("[a,\"\r\n é]{0,6}", 3), 1..8),
        ) {
            let quoted = |value: &String| format!("\"{}\"", value.replace('"', "\"\""));
            let mut body = "A,B,C\n".to_owned();
            for row in &table {
                body += &row.iter().map(quoted).collect::<Vec<_>>().join(",");
                body.push('\n');
            }
            let elements = divide(body.as_bytes(), Form::Csv).unwrap();
            prop_assert!(elements.refused.is_empty());
            prop_assert_eq!(elements.list.len(), table.len());
            for (element, row) in elements.list.iter().zip(&table) {
                let json: serde_json::Value = serde_json::from_slice(&element.bytes).unwrap();
                for (name, value) in ["A", "B", "C"].iter().zip(row) {
                    prop_assert_eq!(json[name].as_str().unwrap_or_default(), value);
                }
            }
        }

        /// Whatever the text: the rows are those of the library, which reads it in one go.
        #[test]
        fn rows_end_where_the_library_ends_them(text in "[a,\"\n]{0,40}") {
            let mut reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
            let (mut values, mut ends) = ([0; 100], [0; 100]);
            let (mut rest, mut counts) = (text.as_bytes(), Vec::new());
            loop {
                let (result, read, _, columns) = reader.read_record(rest, &mut values, &mut ends);
                rest = &rest[read..];
                match result {
                    ReadRecordResult::InputEmpty => {
                        let (result, _, _, more) = reader.read_record(&[], &mut values, &mut ends);
                        if matches!(result, ReadRecordResult::Record) {
                            counts.push(columns + more);
                        }
                        break;
                    }
                    ReadRecordResult::Record => counts.push(columns),
                    _ => break,
                }
            }
            let mut parser = Parser::default();
            let (mut at, mut own) = (0, Vec::new());
            while at < text.len() {
                let end = RowEnds::default().next_in(&text.as_bytes()[at..]).map_or(text.len(), |length| at + length);
                let row = &text.as_bytes()[at..end];
                if row != b"\n" {
                    own.push(parser.parse(row).unwrap().len());
                }
                at = end;
            }
            prop_assert_eq!(own, counts);
        }
    }
}
