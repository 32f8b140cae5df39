//! Reading a segment from front to back, past damage.

use std::io;
use std::ops::Range;

use actlog_core::StorageFile;
use bytes::Bytes;

use crate::format::{FRAME_HEADER, FRAME_MARKER, Frame, FrameHeader, SEGMENT_HEADER};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Scanned {
    /// An intact frame, and where it begins.
    Frame(Frame, u64),
    /// Bytes that are no intact frame. At the end of a segment it may be a frame that was never finished.
    Damage(Range<u64>),
}

/// Reads the frames of a segment.
///
/// Where bytes are damaged it goes on at the next intact frame. A header with the right checksum is believed about its
/// length, be its payload damaged or not; so the time that a hostile file can cost is linear in its length, and no
/// length is used that no checksum vouches for.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Box<dyn StorageFile>,
    /// First index of the segment.
    segment: u64,
    /// Bytes that may be read.
    length: u64,
    position: u64,
    chunk: Bytes,
    chunk_at: u64,
    /// A frame that was read while the damage before it is being reported.
    held: Option<(Frame, u64)>,
}

impl Scanner {
    pub(crate) fn new(file: Box<dyn StorageFile>, segment: u64, length: u64) -> Self {
        let position = SEGMENT_HEADER as u64;
        Self { file, segment, length, position, chunk: Bytes::new(), chunk_at: 0, held: None }
    }

    /// Allows to read further, where the file has grown.
    pub(crate) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Leaves out intact frames that end at or before `index`, reading their headers only.
    pub(crate) fn skip_to(&mut self, index: u64) -> io::Result<()> {
        let mut bytes = [0; FRAME_HEADER];
        while self.position + FRAME_HEADER as u64 <= self.length {
            let read = read_fully(&*self.file, &mut bytes, self.position)?;
            match FrameHeader::read(&bytes[..read], self.segment, self.position) {
                Some(header) if header.end() <= index && self.position + header.frame_length() <= self.length => {
                    self.position += header.frame_length();
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Whether there is an intact frame from here on.
    pub(crate) fn has_frame(mut self) -> io::Result<bool> {
        while let Some(scanned) = self.next()? {
            if let Scanned::Frame(..) = scanned {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next frame or damage; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Scanned>> {
        if let Some((frame, position)) = self.held.take() {
            return Ok(Some(Scanned::Frame(frame, position)));
        }
        let start = self.position;
        while self.position < self.length {
            let header = self.fetch(self.position, FRAME_HEADER as u64)?;
            let Some(header) = FrameHeader::read(&header, self.segment, self.position) else {
                self.position = self.find_marker(self.position + 1)?;
                continue;
            };
            let position = self.position;
            let end = position + header.frame_length();
            if end > self.length {
                self.position = self.length;
                break;
            }
            let payload = self.fetch(position + FRAME_HEADER as u64, u64::from(header.length))?;
            self.position = end;
            if let Some(frame) = Frame::new(header, payload) {
                if position == start {
                    return Ok(Some(Scanned::Frame(frame, position)));
                }
                self.held = Some((frame, position));
                return Ok(Some(Scanned::Damage(start..position)));
            }
        }
        Ok((start < self.length).then_some(Scanned::Damage(start..self.length)))
    }

    /// The first place from `from` on where a frame's marker is; the end of what may be read when there is none.
    fn find_marker(&mut self, mut from: u64) -> io::Result<u64> {
        while from + FRAME_HEADER as u64 <= self.length {
            // The chunk from here on, as far as it reaches without reading again.
            let reach = (self.chunk_at + self.chunk.len() as u64).saturating_sub(from).min(CHUNK);
            let bytes = self.fetch(from, reach.max(FRAME_HEADER as u64))?;
            match memchr::memmem::find(&bytes, &FRAME_MARKER) {
                Some(at) => return Ok(from + at as u64),
                None if bytes.len() < FRAME_MARKER.len() => break,
                None => from += (bytes.len() - FRAME_MARKER.len() + 1) as u64,
            }
        }
        Ok(self.length)
    }

    /// The bytes from `from` on, `length` of them or as many as there are.
    fn fetch(&mut self, from: u64, length: u64) -> io::Result<Bytes> {
        let length = length.min(self.length - from);
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if from < self.chunk_at || from + length > chunk_end {
            // Bounded by the largest payload, see `FrameHeader::read`.
            let wanted = CHUNK.max(length).min(self.length - from);
            let mut bytes = vec![0; wanted as usize];
            let read = read_fully(&*self.file, &mut bytes, from)?;
            bytes.truncate(read);
            self.chunk = bytes.into();
            self.chunk_at = from;
        }
        let start = (from - self.chunk_at) as usize;
        let end = self.chunk.len().min(start + length as usize);
        Ok(self.chunk.slice(start.min(end)..end))
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_fully(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
