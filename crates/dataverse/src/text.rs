//! Repair of text that was mis-decoded on its way: UTF-8 read as Windows-1252.

/// What Windows-1252 has at 0x80 to 0x9F; its five unassigned places stand for the control character of their number,
/// as in the WHATWG Encoding Standard.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The text that was meant, where the whole of `text` is UTF-8 that somebody read as Windows-1252: `â‚¬` is `€`.
/// `None` where nothing is to be repaired.
pub(crate) fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(windows_1252_byte).collect();
    String::from_utf8(bytes?).ok()
}

fn windows_1252_byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0..0x80 | 0xA0..=0xFF) => u8::try_from(code).ok(),
        _ => {
            let place = WINDOWS_1252.iter().position(|&listed| listed == character)?;
            u8::try_from(0x80 + place).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader of Windows-1252 makes of UTF-8.
    fn misread(text: &str) -> String {
        text.bytes()
            .map(
                |byte| {
                    if (0x80..0xA0).contains(&byte) { WINDOWS_1252[usize::from(byte) - 0x80] } else { char::from(byte) }
                },
            )
            .collect()
    }

    proptest! {
        #[test]
        fn every_misread_text_is_repaired(text in "\\PC*[\u{80}-\u{10ffff}]\\PC*") {
            prop_assert_eq!(repaired(&misread(&text)), Some(text));
        }
    }

    #[test]
    fn text_that_was_read_well_stays_as_it_is() {
        for text in ["plain", "Müller", "é中😀", "â‚", "Straße 5 €"] {
            assert_eq!(repaired(text), None, "{text}");
        }
        assert_eq!(repaired("â‚¬100.00").unwrap(), "€100.00");
    }
}
