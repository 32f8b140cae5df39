//! The sink's configuration, and what can be wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use actlog_core::config::{only_for, within};
use actlog_core::{ConfigError, Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::columns;
use crate::template::Template;

/// `[sinks.NAME]` with `type = "file"`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where the records go, such as `{data_dir}/audit/{date}.jsonl`. Placeholders: `{data_dir}` the data folder (at the
    /// beginning only), `{name}` this sink's name, `{date}` the UTC day of writing (`2018-03-02`), `{hour}` its UTC hour
    /// (`23`), `{source}` the component that captured the record, `{organization}` the configured name of the record's
    /// organisation, else its unique name, else its id. What a record lacks is `none`; in values everything but ASCII
    /// letters, digits, `.`, `_` and `-` becomes `_`, and 64 characters are kept. Relative paths are seen from the
    /// configuration file's folder. The files are this sink's own: no two sinks may share a path.
    pub path: String,
    /// What the files look like: `jsonl`, `csv`, or `spec` (the layout of the specification's examples).
    #[serde(default)]
    pub format: Format,
    /// When a file is closed and another one begun, besides a change of `{date}` or `{hour}` in the path.
    #[serde(default)]
    pub rotate: Rotate,
    /// How closed files are compressed, in the background: `none`, `gzip`, `zstd`.
    #[serde(default)]
    pub compress: Compression,
    /// How long after its last change a closed file is removed, such as `90 days`; at least 1 min. Left out: never.
    #[serde(default)]
    pub max_age: Option<Span>,
    /// Whether each line carries the record's number in the journal and the salt of its commitment, so that the line
    /// can be checked against the proof of the log: the keys or columns `JournalIndex` and `JournalSalt` (64 hexadecimal
    /// digits).
    #[serde(default)]
    pub proof: bool,
    /// `csv` only: whether cells that a spreadsheet would take for a formula are written as they are. Whoever opens
    /// such a file in a spreadsheet runs what others have put into the records.
    #[serde(default)]
    pub raw_csv: bool,
    /// `jsonl` only: whether the journal's statements about itself (start, stop, gap, policy …) are written as lines too.
    #[serde(default)]
    pub statements: bool,
    /// `csv` and `spec` only: the columns and their order, by the names of the record's keys or of the specification's
    /// examples, in any case; printed as they are written here. Left out: all keys, or those of the specification's
    /// first example.
    #[serde(default)]
    pub columns: Vec<String>,
    /// `spec` only: display names of entities by their logical names: `{ incident = "Case" }`. Without one, a logical
    /// name that is one word gets a capital letter, and any other stays as it is.
    #[serde(default)]
    pub display_names: BTreeMap<String, String>,
    /// `spec` only: by system user id, what records of that user lack: `{ "…" = { user_key = "10033…", client_ip = "…" } }`.
    #[serde(default)]
    pub users: BTreeMap<Uuid, User>,
    /// How long a record may wait until it is on disk in its file and the journal is told so; 10 ms to 1 h.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Span,
    /// After how many bytes that happens earlier; 64 KiB to 1 GiB.
    #[serde(default = "default_commit_bytes")]
    pub commit_bytes: Size,
}

fn default_commit_interval() -> Span {
    Span(Duration::from_secs(1))
}

fn default_commit_bytes() -> Size {
    Size(8 << 20)
}

/// What the files look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The stored bytes of each record, a line each.
    #[default]
    Jsonl,
    /// A header, then a row for each record, quoted as in RFC 4180.
    Csv,
    /// A table in the layout of the specification's examples.
    Spec,
}

/// When a file is closed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Once it has reached this size, such as `256 MiB`; at least 4 KiB. Left out: at no size.
    #[serde(default)]
    pub size: Option<Size>,
    /// Once it was begun that long ago, such as `1 h`; at least 1 s, kept to within 10 s. Left out: at no age.
    #[serde(default)]
    pub age: Option<Span>,
}

/// How closed files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// To `….gz`.
    Gzip,
    /// To `….zst`.
    Zstd,
}

/// What the `spec` layout prints of a user where the record has nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The PUID, as `UserKey`.
    #[serde(default)]
    pub user_key: Option<String>,
    /// The address, as `ClientIP`.
    #[serde(default)]
    pub client_ip: Option<String>,
}

impl FileConfig {
    /// What `SinkPlugin::validate` does.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        Template::parse(&self.path)?;
        let (jsonl, csv, spec) =
            (self.format == Format::Jsonl, self.format == Format::Csv, self.format == Format::Spec);
        only_for(self.raw_csv, csv, "raw_csv", "csv")?;
        only_for(self.statements, jsonl, "statements", "jsonl")?;
        only_for(!self.columns.is_empty(), !jsonl, "columns", "csv\" or \"spec")?;
        only_for(!self.display_names.is_empty(), spec, "display_names", "spec")?;
        only_for(!self.users.is_empty(), spec, "users", "spec")?;
        for (place, name) in self.columns.iter().enumerate() {
            if columns::key(name).is_none() {
                let known = columns::KEYS.join(", ");
                let message = format!("there is no column {name:?}; use the names of the record's keys: {known}");
                return Err(ConfigError::new(format!("columns[{place}]"), message));
            }
        }
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        within("commit_interval", self.commit_interval, Span(second / 100)..=Span(hour))?;
        within("commit_bytes", self.commit_bytes, Size(64 << 10)..=Size(1 << 30))?;
        if let Some(size) = self.rotate.size {
            within("rotate.size", size, Size(4 << 10)..=Size(1 << 50))?;
        }
        let longest = Span(hour * 24 * 36_525);
        if let Some(age) = self.rotate.age {
            within("rotate.age", age, Span(second)..=longest)?;
        }
        if let Some(age) = self.max_age {
            within("max_age", age, Span(second * 60)..=longest)?;
        }
        Ok(())
    }
}
