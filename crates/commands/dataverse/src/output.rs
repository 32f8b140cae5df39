//! What commands print.

pub(crate) use actlog_core::terminal::{harmless, line};

/// `1 step`, `2 steps`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
