//! Which periods of availability are listed.

use std::time::Duration;

use actlog_core::Timestamp;

/// The service lists no period that is longer.
const LONGEST: i64 = 24 * HOUR;
/// The service lists nothing that became available longer ago, less some minutes for the way there.
const EARLIEST: i64 = 7 * 24 * HOUR - 5 * 60 * 1000;
const HOUR: i64 = 3600 * 1000;

/// A period: `from` is in it, `to` is not. Both are whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// What is listed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What can't be listed any more, and was not.
    pub(crate) lost: Option<Window>,
    listed: Window,
}

impl Plan {
    /// From what was reached, less the overlap, until `now` by the server's clock. Where nothing was reached yet, it
    /// begins so long ago as `since` says.
    pub(crate) fn new(reached: Option<Timestamp>, now: Timestamp, since: Duration, overlap: Duration) -> Self {
        let earliest = next_second(now.plus_milliseconds(-EARLIEST));
        let lost = reached.filter(|reached| *reached < earliest).map(|from| Window { from, to: earliest });
        let from = match reached {
            Some(reached) => back(reached, overlap),
            None => back(now, since),
        };
        Self { lost, listed: Window { from: second(from.max(earliest)), to: second(now) } }
    }

    /// Where it begins.
    pub(crate) fn begin(self) -> Timestamp {
        self.listed.from
    }

    /// What is to be listed, oldest first, in periods that the service lists.
    pub(crate) fn windows(self) -> impl Iterator<Item = Window> {
        let Window { from, to } = self.listed;
        let next = move |from: Timestamp| {
            let until = from.plus_milliseconds(LONGEST).min(to);
            (from < to).then_some(Window { from, to: until })
        };
        std::iter::successors(next(from), move |window| next(window.to))
    }
}

fn back(time: Timestamp, by: Duration) -> Timestamp {
    time.plus_milliseconds(-i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

fn second(time: Timestamp) -> Timestamp {
    time.plus_milliseconds(-time.unix_milliseconds().rem_euclid(1000))
}

fn next_second(time: Timestamp) -> Timestamp {
    second(time.plus_milliseconds(999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const OVERLAP: Duration = Duration::from_secs(3600);

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_first_start_reaches_back_as_configured_and_no_further_than_the_service_does() {
        let now = time("2026-11-22T12:00:00.700Z");
        let from = |since| Plan::new(None, now, since, OVERLAP).windows().next().unwrap().from;
        assert_eq!(from(DAY), time("2026-11-21T12:00:00Z"));
        assert_eq!(from(DAY * 30), time("2026-11-15T12:05:01Z"));
        assert_eq!(Plan::new(None, now, DAY * 30, OVERLAP).lost, None);
    }

    #[test]
    fn what_the_service_no_longer_lists_is_lost_from_where_we_were() {
        let now = time("2026-11-22T12:00:00Z");
        let plan = Plan::new(Some(time("2026-11-10T00:00:00Z")), now, DAY, OVERLAP);
        let earliest = time("2026-11-15T12:05:00Z");
        assert_eq!(plan.lost, Some(Window { from: time("2026-11-10T00:00:00Z"), to: earliest }));
        assert_eq!(plan.windows().next().unwrap().from, earliest);
        assert_eq!(plan.windows().count(), 7);
        let kept = Plan::new(Some(earliest), now, DAY, OVERLAP);
        assert_eq!((kept.lost, kept.windows().next().unwrap().from), (None, earliest));
    }

    #[test]
    fn a_clock_that_goes_backwards_lists_nothing_until_it_has_caught_up() {
        let reached = time("2026-11-22T14:00:00Z");
        assert_eq!(Plan::new(Some(reached), time("2026-11-22T12:00:00Z"), DAY, OVERLAP).windows().count(), 0);
        assert_eq!(Plan::new(Some(reached), reached, DAY, OVERLAP).windows().count(), 1);
    }

    proptest! {
        #[test]
        fn windows_join_cover_everything_and_are_allowed(
            now in 1_700_000_000_000_i64..1_800_000_000_000,
            ago in proptest::option::of(0_i64..12 * 24 * HOUR),
            overlap in 0_u64..48 * 3600,
        ) {
            let now = Timestamp::from_unix_milliseconds(now);
            let reached = ago.map(|ago| now.plus_milliseconds(-ago));
            let plan = Plan::new(reached, now, DAY, Duration::from_secs(overlap));
            let windows: Vec<Window> = plan.windows().collect();
            prop_assert!(windows.windows(2).all(|pair| pair[0].to == pair[1].from));
            for window in &windows {
                let (from, to) = (window.from.unix_milliseconds(), window.to.unix_milliseconds());
                prop_assert!(from < to && to - from <= LONGEST && from % 1000 == 0 && to % 1000 == 0);
                prop_assert!(now.unix_milliseconds() - from <= EARLIEST);
            }
            if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
                let begins = reached.is_none_or(|reached| {
                    first.from <= plan.lost.map_or(reached, |lost| lost.to)
                });
                prop_assert!(begins);
                prop_assert!(now.unix_milliseconds() - last.to.unix_milliseconds() < 1000);
            }
        }
    }
}
