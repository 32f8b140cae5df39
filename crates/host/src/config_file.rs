//! Reading a configuration file, with errors that name file, line, key and remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use actlog_core::ConfigError;
use actlog_runtime::Config;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Looked for in the working folder when no `--config` is given.
pub(crate) const DEFAULT_FILE: &str = "actlog.toml";

/// What runs when there is no configuration at all.
pub(crate) const EMBEDDED: &str = include_str!("default.toml");

/// A configuration and where it came from.
pub(crate) struct Loaded {
    /// The file; none for the embedded default.
    pub(crate) file: Option<PathBuf>,
    /// Folder that relative paths are seen from.
    pub(crate) folder: PathBuf,
    /// The text, for finding lines.
    text: String,
    /// The same as JSON, for plugins' commands.
    pub(crate) value: serde_json::Value,
    /// The same, typed.
    pub(crate) config: Config,
}

/// Something wrong in a configuration file.
#[derive(Debug)]
pub(crate) struct FileError {
    file: String,
    line: Option<usize>,
    error: ConfigError,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl Loaded {
    /// Reads the file that was named; else `actlog.toml` in the working folder; else the embedded default.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, FileError> {
        let file = match named {
            Some(named) => Some(named.to_owned()),
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.is_file()),
        };
        let text = match &file {
            Some(file) => std::fs::read_to_string(file).map_err(|error| FileError {
                file: file.display().to_string(),
                line: None,
                error: ConfigError::new(
                    "",
                    format!("{error}; name the configuration with --config, or write one with `actlog init`"),
                ),
            })?,
            None => EMBEDDED.to_owned(),
        };
        Self::parse(file, text)
    }

    fn parse(file: Option<PathBuf>, text: String) -> Result<Self, FileError> {
        let name = file.as_ref().map_or_else(|| "embedded default".to_owned(), |file| file.display().to_string());
        let value: serde_json::Value = toml::from_str(&text).map_err(|error| FileError {
            file: name.clone(),
            line: error.span().map(|span| line_of(&text, span.start)),
            error: ConfigError::new("", error.message().to_owned()),
        })?;
        let parent = file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let folder = if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() };
        match actlog_core::config::deserialize::<Config>(value.clone()) {
            Ok(mut config) => {
                config.data_dir = folder.join(&config.data_dir);
                Ok(Self { file, folder, text, value, config })
            }
            Err(error) => Err(FileError { line: locate(&text, &error), file: name, error }),
        }
    }

    /// Completes an error with the file and the line.
    pub(crate) fn error(&self, error: ConfigError) -> FileError {
        FileError { file: self.name(), line: locate(&self.text, &error), error }
    }

    /// The file's name, for a person.
    pub(crate) fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "embedded default".to_owned(), |file| file.display().to_string())
    }
}

/// The line of the key that the error is about, or of the nearest table around it.
fn locate(text: &str, error: &ConfigError) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut path = error.path.clone();
    if let Some((_, rest)) = error.message.split_once("unknown field `")
        && let Some((field, _)) = rest.split_once('`')
    {
        path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    }
    let mut place = None;
    let mut table: &DeTable<'_> = table.get_ref();
    for step in path.split(['.', '[']) {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == step) else { break };
        place = Some(key.span().start);
        match value_table(value) {
            Some(inner) => table = inner,
            None => break,
        }
    }
    place.map(|offset| line_of(text, offset))
}

fn value_table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        match Loaded::parse(Some("folder/actlog.toml".into()), text.to_owned()) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let error = error_of("data_dir = \"x\"\n\n[journal]\nbudget = \"10 furlongs\"\n");
        assert!(error.starts_with("folder/actlog.toml:4: journal.budget: "), "{error}");
        let error = error_of("[admin]\nlisten = \"off\"\ncolour = 1\n");
        assert!(error.starts_with("folder/actlog.toml:3: admin") && error.contains("`colour`"), "{error}");
        let error = error_of("data_dir = \n");
        assert!(error.starts_with("folder/actlog.toml:1: "), "{error}");
    }

    #[test]
    fn a_plugins_error_is_located_too() {
        let text = "[sinks.audit]\ntype = \"file\"\n\n[sinks.audit.rotate]\nsize = 1\n";
        let loaded = Loaded::parse(None, text.to_owned()).unwrap_or_else(|e| panic!("{e}"));
        let error = loaded.error(ConfigError::new("sinks.audit.rotate.size", "too small"));
        assert_eq!(error.to_string(), "embedded default:5: sinks.audit.rotate.size: too small");
    }
}
