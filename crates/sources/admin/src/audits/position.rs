//! How far the audit table has been read.

use std::collections::BTreeSet;

use actlog_core::Timestamp;
use uuid::Uuid;

/// How many rows a position names at most; the oldest are forgotten first. A row that was forgotten and is read again
/// has the same Id, by which the emitter drops it.
const MAXIMUM_SEEN: usize = 10_000;
/// First byte of a stored position: its form.
const FORM: u8 = 1;
/// Bytes of the fixed part, and of each row behind it.
const HEAD: usize = 1 + 8 + 8;
const ROW: usize = 8 + 16;

/// How far the audit table has been read. It is committed together with the rows that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Until when the table is known to have been read to its end.
    pub(super) polled: Timestamp,
    /// `createdon` of the newest row so far.
    pub(super) newest: Timestamp,
    /// Rows that may be read again, by `createdon` and id.
    seen: BTreeSet<(Timestamp, Uuid)>,
}

impl Position {
    /// Nothing has been read, and nothing before `since` is of interest.
    pub(super) fn new(since: Timestamp) -> Self {
        Self { polled: since, newest: since, seen: BTreeSet::new() }
    }

    /// Whether a row has been taken.
    pub(super) fn has(&self, created_on: Timestamp, id: Uuid) -> bool {
        self.seen.contains(&(created_on, id))
    }

    /// Whether something with that id has been taken, whenever it was created.
    pub(super) fn knows(&self, id: Uuid) -> bool {
        self.seen.iter().any(|(_, seen)| *seen == id)
    }

    /// A row is taken, `now`. Rows that lie further back than `overlap` (milliseconds) from the newest are not read
    /// again. A row that claims to be from the future does not move the reading there.
    pub(super) fn take(&mut self, created_on: Timestamp, id: Uuid, overlap: i64, now: Timestamp) {
        self.newest = self.newest.max(created_on.min(now));
        self.seen.insert((created_on, id));
        let from = (self.read_from(overlap), Uuid::nil());
        if self.seen.first().is_some_and(|oldest| *oldest < from) {
            self.seen = self.seen.split_off(&from);
        }
        while self.seen.len() > MAXIMUM_SEEN {
            self.seen.pop_first();
        }
    }

    /// `createdon` from which rows are read next time.
    pub(super) fn read_from(&self, overlap: i64) -> Timestamp {
        self.newest.plus_milliseconds(-overlap)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.seen.len() * ROW);
        bytes.push(FORM);
        for time in [self.polled, self.newest] {
            bytes.extend_from_slice(&time.unix_milliseconds().to_le_bytes());
        }
        for (time, id) in &self.seen {
            bytes.extend_from_slice(&time.unix_milliseconds().to_le_bytes());
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes
    }

    /// None for bytes that [`encode`](Self::encode) did not write.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rows) = bytes.split_at_checked(HEAD)?;
        let (form, times) = head.split_first()?;
        if *form != FORM || rows.len() % ROW != 0 {
            return None;
        }
        let seen = rows.chunks_exact(ROW).map(|row| Some((time(&row[..8])?, Uuid::from_slice(&row[8..]).ok()?)));
        Some(Self { polled: time(&times[..8])?, newest: time(&times[8..])?, seen: seen.collect::<Option<_>>()? })
    }
}

fn time(bytes: &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_unix_milliseconds(i64::from_le_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OVERLAP: i64 = 600_000;
    /// Later than every row here but one.
    const NOW: i64 = i64::MAX / 2;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(milliseconds)
    }

    #[test]
    fn rows_within_the_overlap_are_known_and_older_ones_are_forgotten() {
        let mut position = Position::new(at(0));
        let ids: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        position.take(at(1_000_000), ids[0], OVERLAP, at(NOW));
        // Late, but not too late.
        position.take(at(500_000), ids[1], OVERLAP, at(NOW));
        assert!(position.has(at(1_000_000), ids[0]) && position.has(at(500_000), ids[1]));
        assert_eq!(position.read_from(OVERLAP), at(400_000));
        position.take(at(1_200_000), ids[2], OVERLAP, at(NOW));
        assert!(!position.has(at(500_000), ids[1]) && position.has(at(1_000_000), ids[0]));
    }

    #[test]
    fn a_row_from_the_future_is_known_and_hides_no_other() {
        let mut position = Position::new(at(0));
        position.take(at(9_000_000_000), Uuid::from_u128(1), OVERLAP, at(1_000_000));
        assert_eq!(position.read_from(OVERLAP), at(400_000));
        assert!(position.has(at(9_000_000_000), Uuid::from_u128(1)));
    }

    #[test]
    fn a_position_has_a_limit() {
        let mut position = Position::new(at(0));
        for number in 0..=MAXIMUM_SEEN as u128 {
            position.take(at(1000 + number as i64), Uuid::from_u128(number), OVERLAP, at(NOW));
        }
        assert_eq!(position.seen.len(), MAXIMUM_SEEN);
        assert!(!position.has(at(1000), Uuid::nil()));
        assert!(position.encode().len() < 256 << 10);
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(
            polled in any::<i32>(),
            rows in prop::collection::vec((any::<i32>(), any::<u128>()), 0..20),
        ) {
            let mut position = Position::new(at(i64::from(polled)));
            for (time, id) in rows {
                position.take(at(i64::from(time)), Uuid::from_u128(id), OVERLAP, at(NOW));
            }
            prop_assert_eq!(Position::decode(&position.encode()), Some(position));
        }

        #[test]
        fn other_bytes_are_no_position_or_one_that_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(position) = Position::decode(&bytes) {
                prop_assert_eq!(Position::decode(&position.encode()), Some(position));
            }
        }
    }
}
