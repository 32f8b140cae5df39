//! Cutting content into pieces of whole lines, or of whole rows of CSV.

use std::io::{self, Read};

use crate::csv::RowEnds;
use crate::position::Place;

/// How much of a line beyond the batch's size is read at a time, and of an overlong line at most kept.
const STEP: usize = 64 << 10;

/// How lines are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) batch_size: usize,
    pub(crate) max_line: usize,
    /// Whether files of that name are read as CSV.
    pub(crate) takes_csv: bool,
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

/// Whole lines, or trouble, or both.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) data: Vec<u8>,
    /// Line ends of the content in front of the data.
    pub(crate) lines_before: u64,
    /// What else is to be said of this part: an overlong line, or the end of what can be decompressed.
    pub(crate) trouble: Option<Trouble>,
}

/// Where content may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// At every line end.
    Line,
    /// At those that end a row of CSV.
    Row,
}

/// Cuts content into pieces of whole lines. `place` is always behind the last piece.
///
/// Memory is bounded by the size of a batch and of the longest line.
pub(crate) struct Cutter {
    content: Box<dyn Read>,
    unit: Unit,
    /// Read, and not handed on yet.
    pending: Vec<u8>,
    pub(crate) place: Place,
    settings: Settings,
    /// The content has ended, or broken off.
    has_ended: bool,
    /// What the decompressor said when it could go no further, until it is told.
    broken: Option<io::Error>,
    /// Whether what has arrived is handed on at once, and not only when a batch is full.
    pub(crate) is_live: bool,
}

impl Cutter {
    pub(crate) fn new(content: Box<dyn Read>, unit: Unit, place: Place, settings: Settings) -> Self {
        Self { content, unit, pending: Vec::new(), place, settings, has_ended: false, broken: None, is_live: false }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_done(&self) -> bool {
        self.has_ended && self.pending.is_empty() && self.broken.is_none()
    }

    /// The next piece; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        let batch_size = self.settings.batch_size;
        if self.pending.capacity() < batch_size {
            self.pending.reserve(batch_size - self.pending.len());
        }
        self.read_more(batch_size.saturating_sub(self.pending.len()))?;
        let mut search = Search::new(self.unit);
        let end = loop {
            if let Some(end) = search.end(&self.pending, batch_size) {
                break end;
            }
            if self.has_ended {
                return Ok(self.last());
            }
            if self.pending.len() > self.settings.max_line {
                // A line end in it stands between quotes. A quote that is not closed must not swallow what follows.
                match memchr::memchr(b'\n', &self.pending) {
                    Some(end) => break end + 1,
                    None => return self.overlong().map(Some),
                }
            }
            self.read_more(STEP)?;
        };
        let rest = self.pending.split_off(end);
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

/// Looks for the place to cut at, in content that grows.
struct Search {
    unit: Unit,
    /// How far it has been looked at.
    searched: usize,
    row: RowEnds,
}

impl Search {
    fn new(unit: Unit) -> Self {
        Self { unit, searched: 0, row: RowEnds::default() }
    }

    /// Behind as many lines or rows as fit into a batch; if not even one does, behind that one.
    fn end(&mut self, content: &[u8], batch_size: usize) -> Option<usize> {
        let fitting = content.len().min(batch_size);
        let from = std::mem::replace(&mut self.searched, content.len());
        if self.unit == Unit::Line {
            let among = content.get(from..fitting).and_then(|part| memchr::memrchr(b'\n', part)).map(|end| from + end);
            let behind = from.max(fitting);
            let first = || memchr::memchr(b'\n', &content[behind..]).map(|end| behind + end);
            return among.or_else(first).map(|end| end + 1);
        }
        let (mut last, mut at) = (None, from);
        while let Some(length) = self.row.next_in(&content[at..]) {
            at += length;
            if at > fitting {
                return last.or(Some(at));
            }
            last = Some(at);
        }
        last
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
    fn rows_are_cut_at_line_ends_outside_of_quotes() {
        let content = "a,\"x\ny\"\nb,1\n\"\n\n\n\",2\nc";
        for (batch_size, expected) in [
            (1, vec![(0, "a,\"x\ny\"\n"), (2, "b,1\n"), (3, "\"\n\n\n\",2\n"), (7, "c")]),
            (13, vec![(0, "a,\"x\ny\"\nb,1\n"), (3, "\"\n\n\n\",2\n"), (7, "c")]),
            (100, vec![(0, "a,\"x\ny\"\nb,1\n\"\n\n\n\",2\n"), (7, "c")]),
        ] {
            let settings = Settings { batch_size, max_line: 1000, takes_csv: false };
            let content = Box::new(io::Cursor::new(content.as_bytes().to_vec()));
            let mut cutter = Cutter::new(content, Unit::Row, Place::default(), settings);
            let mut pieces = Vec::new();
            while let Some(piece) = cutter.next().unwrap() {
                pieces.push((piece.lines_before, String::from_utf8(piece.data).unwrap()));
            }
            let expected: Vec<_> = expected.into_iter().map(|(lines, text)| (lines, text.to_owned())).collect();
            assert_eq!(pieces, expected, "{batch_size}");
        }
    }

    #[test]
    fn live_input_is_handed_on_as_it_arrives() {
        let parts = ["one\ntw", "o\n", "three", "\nfour"].map(|part| part.as_bytes().to_vec());
        let settings = Settings { batch_size: 1000, max_line: 1000, takes_csv: false };
        let mut cutter = Cutter::new(Box::new(Parts(parts.into())), Unit::Line, Place::default(), settings);
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
            let settings = Settings { batch_size, max_line, takes_csv: false };
            let read_from = |place: Place| {
                let bytes = content.as_bytes()[place.offset as usize..].to_vec();
                let mut cutter = Cutter::new(Box::new(io::Cursor::new(bytes)), Unit::Line, place, settings);
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
