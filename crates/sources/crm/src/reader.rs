//! Reading files: finding, opening, decompressing, and cutting them into chunks of whole lines.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actlog_core::SourceError;
use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

use crate::position::{PREFIX, Place, Position};

/// How much of a line beyond the batch's size is read at a time, and of an overlong line at most kept.
const STEP: usize = 64 << 10;
/// Largest zstd window of a file: 128 MiB, what the zstd tool itself takes by default.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Where lines come from.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A regular file, with its length.
    File(Arc<Path>, u64),
    /// Standard input, from which nothing can be read twice.
    Stdin,
}

/// How lines are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) batch_size: usize,
    pub(crate) max_line: usize,
}

/// Whole lines, one after another in one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The file's name, for a person.
    pub(crate) name: Arc<str>,
    pub(crate) data: Vec<u8>,
    /// Line ends of the file in front of the data.
    pub(crate) lines_before: u64,
    /// What else is to be said of this part of the file: an overlong line, or the end of what can be decompressed.
    pub(crate) trouble: Option<Trouble>,
    /// How far everything has been read behind this chunk; none for what has no position.
    pub(crate) position: Option<Vec<u8>>,
}

/// A part of a file that can't be handed on as lines.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// The line, from 1.
    pub(crate) line: u64,
    pub(crate) reason: String,
    /// The beginning of the line, where there is one.
    pub(crate) sample: Vec<u8>,
}

/// The files that the patterns name, in the order of the patterns, each pattern's sorted by name: files, the files in a
/// folder (but hidden ones), or what a pattern with `*`, `?` and `[…]` matches.
///
/// # Errors
/// When something that is named without a pattern isn't there or isn't a file, or a folder can't be read.
pub(crate) fn find(folder: &Path, patterns: &[String]) -> io::Result<Vec<Input>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let path = folder.join(pattern);
        let mut matches = if path.is_dir() {
            files_in(&path)?
        } else if path.exists() || !pattern.contains(['*', '?', '[']) {
            vec![path]
        } else {
            let pattern = path.to_string_lossy();
            let paths = glob::glob(&pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let paths = paths.collect::<Result<Vec<_>, _>>().map_err(glob::GlobError::into_error)?;
            paths.into_iter().filter(|path| path.is_file()).collect()
        };
        matches.sort();
        for path in matches {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found.into_iter().map(input).collect()
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && !is_hidden(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

fn input(path: PathBuf) -> io::Result<Input> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = std::fs::metadata(&path).map_err(named)?;
    if !metadata.is_file() {
        let error = "is not a regular file; what is no file can be read with stdin = true";
        return Err(named(io::Error::new(io::ErrorKind::InvalidInput, error)));
    }
    Ok(Input::File(path.into(), metadata.len()))
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
    let mut cutter = Cutter::new(content, Vec::new(), Place::default(), settings);
    // What has arrived is handed on at once: whoever writes to us may pause for long.
    cutter.is_live = true;
    while let Some(piece) = cutter.next()? {
        let chunk = piece.into_chunk(name, None);
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
    if known.is_some() && !is_plain && place.read_length == length {
        return Ok(());
    }
    if is_plain && place.offset > length {
        tracing::warn!(file = %path.display(), "the file has become shorter than what was read of it; it is read anew");
        place = Place::beginning(&head);
    }
    drop(content);
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
    let mut cutter = Cutter::new(content, Vec::with_capacity(settings.batch_size), place, settings);
    loop {
        let piece = cutter.next()?;
        let is_end = piece.is_none() || cutter.is_at_end;
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
        let chunk = piece.into_chunk(name, Some(position.encode()));
        chunks.blocking_send(Ok(chunk)).map_err(|_| Stop::Unwanted)?;
        if is_end {
            return Ok(());
        }
    }
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

/// Whole lines, or trouble, or both.
struct Piece {
    data: Vec<u8>,
    lines_before: u64,
    trouble: Option<Trouble>,
}

impl Piece {
    fn into_chunk(self, name: &Arc<str>, position: Option<Vec<u8>>) -> Chunk {
        let Self { data, lines_before, trouble } = self;
        Chunk { name: Arc::clone(name), data, lines_before, trouble, position }
    }
}

/// Cuts content into pieces of whole lines. `place` is always behind the last piece.
///
/// Memory is bounded by the size of a batch and of the longest line.
struct Cutter {
    content: Box<dyn Read>,
    /// Read, and not handed on yet.
    pending: Vec<u8>,
    place: Place,
    settings: Settings,
    is_at_end: bool,
    is_live: bool,
    /// What the decompressor said when it could go no further.
    broken: Option<io::Error>,
}

impl Cutter {
    fn new(content: Box<dyn Read>, pending: Vec<u8>, place: Place, settings: Settings) -> Self {
        Self { content, pending, place, settings, is_at_end: false, is_live: false, broken: None }
    }

    /// The next piece; none at the end. The last line need not end with a line end.
    fn next(&mut self) -> io::Result<Option<Piece>> {
        self.read_more(self.settings.batch_size.saturating_sub(self.pending.len()))?;
        let mut end = memchr::memrchr(b'\n', &self.pending);
        while end.is_none() && !self.is_at_end {
            let searched = self.pending.len();
            if searched > self.settings.max_line {
                return self.overlong().map(Some);
            }
            self.read_more(STEP)?;
            end = memchr::memchr(b'\n', &self.pending[searched..]).map(|found| searched + found);
        }
        let lines_before = self.place.lines;
        let length = match end {
            Some(end) => end + 1,
            None => self.pending.len(),
        };
        let rest = self.pending.split_off(length);
        let data = std::mem::replace(&mut self.pending, rest);
        self.place.offset += data.len() as u64;
        self.place.lines += memchr::memchr_iter(b'\n', &data).count() as u64;
        // A line that was begun in front of where decompression broke is not whole, and goes with the trouble.
        let is_last = self.is_at_end && self.pending.is_empty();
        self.is_at_end = is_last;
        let trouble = if is_last { self.broken.take().map(|error| self.broken_off(&error)) } else { None };
        if data.is_empty() && trouble.is_none() {
            return Ok(None);
        }
        Ok(Some(Piece { data, lines_before, trouble }))
    }

    /// Reads until so many bytes more are there, or the end; of live content what is there.
    fn read_more(&mut self, wanted: usize) -> io::Result<()> {
        if self.is_at_end || wanted == 0 {
            return Ok(());
        }
        let before = self.pending.len();
        let result = if self.is_live {
            self.pending.resize(before + wanted, 0);
            let read = loop {
                match self.content.read(&mut self.pending[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.pending.truncate(before + read.as_ref().map_or(0, |read| *read));
            self.is_at_end = matches!(read, Ok(0));
            read
        } else {
            let read = self.content.by_ref().take(wanted as u64).read_to_end(&mut self.pending);
            self.is_at_end = self.pending.len() < before + wanted;
            read
        };
        match result {
            Ok(_) => Ok(()),
            // An error without a number is the decompressor's: the content is damaged or cut, which reading again won't
            // cure.
            Err(error) if error.raw_os_error().is_none() => {
                self.is_at_end = true;
                self.broken = Some(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn broken_off(&self, error: &io::Error) -> Trouble {
        let reason = format!("the content can't be decompressed any further: {error}");
        Trouble { line: self.place.lines + 1, reason, sample: Vec::new() }
    }

    /// Passes over the rest of a line that is too long, keeping its beginning.
    fn overlong(&mut self) -> io::Result<Piece> {
        let lines_before = self.place.lines;
        let mut sample = std::mem::take(&mut self.pending);
        let mut length = sample.len() as u64;
        sample.truncate(STEP);
        loop {
            self.read_more(STEP)?;
            match memchr::memchr(b'\n', &self.pending) {
                Some(end) => {
                    self.pending.drain(..=end);
                    length += end as u64;
                    self.place.offset += length + 1;
                    self.place.lines += 1;
                    break;
                }
                None => {
                    length += self.pending.len() as u64;
                    self.pending.clear();
                    if self.is_at_end {
                        self.place.offset += length;
                        break;
                    }
                }
            }
        }
        let reason = format!("the line has {length} bytes; {} are taken", self.settings.max_line);
        // More may be pending behind it, and what broke must still be told.
        self.is_at_end = self.is_at_end && self.pending.is_empty() && self.broken.is_none();
        Ok(Piece { data: Vec::new(), lines_before, trouble: Some(Trouble { line: lines_before + 1, reason, sample }) })
    }
}
