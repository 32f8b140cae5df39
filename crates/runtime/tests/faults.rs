//! The whole way of a record, from sources over policy and journal into files, on a storage that loses what was not
//! synced, tears sectors, and fails or halts at every step in turn: what was acknowledged is in the files exactly
//! once, whole, and the log says when it did not run.
//!
//! `ACTLOG_CRASH_ROUNDS` multiplies the number of lives. A failure names its seed and step; threads are not part of
//! the seed, so the same seed may need several attempts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actlog_core::{
    EmitError, Emitter, Receipt, RejectedInput, SinkDescriptor, Source, SourceContext, SourceError, Statement, WhenFull,
};
use actlog_journal::ProblemKind;
use actlog_policy::{PolicyDocument, PolicyStore};
use actlog_runtime::{Plan, Request, RunError, SinkPlan, StartAt, ask, journal_folder, policy_folder};
use actlog_sink_file::FileSink;
use actlog_testkit::storage::{Fault, FaultStorage};
use async_trait::async_trait;
use serde_json::json;
use support::{Deployment, End, event, event_id, files, pace, source};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Events that are pushed; each is answered for itself.
const PUSHED: u64 = 60;
/// Events that are pulled, in batches with a position.
const PULLED: u64 = 60;
const BATCH: u64 = 4;
/// Connections that push at the same time.
const CONNECTIONS: usize = 3;
/// What an upstream waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// Everything outside of actlog: it survives all crashes, and remembers what it was told.
#[derive(Default)]
struct World {
    /// Pushed events that wait to be sent, or for their answer.
    waiting: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// The policy version that was in force at the latest when an event was first sent.
    versions: BTreeMap<u64, u64>,
    /// The position up to which pulled events were reported durable.
    pulled: u64,
    /// The highest version that was reported published.
    published: u64,
    drafts: u64,
    /// Broken promises that a component has seen; it can't panic, since the runtime would only start it again.
    broken: Vec<String>,
}

impl World {
    /// Whether every pushed event is acknowledged.
    fn is_answered(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// The event that is to be sent next.
    fn next(&mut self) -> Option<u64> {
        let number = self.waiting.pop_first()?;
        self.sent.insert(number);
        self.versions.entry(number).or_insert(self.published);
        Some(number)
    }

    fn answered(&mut self, number: u64, is_acknowledged: bool) {
        self.sent.remove(&number);
        if is_acknowledged {
            self.acknowledged.insert(number)
        } else {
            self.waiting.insert(number)
        };
    }
}

type Shared = Arc<Mutex<World>>;

fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// Every twelfth is none that could become a record.
fn is_malformed(number: u64) -> bool {
    number % 12 == 7
}

/// Events are pushed to it, and answered when they are safe: as with a webhook.
struct Push(Shared);

#[async_trait]
impl Source for Push {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        {
            // Whoever got no answer from the last run asks again.
            let mut world = lock(&self.0);
            let unanswered = std::mem::take(&mut world.sent);
            world.waiting.extend(unanswered);
        }
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            connections.spawn(send(Arc::clone(&self.0), cx.emitter.clone(), cx.shutdown.clone()));
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// Sends one event after the other until all are acknowledged.
async fn send(world: Shared, emitter: Emitter, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() && !lock(&world).is_answered() {
        let next = lock(&world).next();
        let Some(number) = next else {
            // Those that are left are on their way through other connections.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer = answer(&emitter, number).await;
        lock(&world).answered(number, answer.is_ok());
        if answer.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn answer(emitter: &Emitter, number: u64) -> Result<(), EmitError> {
    if is_malformed(number) {
        let place = number.to_string();
        let bytes = "no event ".repeat(120);
        let input = RejectedInput { place, reason: "malformed".into(), organization: None, bytes: bytes.as_bytes() };
        return emitter.reject(input).await;
    }
    emitter.emit(vec![event("push", number)], None).await?.await.map(drop)
}

/// It reads events from a place that keeps them, and goes on from its position; three batches are under way at a time.
struct PullFrom(Shared);

#[async_trait]
impl Source for PullFrom {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let mut next = cx.position.map_or(0, |position| u64::from_le_bytes(position.try_into().unwrap()));
        {
            let mut world = lock(&self.0);
            if next < world.pulled || next > PULLED {
                let broken = format!("the position {next} is given where {} was reported", world.pulled);
                world.broken.push(broken);
            }
            world.pulled = next;
        }
        let mut under_way: VecDeque<(u64, Receipt)> = VecDeque::new();
        while next < PULLED || !under_way.is_empty() {
            if under_way.len() == 3 || next == PULLED || cx.shutdown.is_cancelled() {
                let Some((position, receipt)) = under_way.pop_front() else { return Ok(()) };
                receipt.await?;
                lock(&self.0).pulled = position;
                continue;
            }
            let end = (next + BATCH).min(PULLED);
            let records = (next..end).map(|number| event("pull", number)).collect();
            match cx.emitter.emit(records, Some(end.to_le_bytes().to_vec())).await {
                Ok(receipt) => {
                    under_way.push_back((end, receipt));
                    next = end;
                }
                Err(EmitError::Full { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A deployment with its world.
#[derive(Clone)]
struct Scene {
    deployment: Deployment,
    world: Shared,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let world = World { waiting: (0..PUSHED).collect(), ..World::default() };
        Self { deployment: Deployment::new(seed), world: Arc::new(Mutex::new(world)) }
    }

    fn on(&self, storage: FaultStorage) -> Self {
        Self { deployment: self.deployment.on(storage), world: Arc::clone(&self.world) }
    }

    fn storage(&self) -> &FaultStorage {
        &self.deployment.storage
    }

    fn plan(&self) -> Plan {
        let (pushed, pulled) = (Arc::clone(&self.world), Arc::clone(&self.world));
        let config = json!({
            "path": "{data_dir}/audit/{date}.jsonl", "rotate": { "size": "4 KiB" }, "commit_interval": "10 ms",
            "proof": true, "statements": true,
        });
        let factory = (SinkDescriptor::of::<FileSink>("", "").load)(config).unwrap();
        let (name, when_full, start) = ("audit".to_owned(), WhenFull::Hold, StartAt::Beginning);
        Plan {
            sources: vec![
                source("push", move || Push(Arc::clone(&pushed))),
                source("pull", move || PullFrom(Arc::clone(&pulled))),
            ],
            sinks: vec![SinkPlan { name, kind: "file", when_full, start, factory }],
            ..Plan::default()
        }
    }

    /// Runs, while somebody publishes a policy now and then; until everything is delivered or the storage halts.
    fn live(&self) -> Life {
        let mut is_ready = false;
        let end = self.deployment.live(self.plan(), async {
            is_ready = true;
            for _ in 0..2 {
                self.publish().await;
                pace().await;
            }
            std::future::pending().await
        });
        let is_unfinished = !lock(&self.world).is_answered();
        Life { end, is_ready, is_unfinished }
    }

    /// Runs until everything is delivered. A start that fails is tried once more, as a service manager does.
    fn finish(&self) {
        let mut life = self.live();
        if let End::Returned(Err(RunError::Open(_) | RunError::Start(_))) = life.end {
            life = self.live();
        }
        assert!(matches!(life.end, End::Returned(Ok(()))), "{:?}", life.end);
    }

    async fn publish(&self) {
        let folder = self.deployment.data_dir();
        let draft = {
            let mut world = lock(&self.world);
            world.drafts += 1;
            PolicyDocument::DEFAULT_TEXT.replace("add = []", &format!("add = [\"Message{}\"]", world.drafts))
        };
        let store = PolicyStore::new(Arc::new(self.storage().clone()), policy_folder(&folder));
        if store.save_draft(&draft).is_err() {
            return;
        }
        // Without an answer nobody knows whether it was published.
        if let Ok(answer) = ask(&folder, &Request::PublishPolicy { confirm: false }).await {
            let version = answer["version"].as_u64().unwrap();
            let mut world = lock(&self.world);
            if version <= world.published {
                let before = world.published;
                world.broken.push(format!("version {version} was published after {before}"));
            }
            world.published = version;
        }
    }

    /// Compares the files with what the world was told. All events have been acknowledged.
    fn check(&self) -> Found {
        let world = lock(&self.world);
        assert_eq!(world.broken, [""; 0]);
        assert_eq!(world.acknowledged, (0..PUSHED).collect(), "all pushed events are acknowledged");
        assert_eq!(world.pulled, PULLED, "all pulled events are reported durable");
        let found = self.read();
        let expected: BTreeSet<_> = (0..PUSHED)
            .filter(|number| !is_malformed(*number))
            .map(|number| event_id("push", number))
            .chain((0..PULLED).map(|number| event_id("pull", number)))
            .collect();
        let ids: BTreeSet<_> = found.records.keys().copied().collect();
        let lost: Vec<_> = expected.difference(&ids).collect();
        let invented: Vec<_> = ids.difference(&expected).collect();
        assert!(lost.is_empty() && invented.is_empty(), "lost: {lost:?}, invented: {invented:?}");
        for (number, version) in &world.versions {
            if let Some(used) = found.records.get(&event_id("push", *number)) {
                assert!(used >= version, "event {number} was decided by version {used}, after {version} was published");
            }
        }
        let last = found.policies.len() as u64;
        assert_eq!(found.policies, (1..=last).collect::<Vec<_>>(), "every version is stated, in order");
        assert!(last >= world.published, "version {} was published, {last} are stated", world.published);
        let letters: BTreeSet<u64> =
            self.deployment.letters().iter().map(|letter| letter.place.as_ref().unwrap().parse().unwrap()).collect();
        assert_eq!(letters, (0..PUSHED).filter(|number| is_malformed(*number)).collect(), "the dead letters");
        let journal = journal_folder(&self.deployment.data_dir());
        let problems = actlog_journal::verify(self.storage(), &journal).unwrap();
        assert!(problems.iter().all(|problem| problem.kind == ProblemKind::Unfinished), "{problems:?}");
        found
    }

    /// Reads all audit files; every line must be whole, and no entry of the journal may be there twice.
    fn read(&self) -> Found {
        let mut found = Found::default();
        let mut indices = BTreeSet::new();
        let mut lines = Vec::new();
        for (path, content) in files(self.storage(), &self.deployment.data_dir().join("audit")) {
            assert!(content.is_empty() || content.ends_with(b"\n"), "{}: a torn line", path.display());
            for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                lines.push(parse(&path, line));
            }
        }
        lines.sort_by_key(|line| line["JournalIndex"].as_u64());
        for line in lines {
            let index = line["JournalIndex"].as_u64().unwrap();
            assert!(indices.insert(index), "entry {index} is there twice");
            if line.get("Statement").is_none() {
                let id = line["Id"].as_str().unwrap().parse().unwrap();
                let before = found.records.insert(id, line["PolicyVersion"].as_u64().unwrap());
                assert_eq!(before, None, "{line} is there twice");
                continue;
            }
            match serde_json::from_value(line).unwrap() {
                Statement::Gap { reason, .. } => *found.gaps.entry(reason).or_default() += 1,
                Statement::Policy { version, .. } => found.policies.push(version),
                _ => {}
            }
        }
        assert_eq!(found.gaps.get("journal-damage"), None);
        found
    }
}

fn parse(path: &Path, line: &[u8]) -> serde_json::Value {
    serde_json::from_slice(line).unwrap_or_else(|error| {
        panic!("{}: {error}: {}", path.display(), String::from_utf8_lossy(line));
    })
}

/// How a life went.
struct Life {
    end: End,
    /// Whether its components were started.
    is_ready: bool,
    /// Whether pushed events were left.
    is_unfinished: bool,
}

/// What is in the files.
#[derive(Debug, Default)]
struct Found {
    /// Ids, and the version of the policy that each record carries.
    records: BTreeMap<uuid::Uuid, u64>,
    /// Stated gaps by reason.
    gaps: BTreeMap<String, usize>,
    /// Stated versions of the policy.
    policies: Vec<u64>,
}

/// Runs something that must hold for a seed, and names the seed when it does not.
fn named<T>(what: &str, seed: u64, step: u64, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("failed: {what}, seed {seed}, step {step}");
        resume_unwind(panic)
    })
}

/// What `ACTLOG_CRASH_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("ACTLOG_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

/// Tries `life` with `lives` seeds, and as many times that as `ACTLOG_CRASH_ROUNDS` says, at steps that are spread
/// evenly over all that a life without faults has.
fn at_steps(what: &str, lives: u64, life: impl Fn(u64, u64)) {
    let complete = Scene::new(0);
    let begin = complete.storage().steps();
    complete.finish();
    complete.check();
    let steps = complete.storage().steps() - begin;
    assert!(steps > 150, "only {steps} steps");
    let lives = lives * rounds();
    for seed in 0..lives {
        let step = begin + seed * steps / lives;
        named(what, seed, step, || life(seed, step));
    }
}

/// What the power leaves, or the end of the process alone.
fn survivor(storage: &FaultStorage, seed: u64) -> FaultStorage {
    if seed % 4 == 3 { storage.kill() } else { storage.crash(seed) }
}

#[test]
fn after_a_crash_at_any_step_everything_acknowledged_is_in_the_files_once_and_the_gap_is_stated() {
    at_steps("crash", 60, |seed, step| {
        let first = Scene::new(seed);
        first.storage().halt_at(step);
        let mut crashes = usize::from({
            let life = first.live();
            life.is_ready && life.is_unfinished
        });
        let second = first.on(survivor(first.storage(), seed));
        // It crashes again on its way up, or soon after.
        second.storage().halt_at(second.storage().steps() + seed * 7 % 60);
        let life = second.live();
        crashes += usize::from(life.is_ready && life.is_unfinished);
        let third = second.on(survivor(second.storage(), seed + 1));
        third.finish();
        let found = third.check();
        let stated = found.gaps.get("crash").copied().unwrap_or(0);
        assert!(stated >= crashes && stated <= 2, "{crashes} crashes, {stated} gaps stated");
        // All of it is durable.
        let settled = third.on(third.storage().crash(seed));
        assert_eq!(settled.check().records, found.records);
    });
}

#[test]
fn after_an_error_at_any_step_it_goes_on_without_a_restart_and_loses_nothing() {
    for fault in [Fault::Eio, Fault::Enospc] {
        at_steps(&format!("{fault:?}"), 40, |seed, step| {
            let scene = Scene::new(seed);
            scene.storage().fail_at(step, fault);
            scene.finish();
            let found = scene.check();
            assert_eq!(scene.on(scene.storage().crash(seed)).check().records, found.records);
        });
    }
}

#[test]
fn after_an_error_and_a_crash_soon_after_it_nothing_is_lost() {
    at_steps("EIO and a crash", 60, |seed, step| {
        let first = Scene::new(seed);
        first.storage().fail_at(step, Fault::Eio);
        first.storage().halt_at(step + 1 + seed * 5 % 17);
        first.live();
        let second = first.on(survivor(first.storage(), seed));
        second.finish();
        second.check();
    });
}

/// What a failed sync has left may turn up after a crash: so may the cursor of a commit that was reported as failed, when
/// the files have been cut back since.
#[test]
fn after_a_failed_commit_of_the_sink_and_a_crash_soon_after_it_nothing_is_lost() {
    let rounds = 4 * rounds();
    let captured = Scene::new(0);
    let all = captured.plan();
    let end = captured.deployment.live(Plan { sinks: Vec::new(), ..all }, std::future::pending());
    assert!(matches!(end, End::Returned(Ok(()))), "{end:?}");
    let deliver = |scene: &Scene| {
        let all = scene.plan();
        scene.deployment.live(Plan { sources: Vec::new(), ..all }, std::future::pending())
    };
    let complete = captured.on(captured.storage().fork());
    let begin = complete.storage().steps();
    assert!(matches!(deliver(&complete), End::Returned(Ok(()))));
    complete.check();
    for seed in 0..(complete.storage().steps() - begin) * rounds {
        let step = begin + seed / rounds;
        named("EIO and a crash of a sink", seed, step, || {
            let first = captured.on(captured.storage().fork().crash(seed));
            first.storage().fail_at(step, Fault::Eio);
            first.storage().halt_at(step + 1 + seed * 5 % 8);
            deliver(&first);
            let second = first.on(first.storage().crash(seed));
            assert!(matches!(deliver(&second), End::Returned(Ok(()))));
            second.check();
        });
    }
}

#[test]
fn after_an_outage_of_the_disk_it_goes_on_without_a_restart_and_loses_nothing() {
    for fault in [Fault::Eio, Fault::Enospc] {
        at_steps(&format!("{fault:?} for a while"), 16, |seed, step| {
            let scene = Scene::new(seed);
            (step..step + 2 + seed % 25).for_each(|step| scene.storage().fail_at(step, fault));
            // While it can't even start, it is started again and again.
            let mut starts = 0;
            while let End::Returned(Err(error)) = scene.live().end {
                starts += 1;
                assert!(starts < 30, "{error}");
            }
            let found = scene.check();
            assert_eq!(scene.on(scene.storage().crash(seed)).check().records, found.records);
        });
    }
}

/// The tests above would notice a lost acknowledgement: on a disk that lies about syncing they do.
#[test]
fn a_disk_that_lies_is_noticed_by_these_tests() {
    let noticed = (0..10).any(|seed| {
        let lying = Scene::new(seed);
        lying.storage().fail_from(60, Fault::SyncLies);
        lying.storage().halt_at(250);
        lying.live();
        let survivor = lying.on(lying.storage().crash(seed));
        catch_unwind(AssertUnwindSafe(|| {
            survivor.finish();
            survivor.check();
        }))
        .is_err()
    });
    assert!(noticed);
}
