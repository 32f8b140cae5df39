//! What is known of the users of an organisation, now and earlier: contexts carry ids of users, people ask by name.
//!
//! A directory is a file of [`UserEntry`] lines, one for each user and each change, oldest first. The last entry of a
//! user is what holds now; all of them together say which ids a name ever stood for, so that a query by name also finds
//! what was captured before the name was known. It is read and written through core's
//! [`Storage`]; a line is durable before it is used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{OpenMode, Storage, StorageFile, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name or key that is kept; a UPN has 113 characters at most, an e-mail address 320.
pub const MAXIMUM_TEXT: usize = 512;
/// Most users of a directory.
pub const MAXIMUM_USERS: usize = 2_000_000;
/// Most bytes of a directory's file; some 200 a user and change.
const MAXIMUM_FILE: u64 = 2 << 30;

/// What a user is, in the words of the record's `UserType`.
pub mod user_type {
    /// A person.
    pub const REGULAR: i32 = 0;
    /// A person who administers: who has the role System Administrator, or only administrative access.
    pub const ADMINISTRATOR: i32 = 2;
    /// Microsoft's support.
    pub const SUPPORT: i32 = 3;
    /// The platform itself.
    pub const SYSTEM: i32 = 4;
    /// An application.
    pub const APPLICATION: i32 = 5;
}

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    /// The user principal name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_upn: Option<Box<str>>,
    /// The identity in Entra: the PUID where known, else the object id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_key: Option<Box<str>>,
    /// One of [`user_type`]; none when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<i32>,
}

/// A line of the file: what has been known of a user since a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserEntry {
    /// When it was found out.
    pub time: Timestamp,
    /// The user.
    pub system_user_id: Uuid,
    /// What is known.
    #[serde(flatten)]
    pub user: User,
}

/// Where the directory of that name has its file, below the data folder.
pub fn file(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("enrichments").join(name).join("users.jsonl")
}

/// The entries of a file, oldest first; none when there is no file. A line that a crash has cut short is passed over.
///
/// # Errors
/// When the file can't be read, or holds something else; the error names the line.
pub fn read(storage: &dyn Storage, path: &Path) -> io::Result<Vec<UserEntry>> {
    Ok(load(storage, path)?.0)
}

/// The ids that a name has ever stood for, without regard to case.
pub fn ids_of(entries: &[UserEntry], user_upn: &str) -> BTreeSet<Uuid> {
    let is_wanted = |entry: &&UserEntry| {
        entry.user.user_upn.as_deref().is_some_and(|name| name.to_lowercase() == user_upn.to_lowercase())
    };
    entries.iter().filter(is_wanted).map(|entry| entry.system_user_id).collect()
}

/// Entries, and how many bytes of the file they are.
fn load(storage: &dyn Storage, path: &Path) -> io::Result<(Vec<UserEntry>, u64)> {
    let bytes = match storage.read(path, MAXIMUM_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        read => read?,
    };
    // What has no line end was being written when the process ended.
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(bytes[..whole].split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
        let entry = serde_json::from_slice(line).map_err(|error| {
            let message = format!("{} line {number}: no entry of a directory: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        entries.push(entry);
    }
    Ok((entries, whole as u64))
}

/// The file of one directory, open for what is found out.
#[derive(Debug)]
pub struct Directory {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// None until something is written, and after a failure: then the file is read anew.
    file: Option<(Box<dyn StorageFile>, u64)>,
    known: HashMap<Uuid, User>,
}

impl Directory {
    /// Opens what earlier runs have found out.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(storage: Arc<dyn Storage>, path: PathBuf) -> io::Result<Self> {
        let (entries, _) = load(&*storage, &path)?;
        let known = entries.into_iter().map(|entry| (entry.system_user_id, entry.user)).collect();
        Ok(Self { storage, path, file: None, known })
    }

    /// What is known now.
    pub fn known(&self) -> &HashMap<Uuid, User> {
        &self.known
    }

    /// Takes in what a table of users says; users that are not in it keep what was known of them. Returns how many
    /// entries were written. What changed is durable, and part of [`Directory::known`], when this returns; after an error
    /// nothing is.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn update(&mut self, users: BTreeMap<Uuid, User>, time: Timestamp) -> io::Result<usize> {
        let changed: Vec<UserEntry> = users
            .into_iter()
            .filter(|(id, user)| self.known.get(id) != Some(user))
            .map(|(system_user_id, user)| UserEntry { time, system_user_id, user })
            .collect();
        if changed.is_empty() {
            return Ok(0);
        }
        let mut lines = Vec::new();
        for entry in &changed {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        // A file that failed is not written to again; it is opened anew and cut back.
        let (file, length) = match self.file.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        file.write_all_at(&lines, length)?;
        file.sync()?;
        self.file = Some((file, length + lines.len() as u64));
        let written = changed.len();
        self.known.extend(changed.into_iter().map(|entry| (entry.system_user_id, entry.user)));
        Ok(written)
    }

    /// Opens the file for writing and cuts off an unfinished line.
    fn open_file(&self) -> io::Result<(Box<dyn StorageFile>, u64)> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.storage.create_directories(folder)?;
        let (_, length) = load(&*self.storage, &self.path)?;
        let file = self.storage.open(&self.path, OpenMode::Create)?;
        file.set_length(length)?;
        self.storage.sync_directory(folder)?;
        Ok((file, length))
    }
}

#[cfg(test)]
mod tests {
    use actlog_testkit::storage::FaultStorage;

    use super::*;

    fn user(name: &str) -> User {
        User { user_upn: Some(name.into()), user_key: None, user_type: Some(user_type::REGULAR) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(second * 1000)
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn only_what_changed_is_written_and_a_name_leads_to_every_id_that_it_stood_for() {
        let storage = Arc::new(FaultStorage::new(1));
        let path = file(Path::new("/data"), "users");
        let mut directory = Directory::open(storage.clone(), path.clone()).unwrap();
        let first = BTreeMap::from([(id(1), user("ann@contoso.com")), (id(2), user("bob@contoso.com"))]);
        assert_eq!(directory.update(first.clone(), at(1)).unwrap(), 2);
        assert_eq!(directory.update(first, at(2)).unwrap(), 0);
        let renamed = BTreeMap::from([(id(1), user("ann.b@contoso.com")), (id(3), user("Ann@contoso.com"))]);
        assert_eq!(directory.update(renamed, at(3)).unwrap(), 2);

        let again = Directory::open(storage.clone(), path.clone()).unwrap();
        assert_eq!(again.known(), directory.known());
        assert_eq!(again.known()[&id(2)], user("bob@contoso.com"), "who is not listed any more keeps the name");
        let entries = read(&*storage, &path).unwrap();
        assert_eq!(entries.len(), 4);
        assert_eq!(ids_of(&entries, "ANN@contoso.com"), BTreeSet::from([id(1), id(3)]));
        assert_eq!(ids_of(&entries, "ann.b@contoso.com"), BTreeSet::from([id(1)]));
        assert!(ids_of(&entries, "nobody").is_empty());
    }

    #[test]
    fn a_line_that_was_cut_short_is_passed_over_and_written_over() {
        let storage = Arc::new(FaultStorage::new(1));
        let path = file(Path::new("/data"), "users");
        let mut directory = Directory::open(storage.clone(), path.clone()).unwrap();
        directory.update(BTreeMap::from([(id(1), user("ann"))]), at(1)).unwrap();
        let torn = storage.open(&path, OpenMode::Write).unwrap();
        torn.write_all_at(b"{\"Time\":\"20", torn.length().unwrap()).unwrap();

        let mut again = Directory::open(storage.clone(), path.clone()).unwrap();
        assert_eq!(again.known().len(), 1);
        again.update(BTreeMap::from([(id(2), user("bob"))]), at(2)).unwrap();
        assert_eq!(read(&*storage, &path).unwrap().len(), 2);
    }

    #[test]
    fn something_else_in_the_file_is_an_error_that_names_the_line() {
        let storage = Arc::new(FaultStorage::new(1));
        let path = file(Path::new("/data"), "users");
        storage.create_directories(path.parent().unwrap()).unwrap();
        let file = storage.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(b"{}\n", 0).unwrap();
        let error = Directory::open(storage, path).unwrap_err();
        assert!(error.to_string().contains("users.jsonl line 1"), "{error}");
    }
}
