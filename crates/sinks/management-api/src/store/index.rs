//! What is available, in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use actlog_core::Timestamp;
use actlog_office::ContentType;

use super::content_id::ContentId;
use super::frame::{Head, Partition};
use super::{ContentInfo, Unclaimed};

/// Where a blob is, and what is to be known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// When it became available, in milliseconds since 1970.
    pub(super) created: i64,
    /// Number of its segment in this process.
    pub(super) segment: u32,
    /// Where in the segment.
    pub(super) offset: u32,
    /// Bytes on disk.
    pub(super) stored: u32,
    /// Bytes unpacked.
    pub(super) raw: u32,
    /// CRC-32C of the bytes on disk.
    pub(super) crc: u32,
    /// For how long it is available, in seconds.
    pub(super) retention: u32,
    /// Journal records of which something is in it.
    pub(super) records: u32,
}

impl Blob {
    /// When it is no longer available, in milliseconds since 1970.
    pub(super) fn expires(&self) -> i64 {
        self.created.saturating_add(i64::from(self.retention) * 1000)
    }

    pub(super) fn info(&self, content_type: ContentType) -> ContentInfo {
        ContentInfo {
            id: ContentId::new(self, content_type).to_string(),
            content_type,
            created: Timestamp::from_unix_milliseconds(self.created),
            expiration: Timestamp::from_unix_milliseconds(self.expires()),
        }
    }
}

/// A file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// When the last of its blobs expires.
    pub(super) expires: i64,
}

#[derive(Debug, Default)]
struct Content {
    /// By contentCreated.
    blobs: VecDeque<Blob>,
    /// contentCreated of the last one there was.
    last: Option<i64>,
}

/// All blobs and segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    content: HashMap<Partition, Content>,
    segments: BTreeMap<u32, Segment>,
    /// Blobs of all partitions.
    blobs: usize,
}

impl Index {
    /// Adds a segment behind the others; gives its number.
    pub(super) fn add_segment(&mut self, path: PathBuf, length: u64) -> u32 {
        let number = self.segments.last_key_value().map_or(0, |(number, _)| number.wrapping_add(1));
        self.segments.insert(number, Segment { path, length, expires: i64::MIN });
        number
    }

    /// Adds what a frame holds. `payload` is where in the segment its first blob begins.
    pub(super) fn add_frame(&mut self, head: &Head, segment: u32, payload: u32) {
        let mut offset = payload;
        for (id, created) in &head.replaced {
            self.remove(Partition::Unclaimed(*id), *created);
        }
        for line in &head.blobs {
            let blob = Blob {
                created: line.created,
                segment,
                offset,
                stored: line.stored,
                raw: line.raw,
                crc: line.crc,
                retention: head.retention,
                records: line.records,
            };
            offset = offset.saturating_add(line.stored);
            let content = self.content.entry(line.partition).or_default();
            content.blobs.push_back(blob);
            content.last = Some(line.created);
            self.blobs += 1;
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.expires = segment.expires.max(blob.expires());
            }
        }
    }

    fn remove(&mut self, partition: Partition, created: i64) {
        let Some(content) = self.content.get_mut(&partition) else { return };
        if let Ok(place) = content.blobs.binary_search_by_key(&created, |blob| blob.created) {
            content.blobs.remove(place);
            self.blobs -= 1;
        }
    }

    pub(super) fn set_length(&mut self, segment: u32, length: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.length = length;
        }
    }

    /// The blobs of a partition with `from <= contentCreated < to`.
    pub(super) fn window(&self, partition: Partition, from: i64, to: i64) -> impl Iterator<Item = &Blob> {
        let blobs = self.content.get(&partition).map(|content| &content.blobs);
        let first = blobs.map_or(0, |blobs| blobs.partition_point(|blob| blob.created < from));
        blobs.into_iter().flat_map(move |blobs| blobs.range(first..)).take_while(move |blob| blob.created < to)
    }

    pub(super) fn find(&self, partition: Partition, created: i64) -> Option<&Blob> {
        let blobs = &self.content.get(&partition)?.blobs;
        blobs.binary_search_by_key(&created, |blob| blob.created).ok().and_then(|place| blobs.get(place))
    }

    /// contentCreated of the last blob of a partition.
    pub(super) fn last(&self, partition: Partition) -> Option<i64> {
        self.content.get(&partition)?.last
    }

    pub(super) fn path(&self, segment: u32) -> Option<&Path> {
        self.segments.get(&segment).map(|segment| &*segment.path)
    }

    /// Forgets what has expired. Gives the segments in which nothing is left, but for the last one, the oldest first.
    pub(super) fn expire(&mut self, now: i64) -> Vec<(u32, PathBuf)> {
        let mut expired = 0;
        self.content.retain(|partition, content| {
            while content.blobs.front().is_some_and(|blob| blob.expires() <= now) {
                content.blobs.pop_front();
                expired += 1;
            }
            // A tenant's last contentCreated is kept; of the others there may be any number.
            !content.blobs.is_empty() || matches!(partition, Partition::Tenant(..))
        });
        self.blobs -= expired;
        let last = self.segments.last_key_value().map(|(number, _)| *number);
        let emptied =
            self.segments.iter().take_while(|(number, segment)| segment.expires <= now && Some(**number) != last);
        emptied.map(|(number, segment)| (*number, segment.path.clone())).collect()
    }

    pub(super) fn remove_segment(&mut self, segment: u32) {
        self.segments.remove(&segment);
    }

    /// Forgets a file of which nothing is available.
    pub(super) fn forget_file(&mut self, path: &Path) {
        self.segments.retain(|_, segment| segment.path != path);
    }

    /// Whether anything is available still.
    pub(super) fn holds_content(&self, now: i64) -> bool {
        self.segments.values().any(|segment| segment.expires > now)
    }

    /// When the oldest segment can go.
    pub(super) fn first_expiration(&self) -> Option<Timestamp> {
        self.segments.values().next().map(|segment| Timestamp::from_unix_milliseconds(segment.expires))
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum()
    }

    /// How many blobs there are.
    pub(super) fn blobs(&self) -> usize {
        self.blobs
    }

    /// Whose content there is.
    #[cfg(test)]
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.content.keys().copied().collect()
    }

    /// Bytes of memory that the blobs take up.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.content.values().map(|content| content.blobs.capacity() * size_of::<Blob>()).sum()
    }

    /// contentCreated of the oldest blob.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.content.values().filter_map(|content| content.blobs.front()).map(|blob| blob.created).min()
    }

    /// What no tenant claims.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = Unclaimed> {
        self.content.iter().filter_map(|(partition, Content { blobs, .. })| match partition {
            Partition::Unclaimed(organization) => Some(Unclaimed {
                organization: *organization,
                records: blobs.iter().map(|blob| u64::from(blob.records)).sum(),
                last: blobs.back()?.created,
            }),
            Partition::Tenant(..) => None,
        })
    }
}
