//! `actlog init`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, Outcome, output};
use crate::config_file::{DEFAULT_FILE, EMBEDDED};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder to write to, made when absent
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn carry_out(arguments: &Arguments, named: Option<&Path>) -> Outcome {
    let file = named.map_or_else(|| arguments.folder.join(DEFAULT_FILE), Path::to_owned);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let data_dir = folder.join("actlog-data");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data_dir)?;
    let mut created = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .map_err(|error| Failure(format!("{}: {error}; `init` never writes over a file", file.display())))?;
    created.write_all(EMBEDDED.as_bytes())?;
    let key_file = data_dir.join("webhook.key");
    if !key_file.exists() {
        super::run::write_key(&key_file)?;
    }
    output::line(format!(
        "Wrote {} and the webhook key in {}.\nStart with: actlog --config {} run",
        file.display(),
        key_file.display(),
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}
