//! How many bytes of request bodies the whole process holds at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes taken from the process's budget of body bytes (`BuildContext::body_budget`, a permit a byte); given back when
/// dropped. Nothing ever waits for bytes: who waits holds bytes that others wait for.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    pub(crate) fn new(budget: Arc<Semaphore>) -> Self {
        Self { budget, held: None }
    }

    /// Takes more; false, and nothing taken, when so many bytes aren't free now.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let permits = u32::try_from(bytes).ok();
        let Some(more) = permits.and_then(|count| Arc::clone(&self.budget).try_acquire_many_owned(count).ok()) else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back_and_the_limit_holds() {
        let budget = Arc::new(Semaphore::new(100));
        let mut first = Reservation::new(Arc::clone(&budget));
        assert!(first.grow(60));
        assert!(!Reservation::new(Arc::clone(&budget)).grow(41));
        assert!(!first.grow(41));
        assert!(first.grow(40));
        assert_eq!(budget.available_permits(), 0);
        assert!(!first.grow(usize::MAX));
        drop(first);
        assert_eq!(budget.available_permits(), 100);
    }
}
