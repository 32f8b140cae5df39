//! The files are as `docs/journal-format.md` says: read here by its tables alone.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actlog_core::{Clock, EntryKind, Storage, Timestamp};
use actlog_journal::Journal;
use actlog_testkit::storage::FaultStorage;
use support::{DIRECTORY, batch, entry, options, runtime, segments};

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(1_700_000_000_123)
    }
}

/// Takes numbers from the front of a file.
struct Taker<'a>(&'a [u8]);

impl<'a> Taker<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// CRC-32C, bit by bit.
fn crc(parts: &[&[u8]]) -> u64 {
    let mut crc = u32::MAX;
    for byte in parts.concat() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    u64::from(!crc)
}

#[test]
fn a_segment_is_as_documented() {
    let storage = FaultStorage::new(1);
    runtime().block_on(async {
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let (journal, _) = Journal::open(shared, Path::new(DIRECTORY), options(), Arc::new(Noon)).unwrap();
        let mut first = batch(&[entry(8, 5), entry(9, 0)]);
        first.set_state("source/a", [7_u8, 8].to_vec());
        journal.submit(first).await.unwrap().await.unwrap();
        let mut second = batch(&[]);
        second.remove_state("source/a");
        journal.submit(second).await.unwrap().await.unwrap();
        journal.shutdown().await.unwrap();
    });
    let path = Path::new(DIRECTORY).join("00000000000000000000.seg");
    assert_eq!(segments(&storage), [path.clone()] as [PathBuf; 1]);
    let file = storage.read(&path, 1 << 20).unwrap();
    let mut rest = Taker(&file);

    assert_eq!(rest.bytes(8), b"ACTLOGSG");
    assert_eq!((rest.number(4), rest.number(8), rest.number(8)), (1, 0, 1_700_000_000_123));
    assert_eq!(rest.number(4), crc(&[&file[..28]]));

    // First index, entries, updates, flags of each frame: the snapshot, the two groups, the mark at the end.
    for expected in [(0, 0, 0, 1), (0, 2, 1, 0), (2, 0, 1, 0), (2, 0, 0, 2)] {
        let position = file.len() - rest.0.len();
        let header = &rest.0[..40];
        assert_eq!(rest.bytes(4), [0xFF, 0x41, 0x46, 0xFE]);
        assert_eq!(rest.number(4), crc(&[&[0; 8], &position.to_le_bytes(), &header[8..]]));
        let (length, payload_crc) = (rest.number(4), rest.number(4));
        assert_eq!((rest.number(8), rest.number(4), rest.number(2), rest.number(2)), expected);
        assert_eq!(rest.number(8), 1_700_000_000_123);
        let payload = rest.bytes(usize::try_from(length).unwrap());
        assert_eq!(payload_crc, crc(&[payload]));
        let mut payload = Taker(payload);
        if expected.1 == 2 {
            for (kind, entry) in [(0, entry(8, 5)), (1, entry(9, 0))] {
                assert_eq!(entry.kind, if kind == 0 { EntryKind::Record } else { EntryKind::Statement });
                let length = payload.number(4);
                assert_eq!(payload.number(1), kind);
                assert_eq!(payload.number(8).cast_signed(), entry.time.unix_milliseconds());
                assert_eq!(payload.bytes(16), entry.id.as_bytes());
                assert_eq!(payload.bytes(32), entry.salt);
                assert_eq!(payload.bytes(usize::try_from(length).unwrap()), entry.bytes);
            }
            assert_eq!((payload.number(2), payload.number(4)), (8, 2));
            assert_eq!(payload.bytes(10), b"source/a\x07\x08");
        } else if expected.2 == 1 {
            assert_eq!((payload.number(2), payload.number(4)), (8, 0xFFFF_FFFF));
            assert_eq!(payload.bytes(8), b"source/a");
        }
        assert!(payload.0.is_empty());
    }
    assert!(rest.0.is_empty());
}

#[test]
fn a_file_of_ids_is_as_documented() {
    let storage = FaultStorage::new(1);
    runtime().block_on(async {
        let (journal, _) = support::open(&storage);
        support::write(&journal, [8, 9, 10]).await;
        journal.shutdown().await.unwrap();
    });
    // A segment is sealed at the next opening, at the latest.
    drop(support::open(&storage));
    let file = storage.read(&Path::new(DIRECTORY).join("00000000000000000000.ids"), 1 << 20).unwrap();
    let mut rest = Taker(&file);
    assert_eq!(rest.bytes(8), b"ACTLOGID");
    assert_eq!((rest.number(4), rest.number(4)), (1, 2));
    assert_eq!(rest.number(4), crc(&[&file[..16], &file[20..]]));
    assert_eq!(rest.0, [*entry(8, 0).id.as_bytes(), *entry(10, 0).id.as_bytes()].concat());
}
