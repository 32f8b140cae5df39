//! What happens to closed files: compression, and removal at their maximum age. One job at a time, on a blocking thread.
//! Whatever fails is tried again a minute later; capturing goes on meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use actlog_core::{BuildContext, Clock, Counter, FileEntry, Lease, OpenMode, Storage, StorageFile};
use globset::GlobSet;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Compression;
use crate::metrics::FileMetrics;
use crate::state::Pending;
use crate::template::TEMPORARY;

/// How often it looks for files that have reached their maximum age.
const SCAN_INTERVAL: Duration = Duration::from_secs(600);
/// How long it waits after something failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Files are read and compressed in pieces of this size.
const PIECE: usize = 256 << 10;

/// Which files are removed, and when.
#[derive(Debug)]
pub(crate) struct Retention {
    /// Time since the last change.
    pub(crate) max_age: Duration,
    /// The folder under which this sink's files are.
    pub(crate) folder: PathBuf,
    /// How deep: 1 is directly in the folder.
    pub(crate) depth: usize,
    /// What their paths look like.
    pub(crate) files: GlobSet,
}

/// What a job did.
#[derive(Debug)]
pub(crate) enum Done {
    /// A pending file needs nothing more.
    Compressed(PathBuf),
    /// Files were looked through.
    Scanned,
    /// Something could not be done.
    Failed {
        /// The file that could not be compressed, if that is what failed.
        pending: Option<Pending>,
        /// Why, for a person.
        reason: String,
    },
}

/// The background work of one sink.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    retention: Option<Arc<Retention>>,
    metrics: FileMetrics,
    lease: Lease,
    stop: Arc<AtomicBool>,
    job: Option<JoinHandle<Done>>,
    next_scan: Instant,
    not_before: Instant,
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Housekeeping {
    pub(crate) fn new(build: &BuildContext, retention: Option<Retention>, metrics: FileMetrics, lease: Lease) -> Self {
        Self {
            storage: Arc::clone(&build.storage),
            clock: Arc::clone(&build.clock),
            retention: retention.map(Arc::new),
            metrics,
            lease,
            stop: Arc::default(),
            job: None,
            next_scan: Instant::now(),
            not_before: Instant::now(),
        }
    }

    /// Takes the result of a job that has ended, and begins the next one if there is any to do. Does not wait.
    ///
    /// `pending`: a closed file that is to be compressed. `open` says which files are still written to.
    pub(crate) async fn step(
        &mut self,
        pending: Option<Pending>,
        open: impl FnOnce() -> HashSet<PathBuf> + Send + 'static,
    ) -> Option<Done> {
        if self.job.as_ref().is_some_and(|job| !job.is_finished()) {
            return None;
        }
        if let Some(job) = self.job.take() {
            let ended_early = |error| Done::Failed { pending: None, reason: format!("housekeeping: {error}") };
            let done = job.await.unwrap_or_else(ended_early);
            if matches!(done, Done::Failed { .. }) {
                self.not_before = Instant::now() + RETRY_INTERVAL;
            }
            return Some(done);
        }
        let now = Instant::now();
        if now < self.not_before {
            return None;
        }
        let (storage, stop, metrics) = (Arc::clone(&self.storage), Arc::clone(&self.stop), self.metrics.clone());
        let lease = self.lease.clone();
        if let Some(retention) = self.retention.clone().filter(|_| now >= self.next_scan) {
            self.next_scan = now + SCAN_INTERVAL;
            let now = u64::try_from(self.clock.now().unix_milliseconds()).unwrap_or(0);
            let before = (SystemTime::UNIX_EPOCH + Duration::from_millis(now)).checked_sub(retention.max_age);
            self.job = Some(tokio::task::spawn_blocking(move || {
                let _lease = lease;
                let Some(before) = before else { return Done::Scanned };
                match remove_old(&*storage, &retention, before, open, &metrics.removed) {
                    Ok(()) => Done::Scanned,
                    Err(error) => {
                        Done::Failed { pending: None, reason: format!("old files could not be removed: {error}") }
                    }
                }
            }));
        } else if let Some(pending) = pending {
            self.job = Some(tokio::task::spawn_blocking(move || {
                let _lease = lease;
                match compress(&*storage, &pending.path, pending.compression, &stop) {
                    Ok(compressed) => {
                        metrics.compressed.inc_by(u64::from(compressed));
                        Done::Compressed(pending.path)
                    }
                    Err(error) => {
                        let reason = format!("{} could not be compressed: {error}", pending.path.display());
                        Done::Failed { pending: Some(pending), reason }
                    }
                }
            }));
        }
        None
    }

    /// Whether a job is under way, so that it is worth asking again soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Ends the job that is under way; what it has begun is done anew after the next start. No job may outlive its sink:
    /// the next one would meet it at the same file.
    pub(crate) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(job) = self.job.take() {
            // Only that it ends matters here.
            let _ = job.await;
        }
    }
}

/// Compresses a closed file and removes the original. Repeatable after a crash at any step: the compressed file gets its
/// name only when it is whole and durable, and the original goes only after that. False when there was nothing to do.
pub(crate) fn compress(
    storage: &dyn Storage,
    path: &Path,
    compression: Compression,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let original = match storage.open(path, OpenMode::Read) {
        Ok(original) => original,
        // Done before a crash, or removed at its maximum age.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let ending = match compression {
        Compression::None => return Ok(false),
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (target, temporary) = (with(ending), with(&format!("{ending}{TEMPORARY}")));
    let result = write_compressed(storage, &*original, &temporary, compression, stop);
    if let Err(error) = result {
        // Makes room again where the disk is full. Should this fail too, the next attempt begins the file anew.
        let _ = storage.remove_file(&temporary);
        return Err(error);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    storage.rename(&temporary, &target)?;
    storage.sync_directory(folder)?;
    storage.remove_file(path)?;
    storage.sync_directory(folder)?;
    tracing::debug!(path = %target.display(), "compressed a closed audit file");
    Ok(true)
}

fn write_compressed(
    storage: &dyn Storage,
    original: &dyn StorageFile,
    target: &Path,
    compression: Compression,
    stop: &AtomicBool,
) -> io::Result<()> {
    let file = storage.open(target, OpenMode::Create)?;
    file.set_length(0)?;
    let output = io::BufWriter::with_capacity(PIECE, Appender { file: &*file, length: 0 });
    let mut output = match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            copy(original, &mut encoder, stop)?;
            encoder.finish()?
        }
        Compression::Zstd | Compression::None => {
            let mut encoder = zstd::stream::write::Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.include_checksum(true)?;
            copy(original, &mut encoder, stop)?;
            encoder.finish()?
        }
    };
    output.flush()?;
    drop(output);
    file.sync()
}

fn copy(from: &dyn StorageFile, to: &mut dyn Write, stop: &AtomicBool) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the sink is being stopped"));
        }
        let read = from.read_at(&mut piece, offset)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&piece[..read])?;
        offset += read as u64;
    }
}

/// Writes behind what it has written.
struct Appender<'a> {
    file: &'a dyn StorageFile,
    length: u64,
}

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes what is too old.
///
/// `open` is asked only after the files were found: a file that is begun meanwhile can't be taken for a closed one.
fn remove_old(
    storage: &dyn Storage,
    retention: &Retention,
    before: SystemTime,
    open: impl FnOnce() -> HashSet<PathBuf>,
    removed: &Counter,
) -> io::Result<()> {
    let mut old = Vec::new();
    find_old(storage, retention, before, &retention.folder, retention.depth, &mut old)?;
    if old.is_empty() {
        return Ok(());
    }
    let open = open();
    old.retain(|entry| !open.contains(&entry.path));
    for entry in &old {
        storage.remove_file(&entry.path)?;
        tracing::info!(path = %entry.path.display(), bytes = entry.length, "removed an audit file at its maximum age");
        removed.inc();
    }
    let folders: BTreeSet<&Path> = old.iter().filter_map(|entry| entry.path.parent()).collect();
    folders.into_iter().try_for_each(|folder| storage.sync_directory(folder))
}

/// Finds old files of the sink in a folder, or as many levels below it as the template has.
fn find_old(
    storage: &dyn Storage,
    retention: &Retention,
    before: SystemTime,
    folder: &Path,
    depth: usize,
    old: &mut Vec<FileEntry>,
) -> io::Result<()> {
    for entry in storage.list(folder)? {
        if entry.is_directory {
            if depth > 1 {
                find_old(storage, retention, before, &entry.path, depth - 1, old)?;
            }
        } else if depth == 1 && entry.modified < before && retention.files.is_match(&entry.path) {
            old.push(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::atomic::AtomicI64;

    use actlog_core::{Metrics, SystemClock, Timestamp};
    use actlog_testkit::storage::{Fault, FaultStorage};

    use super::*;
    use crate::template::{Router, Template};

    const PATH: &str = "/d/a.jsonl";

    /// More than one piece.
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..20_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes().repeat(4)).collect()
    });

    /// The content, wherever it is; every file that has it, whole.
    fn copies(storage: &FaultStorage) -> Vec<&'static str> {
        let read = |path: &str| storage.read(Path::new(path), 1 << 30).ok();
        let plain = read(PATH).map(|bytes| (PATH, bytes));
        let zstd = read("/d/a.jsonl.zst").map(|bytes| ("zst", zstd::decode_all(&bytes[..]).unwrap()));
        let copies: Vec<_> = plain.into_iter().chain(zstd).collect();
        assert!(copies.iter().all(|(_, bytes)| *bytes == *CONTENT));
        copies.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn compression_can_crash_or_fail_at_any_step_and_the_content_is_always_there() {
        for fault in [None, Some(Fault::Eio), Some(Fault::Enospc)] {
            let mut step = 0;
            loop {
                let storage = FaultStorage::new(step);
                storage.put(Path::new(PATH), &CONTENT);
                match fault {
                    None => storage.halt_at(step),
                    Some(fault) => storage.fail_at(step, fault),
                }
                let go = |storage: &FaultStorage| {
                    compress(storage, Path::new(PATH), Compression::Zstd, &AtomicBool::new(false))
                };
                let done = go(&storage).is_ok();
                for seed in 0..8 {
                    let survivor = storage.crash(step * 8 + seed);
                    assert!(!copies(&survivor).is_empty(), "{fault:?} at step {step}, seed {seed}");
                    go(&survivor).unwrap();
                    assert_eq!(copies(&survivor), ["zst"], "{fault:?} at step {step}, seed {seed}");
                    let left = survivor.list(Path::new("/d")).unwrap().len();
                    assert!(left == 1 || !done, "nothing else is left");
                }
                if done {
                    break;
                }
                step += 1;
            }
            assert!(step >= 7, "create, cut, write, sync, rename, sync, remove were all tried");
        }
    }

    #[test]
    fn a_stopped_compression_leaves_the_original_alone() {
        let storage = FaultStorage::new(1);
        storage.put(Path::new(PATH), &CONTENT);
        compress(&storage, Path::new(PATH), Compression::Zstd, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(copies(&storage), [PATH]);
    }

    #[derive(Debug)]
    struct At(AtomicI64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_milliseconds(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test]
    async fn files_are_removed_at_their_maximum_age_and_nothing_else_is() {
        let storage = FaultStorage::new(1);
        let ours = [
            "/d/audit/crm/2018-03-02.jsonl",
            "/d/audit/crm/2018-03-02-0001.jsonl.gz",
            "/d/audit/x/2018-03-02-12345.jsonl.zst",
        ];
        let open = "/d/audit/crm/2018-03-03.jsonl";
        let others = [
            "/d/audit/2018-03-02.jsonl",
            "/d/audit/crm/deep/2018-03-02.jsonl",
            "/d/audit/crm/notes.jsonl",
            "/d/audit/crm/2018-03-02.jsonl.gz.bak",
            "/d/audit/crm/2018-03-02-old.jsonl",
            "/d/other/crm/2018-03-02.jsonl",
        ];
        for path in ours.iter().chain([&open]).chain(&others) {
            storage.put(Path::new(path), b"x");
        }
        let build = BuildContext::new("/d", Arc::new(storage.clone()), Arc::new(SystemClock));
        let router = Router::new(Template::parse("{data_dir}/audit/{source}/{date}.jsonl").unwrap(), &build).unwrap();
        let (folder, depth, files) = router.files().unwrap();
        let retention = Retention { max_age: Duration::from_secs(1000), folder, depth, files };
        let metrics = FileMetrics::new(&Metrics::default());
        // The storage counts steps for seconds: all files are of the first second after the epoch.
        let clock = Arc::new(At(AtomicI64::new(900_000)));
        for (seconds, removed) in [(900, 0), (1100, ours.len() as u64)] {
            clock.0.store(seconds * 1000, Ordering::Relaxed);
            let build = BuildContext::new("/d", Arc::new(storage.clone()), Arc::clone(&clock) as Arc<dyn Clock>);
            let retention = Retention { files: retention.files.clone(), folder: retention.folder.clone(), ..retention };
            let lease = crate::lease::acquire(&build).await;
            let mut house = Housekeeping::new(&build, Some(retention), metrics.clone(), lease);
            let done = loop {
                if let Some(done) = house.step(None, move || [PathBuf::from(open)].into()).await {
                    break done;
                }
                tokio::task::yield_now().await;
            };
            assert!(matches!(done, Done::Scanned), "{done:?}");
            assert_eq!(metrics.removed.get(), removed);
        }
        assert!(ours.iter().all(|path| storage.length(Path::new(path)).unwrap().is_none()));
        assert!(others.iter().chain([&open]).all(|path| storage.length(Path::new(path)).unwrap().is_some()));
        let survivor = storage.crash(1);
        assert!(ours.iter().all(|path| survivor.length(Path::new(path)).unwrap().is_none()), "durably");
    }
}
