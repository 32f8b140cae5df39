//! What the store promises, on a disk that fails.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers are parts of tests")]

mod faults;
mod format;
mod listing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actlog_core::{Clock, Storage, Timestamp};
use actlog_office::ContentType;
use actlog_testkit::storage::FaultStorage;
use bytes::Bytes;
use uuid::Uuid;

use super::*;

const FOLDER: &str = "/data/content";
const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const GENERAL: ContentType = ContentType::General;
/// Monday, 23 November 2026, 12:00.
const START: &str = "2026-11-23T12:00:00Z";
const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands still unless it is moved.
#[derive(Clone, Debug)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::parse(START).unwrap().unix_milliseconds())))
    }

    /// One of its own that shows the same time.
    pub(crate) fn apart(&self) -> Self {
        Self(Arc::new(AtomicI64::new(self.0.load(Ordering::Relaxed))))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(milliseconds(by), Ordering::Relaxed);
    }

    pub(crate) fn set_back(&self, by: Duration) {
        self.0.fetch_sub(milliseconds(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.0.load(Ordering::Relaxed))
    }
}

/// A disk, a clock, and how the store is opened on them.
#[derive(Clone)]
struct Disk {
    storage: FaultStorage,
    clock: ManualClock,
    options: StoreOptions,
}

impl Disk {
    fn new() -> Self {
        let options = StoreOptions {
            folder: PathBuf::from(FOLDER),
            retention: 24 * HOUR,
            budget: 64 << 20,
            blob_bytes: 512 << 10,
        };
        Self { storage: FaultStorage::new(1), clock: ManualClock::new(), options }
    }

    /// The same after a crash.
    fn on(&self, storage: FaultStorage) -> Self {
        Self { storage, ..self.clone() }
    }

    fn open(&self) -> Result<(Store, Publisher), StoreError> {
        let store = Store::open(Arc::new(self.storage.clone()), Arc::new(self.clock.clone()), self.options.clone())?;
        let publisher = store.take_publisher().unwrap();
        Ok((store, publisher))
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = self.storage.list(Path::new(FOLDER)).unwrap().into_iter();
        files.map(|file| file.path).filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect()
    }
}

/// All blobs on a disk, whatever becomes of it meanwhile: each partition's in the order in which they became available.
pub(crate) fn blobs(storage: &FaultStorage, folder: &Path) -> Vec<(Partition, Bytes)> {
    let copy = Arc::new(storage.fork());
    let recovered = recovery::recover(&*copy, folder).unwrap();
    let mut partitions = recovered.index.partitions();
    partitions.sort_unstable();
    let mut blobs = Vec::new();
    for partition in partitions {
        for blob in recovered.index.window(partition, i64::MIN, i64::MAX) {
            let path = recovered.index.path(blob.segment).unwrap().to_owned();
            let reader = BlobRead { storage: Arc::clone(&copy) as _, path, blob: *blob, content_type: None };
            blobs.push((partition, reader.read().unwrap()));
        }
    }
    blobs
}

/// A blob with that text, as if it were JSON.
fn blob(partition: Partition, json: &str) -> NewBlob {
    let packed = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
    NewBlob { partition, records: 1, raw: json.len() as u32, packed }
}

fn tenant(tenant: Uuid) -> Partition {
    Partition::Tenant(tenant, GENERAL)
}

/// A round that holds the journal's entry of that index, for two tenants.
fn round(index: u64) -> Round {
    Round {
        blobs: vec![
            blob(tenant(A), &format!("[\"a{index}\"]")),
            blob(tenant(A), &format!("[\"a{index}, further\"]")),
            blob(tenant(B), &format!("[\"b{index}\"]")),
        ],
        coverage: Coverage { first: Some((index, Uuid::from_u128(u128::from(index)))), next: index + 1 },
        replaced: Vec::new(),
    }
}

/// Runs what must not block a thread of a runtime, and is over at once where nobody publishes.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Everything that is listed for a tenant, with its content.
fn all(store: &Store, tenant: Uuid) -> Vec<(ContentInfo, Bytes)> {
    let (from, to) = (Timestamp::from_unix_milliseconds(0), Timestamp::from_unix_milliseconds(i64::MAX));
    let page = now(store.list(tenant, GENERAL, from, to, None, usize::MAX)).unwrap();
    assert_eq!(page.next, None);
    let content = |info: &ContentInfo| store.blob(tenant, &info.id).unwrap().read().unwrap();
    page.contents.into_iter().map(|info| (info.clone(), content(&info))).collect()
}

fn assert_strictly_increasing(contents: &[(ContentInfo, Bytes)]) {
    assert!(contents.windows(2).all(|pair| pair[0].0.created < pair[1].0.created), "{contents:?}");
}
