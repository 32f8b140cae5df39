//! One writer at a time. A run whose future was dropped can have left a thread behind that is still writing; the next
//! run does not begin before that one's end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use actlog_core::Storage;

/// A store of this process: the address of its storage, and its folder.
type Key = (usize, PathBuf);

static HELD: LazyLock<Mutex<HashMap<Key, Weak<()>>>> = LazyLock::new(Mutex::default);

/// Held by what writes.
#[derive(Debug)]
pub(super) struct Lease(#[expect(dead_code, reason = "it only counts")] Arc<()>);

impl Lease {
    pub(super) fn acquire(storage: &Arc<dyn Storage>, folder: &Path) -> Option<Self> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, lease| lease.strong_count() > 0);
        let key = (Arc::as_ptr(storage).cast::<()>() as usize, folder.to_owned());
        if held.contains_key(&key) {
            return None;
        }
        let lease = Arc::new(());
        held.insert(key, Arc::downgrade(&lease));
        Some(Self(lease))
    }
}
