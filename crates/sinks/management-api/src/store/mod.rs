//! The content of the feed: blobs, what is listed when, and its place on disk.
//!
//! Blobs become available in rounds. A round is everything that the sink has gathered from a range of the journal, for
//! every tenant and content type; it is one frame of a segment, written and synced at once:
//!
//! ```text
//! content/
//! ├── 00000000000000000000.seg      the name is the number of its first round
//! └── 00000000000000000412.seg
//!
//! segment   "actlog content 1", frames
//! frame     checksum, head, blobs (each compressed by itself)
//! head      number of the round, its time, retention, which part of the journal is in it,
//!           a line for each blob: tenant and content type, contentCreated, lengths, checksum,
//!           which blobs without a tenant are replaced by those of this round
//! ```
//!
//! What holds, whatever happens to the process, the machine or the disk:
//!
//! - **A round is there or not there.** It says itself up to which entry of the journal it reaches. So a restart goes on
//!   right behind it, and each record is in exactly one round, for whichever tenant that was.
//! - **Shown is durable.** A blob gets into the index, and so into a listing or an answer, only after the sync.
//! - **Available from its contentCreated on.** A round takes its time, is synced and enters the index behind one gate,
//!   and every listing waits at that gate. So no listing that was answered can miss a blob of its window. When a round
//!   fails, the gate is not opened again: the round may be on the disk or not, and only the next start can tell.
//! - **An intact frame proves what is before it.** Only the last frame can be unfinished. Because nobody knows whether
//!   the sync behind it succeeded, a start writes the last intact frame anew, as a segment of its own.
//! - **A later segment overrules.** Of a round that is in two segments, the one in the later segment counts. Segments
//!   behind the last intact frame are renamed to `.damaged`, so that they overrule nothing.
//! - `contentCreated` grows strictly for each tenant and content type, and never falls behind the time of an earlier
//!   round, or of an earlier listing of this run, even if the clock is set back.
//! - A segment goes when everything in it has expired, the oldest first. The last one stays: it knows where to go on.
//!
//! In memory are 40 bytes for each blob. A blob's bytes are read and unpacked when somebody asks for them.

mod content_id;
mod frame;
mod index;
mod publisher;
mod recovery;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use actlog_core::{BuildError, Clock, Lease, OpenMode, SinkError, Storage, Timestamp};
use actlog_office::ContentType;
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use self::content_id::ContentId;
pub(crate) use self::frame::{Coverage, Partition};
use self::index::{Blob, Index};
use self::publisher::Writer;
pub(crate) use self::publisher::{NewBlob, PublishError, Publisher, Round};

/// Where content is, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    /// The folder of the segments.
    pub(crate) folder: PathBuf,
    /// How long a blob can be fetched after it became available.
    pub(crate) retention: Duration,
    /// Most bytes on disk.
    pub(crate) budget: u64,
    /// Most bytes of a blob, unpacked.
    pub(crate) blob_bytes: usize,
}

/// Why content can't be kept or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A file could not be used.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// An earlier run still writes to it.
    #[error("{0}: an earlier run of this sink is still writing; it is tried again")]
    InUse(String),
    /// Written by another version.
    #[error(
        "{0}: not a file of feed content that this version of actlog can read; move it away, or run the version that wrote it"
    )]
    Format(String),
}

impl StoreError {
    fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::File { path, error }
    }
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::File { path, error } => Self::File { path, error },
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<StoreError> for SinkError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::File { path, error } => Self::File { path, error },
            other => Self::Other(other.to_string()),
        }
    }
}

/// The content of the feed, to read. Clones are handles of the same.
#[derive(Clone, Debug)]
pub(crate) struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    options: StoreOptions,
    /// Held for writing while a round becomes available; true once a round has failed.
    gate: tokio::sync::RwLock<bool>,
    index: RwLock<Index>,
    /// Time of the latest listing, in milliseconds: what becomes available is never dated before it.
    listed: AtomicI64,
    published: watch::Sender<u64>,
    /// Until the run takes it.
    writer: Mutex<Option<Writer>>,
}

impl Shared {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        // Each change of the index is whole, so it is whole after a panic too.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentInfo {
    /// `contentId`.
    pub(crate) id: String,
    /// Its content type.
    pub(crate) content_type: ContentType,
    /// When it became available.
    pub(crate) created: Timestamp,
    /// Until when it can be fetched.
    pub(crate) expiration: Timestamp,
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// In the order in which they became available.
    pub(crate) contents: Vec<ContentInfo>,
    /// Where the next page begins; none behind the last one.
    pub(crate) next: Option<Place>,
}

/// A place in a listing: behind a blob. Its text is for `nextPage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(i64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}", self.0)
    }
}

/// A text that is no place in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPlace;

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let is_place = text.len() == 15 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_place).map(Self).ok_or(InvalidPlace)
    }
}

/// The store has failed and is about to be opened anew: nobody can say now what is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed's content is being opened again after an error")]
pub(crate) struct Closed;

/// What is kept of an organisation that no tenant claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclaimed {
    /// The id that is made of all that names it.
    pub(crate) organization: Uuid,
    /// How many records.
    pub(crate) records: u64,
    /// Time of the last blob, in milliseconds.
    pub(crate) last: i64,
}

/// How much content there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Blobs that are available, and those of organisations that no tenant claims.
    pub(crate) blobs: u64,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// How old the oldest blob is.
    pub(crate) oldest: Duration,
}

/// Why there is no blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// There never was one of that id for the tenant.
    #[error("there is no such content")]
    Unknown,
    /// It was there once.
    #[error("the content has expired")]
    Expired,
    /// The id is none.
    #[error("not the id of content")]
    Invalid,
}

impl Store {
    /// Opens the content, and repairs what the last run left. Blocks.
    ///
    /// # Errors
    /// When a file can't be used, or an earlier run still writes.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let lease = Lease::try_acquire(&storage, options.folder.display().to_string())
            .ok_or_else(|| StoreError::InUse(options.folder.display().to_string()))?;
        let recovered = recovery::recover(&*storage, &options.folder)?;
        let writer = Writer::new(recovered.last, recovered.problem, lease);
        Ok(Self(Arc::new(Shared {
            storage,
            clock,
            options,
            gate: tokio::sync::RwLock::new(false),
            index: RwLock::new(recovered.index),
            listed: AtomicI64::new(i64::MIN),
            published: watch::channel(0).0,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// What publishes; there is one, for the first who asks.
    pub(crate) fn take_publisher(&self) -> Option<Publisher> {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map(|writer| Publisher::new(self.clone(), writer))
    }

    /// Blobs with `from <= contentCreated < to` in the order in which they became available, those behind `after`, at
    /// most `limit`.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn list(
        &self,
        tenant: Uuid,
        content_type: ContentType,
        from: Timestamp,
        to: Timestamp,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Page, Closed> {
        let failed = self.0.gate.read().await;
        if *failed {
            return Err(Closed);
        }
        let now = self.0.clock.now().unix_milliseconds();
        self.0.listed.fetch_max(now, Ordering::Relaxed);
        let partition = Partition::Tenant(tenant, content_type);
        let from = from.unix_milliseconds().max(after.map_or(i64::MIN, |place| place.0.saturating_add(1)));
        let index = self.0.index();
        let mut blobs = index.window(partition, from, to.unix_milliseconds()).filter(|blob| blob.expires() > now);
        let contents: Vec<ContentInfo> = blobs.by_ref().take(limit).map(|blob| blob.info(content_type)).collect();
        let next = match (blobs.next(), contents.last()) {
            (Some(_), Some(last)) => Some(Place(last.created.unix_milliseconds())),
            _ => None,
        };
        Ok(Page { contents, next })
    }

    /// The blob of that `contentId`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn blob(&self, tenant: Uuid, content_id: &str) -> Result<BlobRead, BlobError> {
        let id = ContentId::parse(content_id).ok_or(BlobError::Invalid)?;
        let now = self.0.clock.now().unix_milliseconds();
        let index = self.0.index();
        match index.find(Partition::Tenant(tenant, id.content_type), id.created) {
            Some(blob) if ContentId::new(blob, id.content_type) != id => Err(BlobError::Unknown),
            Some(blob) if blob.expires() <= now => Err(BlobError::Expired),
            Some(blob) => Ok(self.reader(&index, blob, Some(id.content_type)).ok_or(BlobError::Expired)?),
            None if id.created.saturating_add(milliseconds(self.0.options.retention)) <= now => Err(BlobError::Expired),
            None => Err(BlobError::Unknown),
        }
    }

    fn reader(&self, index: &Index, blob: &Blob, content_type: Option<ContentType>) -> Option<BlobRead> {
        let path = index.path(blob.segment)?.to_owned();
        Some(BlobRead { storage: Arc::clone(&self.0.storage), path, blob: *blob, content_type })
    }

    /// Wakes whenever something became available.
    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.0.published.subscribe()
    }

    /// The organisations that no tenant claims.
    pub(crate) fn unclaimed(&self) -> Vec<Unclaimed> {
        self.0.index().unclaimed().collect()
    }

    /// The next blob of an organisation that no tenant claims, behind a contentCreated; and its own.
    pub(crate) fn unclaimed_blob(&self, organization: Uuid, after: Option<i64>) -> Option<(i64, BlobRead)> {
        let index = self.0.index();
        let from = after.map_or(i64::MIN, |after| after + 1);
        let blob = index.window(Partition::Unclaimed(organization), from, i64::MAX).next()?;
        Some((blob.created, self.reader(&index, blob, None)?))
    }

    /// What there is at present.
    pub(crate) fn figures(&self) -> Figures {
        let index = self.0.index();
        let now = self.0.clock.now().unix_milliseconds();
        let age = index.oldest().map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        Figures { blobs: index.blobs() as u64, bytes: index.bytes(), oldest: Duration::from_millis(age.unsigned_abs()) }
    }

    /// Most bytes of a blob, unpacked.
    pub(crate) fn blob_bytes(&self) -> usize {
        self.0.options.blob_bytes
    }
}

/// A blob that can be read.
#[derive(Clone, Debug)]
pub(crate) struct BlobRead {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    blob: Blob,
    content_type: Option<ContentType>,
}

impl BlobRead {
    /// Its content type; `Audit.General` for records that no tenant claims.
    pub(crate) fn content_type(&self) -> ContentType {
        self.content_type.unwrap_or(ContentType::General)
    }

    /// The JSON array, unpacked. Blocks.
    ///
    /// # Errors
    /// As the operating system gives them; `InvalidData` when the bytes are not those that were written.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        let damaged = |what: &str| {
            let message = format!("{}: {what} at byte {}", self.path.display(), self.blob.offset);
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let file = self.storage.open(&self.path, OpenMode::Read)?;
        let mut packed = vec![0; self.blob.stored as usize];
        frame::read_exact(&*file, &mut packed, u64::from(self.blob.offset))?;
        if crc32c::crc32c(&packed) != self.blob.crc {
            return Err(damaged("the checksum of content is wrong"));
        }
        let unpacked = zstd::bulk::decompress(&packed, self.blob.raw as usize)
            .map_err(|_| damaged("content can't be unpacked"))?;
        if unpacked.len() != self.blob.raw as usize {
            return Err(damaged("content has another length than it should"));
        }
        Ok(unpacked.into())
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
