//! What is listed when, and for how long.

use proptest::prelude::*;

use super::*;

#[test]
fn content_created_grows_strictly_even_when_the_clock_is_set_back() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    publisher.publish(&round(1)).unwrap();
    disk.clock.set_back(HOUR);
    publisher.publish(&round(2)).unwrap();
    drop((store, publisher));
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(3)).unwrap();
    disk.clock.advance(2 * HOUR);
    publisher.publish(&round(4)).unwrap();
    let listed = all(&store, A);
    assert_eq!(listed.len(), 10);
    assert_strictly_increasing(&listed);
    assert_eq!(listed[0].0.created, Timestamp::parse(START).unwrap());
    assert_eq!(listed[8].0.created, disk.clock.now(), "it goes on with the clock when that is ahead again");
}

#[test]
fn a_window_that_was_listed_gets_nothing_more_when_the_clock_is_set_back() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    disk.clock.advance(HOUR);
    let end = disk.clock.now();
    let window = || now(store.list(A, GENERAL, Timestamp::from_unix_milliseconds(0), end, None, 10)).unwrap().contents;
    assert_eq!(window(), []);
    disk.clock.set_back(HOUR);
    publisher.publish(&round(0)).unwrap();
    assert_eq!(window(), []);
    assert_eq!(all(&store, A)[0].0.created, end);
}

#[test]
fn a_tenant_whose_content_has_expired_gets_nothing_backdated() {
    let disk = Disk::new();
    let (_, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    disk.clock.advance(48 * HOUR);
    let mut other = round(1);
    other.blobs.retain(|blob| blob.partition == tenant(B));
    publisher.publish(&other).unwrap();
    let newest = disk.clock.now();
    drop(publisher);
    disk.clock.set_back(47 * HOUR);
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(2)).unwrap();
    let came_last = all(&store, A).into_iter().find(|(_, text)| text == "[\"a2\"]").unwrap();
    assert!(came_last.0.created >= newest, "{came_last:?}");
}

#[tokio::test]
async fn a_listing_waits_for_a_round_that_has_its_time_already() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    disk.storage.hold_syncs(true);
    let publishing = tokio::task::spawn_blocking(move || publisher.publish(&round(0)));
    while disk.storage.syncs_waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let later = disk.clock.now().plus_milliseconds(5);
    let listing = store.list(A, GENERAL, Timestamp::from_unix_milliseconds(0), later, None, 10);
    tokio::pin!(listing);
    tokio::select! {
        biased;
        page = &mut listing => panic!("answered too early: {page:?}"),
        () = std::future::ready(()) => {}
    }
    disk.storage.hold_syncs(false);
    assert_eq!(listing.await.unwrap().contents.len(), 2);
    publishing.await.unwrap().unwrap();
}

#[test]
fn who_waits_for_content_is_told_when_it_is_listed() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    let published = store.published();
    assert!(!published.has_changed().unwrap());
    publisher.publish(&round(0)).unwrap();
    assert!(published.has_changed().unwrap());
}

#[test]
fn expired_content_is_neither_listed_nor_fetched_and_its_files_go() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    let listed = all(&store, A);
    assert_eq!(listed[0].0.expiration, disk.clock.now().plus_milliseconds(24 * 3_600_000));
    disk.clock.advance(24 * HOUR - Duration::from_millis(1));
    publisher.expire().unwrap();
    assert_eq!(all(&store, A), listed, "to the last millisecond");
    disk.clock.advance(Duration::from_millis(1));
    // The second one came a millisecond later. Nobody has cleaned up yet.
    assert_eq!(all(&store, A), listed[1..]);
    assert!(matches!(store.blob(A, &listed[0].0.id), Err(BlobError::Expired)));
    disk.clock.advance(HOUR);
    publisher.publish(&round(1)).unwrap();
    publisher.expire().unwrap();
    assert_eq!(disk.segments(), [Path::new("/data/content/00000000000000000001.seg")]);
    assert!(matches!(store.blob(A, &listed[0].0.id), Err(BlobError::Expired)), "and not unknown");
    assert_eq!(store.figures().blobs, 3);
    assert_eq!(store.figures().bytes, disk.storage.length(&disk.segments()[0]).unwrap().unwrap());
    drop((store, publisher));
    let (store, publisher) = disk.open().unwrap();
    assert!(matches!(store.blob(A, &listed[0].0.id), Err(BlobError::Expired)));
    assert_eq!(publisher.last_round(), Some(1));
}

#[test]
fn content_keeps_the_expiration_that_it_was_listed_with() {
    let disk = Disk::new();
    let (_, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    drop(publisher);
    let shorter = Disk { options: StoreOptions { retention: HOUR, ..disk.options.clone() }, ..disk.clone() };
    let (store, mut publisher) = shorter.open().unwrap();
    publisher.publish(&round(1)).unwrap();
    disk.clock.advance(2 * HOUR);
    publisher.expire().unwrap();
    assert_eq!(all(&store, A).len(), 2, "the older ones");
}

#[test]
fn ids_of_others_and_of_nothing_are_refused() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    let id = &all(&store, A)[0].0.id;
    assert!(id.starts_with("20261123120000000") && id.ends_with("$audit_general$Audit_General"), "{id}");
    assert!(matches!(store.blob(B, id), Err(BlobError::Unknown)), "another tenant's");
    assert!(matches!(store.blob(Uuid::nil(), id), Err(BlobError::Unknown)));
    let (digits, rest) = id.split_at(17);
    let other_mark = format!("{digits}999999${digits}999999$audit_general$Audit_General");
    assert!(matches!(store.blob(A, &other_mark), Err(BlobError::Unknown)), "guessed");
    let other_type = id.replace("audit_general", "audit_exchange").replace("Audit_General", "Audit_Exchange");
    assert!(matches!(store.blob(A, &other_type), Err(BlobError::Unknown)));
    for wrong in
        ["", "x", digits, rest, &id.replace('$', "-"), &format!("{id}$"), &id.replace("2026", "2O26"), "é$é$é$é"]
    {
        assert!(matches!(store.blob(A, wrong), Err(BlobError::Invalid)), "{wrong}");
    }
}

#[test]
fn a_full_budget_stops_publishing_until_content_expires_and_removes_nothing_early() {
    let mut disk = Disk::new();
    disk.options.budget = 16 << 10;
    let (store, mut publisher) = disk.open().unwrap();
    let mut index = 0;
    let reason = loop {
        match publisher.publish(&round(index)) {
            Ok(()) => index += 1,
            Err(PublishError::Full(reason)) => break reason,
            Err(error) => panic!("{error}"),
        }
        disk.clock.advance(HOUR / 4);
    };
    assert!(reason.contains("budget") && reason.contains("2026-11-24"), "{reason}");
    let full = store.figures();
    assert!(full.bytes <= disk.options.budget && index > 20, "{full:?}, {index} rounds");
    assert_eq!(all(&store, A).len() as u64, 2 * index);
    disk.clock.advance(40 * HOUR);
    publisher.publish(&round(index)).unwrap();
    assert_eq!(all(&store, A).len(), 2);
    assert!(disk.segments().len() <= 2, "{:?}", disk.segments());
}

#[test]
fn a_full_disk_stops_publishing_and_closes_nothing() {
    let disk = Disk::new();
    let (store, mut publisher) = disk.open().unwrap();
    publisher.publish(&round(0)).unwrap();
    disk.storage.set_capacity(Some(disk.storage.used()));
    assert!(matches!(publisher.publish(&round(1)), Err(PublishError::Full(_))));
    assert_eq!(all(&store, A).len(), 2);
    disk.storage.set_capacity(None);
    publisher.publish(&round(1)).unwrap();
    assert_eq!(all(&store, A).len(), 4);
}

#[test]
fn a_second_run_waits_for_the_first_ones_end() {
    let disk = Disk::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.storage.clone());
    let open = || Store::open(Arc::clone(&storage), Arc::new(disk.clock.clone()), disk.options.clone());
    let first = open().unwrap();
    assert!(matches!(open(), Err(StoreError::InUse(_))));
    let publisher = first.take_publisher();
    assert!(first.take_publisher().is_none());
    drop(publisher);
    assert!(open().is_ok(), "readers of the first one may go on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pages over any window are together what a filter of everything gives, while content keeps coming.
    #[test]
    fn pages_are_together_the_window(
        pauses in prop::collection::vec(0_u64..3000, 1..30),
        late in prop::collection::vec(0_u64..3000, 0..10),
        from in 0_i64..60_000,
        length in 0_i64..60_000,
        limit in 1_usize..9,
    ) {
        let disk = Disk::new();
        let (store, mut publisher) = disk.open().unwrap();
        let start = disk.clock.now();
        let mut index = 0;
        let mut publish = |pause: u64| {
            disk.clock.advance(Duration::from_millis(pause));
            publisher.publish(&round(index)).unwrap();
            index += 1;
        };
        pauses.iter().for_each(|pause| publish(*pause));
        let (from, to) = (start.plus_milliseconds(from), start.plus_milliseconds(from + length));
        let mut late = late.into_iter();
        let (mut paged, mut after) = (Vec::new(), None);
        let existing = loop {
            let page = now(store.list(A, GENERAL, from, to, after, limit)).unwrap();
            prop_assert!(page.contents.len() <= limit);
            let again = now(store.list(A, GENERAL, from, to, after, limit)).unwrap();
            prop_assert_eq!(&page.contents, &again.contents);
            paged.extend(page.contents);
            let existing = all(&store, A);
            late.next().into_iter().for_each(&mut publish);
            let Some(next) = page.next else { break existing };
            after = Some(next.to_string().parse().unwrap());
        };
        let existing = existing.into_iter().map(|(info, _)| info);
        let in_window: Vec<_> = existing.filter(|info| from <= info.created && info.created < to).collect();
        prop_assert_eq!(paged, in_window);
    }
}
