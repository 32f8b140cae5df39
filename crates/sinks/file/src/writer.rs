//! The open files: routing, writing, rotating, and cutting back after a crash. Blocking, and knows nothing of the
//! journal's cursor; `sink` calls it in this order:
//!
//! ```text
//! recover ─► append … ─► sync ─► state ─► (cursor and state are committed) ─► committed ─► append …
//! ```
//!
//! After any error the writer is dropped, and a new one recovers from the last committed state.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{BuildContext, Entry, Lease, OpenMode, SinkError, Storage, StorageFile, Timestamp};

use crate::config::{Compression, FileConfig};
use crate::layout::Layout;
use crate::metrics::FileMetrics;
use crate::state::{FileState, Pending, State};
use crate::template::{NumberedName, Router};

/// Files that are open at once. When another is needed, the one that was written to longest ago is closed.
pub(crate) const MOST_OPEN: usize = 64;
/// Closed files that wait for compression; beyond that, files stay as they are.
const MOST_PENDING: usize = 1000;
/// Lines are gathered to writes of this size.
const WRITE_BYTES: usize = 256 << 10;
/// What a buffer keeps of its room after a very long line.
const KEPT_BUFFER: usize = 1 << 20;

/// What [`Writer::append`] did.
#[derive(Debug)]
pub(crate) struct Appended {
    /// How many of the entries are done with. If not all are, a file was begun: commit, then go on from here.
    pub(crate) done: usize,
    /// Places of entries that will never have a line, and why.
    pub(crate) rejected: Vec<(usize, String)>,
}

/// The open files of a sink.
#[derive(Debug)]
pub(crate) struct Writer {
    storage: Arc<dyn Storage>,
    data_dir: PathBuf,
    router: Arc<Router>,
    layout: Layout,
    /// Identifies the layout in the state.
    layout_name: String,
    rotate_size: u64,
    rotate_age: Option<i64>,
    compress: Compression,
    open: HashMap<String, OpenFile>,
    /// No longer written to; in the state until the next commit.
    closing: Vec<OpenFile>,
    pending: Vec<Pending>,
    uncommitted: u64,
    /// Counts batches, for finding the file that was written to longest ago.
    batch: u64,
    metrics: FileMetrics,
    _lease: Lease,
}

#[derive(Debug)]
struct OpenFile {
    route: String,
    path: PathBuf,
    file: Box<dyn StorageFile>,
    /// Bytes in the file; those in the buffer come behind them.
    written: u64,
    buffer: Vec<u8>,
    synced: bool,
    /// Whether a commit has named it. Until then it gets no byte.
    named: bool,
    opened: Timestamp,
    period: Option<i64>,
    last_used: u64,
}

impl OpenFile {
    fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.synced = false;
        self.file.write_all_at(&self.buffer, self.written).map_err(file_error(&self.path))?;
        self.written = self.length();
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(())
    }
}

/// Names the file in an error.
pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path = path.display().to_string();
    move |error| SinkError::File { path, error }
}

impl Writer {
    /// Opens the files of the stored state and cuts them back to the lengths that were committed.
    pub(crate) fn recover(
        config: &FileConfig,
        cx: &BuildContext,
        router: Arc<Router>,
        state: Option<&[u8]>,
        metrics: FileMetrics,
        lease: Lease,
    ) -> Result<Self, SinkError> {
        let look = (&config.path, config.format, config.proof, config.raw_csv, &config.columns);
        let milliseconds = |span: actlog_core::Span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
        let state = State::decode(state, &cx.data_dir)?;
        let mut writer = Self {
            storage: Arc::clone(&cx.storage),
            data_dir: cx.data_dir.clone(),
            router,
            layout: Layout::new(config),
            layout_name: serde_json::to_string(&look).map_err(|error| SinkError::Other(error.to_string()))?,
            rotate_size: config.rotate.size.map_or(u64::MAX, |size| size.0),
            rotate_age: config.rotate.age.map(milliseconds),
            compress: config.compress,
            open: HashMap::new(),
            closing: Vec::new(),
            pending: state.compress,
            uncommitted: 0,
            batch: 0,
            metrics,
            _lease: lease,
        };
        let same_layout = state.layout == writer.layout_name;
        for file in state.files {
            let Some(file) = writer.reopen(file)? else { continue };
            if same_layout {
                writer.open.insert(file.route.clone(), file);
            } else {
                writer.closing.push(file);
            }
        }
        writer.metrics.open.set(i64::try_from(writer.open.len()).unwrap_or(i64::MAX));
        Ok(writer)
    }

    /// A file of the stored state, cut back; none when somebody else has removed or cut it, which is reported.
    fn reopen(&self, state: FileState) -> Result<Option<OpenFile>, SinkError> {
        let damaged = |found: &str| {
            self.metrics.damaged.inc();
            tracing::error!(
                path = %state.path.display(), committed_bytes = state.length,
                "an audit file {found} since it was last written: somebody else has changed it; what is lost from it may \
                 still be in the journal or in another sink; the file is not continued"
            );
        };
        let file = match self.storage.open(&state.path, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // One without content may have been abandoned: its commit was reported as failed.
                if state.length > 0 {
                    damaged("is gone");
                }
                return Ok(None);
            }
            Err(error) => return Err(file_error(&state.path)(error)),
        };
        let length = file.length().map_err(file_error(&state.path))?;
        if length < state.length {
            damaged("became shorter");
            return Ok(None);
        }
        // Made durable at once, as the file may be closed without another write; and even if the length is right, since
        // an earlier attempt may have cut the file and failed to sync it.
        file.set_length(state.length).and_then(|()| file.sync()).map_err(file_error(&state.path))?;
        if length > state.length {
            tracing::info!(path = %state.path.display(), bytes = length - state.length,
                "cut off what was written after the last commit; it is written again from the journal");
        }
        Ok(Some(OpenFile {
            opened: state.opened(),
            route: state.route,
            path: state.path,
            file,
            written: state.length,
            buffer: Vec::new(),
            synced: true,
            named: true,
            period: state.period,
            last_used: 0,
        }))
    }

    /// Puts the lines of entries into their files. Stops before the first entry whose file had to be begun.
    pub(crate) fn append(&mut self, entries: &[Entry], now: Timestamp) -> Result<Appended, SinkError> {
        let mut rejected = Vec::new();
        self.batch += 1;
        let router = Arc::clone(&self.router);
        let mut routes = router.at(now);
        for (place, entry) in entries.iter().enumerate() {
            if !self.layout.wants(entry.kind) {
                continue;
            }
            let route = match routes.of(entry) {
                Ok(route) => route,
                Err(error) => {
                    rejected.push((place, format!("not a record: {error}")));
                    continue;
                }
            };
            let Some(file) = self.open.get_mut(route) else {
                let route = route.to_owned();
                self.begin(route, now)?;
                return Ok(Appended { done: place, rejected });
            };
            let before = file.buffer.len();
            if file.length() == 0 {
                self.layout.header(&mut file.buffer);
            }
            if let Err(reason) = self.layout.line(entry, &mut file.buffer) {
                file.buffer.truncate(before);
                rejected.push((place, reason));
                continue;
            }
            file.last_used = self.batch;
            let added = (file.buffer.len() - before) as u64;
            self.uncommitted += added;
            self.metrics.bytes.inc_by(added);
            let full = file.length() >= self.rotate_size;
            if full || file.buffer.len() >= WRITE_BYTES {
                file.write_out()?;
            }
            if full {
                self.close(route);
            }
        }
        Ok(Appended { done: entries.len(), rejected })
    }

    /// Begins a file for a route: an empty one with a free name, durably.
    fn begin(&mut self, route: String, now: Timestamp) -> Result<(), SinkError> {
        if self.open.len() >= MOST_OPEN {
            let oldest = self.open.values().min_by_key(|file| file.last_used).map(|file| file.route.clone());
            oldest.iter().for_each(|route| self.close(route));
        }
        let name = NumberedName::new(&route);
        self.make_folder(name.folder).map_err(file_error(name.folder))?;
        let path = self.free_path(&name).map_err(file_error(name.folder))?;
        let file = self.storage.open(&path, OpenMode::CreateNew).map_err(file_error(&path))?;
        self.storage.sync_directory(name.folder).map_err(file_error(name.folder))?;
        let file = OpenFile {
            path,
            file,
            written: 0,
            buffer: Vec::new(),
            synced: true,
            named: false,
            opened: now,
            period: self.router.period(now),
            last_used: self.batch,
            route: route.clone(),
        };
        self.open.insert(route, file);
        self.metrics.open.set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Makes a folder and those above it, durably.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for folder in folder.ancestors() {
            let Some(parent) = folder.parent() else { break };
            let exists = match self.storage.list(parent) {
                Ok(entries) => entries.iter().any(|entry| entry.path == folder),
                // Where we may not look we have made nothing.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
                Err(error) => return Err(error),
            };
            if exists {
                break;
            }
            missing.push(parent);
        }
        if !missing.is_empty() {
            self.storage.create_directories(folder)?;
        }
        for parent in missing {
            self.storage.sync_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    /// The first name behind all that were ever used and still exist, compressed or not.
    fn free_path(&self, name: &NumberedName<'_>) -> io::Result<PathBuf> {
        let files = self.storage.list(name.folder)?;
        let last = files.iter().filter_map(|file| name.number(&file.path)).max();
        Ok(name.path(last.map_or(0, |last| last + 1)))
    }

    /// Stops writing to a route's file; the next commit closes it.
    fn close(&mut self, route: &str) {
        if let Some(file) = self.open.remove(route) {
            self.closing.push(file);
            self.metrics.open.set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
        }
    }

    /// Closes the files whose day, hour or age has passed.
    pub(crate) fn close_outdated(&mut self, now: Timestamp) {
        let period = self.router.period(now);
        let too_old = |opened: Timestamp| {
            self.rotate_age.is_some_and(|age| now.unix_milliseconds().saturating_sub(opened.unix_milliseconds()) >= age)
        };
        let outdated = self.open.values().filter(|file| file.period != period || too_old(file.opened));
        let routes: Vec<_> = outdated.map(|file| file.route.clone()).collect();
        routes.iter().for_each(|route| self.close(route));
    }

    /// Whether a commit would close a file.
    pub(crate) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Bytes of lines since the last commit.
    pub(crate) fn uncommitted(&self) -> u64 {
        self.uncommitted
    }

    /// Makes everything durable that was appended, and says what the state is then.
    pub(crate) fn sync(&mut self) -> Result<Vec<u8>, SinkError> {
        for file in self.open.values_mut().chain(&mut self.closing) {
            file.write_out()?;
            if !file.synced {
                file.file.sync().map_err(file_error(&file.path))?;
                file.synced = true;
            }
        }
        let mut files: Vec<_> = self.open.values().collect();
        files.sort_by(|a, b| a.route.cmp(&b.route));
        let files = files.into_iter().map(|file| FileState {
            route: file.route.clone(),
            path: file.path.clone(),
            length: file.written,
            opened: file.opened.unix_milliseconds(),
            period: file.period,
        });
        let mut compress = self.pending.clone();
        compress.extend(self.to_compress());
        State::new(self.layout_name.clone(), files.collect(), compress).encode(&self.data_dir)
    }

    /// The closing files that are to be compressed.
    fn to_compress(&self) -> impl Iterator<Item = Pending> {
        let wanted =
            if self.compress == Compression::None { 0 } else { MOST_PENDING.saturating_sub(self.pending.len()) };
        let files = self.closing.iter().filter(|file| file.written > 0).take(wanted);
        files.map(|file| Pending { path: file.path.clone(), compression: self.compress })
    }

    /// To be called when what [`Writer::sync`] returned is stored: closes what was closing.
    pub(crate) fn committed(&mut self) -> Result<(), SinkError> {
        self.uncommitted = 0;
        self.open.values_mut().for_each(|file| file.named = true);
        let closed: Vec<_> = self.to_compress().collect();
        self.pending.extend(closed);
        for file in std::mem::take(&mut self.closing) {
            self.metrics.closed.inc();
            if file.written == 0
                && let Err(error) = self.storage.remove_file(&file.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(file_error(&file.path)(error));
            }
        }
        Ok(())
    }

    /// To be called at the end: removes files that no commit has named, so that attempts which fail again and again
    /// (a full disk) do not leave more and more empty files.
    pub(crate) fn abandon(&mut self) {
        for (_, file) in self.open.drain().filter(|(_, file)| !file.named) {
            // Should this fail too, an empty file is left.
            let _ = self.storage.remove_file(&file.path);
        }
    }

    /// Closed files that are to be compressed.
    pub(crate) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Takes a file off [`Writer::pending`].
    pub(crate) fn compressed(&mut self, path: &Path) {
        self.pending.retain(|pending| pending.path != path);
    }

    /// Puts a file to the end of [`Writer::pending`].
    pub(crate) fn put_off(&mut self, file: Pending) {
        self.compressed(&file.path);
        self.pending.push(file);
    }

    /// Paths of the files that are still written to.
    pub(crate) fn open_paths(&self) -> HashSet<PathBuf> {
        self.open.values().chain(&self.closing).map(|file| file.path.clone()).collect()
    }
}
