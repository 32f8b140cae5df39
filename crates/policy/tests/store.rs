//! The draft, publishing, and what a crash leaves of it.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

use std::path::Path;
use std::sync::Arc;

use actlog_core::{Storage, Timestamp};
use actlog_policy::{
    PolicyDocument, PolicyStore, PublishError, Published, StoreError, auditing_off, auditing_switched_off, changes,
};
use actlog_testkit::storage::{Fault, FaultStorage};

const FOLDER: &str = "data/policy";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_milliseconds(seconds * 1000)
}

fn store(storage: &FaultStorage) -> PolicyStore {
    PolicyStore::new(Arc::new(storage.clone()), FOLDER)
}

fn publish(store: &PolicyStore) -> Result<Published, PublishError> {
    store.publish("ann", false, None, at(2)).map(|(published, _)| published)
}

/// A storage with the default policy as version 1 and a draft that switches reading off.
fn with_draft() -> FaultStorage {
    let storage = FaultStorage::new(1);
    let store = store(&storage);
    store.load_or_initialize(at(1)).unwrap();
    store.save_draft("start_read_auditing = false").unwrap();
    storage
}

#[test]
fn the_first_run_publishes_the_default_policy_as_version_1() {
    let storage = FaultStorage::new(1);
    let store = store(&storage);
    assert!(matches!(store.load(), Err(StoreError::Uninitialized { .. })));
    let first = store.load_or_initialize(at(1)).unwrap();
    assert_eq!((first.version, first.actor.as_str(), first.time), (1, "actlog", at(1)));
    assert_eq!(first.text, PolicyDocument::DEFAULT_TEXT);
    assert_eq!(store.load_or_initialize(at(9)).unwrap(), first);
    assert_eq!(store.validate(None).unwrap(), Vec::<String>::new());
}

#[test]
fn a_draft_takes_effect_when_it_is_published_and_history_stays() {
    let storage = with_draft();
    let store = store(&storage);
    assert_eq!(store.load().unwrap().version, 1);
    assert_eq!(store.draft().unwrap().as_deref(), Some("start_read_auditing = false"));
    let diff = store.diff().unwrap();
    assert!(diff.contains(&"start_read_auditing: true -> false".to_owned()), "{diff:?}");
    let (published, policy) = store.publish("uid 1000 (ann)\nx", false, None, at(2)).unwrap();
    assert_eq!((published.version, policy.version(), published.time), (2, 2, at(2)));
    assert_eq!((published.actor.as_str(), &published.changes), ("uid 1000 (ann)\nx", &diff));
    assert_eq!(store.load().unwrap(), published);
    assert_eq!(store.draft().unwrap(), None);
    assert_eq!(store.diff().unwrap(), Vec::<String>::new());

    store.save_draft("").unwrap();
    assert_eq!(publish(&store).unwrap().version, 3);
    assert_eq!(store.versions().unwrap(), [1, 2, 3]);
    assert_eq!(store.version(2).unwrap(), published);
    assert!(matches!(store.version(4), Err(StoreError::NoSuchVersion { version: 4, .. })));
}

#[test]
fn without_changes_there_is_nothing_to_publish() {
    let storage = FaultStorage::new(1);
    let store = store(&storage);
    store.load_or_initialize(at(1)).unwrap();
    assert!(matches!(publish(&store), Err(PublishError::NothingToPublish)));
    store.save_draft(&format!("# only a comment\n{}", PolicyDocument::DEFAULT_TEXT)).unwrap();
    assert!(matches!(publish(&store), Err(PublishError::NothingToPublish)));
    assert_eq!(store.versions().unwrap(), [1]);
}

#[test]
fn an_invalid_draft_changes_nothing() {
    let storage = with_draft();
    let store = store(&storage);
    for draft in ["start_auditing = 1", "[[rules]]\nname = 'x'\naction = 'exclude'", "all_entities.values = 'hash'"] {
        store.save_draft(draft).unwrap();
        assert!(matches!(store.validate(None), Err(StoreError::Draft(_))));
        let error = publish(&store).unwrap_err();
        assert!(matches!(error, PublishError::Store(StoreError::Draft(_))), "{error}");
        assert_eq!(store.load().unwrap().version, 1);
        assert_eq!(store.draft().unwrap().as_deref(), Some(draft));
    }
    let (_, policy) = store.publish("ann", false, Some(&[7; 32]), at(2)).unwrap();
    assert!(!policy.may_keep_raw(None));
    assert!(store.save_draft(&"#".repeat(PolicyDocument::MAX_BYTES + 1)).is_err());
}

#[test]
fn switching_start_auditing_off_asks_for_confirmation() {
    for (draft, scopes) in [
        ("start_auditing = false", vec!["default"]),
        ("organizations.contoso.start_auditing = false", vec!["contoso"]),
        ("start_auditing = false\norganizations.contoso.start_auditing = true", vec!["default"]),
        ("start_auditing = false\norganizations.contoso.start_read_auditing = true", vec!["default", "contoso"]),
    ] {
        let storage = with_draft();
        let store = store(&storage);
        store.save_draft(draft).unwrap();
        let error = publish(&store).unwrap_err();
        assert!(error.to_string().contains("confirm"), "{error}");
        assert!(matches!(error, PublishError::ConfirmationRequired { scopes: asked } if asked == scopes), "{draft}");
        assert_eq!(store.load().unwrap().version, 1);
        let (published, _) = store.publish("ann", true, None, at(2)).unwrap();
        assert_eq!(auditing_off(&published.document), scopes);
    }
}

#[test]
fn confirmation_is_not_asked_for_what_is_off_already() {
    let document = |text: &str| PolicyDocument::parse(text).unwrap();
    let off = document("start_auditing = false\norganizations.contoso.start_auditing = true");
    let switched = |from: &PolicyDocument, to: &str| auditing_switched_off(from, &document(to));
    assert_eq!(switched(&off, "start_auditing = false"), Vec::<String>::new());
    assert_eq!(switched(&off, "start_auditing = false\norganizations.contoso.start_auditing = false"), ["contoso"]);
    assert_eq!(
        switched(&off, "start_auditing = false\norganizations.fabrikam.areas.sales = true"),
        Vec::<String>::new()
    );
    assert_eq!(switched(&off, ""), Vec::<String>::new());
}

#[test]
fn changes_are_told_key_by_key() {
    let document = |text: &str| PolicyDocument::parse(text).unwrap();
    let from =
        document("[entities.account]\nauditing = true\n[[rules]]\nname = 'a'\naction = 'exclude'\napp_names = ['x']");
    let to = document(
        "[entities.account]\nauditing = false\ncolumns = { fax = 'omit' }\n[messages]\nadd = ['X']\n\
         [[rules]]\nname = 'a'\naction = 'exclude'\napp_names = ['x', 'y']\n[organizations.c]\nstart_auditing = false",
    );
    assert_eq!(
        changes(&from, &to),
        [
            "entities.account.auditing: true -> false",
            "entities.account.columns.fax: (not set) -> \"omit\"",
            "messages.add: (not set) -> [\"X\"]",
            "organizations.c.start_auditing: (not set) -> false",
            "rules.a.app_names: [\"x\"] -> [\"x\", \"y\"]",
        ]
    );
    assert_eq!(changes(&to, &to), Vec::<String>::new());
}

#[test]
fn a_crash_at_any_step_of_the_first_run_leaves_nothing_or_version_1() {
    let complete = FaultStorage::new(1);
    store(&complete).load_or_initialize(at(1)).unwrap();
    for step in 0..complete.steps() {
        for seed in 0..8 {
            let storage = FaultStorage::new(1);
            storage.halt_at(step);
            assert!(store(&storage).load_or_initialize(at(1)).is_err());
            let survivor = storage.crash(seed);
            assert_eq!(store(&survivor).load_or_initialize(at(1)).unwrap().version, 1, "step {step}, seed {seed}");
        }
    }
}

#[test]
fn a_crash_at_any_step_of_publishing_leaves_the_old_version_or_the_new_one() {
    let complete = with_draft();
    let before = complete.steps();
    let new = publish(&store(&complete)).unwrap();
    let (mut old_seen, mut new_seen) = (false, false);
    for step in before..complete.steps() {
        for seed in 0..16 {
            let storage = with_draft();
            storage.halt_at(step);
            let answer = publish(&store(&storage));
            let survivor = storage.crash(seed);
            let survivor = store(&survivor);
            let found = survivor.load_or_initialize(at(3)).unwrap();
            match found.version {
                1 => old_seen = true,
                2 => {
                    assert_eq!(found, new, "step {step}, seed {seed}");
                    new_seen = true;
                }
                other => panic!("version {other} after step {step}, seed {seed}"),
            }
            assert!(answer.is_err() || found.version == 2, "acknowledged and lost: step {step}, seed {seed}");
            // What was interrupted can be repeated: the draft is still there, or has been published.
            let again = publish(&survivor);
            match found.version {
                1 => assert_eq!(again.unwrap().version, 2),
                _ => assert!(matches!(again, Err(PublishError::NothingToPublish))),
            }
        }
    }
    assert!(old_seen && new_seen);
}

#[test]
fn a_failure_at_any_step_of_publishing_is_an_error_and_numbers_never_repeat() {
    let complete = with_draft();
    let before = complete.steps();
    publish(&store(&complete)).unwrap();
    for step in before..complete.steps() {
        for fault in [Fault::Eio, Fault::Enospc] {
            let storage = with_draft();
            storage.fail_at(step, fault);
            let answer = publish(&store(&storage));
            storage.clear_faults();
            let in_force = store(&storage).load().unwrap();
            assert!(answer.is_err() || in_force.version == 2, "step {step}");
            // What was seen to be in force survives a crash, so that its number means this document for ever.
            for seed in 0..8 {
                let copy = storage.kill();
                let survivor = copy.crash(seed);
                assert_eq!(store(&survivor).load().unwrap(), in_force, "step {step}, seed {seed}");
                assert_eq!(store(&copy.crash(seed)).load().unwrap(), in_force);
            }
        }
    }
}

#[test]
fn a_damaged_version_is_reported_with_its_file_and_a_remedy() {
    let storage = with_draft();
    publish(&store(&storage)).unwrap();
    let path = Path::new(FOLDER).join("000002.toml");
    let whole = storage.read(&path, 10_000).unwrap();
    let edited = String::from_utf8(whole.clone()).unwrap().replace("= false", "=  true").into_bytes();
    assert_ne!(edited, whole);
    let cut = whole[..whole.len() - 1].to_vec();
    for damage in [b"".to_vec(), b"# actlog: {}\n".to_vec(), b"\xff".to_vec(), cut, edited] {
        storage.put(&path, &damage);
        let error = store(&storage).load().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }));
        let text = error.to_string();
        assert!(text.contains("000002.toml") && text.contains("backup"), "{text}");
    }
    storage.remove_file(&path).unwrap();
    assert_eq!(store(&storage).load().unwrap().version, 1);
}

#[test]
fn only_files_named_as_versions_count() {
    let storage = with_draft();
    for name in ["7.toml", "0000007.toml", "000007.toml.new", "seven.toml", "+00007.toml", "000007.tom"] {
        storage.put(&Path::new(FOLDER).join(name), b"x");
    }
    assert_eq!(store(&storage).versions().unwrap(), [1]);
}
