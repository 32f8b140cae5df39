//! `actlog policy import`.

use std::path::Path;
use std::process::ExitCode;

use actlog_dataverse::customizations::{self, AuditFlags};
use actlog_policy::{PolicyDocument, PolicyStore, changes};

use super::{check, keep, published};
use crate::commands::{Failure, Outcome, output};
use crate::config_file::Loaded;

/// Reads the audit flags of a solution into the draft.
pub(super) fn carry_out(
    file: &Path,
    organization: Option<&str>,
    dry_run: bool,
    store: &PolicyStore,
    loaded: &Loaded,
) -> Outcome {
    let flags = read(file)?;
    let columns: usize = flags.entities.values().map(|entity| entity.attributes.len()).sum();
    output::line(format!("{}: entities: {}, columns: {columns}", file.display(), flags.entities.len()));
    for warning in &flags.warnings {
        output::line(format!("warning: {}", output::harmless(warning)));
    }
    let before = match store.draft()? {
        Some(draft) => draft,
        None => published(store)?,
    };
    let before = PolicyDocument::parse(&before)?;
    let imported = before.with_flags(&flags, organization);
    for note in &imported.notes {
        output::line(format!("note: {}", output::harmless(note)));
    }
    let text = imported.document.to_toml();
    check(&text, loaded)?;
    let changes = changes(&before, &imported.document);
    if changes.is_empty() {
        output::line("nothing changes: the policy says the same already");
        return Ok(ExitCode::SUCCESS);
    }
    output::line("changes:");
    for change in &changes {
        output::line(format!("  {}", output::harmless(change)));
    }
    if dry_run {
        output::line("this was a dry run: nothing is kept");
    } else {
        keep(&text, store, loaded)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The audit flags that a solution file, or a file out of one, holds.
pub(super) fn read(file: &Path) -> Result<AuditFlags, Failure> {
    let name = file.display().to_string();
    let failure = |error: &dyn std::fmt::Display| Failure(format!("{name}: {error}"));
    let opened = std::fs::File::open(file).map_err(|error| failure(&error))?;
    // A pipe can't be read twice, and a folder not at all.
    if !opened.metadata().map_err(|error| failure(&error))?.is_file() {
        return Err(failure(&"this is no file; name a solution file, a customizations.xml or an Entity.xml"));
    }
    customizations::read(opened, &name).map_err(|error| failure(&error))
}
