//! What commands print.

use std::io::{ErrorKind, Write};

/// Prints a line on standard output. Whoever reads may go away (`actlog … | head`): then there is nobody to print for,
/// and the process ends.
pub fn line(text: impl AsRef<str>) {
    match writeln!(std::io::stdout().lock(), "{}", text.as_ref()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        _ => {}
    }
}

/// Text from outside, made harmless for a terminal: characters that control it or turn the direction of text are shown as
/// escapes.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| !c.is_control() && !turns(c);
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// The same for a line of JSON, which escapes control characters already. It stays the same JSON.
pub fn harmless_json(json: &str) -> String {
    json.chars().map(|c| if turns(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Whether a character turns the direction of text.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
