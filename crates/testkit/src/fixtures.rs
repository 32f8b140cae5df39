//! Where real captures are, and how a test says that it has none.
//!
//! Captured bodies are not part of this repository. They lie in the folder that the environment variable
//! `ACTLOG_SHARED` names, else in `../shared` beside the workspace. A test that needs them and finds none is skipped,
//! in a line that shows however the tests are run:
//!
//! ```no_run
//! # fn test() {
//! let Some(captures) = actlog_testkit::fixtures::webhook_captures() else {
//!     actlog_testkit::skip!("there are no captures");
//! };
//! # }
//! ```

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A captured or generated body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Path below the folder `dataverse`: `webhook/dialects/….json`.
    pub name: String,
    /// The body.
    pub bytes: Vec<u8>,
}

/// The folder with `fixtures` in it; none where there is none.
pub fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("ACTLOG_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().parent()?.join("shared"),
    };
    folder.join("fixtures").is_dir().then_some(folder)
}

/// The folder of this workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This crate lies in crates/testkit.
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// All execution contexts in JSON: `webhook`, `webhook/dialects` and `generated`, by name. None where there are none.
///
/// # Panics
/// When a file can't be read.
pub fn webhook_captures() -> Option<Vec<Capture>> {
    let dataverse = shared()?.join("fixtures/dataverse");
    let mut captures = Vec::new();
    for folder in ["webhook", "webhook/dialects", "generated"] {
        let Ok(files) = std::fs::read_dir(dataverse.join(folder)) else { continue };
        for file in files.filter_map(Result::ok) {
            let name = file.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".json") || name.ends_with(".headers.json") {
                continue;
            }
            match std::fs::read(file.path()) {
                Ok(bytes) => captures.push(Capture { name: format!("{folder}/{name}"), bytes }),
                Err(error) => panic!("{}: {error}", file.path().display()),
            }
        }
    }
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    (!captures.is_empty()).then_some(captures)
}

/// Says that a test is skipped. Writes past the test harness, which would keep the line of a test that passes.
pub fn say_skipped(why: fmt::Arguments<'_>) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Says why, and returns from the test.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        $crate::fixtures::say_skipped(format_args!($($why)*));
        return;
    }};
}
