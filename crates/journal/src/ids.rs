//! Which records were seen lately, in memory and beside each sealed segment.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;

use actlog_core::{OpenMode, Storage};
use uuid::Uuid;

use crate::format::Fields;
use crate::scan::read_fully;

/// The ids of the last records, exactly.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    present: HashSet<Uuid>,
    order: VecDeque<Uuid>,
    /// How many at the end of `order` belong to the group that is being written.
    uncommitted: usize,
}

impl Window {
    /// A window over the last `limit` records; 0 recognises no duplicates.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, present: HashSet::new(), order: VecDeque::new(), uncommitted: 0 }
    }

    /// Adds the id of a record of the group; false when it is in the window already.
    pub(crate) fn insert(&mut self, id: Uuid) -> bool {
        if self.limit == 0 {
            return true;
        }
        let new = self.present.insert(id);
        if new {
            self.order.push_back(id);
            self.uncommitted += 1;
        }
        new
    }

    /// The group is durable: the oldest ids leave.
    pub(crate) fn commit(&mut self) {
        self.uncommitted = 0;
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.present.remove(&oldest);
            }
        }
    }

    /// The group failed: its ids leave.
    pub(crate) fn roll_back(&mut self) {
        for _ in 0..std::mem::take(&mut self.uncommitted) {
            if let Some(newest) = self.order.pop_back() {
                self.present.remove(&newest);
            }
        }
    }
}

const MAGIC: [u8; 8] = *b"ACTLOGID";
/// Magic 8, version 4, number of ids 4, CRC32C of all that and of the ids 4.
const HEADER: usize = 20;
const ID: usize = 16;

/// Writes the ids of a sealed segment's records, oldest first.
pub(crate) fn write(storage: &dyn Storage, path: &Path, ids: &[Uuid]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER + ids.len() * ID);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(ids.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for id in ids {
        bytes.extend_from_slice(id.as_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER - 4]), &bytes[HEADER..]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    storage.replace(path, &bytes)
}

/// Reads them back; none when the file is missing or damaged.
///
/// # Errors
/// When the storage can't read.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> io::Result<Option<Vec<Uuid>>> {
    // A segment is full of the smallest entries, one more id for each of its largest groups: far below this.
    const LIMIT: u64 = 256 << 20;
    let bytes = match storage.read(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes))
}

/// How many ids such a file says that it has; 0 when it is missing or no such file.
///
/// # Errors
/// When the storage can't read.
pub(crate) fn count(storage: &dyn Storage, path: &Path) -> io::Result<usize> {
    let mut bytes = [0; HEADER];
    match storage.open(path, OpenMode::Read) {
        Ok(file) => read_fully(&*file, &mut bytes, 0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut fields = Fields(&bytes);
    let (magic, version, count) = (fields.take(), fields.u32(), fields.u32());
    Ok(count.filter(|_| magic == Some(MAGIC) && version == Some(1)).map_or(0, |count| count as usize))
}

fn parse(bytes: &[u8]) -> Option<Vec<Uuid>> {
    let mut fields = Fields(bytes);
    let (magic, version, count, crc) = (fields.take::<8>()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let ids = fields.0;
    if magic != MAGIC || version != 1 || ids.len() != count as usize * ID {
        return None;
    }
    if crc != crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER - 4]), ids) {
        return None;
    }
    Some(ids.as_chunks::<ID>().0.iter().map(|id| Uuid::from_bytes(*id)).collect())
}
