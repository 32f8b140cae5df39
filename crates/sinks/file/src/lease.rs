//! One run at a time: the next run waits for the last thread of the one before it, before it cuts the files back.

use std::time::Duration;

use actlog_core::{BuildContext, Lease};

/// How often it looks whether the other run is gone.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until no other run of this sink is left.
pub(crate) async fn acquire(cx: &BuildContext) -> Lease {
    loop {
        if let Some(lease) = Lease::try_acquire(&cx.storage, &*cx.name) {
            return lease;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actlog_core::SystemClock;
    use actlog_testkit::storage::FaultStorage;
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_run_waits_for_the_last_thread_of_the_one_before_and_for_no_other_sink() {
        let cx = BuildContext::new("/d", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock)).named("audit");
        let lease = acquire(&cx).await;
        let thread = lease.clone();
        drop(lease);
        assert!(acquire(&cx).now_or_never().is_none());
        acquire(&cx.named("other")).await;
        drop(thread);
        acquire(&cx).await;
    }
}
