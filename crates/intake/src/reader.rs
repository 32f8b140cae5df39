//! Reading files: opening, decompressing, going on where the last run ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actlog_core::SourceError;
use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

use crate::csv::Header;
use crate::cutter::{Cutter, Piece, Settings, Trouble, Unit};
use crate::inputs::Input;
use crate::position::{PREFIX, Place, Position};

/// Largest zstd window of a file: 128 MiB, what the zstd tool itself takes by default.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Longest header of a CSV.
const LONGEST_HEADER: usize = 64 << 10;

/// Whole lines, one after another in one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The file's name, for a person.
    pub(crate) name: Arc<str>,
    /// The names of the columns where the data are rows of a CSV.
    pub(crate) header: Option<Arc<Header>>,
    pub(crate) data: Vec<u8>,
    /// Line ends of the file in front of the data.
    pub(crate) lines_before: u64,
    /// What else is to be said of this part of the file: an overlong line, or the end of what can be decompressed.
    pub(crate) trouble: Option<Trouble>,
    /// How far everything has been read behind this chunk; none for what has no position.
    pub(crate) position: Option<Vec<u8>>,
}

impl Chunk {
    fn new(name: &Arc<str>, header: Option<&Arc<Header>>, piece: Piece, position: Option<Vec<u8>>) -> Self {
        let Piece { data, lines_before, trouble } = piece;
        Self { name: Arc::clone(name), header: header.cloned(), data, lines_before, trouble, position }
    }
}

/// Reads all inputs, one after the other, into `chunks`. Ends when all is read, when reading fails, or when nobody wants
/// chunks any more. Blocks its thread. `progress` counts the bytes read, as they are stored.
pub(crate) fn read_all(
    inputs: &[Input],
    mut position: Position,
    settings: Settings,
    chunks: &mpsc::Sender<Result<Chunk, SourceError>>,
    progress: &Arc<AtomicU64>,
) {
    for input in inputs {
        let (name, result) = match input {
            Input::Stdin => {
                let name = Arc::from("standard input");
                let read = read_stdin(&name, settings, chunks, progress);
                (name, read)
            }
            Input::File(path, length) => {
                let name = Arc::from(path.to_string_lossy().as_ref());
                let before = progress.load(Ordering::Relaxed);
                let read = read_file(path, &name, &mut position, settings, chunks, progress);
                // What was passed over counts as read.
                progress.store(before + length, Ordering::Relaxed);
                (name, read)
            }
        };
        match result {
            Ok(()) => {}
            Err(Stop::Unwanted) => return,
            Err(Stop::Failed(error)) => {
                let error = SourceError::File { path: name.to_string(), error };
                // When nobody wants to know, there is nothing left to do either.
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    }
}

/// Why reading stops early.
enum Stop {
    /// Nobody wants chunks any more.
    Unwanted,
    /// The operating system says no.
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn read_stdin(
    name: &Arc<str>,
    settings: Settings,
    chunks: &mpsc::Sender<Result<Chunk, SourceError>>,
    progress: &Arc<AtomicU64>,
) -> Result<(), Stop> {
    let mut reader = Counted { inner: io::stdin(), count: Arc::clone(progress) };
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let content = compression.decompress(Box::new(io::Cursor::new(magic).chain(reader)))?;
    let mut cutter = Cutter::new(content, Unit::Line, Place::default(), settings);
    // What has arrived is handed on at once: whoever writes to us may pause for long.
    cutter.is_live = true;
    while let Some(piece) = cutter.next()? {
        let chunk = Chunk::new(name, None, piece, None);
        chunks.blocking_send(Ok(chunk)).map_err(|_| Stop::Unwanted)?;
    }
    Ok(())
}

fn read_file(
    path: &Path,
    name: &Arc<str>,
    position: &mut Position,
    settings: Settings,
    chunks: &mpsc::Sender<Result<Chunk, SourceError>>,
    progress: &Arc<AtomicU64>,
) -> Result<(), Stop> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let from_start = |mut file: File| -> io::Result<Box<dyn Read>> {
        file.seek(SeekFrom::Start(0))?;
        compression.decompress(Box::new(Counted { inner: file, count: Arc::clone(progress) }))
    };
    let mut content = from_start(file.try_clone()?)?;
    let mut head = Vec::with_capacity(PREFIX);
    // A head that can't be decompressed shows again when the file is read, and is told then.
    let _ = content.by_ref().take(PREFIX as u64).read_to_end(&mut head);
    let known = position.get(path).filter(|place| place.is_in(&head));
    let mut place = known.unwrap_or_else(|| Place::beginning(&head));
    place.note_prefix(&head);
    let is_plain = compression == Compression::None;
    if known.is_some() && length == if is_plain { place.offset } else { place.read_length } {
        return Ok(());
    }
    if is_plain && place.offset > length {
        tracing::warn!(file = %path.display(), "the file has become shorter than what was read of it; it is read anew");
        place = Place::beginning(&head);
    }
    drop(content);
    let mut header = None;
    if settings.takes_csv && is_csv(path) {
        match read_header(from_start(file.try_clone()?)?)? {
            None => {}
            Some(Ok((found, end))) => {
                header = Some(Arc::new(found));
                if place.offset < end.offset {
                    (place.offset, place.lines) = (end.offset, end.lines);
                }
            }
            Some(Err(reason)) => {
                // Without the header, the rest says nothing. It is told once, and again when the file has grown; unless a
                // compressed file has become whole by then.
                *(if is_plain { &mut place.offset } else { &mut place.read_length }) = length;
                position.set(path, place);
                let trouble = Some(Trouble { line: 1, reason, sample: head });
                let piece = Piece { data: Vec::new(), lines_before: 0, trouble };
                let chunk = Chunk::new(name, None, piece, Some(position.encode()));
                return chunks.blocking_send(Ok(chunk)).map_err(|_| Stop::Unwanted);
            }
        }
    }
    let content: Box<dyn Read> = if is_plain {
        file.seek(SeekFrom::Start(place.offset))?;
        progress.fetch_add(place.offset, Ordering::Relaxed);
        Box::new(Counted { inner: file, count: Arc::clone(progress) })
    } else {
        let mut content = from_start(file)?;
        // Where the stream ends or breaks too early, the cutter meets the same end or break.
        let _ = io::copy(&mut content.by_ref().take(place.offset), &mut io::sink());
        content
    };
    place.read_length = 0;
    let unit = if header.is_some() { Unit::Row } else { Unit::Line };
    let mut cutter = Cutter::new(content, unit, place, settings);
    loop {
        let piece = cutter.next()?;
        let is_end = piece.is_none() || cutter.is_done();
        let mut reached = cutter.place;
        if is_end && !is_plain {
            reached.read_length = length;
        }
        position.set(path, reached);
        // Even without lines, what was reached must be remembered: the end of a compressed file.
        let piece = match piece {
            Some(piece) => piece,
            None if is_plain => return Ok(()),
            None => Piece { data: Vec::new(), lines_before: reached.lines, trouble: None },
        };
        let chunk = Chunk::new(name, header.as_ref(), piece, Some(position.encode()));
        chunks.blocking_send(Ok(chunk)).map_err(|_| Stop::Unwanted)?;
        if is_end {
            return Ok(());
        }
    }
}

/// Whether a file's name says that it is a CSV, compressed or not.
fn is_csv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
    name.ends_with(".csv")
}

/// The header of a CSV and the place behind it, or why there is none; nothing where there is no content at all.
fn read_header(content: Box<dyn Read>) -> io::Result<Option<Result<(Header, Place), String>>> {
    let settings = Settings { batch_size: 1, max_line: LONGEST_HEADER, takes_csv: true };
    let mut cutter = Cutter::new(content, Unit::Row, Place::default(), settings);
    Ok(cutter.next()?.map(|piece| match piece.trouble {
        Some(trouble) => Err(trouble.reason),
        None => Header::read(&piece.data).map(|(header, _)| (header, cutter.place)),
    }))
}

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes (RFC 1952, RFC 8878; `50 2A 4D 18` and its fifteen siblings begin a skippable frame).
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Members of gzip and frames of zstd may follow one another.
    fn decompress(self, stored: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::None => stored,
            Self::Gzip => Box::new(MultiGzDecoder::new(stored)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(stored)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
