//! One run at a time. A run whose future was dropped can have left a thread behind that is still writing; the next run
//! waits for its end before it cuts the files back.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use actlog_core::BuildContext;

/// How often it looks whether the other run is gone.
const PAUSE: Duration = Duration::from_millis(10);

/// A sink of this process: the address of its storage, and its name.
type Key = (usize, Arc<str>);

/// The runs of this process.
static HELD: LazyLock<Mutex<HashMap<Key, Weak<()>>>> = LazyLock::new(Mutex::default);

/// Held by all that writes files of a run; free when the last one drops it.
#[derive(Clone, Debug)]
pub(crate) struct Lease(#[expect(dead_code, reason = "it only counts")] Arc<()>);

impl Lease {
    /// Waits until no other run of this sink is left.
    pub(crate) async fn acquire(cx: &BuildContext) -> Self {
        loop {
            if let Some(lease) = Self::try_acquire(cx) {
                return lease;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn try_acquire(cx: &BuildContext) -> Option<Self> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, lease| lease.strong_count() > 0);
        let key = (Arc::as_ptr(&cx.storage).cast::<()>() as usize, Arc::clone(&cx.name));
        if held.contains_key(&key) {
            return None;
        }
        let lease = Arc::new(());
        held.insert(key, Arc::downgrade(&lease));
        Some(Self(lease))
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::SystemClock;
    use actlog_testkit::storage::FaultStorage;

    use super::*;

    #[test]
    fn a_run_waits_for_the_last_thread_of_the_one_before_and_for_no_other_sink() {
        let cx = BuildContext::new("/d", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock)).named("audit");
        let lease = Lease::try_acquire(&cx).unwrap();
        let thread = lease.clone();
        drop(lease);
        assert!(Lease::try_acquire(&cx).is_none());
        assert!(Lease::try_acquire(&cx.named("other")).is_some());
        drop(thread);
        assert!(Lease::try_acquire(&cx).is_some());
    }
}
