//! Keeps one component going: build, run, and after an error again, with back-off.

use std::future::Future;
use std::time::Duration;

use actlog_core::{Counter, Health, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The first pause after an error; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who ran so long without an error begins again with the first pause.
const STEADY: Duration = Duration::from_secs(300);

/// Runs `attempt` until it ends well or `shutdown` fires. Each attempt is a task of its own, so that a panic in a
/// plugin is an error like any other. Returns whether it ended by itself.
pub(crate) async fn supervise<F>(
    component: &str,
    health: &Health,
    shutdown: &CancellationToken,
    restarts: &Counter,
    mut attempt: impl FnMut() -> F,
) -> bool
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    loop {
        health.set(Status::Starting);
        let began = Instant::now();
        let mut task = AbortOnDrop(tokio::spawn(attempt()));
        let outcome = match (&mut task.0).await {
            Ok(outcome) => outcome,
            Err(panic) => Err(format!("panicked: {panic}")),
        };
        let reason = match outcome {
            Ok(()) => {
                health.set(Status::Stopped);
                return !shutdown.is_cancelled();
            }
            Err(reason) => reason,
        };
        if shutdown.is_cancelled() {
            error!(component, reason, "stopped with an error");
            health.set(Status::Failed { reason });
            return false;
        }
        if began.elapsed() > STEADY {
            pause = FIRST_PAUSE;
        }
        error!(component, reason, retry_in_ms = pause.as_millis(), "failed");
        health.set(Status::Failed { reason });
        restarts.inc();
        tokio::select! {
            () = tokio::time::sleep(pause) => info!(component, "starting again"),
            () = shutdown.cancelled() => {
                health.set(Status::Stopped);
                return false;
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Result<(), String>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn an_error_and_a_panic_are_answered_with_a_fresh_attempt() {
        let attempts = Arc::new(AtomicU32::new(0));
        let (health, restarts) = (Health::default(), Counter::default());
        let ended = supervise("test", &health, &CancellationToken::new(), &restarts, || {
            let attempts = Arc::clone(&attempts);
            async move {
                match attempts.fetch_add(1, Ordering::SeqCst) {
                    0 => Err("first".to_owned()),
                    1 => panic!("second"),
                    _ => Ok(()),
                }
            }
        })
        .await;
        assert!(ended);
        assert_eq!((attempts.load(Ordering::SeqCst), restarts.get()), (3, 2));
        assert_eq!(health.get(), Status::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_the_pause_after_an_error() {
        let shutdown = CancellationToken::new();
        let (health, restarts) = (Health::default(), Counter::default());
        let stop = shutdown.clone();
        let supervised = supervise("test", &health, &shutdown, &restarts, || async { Err("always".to_owned()) });
        let stopper = async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(supervised, stopper);
        assert!(!ended);
    }
}
