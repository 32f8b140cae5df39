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
            let paths = paths.collect::<Result<Vec<_>, _>>().map_err(io::Error::from)?;
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
    let mut cutter = Cutter::new(content, Place::default(), settings);
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
    let mut cutter = Cutter::new(content, place, settings);
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
    /// The content has ended, or broken off.
    has_ended: bool,
    /// What the decompressor said when it could go no further, until it is told.
    broken: Option<io::Error>,
    is_live: bool,
}

impl Cutter {
    fn new(content: Box<dyn Read>, place: Place, settings: Settings) -> Self {
        Self { content, pending: Vec::new(), place, settings, has_ended: false, broken: None, is_live: false }
    }

    /// Whether there is nothing more to come.
    fn is_done(&self) -> bool {
        self.has_ended && self.pending.is_empty() && self.broken.is_none()
    }

    /// The next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Piece>> {
        let batch_size = self.settings.batch_size;
        if self.pending.capacity() < batch_size {
            self.pending.reserve(batch_size - self.pending.len());
        }
        self.read_more(batch_size.saturating_sub(self.pending.len()))?;
        // As many lines as fit into a batch; if not even one does, that one.
        let fitting = self.pending.len().min(batch_size);
        let mut end = memchr::memrchr(b'\n', &self.pending[..fitting]);
        let mut searched = fitting;
        while end.is_none() {
            end = memchr::memchr(b'\n', &self.pending[searched..]).map(|found| searched + found);
            searched = self.pending.len();
            if end.is_some() || self.has_ended {
                break;
            }
            if searched > self.settings.max_line {
                return self.overlong().map(Some);
            }
            self.read_more(STEP)?;
        }
        let Some(end) = end else { return Ok(self.last()) };
        let rest = self.pending.split_off(end + 1);
        let data = std::mem::replace(&mut self.pending, rest);
        Ok(Some(self.pass(data)))
    }

    /// What stands behind the last line end: a last line without one, or what is left of a line that broke off.
    fn last(&mut self) -> Option<Piece> {
        let mut rest = std::mem::take(&mut self.pending);
        let Some(error) = self.broken.take() else {
            return (!rest.is_empty()).then(|| self.pass(rest));
        };
        // The place stays in front of the broken line: should the file become whole, it is read from there.
        rest.truncate(STEP);
        let reason = format!("the content can't be decompressed any further: {error}");
        let trouble = Trouble { line: self.place.lines + 1, reason, sample: rest };
        Some(Piece { data: Vec::new(), lines_before: self.place.lines, trouble: Some(trouble) })
    }

    fn pass(&mut self, data: Vec<u8>) -> Piece {
        let lines_before = self.place.lines;
        self.place.offset += data.len() as u64;
        self.place.lines += memchr::memchr_iter(b'\n', &data).count() as u64;
        Piece { data, lines_before, trouble: None }
    }

    /// Passes over a line that is too long, keeping its beginning.
    fn overlong(&mut self) -> io::Result<Piece> {
        let lines_before = self.place.lines;
        let mut sample = std::mem::take(&mut self.pending);
        let mut length = sample.len() as u64;
        sample.truncate(STEP);
        sample.shrink_to_fit();
        let end = loop {
            self.read_more(STEP)?;
            if let Some(end) = memchr::memchr(b'\n', &self.pending) {
                break Some(end);
            }
            length += self.pending.len() as u64;
            self.pending.clear();
            if self.has_ended {
                break None;
            }
        };
        self.place.offset += length;
        if let Some(end) = end {
            length += end as u64;
            self.pending.drain(..=end);
            self.place.offset += end as u64 + 1;
            self.place.lines += 1;
        }
        let trouble = Trouble { line: lines_before + 1, reason: too_long(length, self.settings.max_line), sample };
        Ok(Piece { data: Vec::new(), lines_before, trouble: Some(trouble) })
    }

    /// Reads until so many bytes more are there, or the end; of live content what is there.
    fn read_more(&mut self, wanted: usize) -> io::Result<()> {
        if self.has_ended || wanted == 0 {
            return Ok(());
        }
        let before = self.pending.len();
        let result = if self.is_live {
            self.pending.resize(before + wanted, 0);
            let read = self.content.read(&mut self.pending[before..]);
            self.pending.truncate(before + read.as_ref().map_or(0, |read| *read));
            read.map(|read| self.has_ended = read == 0)
        } else {
            let read = self.content.by_ref().take(wanted as u64).read_to_end(&mut self.pending);
            read.map(|read| self.has_ended = read < wanted)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // An error without a number is the decompressor's: the content is damaged or cut short, which reading again
            // won't cure.
            Err(error) if error.raw_os_error().is_none() => {
                self.has_ended = true;
                self.broken = Some(error);
                Ok(())
            }
            other => other,
        }
    }
}

/// What is said of a line that is too long.
pub(crate) fn too_long(length: u64, most: usize) -> String {
    format!("the line has {length} bytes, and {most} are taken (max_line)")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Gives one part per read, as a pipe does.
    struct Parts(VecDeque<Vec<u8>>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(mut part) = self.0.pop_front() else { return Ok(0) };
            let length = part.len().min(buffer.len());
            let rest = part.split_off(length);
            buffer[..length].copy_from_slice(&part);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Ok(length)
        }
    }

    #[test]
    fn live_input_is_handed_on_as_it_arrives() {
        let parts = ["one\ntw", "o\n", "three", "\nfour"].map(|part| part.as_bytes().to_vec());
        let settings = Settings { batch_size: 1000, max_line: 1000 };
        let mut cutter = Cutter::new(Box::new(Parts(parts.into())), Place::default(), settings);
        cutter.is_live = true;
        let mut pieces = Vec::new();
        while let Some(piece) = cutter.next().unwrap() {
            pieces.push((piece.lines_before, String::from_utf8(piece.data).unwrap()));
        }
        let expected = [(0, "one\n"), (1, "two\n"), (2, "three\n"), (3, "four")];
        assert_eq!(pieces, expected.map(|(lines, text)| (lines, text.to_owned())));
    }

    proptest! {
        /// Whatever the content: the pieces, and the beginnings of overlong lines, are the content again; and from the
        /// place behind any piece the rest is read as it would have been.
        #[test]
        fn pieces_are_the_content_and_any_place_is_a_place_to_go_on_from(
            lines in prop::collection::vec("[a-z]{0,40}", 0..30),
            batch_size in 1_usize..100,
            max_line in prop_oneof![Just(30), Just(1000)],
            ends_with_line_end: bool,
        ) {
            let mut content = lines.join("\n");
            if ends_with_line_end {
                content.push('\n');
            }
            let settings = Settings { batch_size, max_line };
            let read_from = |place: Place| {
                let bytes = content.as_bytes()[place.offset as usize..].to_vec();
                let mut cutter = Cutter::new(Box::new(io::Cursor::new(bytes)), place, settings);
                let mut pieces = Vec::new();
                while let Some(piece) = cutter.next().unwrap() {
                    let at = piece.trouble.as_ref().map_or(piece.lines_before, |trouble| trouble.line - 1);
                    pieces.push((at, piece.data, piece.trouble.is_some(), cutter.place));
                }
                pieces
            };
            let pieces = read_from(Place::default());
            let mut offset = 0;
            for (position, (lines_before, data, is_overlong, place)) in pieces.iter().enumerate() {
                let passed = &content.as_bytes()[offset..place.offset as usize];
                prop_assert_eq!(*lines_before, memchr::memchr_iter(b'\n', &content.as_bytes()[..offset]).count() as u64);
                prop_assert!(*is_overlong && passed.trim_ascii_end().len() > max_line || passed == data);
                prop_assert!(data.len() <= batch_size || memchr::memchr_iter(b'\n', data).count() <= 1);
                offset = place.offset as usize;
                let rest = read_from(*place);
                // An overlong line may also be passed on whole, when it was read in one go; mapping tells it then.
                if max_line == 1000 {
                    prop_assert_eq!(&rest[..], &pieces[position + 1..]);
                }
                prop_assert_eq!(rest.last().map_or(offset, |(.., place)| place.offset as usize), content.len());
            }
            prop_assert_eq!(offset, content.len());
        }
    }
}
