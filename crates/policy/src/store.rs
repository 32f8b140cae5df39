//! The draft and the published versions, in a folder.
//!
//! `draft.toml` is the draft. `000001.toml`, `000002.toml` … are the published versions: the highest is in force, and
//! all of them stay. A version's first line is a comment with [`Publication`] as JSON; the policy's text follows.
//!
//! Publishing is one step: the new version's file appears, whole, or it doesn't. So a crash leaves the old version in
//! force or the new one. A draft that is left behind by a crash equals what was published and changes nothing.
//!
//! There is one writer at a time: whoever holds the lock of the data folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{Storage, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compile::PolicyError;
use crate::diff::{auditing_switched_off, changes};
use crate::document::PolicyDocument;
use crate::policy::Policy;

/// Begins the first line of a version's file.
const HEADER: &str = "# actlog: ";

/// Who published the first version.
const FIRST_ACTOR: &str = "actlog";

/// Bytes of a version's file that are read at most: the policy and the line above it, whose changes may quote the policy
/// and the one before in full, with every character escaped.
const MAX_FILE_BYTES: u64 = 16 * PolicyDocument::MAX_BYTES as u64;

/// Keeps the draft and the published versions of the policy in a folder.
#[derive(Clone, Debug)]
pub struct PolicyStore {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
}

/// A published version.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its number: 1, 2, 3 …
    pub version: u64,
    /// When it was published.
    pub time: Timestamp,
    /// Who published it.
    pub actor: String,
    /// What it changed, a line each; see [`changes`](crate::changes).
    pub changes: Vec<String>,
    /// The text as its author wrote it.
    pub text: String,
    /// The same, parsed.
    pub document: PolicyDocument,
}

/// What the first line of a version's file says.
#[derive(Debug, Serialize, Deserialize)]
struct Publication {
    version: u64,
    time: Timestamp,
    actor: String,
    changes: Vec<String>,
    /// Of the text below, in hexadecimal digits: a version that was changed by hand is not taken for what was published.
    sha256: String,
}

/// Why the store can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A published version is damaged.
    #[error("{path}: {reason}; restore the file from a backup, or move it away to return to the version before")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such version.
    #[error("there is no version {version} of the policy in {directory}")]
    NoSuchVersion {
        /// The version asked for.
        version: u64,
        /// The folder.
        directory: PathBuf,
    },
    /// No policy has been published; [`PolicyStore::load_or_initialize`] publishes the default.
    #[error("there is no policy in {directory}; it is written when capture first runs")]
    Uninitialized {
        /// The folder.
        directory: PathBuf,
    },
    /// The draft is no valid policy.
    #[error("the draft is not valid: {0}")]
    Draft(#[from] PolicyError),
}

/// Why a draft is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no draft, or it says what is published already.
    #[error("nothing to publish: the draft changes nothing")]
    NothingToPublish,
    /// The draft switches Start Auditing off.
    #[error(
        "the draft switches start_auditing off for {}; nothing of theirs would be audited until it is switched on \
         again, and the log would state the gap. Publish with confirmation if that is meant",
        .scopes.join(", ")
    )]
    ConfirmationRequired {
        /// `default`, and organisations as the policy names them.
        scopes: Vec<String>,
    },
    /// The draft or the store can't be used. After an I/O error [`PolicyStore::load`] tells which version is in force.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PolicyStore {
    /// A store in `directory`, which need not exist. Does nothing yet.
    pub fn new(storage: Arc<dyn Storage>, directory: impl Into<PathBuf>) -> Self {
        Self { storage, directory: directory.into() }
    }

    /// The version in force; on the first run that is the default policy, published by this as version 1.
    ///
    /// # Errors
    /// As [`PolicyStore::load`], and when the default can't be written.
    pub fn load_or_initialize(&self, now: Timestamp) -> Result<Published, StoreError> {
        self.storage.create_directories(&self.directory).map_err(|source| self.io(&self.directory, source))?;
        if let Some(parent) = self.directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.storage.sync_directory(parent).map_err(|source| self.io(parent, source))?;
        }
        if self.versions()?.is_empty() {
            self.write_version(&Published {
                version: 1,
                time: now,
                actor: FIRST_ACTOR.to_owned(),
                changes: Vec::new(),
                text: PolicyDocument::DEFAULT_TEXT.to_owned(),
                document: PolicyDocument::parse(PolicyDocument::DEFAULT_TEXT)?,
            })?;
        }
        self.load()
    }

    /// The version in force.
    ///
    /// # Errors
    /// When there is none, when it is damaged, and when it can't be read.
    pub fn load(&self) -> Result<Published, StoreError> {
        let uninitialized = || StoreError::Uninitialized { directory: self.directory.clone() };
        let version = self.versions()?.last().copied().ok_or_else(uninitialized)?;
        // A file that is seen may not be durable yet, after a publish that failed at its last step. What records are
        // decided by must not vanish in a crash, or its number would be used again.
        self.storage.sync_directory(&self.directory).map_err(|source| self.io(&self.directory, source))?;
        self.version(version)
    }

    /// One published version.
    ///
    /// # Errors
    /// When there is no such version, when it is damaged, and when it can't be read.
    pub fn version(&self, version: u64) -> Result<Published, StoreError> {
        let path = self.version_path(version);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let bytes = self.storage.read(&path, MAX_FILE_BYTES).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NoSuchVersion { version, directory: self.directory.clone() },
            _ => self.io(&path, source),
        })?;
        let file = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let (header, text) = file
            .strip_prefix(HEADER)
            .and_then(|rest| rest.split_once('\n'))
            .ok_or_else(|| damaged(format!("its first line does not begin with {HEADER:?}")))?;
        let publication: Publication = serde_json::from_str(header)
            .map_err(|error| damaged(format!("its first line is not readable: {error}")))?;
        if publication.version != version || publication.sha256 != digest(text) {
            return Err(damaged("it is not what was published under its number".to_owned()));
        }
        let document = PolicyDocument::parse(text).map_err(|error| damaged(error.to_string()))?;
        let Publication { time, actor, changes, .. } = publication;
        Ok(Published { version, time, actor, changes, text: text.to_owned(), document })
    }

    /// The numbers of all published versions, ascending.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn versions(&self) -> Result<Vec<u64>, StoreError> {
        let entries = self.storage.list(&self.directory).map_err(|source| self.io(&self.directory, source))?;
        let number = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".toml")?.parse::<u64>().ok();
        // A file of another name for the same number is not ours.
        let own = |path: &Path| number(path).filter(|version| path == self.version_path(*version));
        let mut versions: Vec<_> = entries.iter().filter_map(|entry| own(&entry.path)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The draft's text; none where there is no draft.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn draft(&self) -> Result<Option<String>, StoreError> {
        let path = self.draft_path();
        match self.storage.read(&path, PolicyDocument::MAX_BYTES as u64) {
            Ok(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|error| self.io(&path, io::Error::new(io::ErrorKind::InvalidData, error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(&path, error)),
        }
    }

    /// Saves a draft, valid or not: it takes effect only when it is published.
    ///
    /// # Errors
    /// When it is too large, or can't be written; the old draft then stands.
    pub fn save_draft(&self, text: &str) -> Result<(), StoreError> {
        if text.len() > PolicyDocument::MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: text.len(), limit: PolicyDocument::MAX_BYTES }.into());
        }
        self.storage.create_directories(&self.directory).map_err(|source| self.io(&self.directory, source))?;
        let path = self.draft_path();
        self.storage.replace(&path, text.as_bytes()).map_err(|source| self.io(&path, source))
    }

    /// Checks the draft, or where there is none the version in force; the sentences it returns are warnings.
    ///
    /// # Errors
    /// When it is not valid, and when it can't be read.
    pub fn validate(&self, hash_key: Option<&[u8]>) -> Result<Vec<String>, StoreError> {
        let document = match self.draft()? {
            Some(text) => PolicyDocument::parse(&text)?,
            None => self.load()?.document,
        };
        Ok(Policy::compile(&document, 0, hash_key)?.warnings().to_vec())
    }

    /// What publishing the draft would change, a line each; nothing where there is no draft.
    ///
    /// # Errors
    /// When the draft is not valid, and when it or the version in force can't be read.
    pub fn diff(&self) -> Result<Vec<String>, StoreError> {
        match self.draft()? {
            Some(text) => Ok(changes(&self.load()?.document, &PolicyDocument::parse(&text)?)),
            None => Ok(Vec::new()),
        }
    }

    /// Publishes the draft under the next number, and removes it. The policy that comes with it is ready for use.
    ///
    /// # Errors
    /// When there is nothing to publish, when the draft is not valid, when it switches Start Auditing off for somebody
    /// and `confirm` is false: nothing has changed then. When the storage fails: the old version or the new one is in
    /// force, as [`PolicyStore::load`] tells.
    pub fn publish(
        &self,
        actor: &str,
        confirm: bool,
        hash_key: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(Published, Policy), PublishError> {
        let text = self.draft()?.ok_or(PublishError::NothingToPublish)?;
        let document = PolicyDocument::parse(&text).map_err(StoreError::from)?;
        let current = self.load()?;
        let version = current.version + 1;
        let policy = Policy::compile(&document, version, hash_key).map_err(StoreError::from)?;
        let changes = changes(&current.document, &document);
        if changes.is_empty() {
            return Err(PublishError::NothingToPublish);
        }
        let scopes = auditing_switched_off(&current.document, &document);
        if !confirm && !scopes.is_empty() {
            return Err(PublishError::ConfirmationRequired { scopes });
        }
        let published = Published { version, time: now, actor: actor.to_owned(), changes, text, document };
        self.write_version(&published)?;
        // Published it is. A draft that can't be removed changes nothing, and the next one replaces it.
        if self.storage.remove_file(&self.draft_path()).is_ok() {
            let _ = self.storage.sync_directory(&self.directory);
        }
        Ok((published, policy))
    }

    fn write_version(&self, published: &Published) -> Result<(), StoreError> {
        let Published { version, time, actor, changes, text, .. } = published;
        let path = self.version_path(*version);
        let (time, actor, changes) = (*time, actor.clone(), changes.clone());
        let publication = Publication { version: *version, time, actor, changes, sha256: digest(text) };
        let header = serde_json::to_string(&publication).map_err(|error| self.io(&path, error.into()))?;
        let content = format!("{HEADER}{header}\n{text}");
        self.storage.replace(&path, content.as_bytes()).map_err(|source| self.io(&path, source))
    }

    fn version_path(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:06}.toml"))
    }

    fn draft_path(&self) -> PathBuf {
        self.directory.join("draft.toml")
    }

    fn io(&self, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { path: path.to_owned(), source }
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}
