//! How often clients may ask, where the configuration limits that as Microsoft's service does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{Clock, Timestamp};
use actlog_office::ContentType;
use uuid::Uuid;

use super::route::Operation;
use crate::auth::Caller;
use crate::config::ThrottleConfig;
use crate::errors::FeedError;

/// Publishers of which an account is kept. A client can name as many as it likes; the rest share one account.
const PUBLISHERS: usize = 1024;
const MINUTE: i64 = 60_000;
/// How long after a start a stopped subscription can't be started again.
const BETWEEN_STARTS: i64 = 15 * MINUTE;

/// The limits, and what is known of each client.
#[derive(Debug)]
pub(super) struct Throttle {
    config: ThrottleConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By tenant and publisher.
    accounts: HashMap<(Uuid, Uuid), Account>,
    /// By tenant, client and content type; as many as there are registered clients, and content types.
    started: HashMap<(Uuid, Uuid, ContentType), Timestamp>,
}

/// A bucket of credit, in sixty-thousandths of a request, so that a millisecond refills a whole number.
#[derive(Clone, Copy, Debug)]
struct Account {
    credit: i64,
    at: Timestamp,
}

impl Account {
    /// What it holds now, at a limit of so many requests a minute.
    fn refilled(self, per_minute: i64, now: Timestamp) -> i64 {
        // A clock that was set back refills nothing.
        let passed = (now.unix_milliseconds() - self.at.unix_milliseconds()).clamp(0, MINUTE);
        (self.credit + passed * per_minute).min(MINUTE * per_minute)
    }
}

impl Throttle {
    pub(super) fn new(config: &ThrottleConfig, clock: &Arc<dyn Clock>) -> Self {
        Self { config: config.clone(), clock: Arc::clone(clock), state: Mutex::default() }
    }

    /// Whether a request may go on: `AF429` where there were too many.
    pub(super) fn admit(&self, tenant: Uuid, publisher: Uuid, operation: &Operation) -> Result<(), FeedError> {
        let Some(per_minute) = self.config.requests_per_minute.map(i64::from) else { return Ok(()) };
        let now = self.clock.now();
        let mut state = self.state();
        let accounts = &mut state.accounts;
        let mut key = (tenant, publisher);
        if accounts.len() >= PUBLISHERS && !accounts.contains_key(&key) {
            accounts.retain(|_, account| account.refilled(per_minute, now) < MINUTE * per_minute);
            if accounts.len() >= PUBLISHERS {
                key = (tenant, Uuid::nil());
            }
        }
        let account = accounts.entry(key).or_insert(Account { credit: MINUTE * per_minute, at: now });
        let credit = account.refilled(per_minute, now);
        let is_enough = credit >= MINUTE;
        *account = Account { credit: if is_enough { credit - MINUTE } else { credit }, at: now };
        if is_enough { Ok(()) } else { Err(FeedError::too_many_requests(operation.method(), publisher)) }
    }

    /// Whether a subscription that is not enabled may be started.
    pub(super) fn admit_start(&self, caller: &Caller, content_type: ContentType) -> Result<(), FeedError> {
        if !self.config.starts {
            return Ok(());
        }
        let started = self.state().started.get(&(caller.tenant, caller.client, content_type)).copied();
        let now = self.clock.now().unix_milliseconds();
        let wait = started.map_or(0, |started| started.unix_milliseconds() + BETWEEN_STARTS - now);
        // More than the whole wait: the clock was set back.
        if !(1..=BETWEEN_STARTS).contains(&wait) {
            return Ok(());
        }
        Err(FeedError::too_many_starts(Duration::from_millis(wait.unsigned_abs())))
    }

    /// Notes that a subscription was started.
    pub(super) fn note_start(&self, caller: &Caller, content_type: ContentType) {
        if self.config.starts {
            self.state().started.insert((caller.tenant, caller.client, content_type), self.clock.now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can happen while it is held; the state is whole anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_milliseconds(1_000_000_000_000 + self.0.load(Ordering::Relaxed))
        }
    }

    fn throttle(per_minute: u32) -> (Throttle, Arc<Hand>) {
        let hand = Arc::new(Hand::default());
        let clock: Arc<dyn Clock> = Arc::clone(&hand) as _;
        (Throttle::new(&ThrottleConfig { requests_per_minute: Some(per_minute), starts: true }, &clock), hand)
    }

    #[test]
    fn a_minutes_requests_are_let_through_and_then_as_many_as_time_brings() {
        let (throttle, hand) = throttle(60);
        let (tenant, publisher) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let admitted =
            |requests| (0..requests).filter(|_| throttle.admit(tenant, publisher, &Operation::Content).is_ok()).count();
        assert_eq!(admitted(100), 60);
        hand.0.store(5_000, Ordering::Relaxed);
        assert_eq!(admitted(100), 5);
        hand.0.store(0, Ordering::Relaxed);
        assert_eq!(admitted(100), 0, "a clock that is set back brings nothing");
        let error = throttle.admit(tenant, publisher, &Operation::Blob(String::new())).unwrap_err();
        let words = format!("Too many requests. Method=GetBlob, PublisherId={publisher}");
        assert_eq!((error.code(), error.message()), ("AF429", words.as_str()));
        assert!(throttle.admit(tenant, Uuid::nil(), &Operation::Content).is_ok(), "another publisher has its own");
    }

    #[test]
    fn invented_publishers_take_no_memory_without_bound_and_bring_no_credit() {
        let (throttle, _) = throttle(1);
        let tenant = Uuid::from_u128(1);
        let admitted = (0..10_000_u128)
            .filter(|number| throttle.admit(tenant, Uuid::from_u128(*number), &Operation::Content).is_ok())
            .count();
        // The account of the rest is one more.
        assert!(admitted <= PUBLISHERS + 1 && throttle.state().accounts.len() <= PUBLISHERS + 1, "{admitted}");
    }
}
