//! Whether requests are sent now: all deliveries of a sink stop together when the receiver is out of order, and one
//! of them tries again after a pause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{Clock, Gauge, Health, Span, Status, Timestamp};
use actlog_http::client::Backoff;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Pauses between tries: from the first, doubling, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a receiver may ask for at most with `Retry-After`.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// Closed while all is well; open, for a pause, when the receiver was found out of order; half open while one request
/// tries whether it is well again.
pub(crate) struct Circuit {
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<dyn Clock>,
    health: Health,
    open: Gauge,
}

struct State {
    backoff: Backoff,
    /// None while closed.
    trouble: Option<Trouble>,
}

struct Trouble {
    since: Timestamp,
    tries: u32,
    until: Instant,
    reason: String,
    /// Whether a request is on its way that finds out.
    is_probing: bool,
}

impl Circuit {
    pub(crate) fn new(clock: Arc<dyn Clock>, health: Health, open: Gauge) -> Self {
        let state = State { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), trouble: None };
        Self { state: Mutex::new(state), changed: Notify::new(), clock, health, open }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may be sent.
    pub(crate) async fn permit(&self) -> Permit<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = {
                let mut state = self.lock();
                match &mut state.trouble {
                    None => return Permit { circuit: self, is_probe: false, is_used: false },
                    Some(trouble) if trouble.is_probing => None,
                    Some(trouble) if trouble.until <= Instant::now() => {
                        trouble.is_probing = true;
                        self.health.set(Status::Degraded { reason: trouble.text("half open", "trying now") });
                        return Permit { circuit: self, is_probe: true, is_used: false };
                    }
                    Some(trouble) => Some(trouble.until),
                }
            };
            match until {
                Some(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Whether requests wait now.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().trouble.as_ref().is_some_and(|trouble| !trouble.is_probing)
    }

    fn close(&self) {
        let mut state = self.lock();
        if let Some(trouble) = state.trouble.take() {
            tracing::info!(since = %trouble.since, tries = trouble.tries, "the receiver takes requests again");
            state.backoff.reset();
            self.open.set(0);
            self.health.set(Status::Ok);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn fail(&self, is_probe: bool, reason: String, asked: Option<Duration>) {
        let mut state = self.lock();
        // Requests that were on their way when another one failed say nothing new.
        if state.trouble.is_some() && !is_probe {
            return;
        }
        let own = state.backoff.next();
        let pause = asked.map_or(own, |asked| asked.min(LONGEST_ASKED).max(own.min(FIRST_PAUSE)));
        let (since, tries) = state.trouble.as_ref().map_or_else(|| (self.clock.now(), 0), |t| (t.since, t.tries));
        let trouble =
            Trouble { since, tries: tries.saturating_add(1), until: Instant::now() + pause, reason, is_probing: false };
        tracing::warn!(tries = trouble.tries, pause = %Span(pause), "{}", trouble.reason);
        self.health.set(Status::Degraded { reason: trouble.text("open", &format!("next try after {}", whole(pause))) });
        state.trouble = Some(trouble);
        self.open.set(1);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The request that was to find out has not come to an end.
    fn abandon(&self) {
        if let Some(trouble) = &mut self.lock().trouble {
            trouble.is_probing = false;
        }
        self.changed.notify_waiters();
    }
}

impl Trouble {
    fn text(&self, circuit: &str, next: &str) -> String {
        let tries = if self.tries == 1 { "1 try".to_owned() } else { format!("{} tries", self.tries) };
        format!("circuit {circuit} since {} ({tries}; {next}): {}", self.since, self.reason)
    }
}

/// A pause as people read it.
fn whole(pause: Duration) -> Span {
    Span(Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)))
}

/// The right to send one request. Its outcome is to be told; dropped without that, it counts as never sent.
pub(crate) struct Permit<'c> {
    circuit: &'c Circuit,
    is_probe: bool,
    is_used: bool,
}

impl Permit<'_> {
    /// The receiver is in order, whatever it said about the records.
    pub(crate) fn succeeded(mut self) {
        self.is_used = true;
        self.circuit.close();
    }

    /// The receiver is out of order, or asks to be left alone for so long.
    pub(crate) fn failed(mut self, reason: impl Into<String>, asked: Option<Duration>) {
        self.is_used = true;
        self.circuit.fail(self.is_probe, reason.into(), asked);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.is_used {
            self.circuit.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::{Metrics, SystemClock};

    use super::*;

    fn circuit() -> Circuit {
        let open = Metrics::default().gauge("actlog_test_open", "Open", &[]);
        Circuit::new(Arc::new(SystemClock), Health::default(), open)
    }

    /// Whether a request may be sent within so many seconds.
    async fn permitted(circuit: &Circuit, seconds: u64) -> Option<Permit<'_>> {
        tokio::time::timeout(Duration::from_secs(seconds), circuit.permit()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_finds_out_and_all_others_wait_for_what_it_finds() {
        let circuit = circuit();
        let (first, second) = (circuit.permit().await, circuit.permit().await);
        first.failed("down", None);
        assert!(circuit.is_open() && circuit.open.get() == 1);
        // It was sent before the trouble began, and neither lengthens it nor counts as another try.
        second.failed("down too", Some(Duration::from_secs(1000)));
        let probe = permitted(&circuit, 1).await.unwrap();
        assert!(permitted(&circuit, 1000).await.is_none());
        let Status::Degraded { reason } = circuit.health.get() else { panic!("{:?}", circuit.health.get()) };
        assert!(
            reason.starts_with("circuit half open since ") && reason.contains("(1 try; trying now): down"),
            "{reason}"
        );
        probe.succeeded();
        assert!(!circuit.is_open() && circuit.health.get() == Status::Ok && circuit.open.get() == 0);
        let permits = (permitted(&circuit, 0).await, permitted(&circuit, 0).await);
        assert!(permits.0.is_some() && permits.1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_while_it_finds_out_leaves_that_to_the_next() {
        let circuit = circuit();
        circuit.permit().await.failed("down", Some(Duration::from_secs(60)));
        assert!(permitted(&circuit, 59).await.is_none());
        drop(permitted(&circuit, 2).await.unwrap());
        let probe = permitted(&circuit, 0).await.unwrap();
        // Asked for nothing, it waits as long as its own back-off says; that has grown.
        probe.failed("down", None);
        assert!(permitted(&circuit, 2).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_left_waiting_when_the_receiver_is_back() {
        let circuit = Arc::new(circuit());
        circuit.permit().await.failed("down", None);
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let circuit = Arc::clone(&circuit);
                tokio::spawn(async move { circuit.permit().await.succeeded() })
            })
            .collect();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert!(!circuit.is_open());
    }
}
