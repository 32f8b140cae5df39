//! What was refused for good, with the reason, so that it can be looked at and sent again.
//!
//! A file of JSON lines for each component, `deadletters/<component>.jsonl`: letters, and marks that say which of them
//! were replayed. A letter is durable before anybody is told that it was stored. Entries that a sink refused keep their
//! place in the journal, their salt and their exact bytes; input that a source could not read keeps its bytes only
//! where the policy leaves all values as they are.
//!
//! Invariant: a line is written whole and synced, or it is cut off when the file is next opened. A file is continued by
//! the one who wrote it, and only as long as nothing fails: whoever comes after an error or a restart begins with a
//! synced copy, since what a failed sync has left out can be read, and is gone after a crash all the same.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{Entry, EntryKind, OpenMode, Storage, StorageFile, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeadLetter {
    /// Its number within the component's letters, from 1.
    pub number: u64,
    /// When it was refused.
    pub time: Timestamp,
    /// The component that refused it.
    pub component: String,
    /// Why.
    pub reason: String,
    /// Where a source found it: file and line, or request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Number of the entry in the journal, where a sink refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Id of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// CreationTime of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Timestamp>,
    /// The entry's salt, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The record, byte for byte as in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<RawValue>>,
    /// The input that a source could not read, as text; absent where the policy does not keep all values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Bytes of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_length: Option<u64>,
}

impl DeadLetter {
    /// The entry that a sink refused; none for a source's letter.
    pub fn entry(&self) -> Option<Entry> {
        let mut salt = [0; 32];
        hex::decode_to_slice(self.salt.as_deref()?, &mut salt).ok()?;
        Some(Entry {
            index: self.index?,
            kind: EntryKind::Record,
            id: self.id?,
            time: self.creation_time?,
            salt,
            bytes: bytes::Bytes::copy_from_slice(self.record.as_ref()?.get().as_bytes()),
        })
    }
}

/// A line of a component's file: `{"Letter":{…}}` or `{"Replayed":NUMBER}`.
#[derive(Serialize, Deserialize)]
enum Line {
    Letter(Box<DeadLetter>),
    Replayed(u64),
}

/// The letters of all components.
#[derive(Debug)]
pub struct DeadLetters {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    open: BTreeMap<String, Component>,
}

#[derive(Debug)]
struct Component {
    file: Box<dyn StorageFile>,
    /// Where the next line goes: behind the last whole one.
    length: u64,
    next_number: u64,
}

/// Letters are not added to a component's file beyond this; then the component is stopped with an error that says so.
/// The file is read whole, by the running process too, so this bounds what that takes.
const MAXIMUM_BYTES: u64 = 32 << 20;
/// Marks are always added, since they make room: there is at most one for each letter, and each is smaller than one.
const MAXIMUM_READ: u64 = 2 * MAXIMUM_BYTES;
/// Of an input that is no record, so much is kept.
const MAXIMUM_INPUT: usize = 1 << 20;

impl DeadLetters {
    /// The letters below `data_dir`.
    pub fn new(storage: Arc<dyn Storage>, data_dir: &Path) -> Self {
        Self { storage, folder: data_dir.join("deadletters"), open: BTreeMap::new() }
    }

    /// Letters that wait, by component and number.
    ///
    /// # Errors
    /// As the operating system gives them; `InvalidData` for a line that is none of ours.
    pub fn list(&self) -> io::Result<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        for file in self.storage.list(&self.folder)? {
            if is_letters(&file.path) {
                letters.extend(read(&*self.storage, &file.path)?.waiting);
            }
        }
        Ok(letters)
    }

    /// How many letters wait, by component. Reads the files.
    ///
    /// # Errors
    /// As [`DeadLetters::list`].
    pub fn counts(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for file in self.storage.list(&self.folder)? {
            let component = file.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            if let Some(component) = component.filter(|_| is_letters(&file.path)) {
                let waiting = read(&*self.storage, &file.path)?.waiting.len() as u64;
                if waiting > 0 {
                    counts.insert(component, waiting);
                }
            }
        }
        Ok(counts)
    }

    /// Stores an entry that a sink refused. Durable when this returns.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn put_entry(&mut self, component: &str, entry: &Entry, reason: &str, time: Timestamp) -> io::Result<()> {
        let text = std::str::from_utf8(&entry.bytes).map_err(io::Error::other)?;
        let letter = DeadLetter {
            number: 0,
            time,
            component: component.to_owned(),
            reason: reason.to_owned(),
            place: None,
            index: Some(entry.index),
            id: Some(entry.id),
            creation_time: Some(entry.time),
            salt: Some(hex::encode(entry.salt)),
            record: Some(RawValue::from_string(text.to_owned())?),
            input: None,
            input_length: None,
        };
        self.put(letter)
    }

    /// Stores input that a source could not read; its bytes only if `keep_bytes`. Durable when this returns.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn put_input(
        &mut self,
        component: &str,
        input: &actlog_core::RejectedInput<'_>,
        keep_bytes: bool,
        time: Timestamp,
    ) -> io::Result<()> {
        let kept = &input.bytes[..input.bytes.len().min(MAXIMUM_INPUT)];
        let letter = DeadLetter {
            number: 0,
            time,
            component: component.to_owned(),
            reason: input.reason.clone(),
            place: Some(input.place.clone()),
            index: None,
            id: None,
            creation_time: None,
            salt: None,
            record: None,
            input: keep_bytes.then(|| String::from_utf8_lossy(kept).into_owned()),
            input_length: Some(input.bytes.len() as u64),
        };
        self.put(letter)
    }

    /// Marks a letter as replayed. Durable when this returns.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn mark_replayed(&mut self, component: &str, number: u64) -> io::Result<()> {
        self.append(component, |_| Line::Replayed(number))
    }

    fn put(&mut self, mut letter: DeadLetter) -> io::Result<()> {
        let component = letter.component.clone();
        self.append(&component, move |open| {
            letter.number = open.next_number;
            open.next_number += 1;
            Line::Letter(Box::new(letter))
        })
    }

    fn append(&mut self, name: &str, line: impl FnOnce(&mut Component) -> Line) -> io::Result<()> {
        let mut component = match self.open.remove(name) {
            Some(component) => component,
            None => self.open_component(name)?,
        };
        let line = line(&mut component);
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let is_too_long = |component: &Component| component.length + bytes.len() as u64 > MAXIMUM_BYTES;
        if matches!(line, Line::Letter(_)) && is_too_long(&component) {
            // Opening it anew leaves out what was replayed.
            let next_number = component.next_number;
            component = Component { next_number, ..self.open_component(name)? };
            if is_too_long(&component) {
                let advice = format!(
                    "the dead letters of {name} have reached {MAXIMUM_BYTES} bytes; replay them, or stop actlog and move \
                     their file away"
                );
                return Err(io::Error::new(io::ErrorKind::StorageFull, advice));
            }
        }
        component.file.write_all_at(&bytes, component.length)?;
        component.file.sync()?;
        component.length += bytes.len() as u64;
        // Only what went well is kept open: after an error the file is read anew, and a torn line cut off.
        self.open.insert(name.to_owned(), component);
        Ok(())
    }

    /// Opens a component's file; one that exists is written anew with the letters that wait, and the highest number that
    /// was ever given.
    fn open_component(&self, name: &str) -> io::Result<Component> {
        self.storage.create_directories(&self.folder)?;
        let path = self.folder.join(format!("{name}.jsonl"));
        let Some(_) = self.storage.length(&path)? else {
            let file = self.storage.open(&path, OpenMode::CreateNew)?;
            self.storage.sync_directory(&self.folder)?;
            return Ok(Component { file, length: 0, next_number: 1 });
        };
        let Content { waiting, highest_number } = read(&*self.storage, &path)?;
        let mut content = Vec::new();
        let is_highest = |letter: &DeadLetter| letter.number == highest_number;
        let given = (highest_number > 0 && !waiting.iter().any(is_highest)).then_some(Line::Replayed(highest_number));
        for line in waiting.into_iter().map(|letter| Line::Letter(Box::new(letter))).chain(given) {
            serde_json::to_writer(&mut content, &line)?;
            content.push(b'\n');
        }
        self.storage.replace(&path, &content)?;
        let file = self.storage.open(&path, OpenMode::Write)?;
        Ok(Component { file, length: content.len() as u64, next_number: highest_number + 1 })
    }
}

struct Content {
    waiting: Vec<DeadLetter>,
    highest_number: u64,
}

fn is_letters(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

fn read(storage: &dyn Storage, path: &Path) -> io::Result<Content> {
    let bytes = storage.read(path, MAXIMUM_READ)?;
    let mut waiting = BTreeMap::new();
    let mut highest_number = 0;
    let mut whole = 0;
    for (place, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let end = whole + text.len();
        let line = match serde_json::from_slice(text) {
            Ok(line) if text.ends_with(b"\n") => line,
            Err(error) if end < bytes.len() => {
                let place = format!("{} line {}: not a dead letter: {error}", path.display(), place + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, place));
            }
            // Only the last line can be torn: a crash leaves any sectors of it, its end among them.
            _ => break,
        };
        whole = end;
        match line {
            Line::Letter(letter) => {
                highest_number = highest_number.max(letter.number);
                waiting.insert(letter.number, *letter);
            }
            Line::Replayed(number) => {
                highest_number = highest_number.max(number);
                waiting.remove(&number);
            }
        }
    }
    Ok(Content { waiting: waiting.into_values().collect(), highest_number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actlog_testkit::storage::FaultStorage;

    fn entry(index: u64) -> Entry {
        let bytes = bytes::Bytes::from(format!("{{\"Id\":{index},\"text\":\"a  b\"}}"));
        Entry {
            index,
            kind: EntryKind::Record,
            id: Uuid::from_u128(index.into()),
            time: Timestamp::default(),
            salt: [7; 32],
            bytes,
        }
    }

    #[test]
    fn a_letter_keeps_the_exact_entry_and_is_gone_once_replayed() {
        let storage: Arc<dyn Storage> = Arc::new(FaultStorage::new(1));
        let mut letters = DeadLetters::new(Arc::clone(&storage), Path::new("/data"));
        letters.put_entry("audit", &entry(4), "too large", Timestamp::default()).unwrap();
        letters.put_entry("audit", &entry(9), "too large", Timestamp::default()).unwrap();
        letters.mark_replayed("audit", 1).unwrap();

        let mut again = DeadLetters::new(storage, Path::new("/data"));
        let waiting = again.list().unwrap();
        assert_eq!(waiting.iter().map(|letter| letter.number).collect::<Vec<_>>(), [2]);
        assert_eq!(waiting[0].entry(), Some(entry(9)));
        again.put_entry("audit", &entry(11), "again", Timestamp::default()).unwrap();
        assert_eq!(again.list().unwrap()[1].number, 3, "numbers are never used twice");
    }

    #[test]
    fn a_full_file_takes_no_more_letters_until_some_are_replayed_and_no_number_is_given_twice() {
        let storage: Arc<dyn Storage> = Arc::new(FaultStorage::new(1));
        let mut letters = DeadLetters::new(Arc::clone(&storage), Path::new("/data"));
        let large = Entry { bytes: format!("\"{}\"", "x".repeat(10 << 20)).into(), ..entry(1) };
        let put = |letters: &mut DeadLetters| letters.put_entry("audit", &large, "too large", Timestamp::default());
        for _ in 0..3 {
            put(&mut letters).unwrap();
        }
        let full = put(&mut letters).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        for number in 1..=3 {
            letters.mark_replayed("audit", number).unwrap();
        }
        assert!(letters.counts().unwrap().is_empty());
        put(&mut letters).unwrap();
        assert_eq!(letters.list().unwrap()[0].number, 4);
        letters.mark_replayed("audit", 4).unwrap();
        let mut again = DeadLetters::new(storage, Path::new("/data"));
        put(&mut again).unwrap();
        assert_eq!(again.list().unwrap().iter().map(|letter| letter.number).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn input_is_stored_only_where_the_policy_keeps_it() {
        let mut letters = DeadLetters::new(Arc::new(FaultStorage::new(1)), Path::new("/data"));
        let input = actlog_core::RejectedInput {
            place: "a.ndjson line 3".into(),
            reason: "no context".into(),
            organization: None,
            bytes: b"{\"ssn\":\"123\"}",
        };
        letters.put_input("crm", &input, false, Timestamp::default()).unwrap();
        letters.put_input("crm", &input, true, Timestamp::default()).unwrap();
        let stored = letters.list().unwrap();
        assert_eq!((stored[0].input.as_deref(), stored[0].input_length), (None, Some(13)));
        assert_eq!(stored[1].input.as_deref(), Some("{\"ssn\":\"123\"}"));
    }

    /// What survives a crash during the third letter, after an error during the second.
    #[test]
    fn letters_that_were_stored_survive_errors_and_crashes_at_any_step() {
        let long = "x".repeat(3000);
        for step in 0..30 {
            let storage = FaultStorage::new(step);
            storage.create_directories(Path::new("/data")).unwrap();
            let begin = storage.steps();
            storage.fail_at(begin + step, actlog_testkit::storage::Fault::Eio);
            storage.halt_at(begin + 2 * step);
            let mut letters = DeadLetters::new(Arc::new(storage.clone()), Path::new("/data"));
            let stored: Vec<u64> = (1..=8)
                .filter(|index| letters.put_entry("audit", &entry(*index), &long, Timestamp::default()).is_ok())
                .collect();
            let survivor: Arc<dyn Storage> = Arc::new(storage.crash(step));
            let mut letters = DeadLetters::new(survivor, Path::new("/data"));
            letters.put_entry("audit", &entry(99), &long, Timestamp::default()).unwrap();
            let found: Vec<u64> = letters.list().unwrap().iter().filter_map(|letter| letter.index).collect();
            assert!(stored.iter().chain(&[99]).all(|index| found.contains(index)), "step {step}: {stored:?} {found:?}");
        }
    }
}
