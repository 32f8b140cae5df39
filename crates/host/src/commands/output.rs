//! What commands print: results on standard output, errors on standard error.

use std::io::{ErrorKind, Write};

use super::Failure;

/// Prints a line. Whoever reads may go away (`actlog … | head`): then there is nobody to print for.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.as_ref()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        _ => {}
    }
}

/// Prints an error.
pub(crate) fn error(failure: &Failure) {
    // When standard error is gone, there is no place left to say so.
    let _ = writeln!(std::io::stderr(), "error: {failure}");
}

/// Prints a warning, beside results that a machine reads.
pub(crate) fn warning(text: &str) {
    // When standard error is gone, there is no place left to say so.
    let _ = writeln!(std::io::stderr(), "warning: {}", harmless(text));
}

/// Prints JSON for people and machines.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints rows in columns that line up.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    print(&mut head.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// A line of JSON from the log, for a terminal: JSON escapes control characters, this also those that turn the
/// direction of text. It stays the same JSON.
pub(crate) fn harmless_json(json: &str) -> String {
    json.chars().map(|c| if turns(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text from outside, made harmless for a terminal: control and direction characters are shown as escapes.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| !c.is_control() && !turns(c);
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_from_records() {
        assert_eq!(harmless_json("{\"a\":\"\u{202e}\"}"), "{\"a\":\"\\u202e\"}");
        assert_eq!(harmless("a\u{1b}[2J\u{202e}b\n"), "a\\u{1b}[2J\\u{202e}b\\u{a}");
    }
}
