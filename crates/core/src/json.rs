//! JSON texts as such.

/// Whether brackets are nested deeper than `limit` anywhere in this JSON text. Reading such a text with recursive code
/// could exhaust the stack; serde's own limit does not count what is skipped or kept raw.
pub fn nested_deeper_than(json: &str, limit: usize) -> bool {
    let bytes = json.as_bytes();
    // So deep a nesting needs as many opening brackets. Counting them first, in sums of one byte that the compiler
    // turns into vector code, is many times faster than following them; most bodies don't have so many.
    let openings = bytes.chunks(255).map(|chunk| {
        let sum = chunk.iter().fold(0_u8, |sum, &byte| sum + u8::from(byte == b'[' || byte == b'{'));
        usize::from(sum)
    });
    if openings.sum::<usize>() <= limit {
        return false;
    }
    let (mut depth, mut place) = (0_usize, 0);
    while let Some(&byte) = bytes.get(place) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                // On to the closing quote.
                place += 1;
                while let Some(&inner) = bytes.get(place).filter(|&&inner| inner != b'"') {
                    place += if inner == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        place += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_texts_only() {
        assert!(!nested_deeper_than(&"[]".repeat(500), 2));
        assert!(!nested_deeper_than(r#"["[[[[[[", "\"[[[[", {"a":1}]"#, 2));
        assert!(nested_deeper_than(r#"["]]]]", [[1]]]"#, 2));
        assert!(nested_deeper_than(&"[".repeat(100_000), 256));
        assert!(nested_deeper_than(&"{\"a\":".repeat(100_000), 256));
        assert!(!nested_deeper_than("[[[\"", 3));
    }
}
