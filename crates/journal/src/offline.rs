//! Looking at a journal that nobody has open, checking it, repairing it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use actlog_core::{Entry, EntryKind, OpenMode, Storage, Timestamp};
use bytes::Bytes;
use serde::Serialize;

use crate::catalog::{Listing, SegmentName};
use crate::error::JournalError;
use crate::format::{self, FRAME_HEADER, Flags, Frame, FrameHeader, SEGMENT_HEADER};
use crate::recovery::{Damage, scan_back, scan_segment, states_of};
use crate::scan::read_fully;

/// What is in a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspection {
    /// The segments, oldest first.
    pub segments: Vec<SegmentInspection>,
    /// The states' values, by key; serialised as their lengths in bytes.
    #[serde(serialize_with = "lengths")]
    pub states: BTreeMap<String, Bytes>,
}

/// What is in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SegmentInspection {
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// The first index.
    pub first: u64,
    /// The index behind the last entry.
    pub end: u64,
    /// Intact frames.
    pub frames: u64,
    /// Intact records.
    pub records: u64,
    /// Intact statements.
    pub statements: u64,
    /// When the first intact frame was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_written: Option<Timestamp>,
    /// When the last intact frame was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_written: Option<Timestamp>,
}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProblemKind {
    /// Durable bytes are damaged. A repair sets the segment in order.
    Damaged,
    /// A repair noted that entries are lost. Nothing is to be done.
    Lost,
    /// The last frame was never finished: a crash. Nothing that was acknowledged is in it; opening leaves it behind.
    Unfinished,
    /// The segment's header is damaged. All frames can be read all the same; a repair writes it again.
    Header,
}

/// Something about a journal that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// The segment.
    pub segment: PathBuf,
    /// Which bytes of it.
    pub bytes: Range<u64>,
    /// Indices of entries that are lost; often empty.
    pub lost: Range<u64>,
}

/// What a repair did with a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Repair {
    /// The segment, written again with its intact frames.
    pub segment: PathBuf,
    /// The copy of how it was.
    pub original: PathBuf,
    /// Frames that were kept.
    pub frames: u64,
    /// Indices of entries that are lost.
    pub lost: Vec<Range<u64>>,
}

/// A segment in a listing, with the first index of the one behind it.
struct Place<'a> {
    name: SegmentName,
    path: &'a Path,
    length: u64,
    end: Option<u64>,
}

fn list(storage: &dyn Storage, directory: &Path) -> Result<Listing, JournalError> {
    Listing::read(storage, directory).map_err(JournalError::storage("listing", directory))
}

fn places(listing: &Listing) -> impl Iterator<Item = Place<'_>> {
    listing.segments.iter().enumerate().map(|(place, (name, entry))| Place {
        name: *name,
        path: &entry.path,
        length: entry.length,
        end: listing.segments.get(place + 1).map(|(next, _)| next.first),
    })
}

/// Says what is in the journal in a folder. Writes nothing.
///
/// # Errors
/// When the storage fails, or a segment has an unknown format.
pub fn inspect(storage: &dyn Storage, directory: &Path) -> Result<Inspection, JournalError> {
    let listing = list(storage, directory)?;
    let mut segments = Vec::new();
    for Place { name, path, length, end } in places(&listing) {
        let mut segment = SegmentInspection {
            path: path.to_owned(),
            bytes: length,
            first: name.first,
            ..SegmentInspection::default()
        };
        let scan = scan_segment(storage, path, name, length, end, |frame, _| {
            segment.frames += 1;
            for entry in frame.entries() {
                match entry.kind {
                    EntryKind::Record => segment.records += 1,
                    EntryKind::Statement => segment.statements += 1,
                }
            }
            segment.first_written.get_or_insert(frame.header.time);
            segment.last_written = Some(frame.header.time);
        })?;
        segment.end = scan.end;
        segments.push(segment);
    }
    let states = states_of(&scan_back(storage, directory, &listing)?);
    Ok(Inspection { segments, states })
}

fn lengths<S: serde::Serializer>(states: &BTreeMap<String, Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(states.iter().map(|(key, value)| (key, value.len())))
}

/// Gives every intact statement in a folder's journal to `each`, oldest first. Writes nothing.
///
/// # Errors
/// When the storage fails, or a segment has an unknown format.
pub fn statements(storage: &dyn Storage, directory: &Path, mut each: impl FnMut(&Entry)) -> Result<(), JournalError> {
    let listing = list(storage, directory)?;
    for Place { name, path, length, end } in places(&listing) {
        scan_segment(storage, path, name, length, end, |frame, _| {
            frame.entries().filter(|entry| entry.kind == EntryKind::Statement).for_each(|entry| each(&entry));
        })?;
    }
    Ok(())
}

/// Reads the whole journal in a folder and says what is wrong with it. Writes nothing.
///
/// # Errors
/// When the storage fails, or a segment has an unknown format.
pub fn verify(storage: &dyn Storage, directory: &Path) -> Result<Vec<Problem>, JournalError> {
    let listing = list(storage, directory)?;
    let mut problems = Vec::new();
    for place in places(&listing) {
        problems.extend(check(storage, &place, |_| ())?);
    }
    for (_, entry) in &listing.unbegun {
        let (segment, bytes) = (entry.path.clone(), 0..entry.length);
        problems.push(Problem { kind: ProblemKind::Unfinished, segment, bytes, lost: 0..0 });
    }
    Ok(problems)
}

/// Checks a segment; `visit` gets its intact frames.
fn check(
    storage: &dyn Storage,
    place: &Place<'_>,
    mut visit: impl FnMut(&Frame),
) -> Result<Vec<Problem>, JournalError> {
    let Place { name, path, length, end } = *place;
    let problem = |kind, bytes, lost| Problem { kind, segment: path.to_owned(), bytes, lost };
    let mut problems = Vec::new();
    if end == Some(name.first) {
        // Every group in it failed, or it was never begun: nothing in it counts.
        return Ok(problems);
    }
    if !header_is_intact(storage, path, name).map_err(JournalError::storage("reading", path))? {
        problems.push(problem(ProblemKind::Header, 0..length.min(SEGMENT_HEADER as u64), 0..0));
    }
    let scan = scan_segment(storage, path, name, length, end, |frame, position| {
        if let Some(to) = frame.lost_to() {
            let bytes = position..position + frame.header.frame_length();
            problems.push(problem(ProblemKind::Lost, bytes, frame.header.first..to));
        }
        visit(frame);
    })?;
    let damaged = scan.damaged.into_iter();
    problems.extend(damaged.map(|Damage { bytes, lost, .. }| problem(ProblemKind::Damaged, bytes, lost)));
    if end.is_none() && scan.tail > 0 {
        problems.push(problem(ProblemKind::Unfinished, length - scan.tail..length, 0..0));
    }
    problems.sort_by_key(|problem| problem.bytes.start);
    Ok(problems)
}

fn header_is_intact(storage: &dyn Storage, path: &Path, name: SegmentName) -> io::Result<bool> {
    let mut bytes = [0; SEGMENT_HEADER];
    let file = storage.open(path, OpenMode::Read)?;
    let read = read_fully(&*file, &mut bytes, 0)?;
    Ok(format::read_segment_header(&bytes[..read]).is_some_and(|(_, first)| first == name.first))
}

/// Writes every damaged segment again, with its intact frames and a note of what is lost. The damaged original stays
/// beside it, with `.damaged` at the end of its name. An unfinished last frame is no damage and stays as it is.
///
/// # Errors
/// When the storage fails, or a segment has an unknown format. Segments before the one that failed are repaired.
pub fn repair(storage: &dyn Storage, directory: &Path) -> Result<Vec<Repair>, JournalError> {
    let listing = list(storage, directory)?;
    let mut repairs = Vec::new();
    for place in places(&listing) {
        let problems = check(storage, &place, |_| ())?;
        if problems.iter().any(|problem| matches!(problem.kind, ProblemKind::Damaged | ProblemKind::Header)) {
            repairs.push(rewrite(storage, directory, &place)?);
        }
    }
    Ok(repairs)
}

fn rewrite(storage: &dyn Storage, directory: &Path, place: &Place<'_>) -> Result<Repair, JournalError> {
    let Place { name, path, end, .. } = *place;
    let repaired = with_suffix(path, ".repaired");
    let failed = || JournalError::storage("repairing", path);
    let original = keep_original(storage, path).map_err(failed())?;
    let output = storage.open(&repaired, OpenMode::Create).map_err(failed())?;
    output.set_length(0).map_err(failed())?;
    let mut written = SEGMENT_HEADER as u64;
    let mut result = Ok(());
    let mut repair = Repair { segment: path.to_owned(), original, frames: 0, lost: Vec::new() };
    let mut next = name.first;
    let mut created = None;
    let mut put = |header: FrameHeader, payload: &[u8]| {
        let mut bytes = vec![0; FRAME_HEADER];
        bytes.extend_from_slice(payload);
        header.write(&mut bytes, name.first, written);
        let at = written;
        written += bytes.len() as u64;
        output.write_all_at(&bytes, at)
    };
    check(storage, place, |frame| {
        if result.is_err() {
            return;
        }
        created.get_or_insert(frame.header.time);
        if frame.header.first > next {
            let lost = next..frame.header.first;
            let (header, payload) = lost_frame(&lost, frame.header.time);
            repair.lost.push(lost);
            result = put(header, &payload);
        }
        next = frame.lost_to().unwrap_or(frame.header.end());
        repair.frames += 1;
        result = std::mem::replace(&mut result, Ok(())).and_then(|()| put(frame.header, &frame.payload));
    })?;
    if let Some(end) = end.filter(|end| *end > next) {
        let (header, payload) = lost_frame(&(next..end), created.unwrap_or_default());
        repair.lost.push(next..end);
        result = result.and_then(|()| put(header, &payload));
    }
    result
        .and_then(|()| output.write_all_at(&format::segment_header(name.first, created.unwrap_or_default()), 0))
        .and_then(|()| output.sync())
        .and_then(|()| storage.rename(&repaired, path))
        .and_then(|()| storage.sync_directory(directory))
        .map_err(failed())?;
    Ok(repair)
}

/// A frame that says which entries are lost.
fn lost_frame(lost: &Range<u64>, time: Timestamp) -> (FrameHeader, [u8; 8]) {
    let payload = lost.end.to_le_bytes();
    let header = FrameHeader {
        length: 8,
        payload_crc: crc32c::crc32c(&payload),
        first: lost.start,
        count: 0,
        updates: 0,
        flags: Flags::LOST,
        time,
    };
    (header, payload)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a file beside itself, never over an earlier copy.
fn keep_original(storage: &dyn Storage, path: &Path) -> io::Result<PathBuf> {
    let input = storage.open(path, OpenMode::Read)?;
    let mut copy = with_suffix(path, ".damaged");
    let mut number = 1;
    let output = loop {
        match storage.open(&copy, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number += 1;
                copy = with_suffix(path, &format!(".damaged-{number}"));
            }
            output => break output?,
        }
    };
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = read_fully(&*input, &mut buffer, at)?;
        if read == 0 {
            break;
        }
        output.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    output.sync()?;
    Ok(copy)
}
