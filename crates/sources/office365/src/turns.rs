//! How often a tenant may be asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actlog_core::Counter;
use tokio::time::Instant;

/// Lets requests go at a pace, so that no minute has more than so many.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    per_second: f64,
    at_once: f64,
    waits: Counter,
}

#[derive(Debug)]
struct State {
    /// Requests that may go at once.
    available: f64,
    as_of: Instant,
    paused_until: Instant,
}

impl Turns {
    /// A tenth of the minute's requests may go at once; what is used up grows again so slowly that the two together
    /// stay within the limit. `waits` counts who has to wait.
    pub(crate) fn new(per_minute: u32, waits: Counter) -> Self {
        let (now, per_minute) = (Instant::now(), f64::from(per_minute));
        let at_once = (per_minute / 10.0).max(1.0);
        let state = State { available: at_once, as_of: now, paused_until: now };
        Self { state: Mutex::new(state), per_second: (per_minute - at_once) / 60.0, at_once, waits }
    }

    /// Waits until a request may go.
    pub(crate) async fn next(&self) {
        let mut has_waited = false;
        while let Some(wait) = self.wait() {
            if !has_waited {
                self.waits.inc();
                has_waited = true;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Lets no request go for so long.
    pub(crate) fn pause(&self, wait: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.paused_until = state.paused_until.max(Instant::now() + wait);
    }

    /// How long to wait before looking again; none: the turn has come.
    fn wait(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < state.paused_until {
            return Some(state.paused_until - now);
        }
        let grown = now.duration_since(state.as_of).as_secs_f64() * self.per_second;
        state.available = (state.available + grown).min(self.at_once);
        state.as_of = now;
        if state.available >= 1.0 {
            state.available -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - state.available) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_requests_than_allowed() {
        for limit in [10, 2000] {
            let turns = Turns::new(limit, Counter::default());
            let mut times = Vec::new();
            for _ in 0..3 * limit {
                turns.next().await;
                times.push(Instant::now());
            }
            for (place, time) in times.iter().enumerate() {
                let within =
                    times[place..].iter().take_while(|other| **other - *time < Duration::from_secs(60)).count();
                assert!(within <= limit as usize + 1, "{within} of {limit}");
            }
            let minutes = (*times.last().unwrap() - times[0]).as_secs_f64() / 60.0;
            assert!(minutes < 3.5, "{minutes} minutes for three minutes' requests of {limit}");
            assert!(turns.waits.get() > 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_up() {
        let turns = Turns::new(2000, Counter::default());
        turns.pause(Duration::from_secs(20));
        turns.pause(Duration::from_secs(5));
        let began = Instant::now();
        turns.next().await;
        assert_eq!(began.elapsed().as_secs(), 20);
        turns.next().await;
        assert_eq!(began.elapsed().as_secs(), 20);
    }
}
