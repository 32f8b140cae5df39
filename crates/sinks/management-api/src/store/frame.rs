//! The bytes of a frame's head: written, and read back without trust.

use std::io;

use actlog_core::StorageFile;
use actlog_office::ContentType;
use uuid::Uuid;

/// How each segment begins.
pub(super) const MAGIC: [u8; 16] = *b"actlog content 1";
/// Checksum and length in front of a head.
pub(super) const PREFIX: usize = 8;
/// Longest head; half a million blobs.
const MAX_HEAD: usize = 32 << 20;
/// Round, time, next entry, first entry, its Id, whether there is one, retention, blobs, replaced blobs.
const FIXED: usize = 8 + 8 + 8 + 8 + 16 + 4 + 4 + 4 + 4;
const LINE: usize = 20 + 8 + 4 * 4;
const REPLACED: usize = 16 + 8;
/// In place of a content type's number.
const UNCLAIMED: u32 = u32::MAX;

/// Whose content it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Partition {
    /// A tenant's, of a content type.
    Tenant(Uuid, ContentType),
    /// Records as they were captured, of an organisation that no tenant claims; the id is made of all that names it.
    Unclaimed(Uuid),
}

/// Which part of the journal rounds hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Index and Id of the first record of the last round: whether the journal is still the same one.
    pub(crate) first: Option<(u64, Uuid)>,
    /// All records before this index are in this round or an earlier one.
    pub(crate) next: u64,
}

/// What the head says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) partition: Partition,
    /// Journal records of which something is in it.
    pub(super) records: u32,
    pub(super) created: i64,
    /// Bytes on disk.
    pub(super) stored: u32,
    /// Bytes unpacked.
    pub(super) raw: u32,
    /// CRC-32C of the bytes on disk.
    pub(super) crc: u32,
}

/// The head of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the round.
    pub(super) round: u64,
    /// When, in milliseconds; never less than that of the round before.
    pub(super) time: i64,
    pub(super) coverage: Coverage,
    /// How long its blobs can be fetched, in seconds.
    pub(super) retention: u32,
    pub(super) blobs: Vec<Line>,
    /// Blobs without a tenant, by partition and time, whose records are in this round's blobs.
    pub(super) replaced: Vec<(Uuid, i64)>,
}

impl Head {
    /// Bytes with checksum and length.
    pub(super) fn encoded_length(&self) -> usize {
        PREFIX + FIXED + self.blobs.len() * LINE + self.replaced.len() * REPLACED
    }

    /// Bytes of all blobs on disk.
    pub(super) fn payload(&self) -> u64 {
        self.blobs.iter().map(|line| u64::from(line.stored)).sum()
    }

    /// Appends checksum, length and head.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        let length = self.encoded_length() - PREFIX;
        out.extend((length as u32).to_le_bytes());
        out.extend(self.round.to_le_bytes());
        out.extend(self.time.to_le_bytes());
        out.extend(self.coverage.next.to_le_bytes());
        let (index, id) = self.coverage.first.unwrap_or_default();
        out.extend(index.to_le_bytes());
        out.extend(id.as_bytes());
        out.extend(u32::from(self.coverage.first.is_some()).to_le_bytes());
        out.extend(self.retention.to_le_bytes());
        out.extend((self.blobs.len() as u32).to_le_bytes());
        out.extend((self.replaced.len() as u32).to_le_bytes());
        for line in &self.blobs {
            let (id, kind) = match line.partition {
                Partition::Tenant(tenant, content_type) => (tenant, content_type as u32),
                Partition::Unclaimed(id) => (id, UNCLAIMED),
            };
            out.extend(id.as_bytes());
            out.extend(kind.to_le_bytes());
            out.extend(line.created.to_le_bytes());
            for number in [line.records, line.stored, line.raw, line.crc] {
                out.extend(number.to_le_bytes());
            }
        }
        for (id, created) in &self.replaced {
            out.extend(id.as_bytes());
            out.extend(created.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The head at a place in a segment; none when there is no whole one, or its blobs are not all within the file.
    pub(super) fn read(file: &dyn StorageFile, offset: u64, file_length: u64) -> io::Result<Option<Self>> {
        let left = file_length.saturating_sub(offset);
        let mut prefix = [0; PREFIX];
        if left < PREFIX as u64 {
            return Ok(None);
        }
        read_exact(file, &mut prefix, offset)?;
        let [c0, c1, c2, c3, l0, l1, l2, l3] = prefix;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(FIXED..=MAX_HEAD).contains(&length) || left < (PREFIX + length) as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; 4 + length];
        read_exact(file, &mut bytes, offset + 4)?;
        if crc32c::crc32c(&bytes) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(None);
        }
        let head = Self::decode(&bytes[4..]);
        Ok(head.filter(|head| head.encoded_length() as u64 + head.payload() <= left))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (round, time, next) = (reader.u64()?, reader.i64()?, reader.u64()?);
        let (index, id, has_first) = (reader.u64()?, reader.uuid()?, reader.u32()? == 1);
        let (retention, blobs, replaced) = (reader.u32()?, reader.u32()? as usize, reader.u32()? as usize);
        if reader.0.len() != blobs.checked_mul(LINE)?.checked_add(replaced.checked_mul(REPLACED)?)? {
            return None;
        }
        let blobs = (0..blobs).map(|_| reader.line()).collect::<Option<Vec<_>>>()?;
        let replaced = (0..replaced).map(|_| Some((reader.uuid()?, reader.i64()?))).collect::<Option<Vec<_>>>()?;
        let coverage = Coverage { first: has_first.then_some((index, id)), next };
        Some(Self { round, time, coverage, retention, blobs, replaced })
    }
}

/// Fills the buffer from a place in a file.
///
/// # Errors
/// As the operating system gives them; `UnexpectedEof`.
pub(super) fn read_exact(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn uuid(&mut self) -> Option<Uuid> {
        self.take().map(Uuid::from_bytes)
    }

    fn line(&mut self) -> Option<Line> {
        let (id, kind) = (self.uuid()?, self.u32()?);
        let partition = match kind {
            UNCLAIMED => Partition::Unclaimed(id),
            kind => Partition::Tenant(id, *ContentType::ALL.get(kind as usize)?),
        };
        let created = self.i64()?;
        let (records, stored, raw, crc) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        Some(Line { partition, records, created, stored, raw, crc })
    }
}
