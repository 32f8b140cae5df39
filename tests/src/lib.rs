//! End-to-end tests over the real binary; they are in `tests/`. Here is what they share.

pub mod cargo;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The records in all files of a folder, in the order of the files' names.
///
/// # Panics
/// When a file can't be read, does not end with a line end, or holds a line that is not JSON.
pub fn records(folder: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    let mut records = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", file.display());
        for line in text.lines() {
            let record = serde_json::from_str(line);
            records.push(record.unwrap_or_else(|error| panic!("{}: {error}: {line}", file.display())));
        }
    }
    records
}

/// Whole lines in all files of a folder, while they are being written.
pub fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    files.map(|file| std::fs::read(file.path()).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()).sum()
}

/// The smallest execution context that is one: its message, an entity, and an operation id that makes it unique.
pub fn context(message: &str, entity: &str, number: u128) -> Vec<u8> {
    let body = serde_json::json!({
        "MessageName": message,
        "PrimaryEntityName": entity,
        "PrimaryEntityId": uuid::Uuid::from_u128(number + 1),
        "OperationId": uuid::Uuid::from_u128(number + 1),
        "OrganizationId": "f42a590d-a29d-4f11-8a66-6045bd056902",
        "Stage": 40,
        "Mode": 1,
        "Depth": 1,
    });
    body.to_string().into_bytes()
}
