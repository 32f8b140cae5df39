//! What commands print: results on standard output, errors on standard error.

use std::io::Write;

pub(crate) use actlog_core::terminal::{harmless, harmless_json, line};

use super::Failure;

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
