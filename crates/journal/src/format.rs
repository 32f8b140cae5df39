//! The bytes of a segment: its header, frames, entries, state updates. `docs/journal-format.md` describes them for
//! readers without this code. All numbers are little-endian. Nothing here reads or writes files.

use actlog_core::{Entry, EntryKind, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

/// The first bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"ACTLOGSG";
/// The version of the format that this code writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a segment's header: magic 8, version 4, first index 8, time of creation 8, CRC32C of all that 4.
pub(crate) const SEGMENT_HEADER: usize = 32;

/// The first bytes of a frame. 0xFF never occurs in UTF-8, so no JSON text can contain this.
pub(crate) const FRAME_MARKER: [u8; 4] = [0xFF, b'A', b'F', 0xFE];
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 40;
/// The largest payload of a frame; a header that says more is damaged.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;
/// Indices stay below this, so that no sum overflows.
pub(crate) const MAX_INDEX: u64 = 1 << 62;

/// Bytes of an entry before its content: length 4, kind 1, time 8, id 16, salt 32.
pub(crate) const ENTRY_HEADER: usize = 61;
/// Bytes of a state update before its key: length of the key 2, of the value 4.
pub(crate) const UPDATE_HEADER: usize = 6;
/// The length of the value in an update that removes a key.
const REMOVED: u32 = u32::MAX;

/// What is special about a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// The updates are the whole map of states, as it is after this frame.
    pub(crate) const SNAPSHOT: Self = Self(1);
    /// The journal was closed in good order; nothing follows in this segment.
    pub(crate) const CLOSED: Self = Self(2);
    /// Written by a repair: the entries from the frame's first index to the index in its payload (8 bytes) are lost.
    pub(crate) const LOST: Self = Self(4);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }
}

/// The header of a frame without its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) payload_crc: u32,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) updates: u16,
    pub(crate) flags: Flags,
    pub(crate) time: Timestamp,
}

impl FrameHeader {
    /// The index behind the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes of header and payload.
    pub(crate) fn frame_length(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.length)
    }

    /// Writes the header over the first bytes of `frame`. `segment` is the first index of the segment and `position`
    /// the frame's place in it: they take part in the checksum, so that a frame is valid in its own place only.
    pub(crate) fn write(&self, frame: &mut [u8], segment: u64, position: u64) {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..4].copy_from_slice(&FRAME_MARKER);
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.updates.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.flags.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time.unix_milliseconds().to_le_bytes());
        let crc = header_crc(&bytes, segment, position);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        frame[..FRAME_HEADER].copy_from_slice(&bytes);
    }

    /// Reads the header at the beginning of `bytes`; none when there is no valid one.
    pub(crate) fn read(bytes: &[u8], segment: u64, position: u64) -> Option<Self> {
        let bytes: &[u8; FRAME_HEADER] = bytes.first_chunk()?;
        let mut fields = Fields(bytes);
        if fields.take::<4>()? != FRAME_MARKER || fields.u32()? != header_crc(bytes, segment, position) {
            return None;
        }
        let header = Self {
            length: fields.u32()?,
            payload_crc: fields.u32()?,
            first: fields.u64()?,
            count: fields.u32()?,
            updates: fields.u16()?,
            flags: Flags(fields.u16()?),
            time: Timestamp::from_unix_milliseconds(fields.i64()?),
        };
        (header.length as usize <= MAX_PAYLOAD && header.first < MAX_INDEX).then_some(header)
    }
}

fn header_crc(bytes: &[u8; FRAME_HEADER], segment: u64, position: u64) -> u32 {
    let crc = crc32c::crc32c(&segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &position.to_le_bytes());
    crc32c::crc32c_append(crc, &bytes[8..])
}

/// The header of a segment.
pub(crate) fn segment_header(first: u64, created: Timestamp) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&first.to_le_bytes());
    bytes[20..28].copy_from_slice(&created.unix_milliseconds().to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a segment's header says: version and first index; none when it is damaged.
pub(crate) fn read_segment_header(bytes: &[u8]) -> Option<(u32, u64)> {
    let bytes: &[u8; SEGMENT_HEADER] = bytes.first_chunk()?;
    let mut fields = Fields(bytes);
    let magic = fields.take::<8>()?;
    let (version, first) = (fields.u32()?, fields.u64()?);
    fields.i64()?;
    (magic == SEGMENT_MAGIC && fields.u32()? == crc32c::crc32c(&bytes[..28])).then_some((version, first))
}

/// Appends an entry's header with the length still open.
pub(crate) fn begin_entry(out: &mut Vec<u8>, kind: EntryKind, time: Timestamp, id: Uuid, salt: &[u8; 32]) {
    out.extend_from_slice(&[0; 4]);
    out.push(match kind {
        EntryKind::Record => 0,
        EntryKind::Statement => 1,
    });
    out.extend_from_slice(&time.unix_milliseconds().to_le_bytes());
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(salt);
}

/// Fills in the length of the entry that begins at `start` and ends where `out` ends.
pub(crate) fn finish_entry(out: &mut [u8], start: usize) {
    // A batch with more than 4 GiB in an entry is refused as too large before it is written.
    let length = u32::try_from(out.len() - start - ENTRY_HEADER).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a state update; no value: the key is removed.
pub(crate) fn write_update(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    // Keys and values are bounded when the batch is submitted.
    let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let value_length = value.map_or(REMOVED, |value| u32::try_from(value.len()).unwrap_or(REMOVED));
    out.extend_from_slice(&key_length.to_le_bytes());
    out.extend_from_slice(&value_length.to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// Bytes that an update takes up.
pub(crate) fn update_length(key: &str, value: Option<&[u8]>) -> usize {
    UPDATE_HEADER + key.len() + value.map_or(0, <[u8]>::len)
}

/// A frame that was read: its checksums are right and its payload has the structure that the header says.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) payload: Bytes,
    /// Where in the payload the updates begin.
    updates_at: usize,
}

impl Frame {
    /// Checks the payload against the header; none when it is damaged.
    pub(crate) fn new(header: FrameHeader, payload: Bytes) -> Option<Self> {
        if payload.len() != header.length as usize || crc32c::crc32c(&payload) != header.payload_crc {
            return None;
        }
        if header.flags.has(Flags::LOST) {
            let frame = Self { header, payload, updates_at: 8 };
            let right = header.count == 0 && header.updates == 0 && frame.payload.len() == 8;
            return frame.lost_to().filter(|to| right && (header.first..MAX_INDEX).contains(to)).map(|_| frame);
        }
        let mut at = 0;
        for _ in 0..header.count {
            at = read_entry(&payload, at)?.1;
        }
        let frame = Self { header, payload, updates_at: at };
        let mut updates = frame.updates();
        let complete = updates.by_ref().count() == usize::from(header.updates) && updates.rest.is_empty();
        complete.then_some(frame)
    }

    /// The entries, with their indices.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut at = 0;
        let mut index = self.header.first;
        std::iter::from_fn(move || {
            if index >= self.header.end() {
                return None;
            }
            let (entry, next) = read_entry(&self.payload, at)?;
            let content = at + ENTRY_HEADER..next;
            at = next;
            index += 1;
            Some(Entry {
                index: index - 1,
                kind: entry.kind,
                id: entry.id,
                time: entry.time,
                salt: entry.salt,
                bytes: self.payload.slice(content),
            })
        })
    }

    /// The state updates: key, and value or none where the key was removed.
    pub(crate) fn updates(&self) -> Updates<'_> {
        Updates { rest: &self.payload[self.updates_at..] }
    }

    /// In a frame with [`Flags::LOST`]: the index behind the last lost entry.
    pub(crate) fn lost_to(&self) -> Option<u64> {
        if !self.header.flags.has(Flags::LOST) {
            return None;
        }
        Fields(&self.payload).u64()
    }
}

/// The updates of a frame.
pub(crate) struct Updates<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Updates<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = Fields(self.rest);
        let key_length = usize::from(fields.u16()?);
        let value_length = fields.u32()?;
        let key = std::str::from_utf8(fields.slice(key_length)?).ok()?;
        let value = match value_length {
            REMOVED => None,
            length => Some(fields.slice(length as usize)?),
        };
        self.rest = fields.0;
        Some((key, value))
    }
}

struct EntryFields {
    kind: EntryKind,
    time: Timestamp,
    id: Uuid,
    salt: [u8; 32],
}

/// The entry at `at`, and where the next one begins.
fn read_entry(payload: &[u8], at: usize) -> Option<(EntryFields, usize)> {
    let mut fields = Fields(payload.get(at..)?);
    let length = fields.u32()? as usize;
    let kind = match fields.take::<1>()? {
        [0] => EntryKind::Record,
        [1] => EntryKind::Statement,
        _ => return None,
    };
    let time = Timestamp::from_unix_milliseconds(fields.i64()?);
    let id = Uuid::from_bytes(fields.take()?);
    let salt = fields.take()?;
    fields.slice(length)?;
    Some((EntryFields { kind, time, id, salt }, at + ENTRY_HEADER + length))
}

/// Takes numbers from the front of a slice; none when it is too short.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}
