//! Which segments there are, what of them is durable, and the states: what writer, readers and callers share.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actlog_core::{FileEntry, OpenMode, Storage, Timestamp};
use bytes::Bytes;

use crate::format::MAX_INDEX;
use crate::scan::Scanner;

/// What a segment is called by: `<first index, 20 digits>.seg`, or `<first index>-<generation>.seg` where that name was
/// taken by a segment whose every group failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) first: u64,
    pub(crate) generation: u32,
}

impl SegmentName {
    /// The segment's path.
    pub(crate) fn path(self, directory: &Path) -> PathBuf {
        directory.join(format!("{self}.seg"))
    }

    /// The path of the ids of its records.
    pub(crate) fn ids_path(self, directory: &Path) -> PathBuf {
        directory.join(format!("{self}.ids"))
    }

    /// From a path with that extension.
    fn parse(path: &Path, extension: &str) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(extension)?.strip_suffix('.')?;
        let (first, generation) = match stem.split_once('-') {
            Some((first, generation)) => (first, generation.parse().ok()?),
            None => (stem, 0),
        };
        let name = Self { first: first.parse().ok()?, generation };
        (name.to_string() == stem && name.first < MAX_INDEX).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{:020}", self.first),
            generation => write!(f, "{:020}-{generation}", self.first),
        }
    }
}

/// The segments and the id files in a folder, each in order.
pub(crate) struct Listing {
    pub(crate) segments: Vec<(SegmentName, FileEntry)>,
    pub(crate) ids: Vec<SegmentName>,
    /// Segments behind the others that hold no intact frame: a crash came while they were begun, so nothing in them was
    /// acknowledged, and they make nothing void.
    pub(crate) unbegun: Vec<(SegmentName, FileEntry)>,
}

impl Listing {
    pub(crate) fn read(storage: &dyn Storage, directory: &Path) -> io::Result<Self> {
        let mut listing = Self { segments: Vec::new(), ids: Vec::new(), unbegun: Vec::new() };
        for entry in storage.list(directory)? {
            if let Some(name) = SegmentName::parse(&entry.path, "seg") {
                listing.segments.push((name, entry));
            } else if let Some(name) = SegmentName::parse(&entry.path, "ids") {
                listing.ids.push(name);
            }
        }
        listing.segments.sort_by_key(|(name, _)| *name);
        listing.ids.sort_unstable();
        while let Some((name, entry)) = listing.segments.last()
            && !Scanner::new(storage.open(&entry.path, OpenMode::Read)?, name.first, entry.length).has_frame()?
        {
            listing.unbegun.extend(listing.segments.pop());
        }
        Ok(listing)
    }
}

/// A segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    /// Bytes that hold durable frames, or (in segments of earlier runs) may hold them.
    pub(crate) readable: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// When nothing more could be written to it; none: it is being written.
    pub(crate) sealed_at: Option<Timestamp>,
}

/// The segments in order, the last of them being written; and the states.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) segments: Vec<Segment>,
    /// Id files in order, those of removed segments too.
    pub(crate) ids: Vec<SegmentName>,
    /// One past the highest durable index.
    pub(crate) durable: u64,
    pub(crate) states: BTreeMap<String, Bytes>,
    /// The disk was full, and the reserve is not back yet.
    pub(crate) disk_full: bool,
    /// The last group failed.
    pub(crate) failing: bool,
    pub(crate) statistics: Statistics,
}

/// What was written since the journal was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Groups that became durable, each with one sync.
    pub groups: u64,
    /// Groups that failed.
    pub failed_groups: u64,
    /// Entries that became durable.
    pub entries: u64,
    /// Records that were dropped because their id was in the window.
    pub duplicates: u64,
    /// Bytes that were written, with all overhead.
    pub bytes: u64,
    /// Time that syncing files took, together.
    pub sync_time: Duration,
}

/// Where to read an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this segment: its entries end before `end`, its frames before `readable`.
    In { name: SegmentName, readable: u64, end: u64 },
    /// Nowhere: the first entry that there is has this index.
    Before(u64),
    /// Nowhere yet.
    NotYet,
}

impl Catalog {
    /// The first index that there is.
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().map_or(self.durable, |segment| segment.name.first)
    }

    /// The indices of a segment: whatever it holds at or above the first index of the next one is void.
    pub(crate) fn range(&self, place: usize) -> Range<u64> {
        let end = self.segments.get(place + 1).map_or(self.durable, |next| next.name.first);
        self.segments[place].name.first..end
    }

    /// Where to read an index.
    pub(crate) fn find(&self, index: u64) -> Place {
        if index >= self.durable {
            return Place::NotYet;
        }
        match self.segments.partition_point(|segment| segment.name.first <= index).checked_sub(1) {
            None => Place::Before(self.first()),
            Some(place) => {
                let Segment { name, readable, .. } = self.segments[place];
                Place::In { name, readable, end: self.range(place).end }
            }
        }
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_their_indices_and_nothing_else_is_taken_for_a_segment() {
        let name = SegmentName { first: 7, generation: 0 };
        let again = SegmentName { first: 7, generation: 2 };
        for name in [name, again, SegmentName { first: 1 << 61, generation: 11 }] {
            assert_eq!(SegmentName::parse(&name.path(Path::new("j")), "seg"), Some(name));
            assert_eq!(SegmentName::parse(&name.ids_path(Path::new("j")), "ids"), Some(name));
        }
        assert!(name < again && again < SegmentName { first: 10, generation: 0 });
        for other in [
            "7.seg",
            "00000000000000000007.seg.damaged",
            "00000000000000000007-0.seg",
            "18446744073709551615.seg",
            ".seg",
            "reserve",
        ] {
            assert_eq!(SegmentName::parse(Path::new(other), "seg"), None, "{other}");
        }
    }

    #[test]
    fn an_index_is_found_in_the_last_segment_that_begins_at_or_before_it() {
        let segment = |first, generation| Segment {
            name: SegmentName { first, generation },
            readable: 100,
            bytes: 100,
            sealed_at: None,
        };
        let catalog =
            Catalog { segments: vec![segment(5, 0), segment(9, 0), segment(9, 1)], durable: 12, ..Catalog::default() };
        let place = |first, generation, end| Place::In { name: SegmentName { first, generation }, readable: 100, end };
        assert_eq!(catalog.find(4), Place::Before(5));
        assert_eq!(catalog.find(8), place(5, 0, 9));
        assert_eq!(catalog.find(9), place(9, 1, 12));
        assert_eq!(catalog.find(11), place(9, 1, 12));
        assert_eq!(catalog.find(12), Place::NotYet);
        assert!(catalog.range(1).is_empty(), "every group of that segment failed");
    }
}
