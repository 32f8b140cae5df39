//! Points in time, and where they come from.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// In JSON it is RFC 3339 in UTC; milliseconds are printed only where there are any: `2018-03-02T23:25:56Z`,
/// `2018-03-02T23:25:56.250Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest and latest instants that have a four-digit year; everything outside is moved to the nearer of them.
    const RANGE: (i64, i64) = (-62_135_596_800_000, 253_402_300_799_999);

    /// From milliseconds since the epoch. Values outside of the years 1 to 9999 are moved to the nearer end.
    pub fn from_unix_milliseconds(milliseconds: i64) -> Self {
        Self(milliseconds.clamp(Self::RANGE.0, Self::RANGE.1))
    }

    /// Milliseconds since the epoch.
    pub fn unix_milliseconds(self) -> i64 {
        self.0
    }

    /// From an RFC 3339 text with any offset.
    ///
    /// # Errors
    /// When the text is not RFC 3339.
    pub fn parse(text: &str) -> Result<Self, chrono::ParseError> {
        Ok(DateTime::parse_from_rfc3339(text)?.into())
    }

    /// The calendar view.
    pub fn to_datetime(self) -> DateTime<Utc> {
        // The constructor keeps the value in the years 1 to 9999, which chrono can represent.
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// This instant moved by so many milliseconds.
    #[must_use]
    pub fn plus_milliseconds(self, milliseconds: i64) -> Self {
        Self::from_unix_milliseconds(self.0.saturating_add(milliseconds))
    }
}

impl<Tz: chrono::TimeZone> From<DateTime<Tz>> for Timestamp {
    fn from(time: DateTime<Tz>) -> Self {
        Self::from_unix_milliseconds(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.0 % 1000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
        f.write_str(&self.to_datetime().to_rfc3339_opts(format, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text)
            .map_err(|error| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 time: {error}")))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, UTC" })
    }
}

/// Where the time comes from; a simulated one in tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Utc::now().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_printed_only_where_known() {
        assert_eq!(Timestamp::parse("2018-03-02T23:25:56Z").unwrap().to_string(), "2018-03-02T23:25:56Z");
        assert_eq!(Timestamp::parse("2018-03-03T00:25:56.25+01:00").unwrap().to_string(), "2018-03-02T23:25:56.250Z");
    }

    #[test]
    fn times_out_of_range_are_moved_to_the_nearer_end() {
        assert_eq!(Timestamp::from_unix_milliseconds(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_unix_milliseconds(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
    }
}
