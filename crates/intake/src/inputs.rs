//! Finding the files to read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where lines come from.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A regular file, with its length.
    File(Arc<Path>, u64),
    /// Standard input, from which nothing can be read twice.
    Stdin,
}

/// The files that the patterns name, in the order of the patterns, each pattern's sorted by name: files, the files in a
/// folder (but hidden ones), or what a pattern with `*`, `?` and `[…]` matches.
///
/// # Errors
/// When something that is named without a pattern isn't there or isn't a file, or a folder can't be read.
pub(crate) fn find(folder: &Path, patterns: &[String]) -> io::Result<Vec<Input>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let path = folder.join(pattern);
        let mut matches = if path.is_dir() {
            files_in(&path)?
        } else if path.exists() || !pattern.contains(['*', '?', '[']) {
            vec![path]
        } else {
            let pattern = path.to_string_lossy();
            let paths = glob::glob(&pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let paths = paths.collect::<Result<Vec<_>, _>>().map_err(io::Error::from)?;
            paths.into_iter().filter(|path| path.is_file()).collect()
        };
        matches.sort();
        for path in matches {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found.into_iter().map(input).collect()
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && !is_hidden(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

fn input(path: PathBuf) -> io::Result<Input> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = std::fs::metadata(&path).map_err(named)?;
    if !metadata.is_file() {
        let error = "is not a regular file; what is no file can be read with stdin = true";
        return Err(named(io::Error::new(io::ErrorKind::InvalidInput, error)));
    }
    Ok(Input::File(path.into(), metadata.len()))
}
