//! The parameters `startTime` and `endTime`: read as liberally as collectors write them, and the window that they make.

use std::time::Duration;

use actlog_core::Timestamp;
use chrono::DateTime;

use super::query::Query;
use crate::errors::FeedError;

const DAY: i64 = 86_400_000;
/// What the service takes beyond its rule of 7 days: collectors reckon by their own clocks, and some ask for all 168
/// hours.
const GRACE: i64 = 3_600_000;
/// What it takes beyond its rule of 24 hours: some windows include their last second.
const LAST_SECOND: i64 = 1_000;
/// No spelling of a time is longer.
const LONGEST: usize = 64;

/// The contents with `from <= contentCreated < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Window {
    /// As the parameters say; the last 24 hours where there are none. `retention` is how far back there can be content.
    pub(super) fn of(query: &Query<'_>, now: Timestamp, retention: Duration) -> Result<Self, FeedError> {
        let read = |name, text: &str| parse(text).ok_or_else(|| FeedError::invalid_parameter(name, "datetime"));
        let (from, to) = match (query.get("startTime"), query.get("endTime")) {
            (None, None) => return Ok(Self { from: now.plus_milliseconds(-DAY), to: now }),
            (Some(start), Some(end)) => (read("startTime", start)?, read("endTime", end)?),
            _ => return Err(FeedError::half_a_window()),
        };
        let length = to.unix_milliseconds() - from.unix_milliseconds();
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX).max(7 * DAY);
        let earliest = now.plus_milliseconds(-retention.saturating_add(GRACE));
        if !(0..=DAY + LAST_SECOND).contains(&length) || from < earliest {
            return Err(FeedError::impossible_window());
        }
        Ok(Self { from, to })
    }
}

/// Reads `2026-11-22`, `…T18:00`, `…T18:00:05`, each time also with a fraction, `Z`, or an offset, whose plus has become
/// a blank where it was not encoded. Without a zone it is UTC. Fractions of a millisecond are rounded up, so that both
/// ends of a window compare with whole milliseconds as the unrounded time would.
fn parse(text: &str) -> Option<Timestamp> {
    if text.len() > LONGEST {
        return None;
    }
    let (date, rest) = text.split_at_checked("2026-11-22".len())?;
    let time = match rest.split_at_checked(1) {
        None => "00:00:00",
        Some(("T" | "t" | " ", time)) => time,
        Some(_) => return None,
    };
    let (time, zone) = time.split_at(time.find(['Z', 'z', '+', '-', ' ']).unwrap_or(time.len()));
    let seconds = if time.len() == "18:00".len() { ":00" } else { "" };
    let zone = match zone.split_at_checked("+00".len()) {
        None if zone.is_empty() => "Z".to_owned(),
        Some((hours, minutes)) if !minutes.starts_with(':') => format!("{hours}:{minutes}"),
        _ => zone.to_owned(),
    };
    let zone = zone.replace(' ', "+");
    let time = DateTime::parse_from_rfc3339(&format!("{date}T{time}{seconds}{zone}")).ok()?;
    let is_between = time.timestamp_subsec_nanos() % 1_000_000 != 0;
    Some(Timestamp::from(time).plus_milliseconds(i64::from(is_between)))
}

/// As the parameters of a `NextPageUri` have it: `2017-10-13T18:00:51`, with milliseconds where there are any.
pub(super) fn parameter(time: Timestamp) -> String {
    let has_fraction = time.unix_milliseconds() % 1000 != 0;
    time.to_datetime().format(if has_fraction { "%Y-%m-%dT%H:%M:%S%.3f" } else { "%Y-%m-%dT%H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_that_collectors_use_is_read() {
        for (spelling, expected) in [
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("2018-07-09T18:00", "2018-07-09T18:00:00Z"),
            ("2018-07-09T18:00Z", "2018-07-09T18:00:00Z"),
            ("2026-11-22T12:55:12", "2026-11-22T12:55:12Z"),
            ("2026-11-22t12:55:12z", "2026-11-22T12:55:12Z"),
            ("2026-11-22 12:55:12", "2026-11-22T12:55:12Z"),
            ("2026-11-22T11:54:39Z", "2026-11-22T11:54:39Z"),
            ("2026-11-23T09:58:31.439Z", "2026-11-23T09:58:31.439Z"),
            ("2026-11-23T09:56:23.379000+00:00", "2026-11-23T09:56:23.379Z"),
            ("2022-05-03T07:30:03 00:00", "2022-05-03T07:30:03Z"),
            ("2022-05-03T07:30:03+0200", "2022-05-03T05:30:03Z"),
            ("2022-05-03T07:30:03-02:00", "2022-05-03T09:30:03Z"),
            ("2022-05-03T07:30-02:00", "2022-05-03T09:30:00Z"),
        ] {
            assert_eq!(parse(spelling).map(|time| time.to_string()).as_deref(), Some(expected), "{spelling}");
        }
        for spelling in
            ["", "T", "now", "2026-11-22T", "2026-11-22T1:2", "2026-11-22X00:00:00", "2026-02-30", "1\u{e9}"]
        {
            assert_eq!(parse(spelling), None, "{spelling}");
        }
        assert_eq!(parse(&format!("2026-11-22T00:00:00.{}Z", "0".repeat(100))), None);
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_rounded_up() {
        for spelling in ["2026-11-23T09:58:31.438000001Z", "2026-11-23T09:58:31.4389999", "2026-11-23T09:58:31.439"] {
            assert_eq!(parse(spelling).unwrap().to_string(), "2026-11-23T09:58:31.439Z", "{spelling}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), tail in "[-0-9T:.Z +]{0,40}") {
            let _ = parse(&text);
            let _ = parse(&format!("2026-11-22{tail}"));
        }

        #[test]
        fn a_window_of_a_next_page_is_the_window_that_was_asked_for(milliseconds in 0..4_000_000_000_000_i64) {
            let time = Timestamp::from_unix_milliseconds(milliseconds);
            prop_assert_eq!(parse(&parameter(time)), Some(time));
        }
    }
}
