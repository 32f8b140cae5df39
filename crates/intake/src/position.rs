//! How far files have been read, as it is committed with the records.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

/// First byte of an encoded position: its version.
const VERSION: u8 = 1;
/// Bytes at a file's beginning that tell it from another one that comes to have its name.
pub(crate) const PREFIX: usize = 1024;
/// Bytes of one encoded file.
const ENTRY: usize = 16 + 2 + 16 + 8 + 8 + 8;
/// Most files whose places fit into a position (journals keep up to 1 MiB of it, with every batch).
pub(crate) const MAXIMUM_FILES: usize = 16_000;

/// The places reached in all files, by digest of the path.
///
/// A file is the same as before when its path is, and when it still begins with what it began with. A file that was
/// renamed is another one: reading it again costs time, and its records are dropped as duplicates by their Ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    files: BTreeMap<[u8; 16], Place>,
}

/// The place reached in one file. Bytes and lines are those of the decompressed content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    prefix_length: u16,
    prefix: [u8; 16],
    /// Bytes that have been read.
    pub(crate) offset: u64,
    /// Line ends that have been read.
    pub(crate) lines: u64,
    /// Of a compressed file that was read to its end (or to where it is damaged): the length that it had, as stored.
    pub(crate) read_length: u64,
}

impl Place {
    /// The beginning of a file that begins with `head` (of which the first [`PREFIX`] bytes count).
    pub(crate) fn beginning(head: &[u8]) -> Self {
        let mut place = Self::default();
        place.note_prefix(head);
        place
    }

    /// Whether a file that begins with `head` is the one that this place is in.
    pub(crate) fn is_in(&self, head: &[u8]) -> bool {
        head.get(..usize::from(self.prefix_length)).is_some_and(|prefix| short_digest(prefix) == self.prefix)
    }

    /// Takes note of a beginning that was shorter when the file was last seen.
    pub(crate) fn note_prefix(&mut self, head: &[u8]) {
        let prefix = &head[..head.len().min(PREFIX)];
        // PREFIX is far below what fits.
        self.prefix_length = u16::try_from(prefix.len()).unwrap_or(u16::MAX);
        self.prefix = short_digest(prefix);
    }
}

impl Position {
    /// The place in a file; none when it is new.
    pub(crate) fn get(&self, path: &Path) -> Option<Place> {
        self.files.get(&key(path)).copied()
    }

    pub(crate) fn set(&mut self, path: &Path, place: Place) {
        self.files.insert(key(path), place);
    }

    /// Forgets all files but these.
    pub(crate) fn keep_only<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let keys: std::collections::BTreeSet<_> = paths.map(key).collect();
        self.files.retain(|key, _| keys.contains(key));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.files.len() * ENTRY);
        bytes.push(VERSION);
        for (key, place) in &self.files {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&place.prefix_length.to_le_bytes());
            bytes.extend_from_slice(&place.prefix);
            for number in [place.offset, place.lines, place.read_length] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// None when the bytes are no position of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, entries) = bytes.split_first()?;
        if version != VERSION || !entries.len().is_multiple_of(ENTRY) {
            return None;
        }
        let read = |mut entry: &[u8]| {
            let entry = &mut entry;
            let key = take(entry)?;
            let prefix_length = u16::from_le_bytes(take(entry)?);
            let prefix = take(entry)?;
            let mut number = || Some(u64::from_le_bytes(take(entry)?));
            let (offset, lines, read_length) = (number()?, number()?, number()?);
            Some((key, Place { prefix_length, prefix, offset, lines, read_length }))
        };
        Some(Self { files: entries.chunks_exact(ENTRY).map(read).collect::<Option<_>>()? })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn key(path: &Path) -> [u8; 16] {
    short_digest(path.as_os_str().as_encoded_bytes())
}

fn short_digest(bytes: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    // Sixteen of 32 bytes.
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let mut position = Position::default();
        for (path, offset) in [("a", 1), ("b/c", u64::MAX)] {
            let place = Place { offset, lines: 3, read_length: 4, ..Place::beginning(path.as_bytes()) };
            position.set(Path::new(path), place);
        }
        let bytes = position.encode();
        assert_eq!(Position::decode(&bytes), Some(position.clone()));
        assert_eq!(Position::decode(&Position::default().encode()), Some(Position::default()));
        for damaged in [&bytes[..bytes.len() - 1], &[], &[2]] {
            assert_eq!(Position::decode(damaged), None);
        }
        position.keep_only([Path::new("a")].into_iter());
        assert!(position.get(Path::new("a")).is_some() && position.get(Path::new("b/c")).is_none());
    }

    #[test]
    fn a_file_is_known_by_what_it_begins_with() {
        let short = Place::beginning(b"first line\n");
        assert!(short.is_in(b"first line\n") && short.is_in(b"first line\nsecond"));
        assert!(!short.is_in(b"First line\nsecond") && !short.is_in(b"first"));
        let long = Place::beginning(&[7; 5000]);
        assert!(long.is_in(&[7; PREFIX]) && !long.is_in(&[7; PREFIX - 1]));
    }
}
