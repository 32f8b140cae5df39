//! What is stored with the sink's cursor: the files that were open at that commit, with their lengths.
//!
//! Invariant: a file gets its first byte only after a commit has named it, with length 0. So after a crash every byte
//! that the journal will hand over again lies beyond a length that is known here, and is cut off.

use std::path::{Path, PathBuf};

use actlog_core::{SinkError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Compression;

const VERSION: u32 = 1;
/// In place of the data folder, so that it can be moved.
const DATA_DIR: &str = "{data_dir}/";

/// The sink's own state. Paths are as the sink uses them; only the stored form has the data folder replaced.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// What lines look like; files of another layout are not continued.
    pub(crate) layout: String,
    /// The open files.
    pub(crate) files: Vec<FileState>,
    /// Closed files that are to be compressed.
    pub(crate) compress: Vec<Pending>,
}

/// An open file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileState {
    /// The path before numbering.
    pub(crate) route: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Bytes that belong to entries before the cursor.
    pub(crate) length: u64,
    /// When it was begun, milliseconds since 1970.
    pub(crate) opened: i64,
    /// The day or hour that its path is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) period: Option<i64>,
}

impl FileState {
    pub(crate) fn opened(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.opened)
    }
}

/// A closed file that is to be compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// How. Kept here, so that a changed configuration can't leave a file compressed in two ways.
    pub(crate) compression: Compression,
}

impl State {
    pub(crate) fn new(layout: String, files: Vec<FileState>, compress: Vec<Pending>) -> Self {
        Self { version: VERSION, layout, files, compress }
    }

    pub(crate) fn encode(mut self, data_dir: &Path) -> Result<Vec<u8>, SinkError> {
        self.map_paths(|path| match path.strip_prefix(data_dir) {
            Ok(rest) if !data_dir.as_os_str().is_empty() => Path::new(DATA_DIR).join(rest),
            _ => path.to_owned(),
        });
        serde_json::to_vec(&self).map_err(|error| SinkError::Other(format!("the file sink's state: {error}")))
    }

    /// Reads the stored state; none at the first start.
    pub(crate) fn decode(bytes: Option<&[u8]>, data_dir: &Path) -> Result<Self, SinkError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let unusable = |what: String| {
            SinkError::Other(format!(
                "the file sink's stored state {what}; without it a file could get a record twice. Run the version of \
                 actlog that wrote it, or give the sink a new name to begin anew"
            ))
        };
        let mut state: Self =
            serde_json::from_slice(bytes).map_err(|error| unusable(format!("can't be read ({error})")))?;
        if state.version != VERSION {
            return Err(unusable(format!("has version {}, not {VERSION}", state.version)));
        }
        state.map_paths(|path| match path.strip_prefix(DATA_DIR) {
            Ok(rest) => data_dir.join(rest),
            Err(_) => path.to_owned(),
        });
        Ok(state)
    }

    fn map_paths(&mut self, map: impl Fn(&Path) -> PathBuf) {
        for file in &mut self.files {
            file.path = map(&file.path);
            // Routes are made of texts only, and so remain UTF-8.
            file.route = map(Path::new(&file.route)).to_string_lossy().into_owned();
        }
        for pending in &mut self.compress {
            pending.path = map(&pending.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let file = FileState {
            route: "/old/audit/a.jsonl".into(),
            path: "/old/audit/a-0001.jsonl".into(),
            length: 17,
            opened: 1_520_033_156_000,
            period: Some(17_592),
        };
        let pending = Pending { path: "/elsewhere/b.jsonl".into(), compression: Compression::Zstd };
        State::new("layout".into(), vec![file], vec![pending])
    }

    #[test]
    fn a_data_folder_that_was_moved_is_found_again() {
        let bytes = state().encode(Path::new("/old")).unwrap();
        let moved = State::decode(Some(&bytes), Path::new("/new/place")).unwrap();
        assert_eq!(moved.files[0].path, Path::new("/new/place/audit/a-0001.jsonl"));
        assert_eq!(moved.files[0].route, "/new/place/audit/a.jsonl");
        assert_eq!(moved.compress, state().compress);
        assert_eq!(State::decode(Some(&bytes), Path::new("/old")).unwrap(), state());
    }

    #[test]
    fn a_state_that_is_not_understood_stops_the_sink_and_says_what_to_do() {
        for bytes in [&b"garbage"[..], br#"{"version":9,"layout":"","files":[],"compress":[]}"#, b""] {
            let error = State::decode(Some(bytes), Path::new("d")).unwrap_err().to_string();
            assert!(error.contains("new name"), "{error}");
        }
    }
}
