//! Points in time as clients of the interface write them, and as it writes them.

use actlog_core::Timestamp;

/// A parameter: `2026-11-22`, `…T18:00`, `…T18:00:05`, with fractions, `Z`, or an offset, whose plus may have become a
/// blank on its way through a query string. Without a zone it is UTC.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let Some((date, rest)) = text.split_once('T') else { return Timestamp::parse(&format!("{text}T00:00:00Z")).ok() };
    let end = rest.find(['Z', '+', '-', ' ']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    let seconds = if time.len() == 5 { ":00" } else { "" };
    let zone = if zone.is_empty() { "Z".to_owned() } else { zone.replace(' ', "+") };
    Timestamp::parse(&format!("{date}T{time}{seconds}{zone}")).ok()
}

/// `2017-10-13T18:00:51.748Z`
pub(super) fn content(time: Timestamp) -> String {
    time.to_datetime().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// `2017-10-13T18:00:51`
pub(super) fn parameter(time: Timestamp) -> String {
    time.to_datetime().format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The header `Date`: `Fri, 13 Oct 2017 18:00:51 GMT`
pub(super) fn header(time: Timestamp) -> String {
    time.to_datetime().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_clients_use_is_read() {
        for (spelling, expected) in [
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("2018-07-09T18:00Z", "2018-07-09T18:00:00Z"),
            ("2018-07-09T18:00", "2018-07-09T18:00:00Z"),
            ("2026-11-22T11:54:39Z", "2026-11-22T11:54:39Z"),
            ("2026-11-22T12:55:12", "2026-11-22T12:55:12Z"),
            ("2026-11-23T09:56:23.379062+00:00", "2026-11-23T09:56:23.379Z"),
            ("2022-05-03T07:30:03 00:00", "2022-05-03T07:30:03Z"),
            ("2026-11-23T09:58:31.439123456Z", "2026-11-23T09:58:31.439Z"),
        ] {
            assert_eq!(parse(spelling).map(|time| time.to_string()).as_deref(), Some(expected), "{spelling}");
        }
        for spelling in ["", "T", "now", "2026-11-22T", "2026-11-22T1:2"] {
            assert_eq!(parse(spelling), None, "{spelling}");
        }
    }
}
