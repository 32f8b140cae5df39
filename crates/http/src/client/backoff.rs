//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from the first to the longest, each shortened at random by up to a half, so that clients that
/// failed together don't come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    current: Duration,
}

impl Backoff {
    /// Begins with `first` and never waits longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, current: first }
    }

    /// The next wait.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no Option about it")]
    pub fn next(&mut self) -> Duration {
        let full = self.current.min(self.longest);
        self.current = full.saturating_mul(2);
        // Without random numbers from the operating system everybody waits the full time.
        let random = getrandom::u32().unwrap_or(0);
        full - full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(10));
        for _ in 0..2 {
            for full in [1, 2, 4, 8, 10, 10] {
                let wait = backoff.next();
                assert!(seconds(full) / 2 <= wait && wait <= seconds(full), "{wait:?} of {full} s");
            }
            backoff.reset();
        }
        let mut long = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(long.next() <= Duration::MAX && long.next() >= Duration::MAX / 4);
    }
}
