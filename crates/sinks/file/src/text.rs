//! Values as cells: one line whatever they hold, and no formula.
//!
//! A backslash begins an escape, so every text has one form and comes back exactly: `\\`, `\n`, `\r`, `\t`, `\|` (spec
//! layout), and `\u202e` for other characters that are controls, break lines or turn the reading direction. In cells that
//! are JSON, where backslashes have their meaning already, only `\uXXXX` is added, which JSON reads as the character.

/// What a cell's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Any text.
    Text,
    /// A JSON array or object.
    Json,
}

/// Appends a CSV cell, quoted as in RFC 4180 where that is needed.
///
/// Unless `raw`, a text that a spreadsheet would take for a formula gets a `'` in front (as does one that begins with
/// `'`, so that the first `'` can always be dropped), and is quoted. Spreadsheets that split at semicolons would begin a
/// cell behind one: a formula's first character is escaped there.
pub(crate) fn csv_cell(value: &str, kind: Value, raw: bool, out: &mut Vec<u8>) {
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:/ ".contains(&byte))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
    {
        return out.extend_from_slice(value.as_bytes());
    }
    let guarded = !raw && kind == Value::Text && (value.starts_with('\'') || begins_formula(value));
    let quoted = guarded || value.contains([',', ';', '"']) || value.starts_with(' ') || value.ends_with(' ');
    out.extend_from_slice(match (quoted, guarded) {
        (true, true) => b"\"'",
        (true, false) => b"\"",
        (false, _) => b"",
    });
    let mut behind_semicolon = false;
    for char in value.chars() {
        match char {
            '"' => out.extend_from_slice(b"\"\""),
            formula if behind_semicolon && is_formula(formula) => push_code(formula, out),
            other => push_escaped(other, kind, out),
        }
        behind_semicolon = !raw && (char == ';' || behind_semicolon && is_skipped(char));
    }
    if quoted {
        out.push(b'"');
    }
}

/// Appends a cell of the spec layout's table.
pub(crate) fn table_cell(value: &str, kind: Value, out: &mut Vec<u8>) {
    for char in value.chars() {
        match (char, kind) {
            ('|', Value::Text) => out.extend_from_slice(b"\\|"),
            ('|', Value::Json) => push_code(char, out),
            _ => push_escaped(char, kind, out),
        }
    }
}

fn begins_formula(value: &str) -> bool {
    value.starts_with(['\t', '\r']) || value.trim_start_matches(is_skipped).starts_with(is_formula)
}

/// What spreadsheets take for the beginning of a formula, full-width forms included.
fn is_formula(char: char) -> bool {
    matches!(char, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
}

/// What may stand before a formula.
fn is_skipped(char: char) -> bool {
    char == '"' || char == '\u{200b}' || char.is_whitespace() || is_unprintable(char)
}

/// Controls, line separators, marks that turn the reading direction, the byte order mark.
fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_escaped(char: char, kind: Value, out: &mut Vec<u8>) {
    match (char, kind) {
        ('\\', Value::Text) => out.extend_from_slice(b"\\\\"),
        ('\n', Value::Text) => out.extend_from_slice(b"\\n"),
        ('\r', Value::Text) => out.extend_from_slice(b"\\r"),
        ('\t', Value::Text) => out.extend_from_slice(b"\\t"),
        // Between JSON's tokens these are white space; within its strings they can't be.
        ('\n' | '\r' | '\t', Value::Json) => out.push(b' '),
        _ if is_unprintable(char) => push_code(char, out),
        _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends `\uXXXX`. All characters that need it have no more than four digits.
fn push_code(char: char, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\\u{:04x}", u32::from(char)).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn csv(value: &str, kind: Value, raw: bool) -> String {
        let mut out = Vec::new();
        csv_cell(value, kind, raw, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What a reader of CSV gets.
    fn read(cell: &str) -> String {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(cell.as_bytes());
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert!(rows.len() <= 1 && rows.iter().all(|row| row.len() == 1), "{cell:?} is one cell");
        rows.first().map(|row| row[0].to_owned()).unwrap_or_default()
    }

    fn unescaped(text: &str) -> String {
        let (mut out, mut chars) = (String::new(), text.chars());
        while let Some(char) = chars.next() {
            out.push(match char {
                '\\' => match chars.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        char::from_u32(u32::from_str_radix(&chars.by_ref().take(4).collect::<String>(), 16).unwrap())
                            .unwrap()
                    }
                    other => other,
                },
                other => other,
            });
        }
        out
    }

    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("="),
            Just("+"),
            Just("-"),
            Just("@"),
            Just("\t"),
            Just("\r"),
            Just("\n"),
            Just("\0"),
            Just("\u{ff1d}"),
            Just("\u{ff0b}"),
            Just("\u{202e}"),
            Just("\u{feff}"),
            Just("\u{2028}"),
            Just("\u{85}"),
            Just("\x1b[31m"),
            Just(" "),
            Just("\u{a0}"),
            Just(";"),
            Just(","),
            Just("\""),
            Just("'"),
            Just("\\"),
            Just("|"),
            Just("cmd"),
            Just("é"),
            Just("\u{1f600}"),
        ];
        prop_oneof![proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()), any::<String>()]
    }

    #[test]
    fn whatever_a_spreadsheet_takes_for_a_formula_is_made_harmless() {
        for lead in ["", " ", "  ", "\t", "\r", "\n", "\u{a0}", "\u{feff}", "\u{200b}", "\"", "\" "] {
            for first in ["=", "+", "-", "@", "\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"] {
                let value = format!("{lead}{first}cmd|' /C calc'!A0");
                let cell = csv(&value, Value::Text, false);
                assert!(cell.starts_with("\"'") && cell.ends_with('"'), "{value:?}: {cell}");
                assert_eq!(unescaped(&read(&cell)[1..]), value);
                assert!(!read(&csv(&value, Value::Text, true)).starts_with('\''), "raw is raw");
                let behind = csv(&format!("a;{lead}{first}1"), Value::Text, false);
                assert!(!behind.contains(first), "a spreadsheet that splits at semicolons sees {behind}");
            }
        }
        for value in ["\tx", "\rx", "'x"] {
            assert!(csv(value, Value::Text, false).starts_with("\"'"), "{value:?}");
        }
        assert_eq!(csv("a=b-c", Value::Text, false), "a=b-c", "only where a cell begins");
    }

    #[test]
    fn a_json_cell_stays_the_same_json() {
        let json = &r#"[{"Name":"a","Value":";=1 \"x\" \n"},{"Name":"b","Value":"RTL| é"}]"#.replace("RTL", "\u{202e}");
        for cell in [csv(json, Value::Json, false), csv(json, Value::Json, true)] {
            let read: serde_json::Value = serde_json::from_str(&read(&cell)).unwrap();
            assert_eq!(read, serde_json::from_str::<serde_json::Value>(json).unwrap());
            assert!(!cell.contains('\u{202e}'));
        }
        assert!(!csv(json, Value::Json, false).contains(";="));
    }

    proptest! {
        #[test]
        fn a_csv_cell_is_one_line_harmless_and_comes_back_exactly(value in hostile(), raw: bool) {
            let cell = csv(&value, Value::Text, raw);
            prop_assert!(!cell.contains(is_unprintable), "{cell:?}");
            let read = read(&cell);
            let text = match read.strip_prefix('\'') {
                Some(rest) if !raw => rest,
                _ => {
                    prop_assert!(raw || !begins_formula(&read), "{read:?}");
                    &read
                }
            };
            prop_assert_eq!(unescaped(text), value);
        }

        #[test]
        fn a_table_cell_is_one_line_without_an_open_bar_and_comes_back_exactly(value in hostile()) {
            let mut out = Vec::new();
            table_cell(&value, Value::Text, &mut out);
            let cell = String::from_utf8(out).unwrap();
            prop_assert!(!cell.contains(is_unprintable), "{cell:?}");
            prop_assert!(!cell.replace("\\\\", "").replace("\\|", "").contains('|'));
            prop_assert_eq!(unescaped(&cell), value);
        }
    }
}
