//! The bytes of frames and ids, and what damage to them does.

use actlog_core::OpenMode;
use proptest::prelude::*;

use super::super::content_id::ContentId;
use super::super::frame::{Head, Line};
use super::super::index::{Blob, Index};
use super::*;

fn partition() -> impl Strategy<Value = Partition> {
    prop_oneof![
        (any::<u128>(), 0..ContentType::ALL.len())
            .prop_map(|(id, kind)| Partition::Tenant(Uuid::from_u128(id), ContentType::ALL[kind])),
        any::<u128>().prop_map(|id| Partition::Unclaimed(Uuid::from_u128(id))),
    ]
}

prop_compose! {
    fn line()(partition in partition(), records: u32, created: i64, stored in 0_u32..50, raw: u32, crc: u32) -> Line {
        Line { partition, records, created, stored, raw, crc }
    }
}

prop_compose! {
    fn head()(
        (round, time, next, retention) in any::<(u64, i64, u64, u32)>(),
        first in any::<Option<(u64, u128)>>(),
        blobs in prop::collection::vec(line(), 0..20),
        replaced in prop::collection::vec(any::<(u128, i64)>(), 0..5),
    ) -> Head {
        let first = first.map(|(index, id)| (index, Uuid::from_u128(id)));
        let replaced = replaced.into_iter().map(|(id, created)| (Uuid::from_u128(id), created)).collect();
        Head { round, time, coverage: Coverage { first, next }, retention, blobs, replaced }
    }
}

/// Reads a head from a file with these bytes.
fn read(bytes: &[u8], offset: u64) -> Option<Head> {
    let storage = FaultStorage::new(1);
    storage.put(Path::new("/f"), bytes);
    let file = storage.open(Path::new("/f"), OpenMode::Read).unwrap();
    Head::read(&*file, offset, bytes.len() as u64).unwrap()
}

proptest! {
    #[test]
    fn a_head_is_read_as_it_was_written(head in head(), before in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = before.clone();
        head.encode(&mut bytes);
        prop_assert_eq!(bytes.len() - before.len(), head.encoded_length());
        bytes.resize(bytes.len() + head.payload() as usize, 7);
        prop_assert_eq!(read(&bytes, before.len() as u64), Some(head));
        if bytes.len() > before.len() {
            prop_assert_eq!(read(&bytes[..bytes.len() - 1], before.len() as u64), None, "cut");
        }
    }

    #[test]
    fn a_head_with_a_changed_byte_is_none(head in head(), place: prop::sample::Index, change in 1_u8..) {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        bytes.resize(bytes.len() + head.payload() as usize, 7);
        prop_assert_eq!(read(&bytes, 0), None);
    }

    #[test]
    fn no_bytes_make_reading_a_head_fail(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes, 0);
        let mut with_checksum = crc32c::crc32c(&bytes).to_le_bytes().to_vec();
        with_checksum.extend(bytes);
        read(&with_checksum, 0);
    }

    #[test]
    fn an_id_is_read_as_it_was_written(created in 0_i64..253_402_300_799_999, crc: u32, kind in 0..ContentType::ALL.len()) {
        let blob = Blob { created, segment: 0, offset: 0, stored: 0, raw: 0, crc, retention: 0, records: 0 };
        let id = ContentId::new(&blob, ContentType::ALL[kind]);
        prop_assert_eq!(ContentId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn no_text_makes_reading_an_id_or_a_place_fail(text in "\\PC{0,80}", digits in "[0-9]{0,30}") {
        for text in [&text, &digits, &format!("{digits}${digits}$audit_general$Audit_General")] {
            if let Some(id) = ContentId::parse(text) {
                prop_assert_eq!(&id.to_string(), text);
            }
            if let Ok(place) = text.parse::<Place>() {
                prop_assert_eq!(&place.to_string(), text);
            }
        }
    }
}

#[test]
fn a_million_blobs_are_in_memory_with_less_than_100_mb() {
    let mut index = Index::default();
    let segment = index.add_segment(PathBuf::from(FOLDER), 0);
    let line = |created| Line { partition: tenant(A), records: 1, created, stored: 1, raw: 1, crc: 1 };
    for round in 0..1000_u64 {
        let blobs = (0..1001).map(|place| line(round as i64 * 1001 + place)).collect();
        let head =
            Head { round, time: 0, coverage: Coverage::default(), retention: 1 << 30, blobs, replaced: Vec::new() };
        index.add_frame(&head, segment, 0);
    }
    assert_eq!(index.blobs(), 1_001_000);
    assert!(index.allocated() < 100_000_000, "{}", index.allocated());
    assert_eq!(index.window(tenant(A), 500_000, 500_500).count(), 500);
}

#[test]
fn damage_to_a_blob_is_found_when_it_is_read_and_harms_no_other() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    publisher.publish(&round(1)).unwrap();
    let listed = all(&store, A);
    let read = |place: usize| store.blob(A, &listed[place].0.id).unwrap();
    disk.storage.damage(&disk.segments()[0], u64::from(read(1).blob.offset), 1).unwrap();
    let error = read(1).read().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("00000000000000000000.seg"), "{error}");
    assert_eq!(read(0).read().unwrap(), listed[0].1);
    assert_eq!(read(2).read().unwrap(), listed[2].1);
}

#[test]
fn damage_to_an_earlier_segment_is_reported_and_costs_what_is_damaged_only() {
    let disk = Disk::new();
    let (_, mut publisher) = disk.open().unwrap();
    for index in 0..6 {
        publisher.publish(&round(index)).unwrap();
        if index == 3 {
            drop(publisher);
            publisher = disk.open().unwrap().1;
        }
    }
    let files = disk.segments();
    assert_eq!(files.len(), 3, "what the first run wrote, its last round again, what the second run wrote: {files:?}");
    drop(publisher);
    // The first round's head.
    disk.storage.damage(&files[0], 16 + 8, 1).unwrap();
    let (store, mut publisher) = disk.open().unwrap();
    let problem = publisher.problem().unwrap();
    assert!(problem.contains("3 rounds"), "{problem}");
    assert_eq!(all(&store, A).len(), 2 * 3);
    assert_eq!(publisher.coverage().next, 6);
    publisher.publish(&round(6)).unwrap();
    assert_eq!(all(&store, A).len(), 2 * 4);
}

#[test]
fn damaged_segments_at_the_end_are_set_aside_reported_and_cost_nothing_that_comes_later() {
    let disk = Disk::new();
    // Each run begins a segment.
    for index in 0..3 {
        disk.open().unwrap().1.publish(&round(index)).unwrap();
    }
    let files = disk.segments();
    assert_eq!(files.len(), 3, "{files:?}");
    // The heads of their first rounds.
    for file in &files[1..] {
        disk.storage.damage(file, 16 + 8, 1).unwrap();
    }
    let (_, mut publisher) = disk.open().unwrap();
    let problem = publisher.problem().unwrap();
    assert!(problem.contains("00000000000000000002.seg") && problem.contains(".damaged"), "{problem}");
    disk.clock.advance(12 * HOUR);
    for index in 1..5 {
        publisher.publish(&round(index)).unwrap();
    }
    drop(publisher);
    let (store, mut publisher) = disk.open().unwrap();
    assert_eq!(publisher.problem(), None);
    assert_eq!(all(&store, A).len(), 2 * 5);
    // When what was before them has expired, that alone goes.
    disk.clock.advance(13 * HOUR);
    publisher.expire().unwrap();
    assert_eq!(all(&store, A).len(), 2 * 4);
    assert_eq!(publisher.coverage().next, 5);
}

#[test]
fn a_segment_of_another_version_is_not_touched() {
    let disk = Disk::new();
    let path = Path::new("/data/content/00000000000000000000.seg");
    disk.storage.put(path, b"actlog content 2 and what it may hold");
    let error = disk.open().unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.seg") && error.contains("version"), "{error}");
    assert!(disk.storage.read(path, 100).unwrap().ends_with(b"hold"));
}
