//! One user at a time of something that a component has to itself.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use crate::storage::Storage;

/// Something of this process: the address of its storage, and its name there.
type Key = (usize, String);

static HELD: LazyLock<Mutex<HashMap<Key, Weak<()>>>> = LazyLock::new(Mutex::default);

/// Held by all that works for one run of a component; free when the last clone is dropped.
///
/// A run whose future was dropped can have left a thread behind that is still writing. The next run waits for its end
/// before it touches the same files.
#[derive(Clone, Debug)]
pub struct Lease(#[expect(dead_code, reason = "it only counts")] Arc<()>);

impl Lease {
    /// The lease of what has that name on that storage; none while another is held. Other processes are kept out by the
    /// lock on the data folder.
    pub fn try_acquire(storage: &Arc<dyn Storage>, name: impl Into<String>) -> Option<Self> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, lease| lease.strong_count() > 0);
        let key = (Arc::as_ptr(storage).cast::<()>() as usize, name.into());
        if held.contains_key(&key) {
            return None;
        }
        let lease = Arc::new(());
        held.insert(key, Arc::downgrade(&lease));
        Some(Self(lease))
    }
}
