//! How far the source has come, as it is committed with the records.

use std::collections::BTreeMap;

use actlog_core::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::seen::Manifest;

/// Until when each tenant's content is taken, by content type: all of it that became available before.
pub(crate) type Reached = BTreeMap<Uuid, BTreeMap<String, Timestamp>>;

/// The position. Together with the files that it vouches for, it is all that the source remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    version: Version,
    pub(crate) reached: Reached,
    pub(crate) seen: Manifest,
}

/// The form of the position; another one will get another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Version;

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} of the position is not known")) }
    }
}

impl From<Version> for u8 {
    fn from(Version: Version) -> Self {
        1
    }
}

impl Position {
    pub(crate) fn new(reached: Reached, seen: Manifest) -> Self {
        Self { version: Version, reached, seen }
    }

    /// As bytes for the journal.
    ///
    /// # Errors
    /// Never for what the types can hold; the type is `serde_json`'s.
    pub(crate) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// # Errors
    /// When the bytes are no position of this version.
    pub(crate) fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written_and_another_version_does_not() {
        let time = Timestamp::parse("2026-11-22T12:55:12.250Z").unwrap();
        let of_tenant =
            BTreeMap::from([("Audit.General".to_owned(), time), ("DLP.All".to_owned(), Timestamp::default())]);
        let position = Position::new(BTreeMap::from([(Uuid::from_u128(7), of_tenant)]), Manifest::default());
        let bytes = position.encode().unwrap();
        assert_eq!(Position::decode(&bytes).unwrap(), position);
        let other = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert!(Position::decode(other.as_bytes()).is_err());
        assert!(Position::decode(b"{}").is_err());
    }
}
