//! `actlog policy`.

mod diff;
mod import;
mod live;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use actlog_core::Secret;
use actlog_policy::{Policy, PolicyDocument, PolicyStore, StoreError};
use actlog_runtime::{DiskStorage, Request, policy_folder};

use super::{Failure, Outcome, change, output};
use crate::config_file::Loaded;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Prints the policy in force
    Show {
        /// Print the draft instead
        #[arg(long, conflicts_with_all = ["version", "default"])]
        draft: bool,
        /// Print this published version instead
        #[arg(long)]
        version: Option<u64>,
        /// Print the default policy instead, with what every key means
        #[arg(long, conflicts_with = "version")]
        default: bool,
    },
    /// Keeps a file as the draft; it takes effect when it is published
    Draft {
        /// The file, as TOML
        file: PathBuf,
    },
    /// Checks the draft, or a file
    Validate {
        /// The file, as TOML
        file: Option<PathBuf>,
    },
    /// Reads the audit flags of a solution into the draft: from a solution file, a customizations.xml or an unpacked
    /// Entity.xml
    Import {
        /// The file
        file: PathBuf,
        /// Set them for this organisation only: its id or unique name, as the policy has it
        #[arg(long)]
        organization: Option<String>,
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists what publishing the draft would change; or where the policy and the audit flags of Dataverse differ
    Diff(diff::Arguments),
    /// Puts the draft into force, at once, also in a running process
    Publish {
        /// Say that switching auditing off is meant
        #[arg(long)]
        confirm: bool,
    },
    /// Lists the published versions: when, by whom, what changed
    History,
}

pub(crate) fn carry_out(command: Command, loaded: &Loaded) -> Outcome {
    let store = PolicyStore::new(Arc::new(DiskStorage), policy_folder(&loaded.config.data_dir));
    match command {
        Command::Show { default: true, .. } => output::line(PolicyDocument::DEFAULT_TEXT.trim_end()),
        Command::Show { draft: true, .. } => match store.draft()? {
            Some(text) => output::line(text.trim_end()),
            None => return Err(no_draft()),
        },
        Command::Show { version: Some(version), .. } => output::line(store.version(version)?.text.trim_end()),
        Command::Show { .. } => output::line(published(&store)?.trim_end()),
        Command::Draft { file } => {
            let text = read(&file)?;
            check(&text, loaded).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
            keep(&text, &store, loaded)?;
        }
        Command::Validate { file } => {
            let (name, text) = match file {
                Some(file) => (file.display().to_string(), read(&file)?),
                None => ("the draft".to_owned(), store.draft()?.ok_or_else(no_draft)?),
            };
            check(&text, loaded).map_err(|error| Failure(format!("{name}: {error}")))?;
            output::line(format!("{name}: good"));
        }
        Command::Import { file, organization, dry_run } => {
            return import::carry_out(&file, organization.as_deref(), dry_run, &store, loaded);
        }
        Command::Diff(arguments) => return diff::carry_out(&arguments, &store, loaded),
        Command::Publish { confirm } => {
            let answer = change(loaded, Request::PublishPolicy { confirm })?;
            output::line(format!("version {} is in force:", answer["version"]));
            for change in answer["changes"].as_array().into_iter().flatten() {
                output::line(format!("  {}", change.as_str().unwrap_or_default()));
            }
        }
        Command::History => {
            for version in store.versions()? {
                let published = store.version(version)?;
                output::line(format!(
                    "version {version}, {}, by {}",
                    published.time,
                    output::harmless(&published.actor)
                ));
                for change in &published.changes {
                    output::line(format!("  {}", output::harmless(change)));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of the policy in force.
fn published(store: &PolicyStore) -> Result<String, Failure> {
    match store.load() {
        Ok(published) => Ok(published.text),
        // Nothing has run on this data folder yet: the default is what will be in force.
        Err(StoreError::Uninitialized { .. }) => Ok(PolicyDocument::DEFAULT_TEXT.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Keeps a checked policy as the draft.
fn keep(text: &str, store: &PolicyStore, loaded: &Loaded) -> Result<(), Failure> {
    actlog_core::Storage::create_directories(&DiskStorage, &loaded.config.data_dir)?;
    store.save_draft(text)?;
    output::line(
        "kept as the draft; `actlog policy diff` shows what it would change, `actlog policy publish` puts it into force",
    );
    Ok(())
}

/// Checks a policy with the hash key that it would be used with; prints warnings.
fn check(text: &str, loaded: &Loaded) -> Result<(), Failure> {
    let document = PolicyDocument::parse(text)?;
    let hash_key = match &loaded.config.policy.hash_key {
        Some(reference) => {
            Some(reference.load(&loaded.folder).map_err(|error| loaded.error(error.within("policy.hash_key")))?)
        }
        None => None,
    };
    let policy = Policy::compile(&document, 0, hash_key.as_ref().map(Secret::expose))?;
    for warning in policy.warnings() {
        output::line(format!("warning: {warning}"));
    }
    Ok(())
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| Failure(format!("{}: {error}", file.display())))
}

fn no_draft() -> Failure {
    Failure(
        "there is no draft; `actlog policy draft FILE` makes one, `actlog policy show` prints what to begin with"
            .to_owned(),
    )
}
