//! Secrets that were wrong: who guesses gets slower and slower.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// Wrong secrets that cost nothing: somebody has mixed up two of them.
const FREE: u32 = 5;
/// The first wait, which doubles with each wrong secret.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a wrong secret is remembered.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Pairs of a client and an address that are remembered.
const MAXIMUM: usize = 10_000;

/// Wrong secrets by client and address, so that nobody can lock a client out from elsewhere. Unknown clients count as one.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<(Uuid, IpAddr), Guess>>);

#[derive(Clone, Copy, Debug)]
struct Guess {
    count: u32,
    last: Instant,
}

impl Guess {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(beyond) => FIRST_WAIT.saturating_mul(1 << beyond.min(16)).min(LONGEST_WAIT),
        }
    }
}

impl Guesses {
    /// How long this address has to wait until it may try a secret of that client again; none, where it needn't.
    pub(crate) fn wait(&self, client: Uuid, from: IpAddr) -> Option<Duration> {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guess = guesses.get(&(client, network(from)))?;
        guess.wait().checked_sub(guess.last.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// A secret was wrong.
    pub(crate) fn note(&self, client: Uuid, from: IpAddr) {
        let now = Instant::now();
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= MAXIMUM {
            guesses.retain(|_, guess| guess.last + MEMORY > now);
        }
        if guesses.len() >= MAXIMUM
            && let Some(oldest) = guesses.iter().min_by_key(|(_, guess)| guess.last).map(|(key, _)| *key)
        {
            guesses.remove(&oldest);
        }
        let guess = guesses.entry((client, network(from))).or_insert(Guess { count: 0, last: now });
        let count = if guess.last + MEMORY > now { guess.count.saturating_add(1) } else { 1 };
        *guess = Guess { count, last: now };
    }

    /// A secret was right.
    pub(crate) fn forget(&self, client: Uuid, from: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(client, network(from)));
    }
}

/// What one party has at least: an address of IPv4, 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_guesses_waits_longer_and_longer_and_nobody_else_does() {
        let guesses = Guesses::default();
        let client = Uuid::from_u128(1);
        let (guesser, owner): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..4 {
            guesses.note(client, guesser);
            assert_eq!(guesses.wait(client, guesser), None);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            guesses.note(client, guesser);
            assert_eq!(guesses.wait(client, guesser), Some(Duration::from_secs(seconds)));
            // Another address of the same network is the same party.
            assert!(guesses.wait(client, "2001:db8::2:1".parse().unwrap()).is_some());
            assert_eq!((guesses.wait(client, owner), guesses.wait(Uuid::from_u128(2), guesser)), (None, None));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(guesses.wait(client, guesser), None);
        }
        guesses.forget(client, guesser);
        guesses.note(client, guesser);
        assert_eq!(guesses.wait(client, guesser), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_ends() {
        let guesses = Guesses::default();
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        for client in 0..MAXIMUM as u128 + 100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            guesses.note(Uuid::from_u128(client), from);
        }
        assert_eq!(guesses.0.lock().unwrap().len(), MAXIMUM);
        tokio::time::advance(MEMORY).await;
        guesses.note(Uuid::from_u128(0), from);
        assert_eq!(guesses.0.lock().unwrap().len(), 1);
    }
}
