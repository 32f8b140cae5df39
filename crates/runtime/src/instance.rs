//! A data folder in use: its lock, journal, policy and dead letters, and what commands do to them.
//!
//! A running process has one; a command that writes opens one of its own when nobody runs. Both carry out the same
//! [`Request`]s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actlog_core::{Clock, ConfigError, Gap, Metrics, Secret, Statement, Storage, SystemClock, Timestamp};
use actlog_journal::{Batch, DiskStorage, Journal, JournalError, JournalOptions, Recovery};
use actlog_policy::{Policy, PolicyStore, PublishError, Published, StoreError};
use arc_swap::ArcSwap;
use serde_json::json;
use tracing::{info, warn};

use crate::config::Config;
use crate::control::Request;
use crate::dead_letters::DeadLetters;
use crate::lock::{DataLock, LockError};
use crate::pipeline::Pipeline;
use crate::pull::{SinkCursor, cursor_key, decode_cursor, encode_cursor};
use crate::statements;

/// Key of the policy version that the journal has last stated.
const POLICY_KEY: &str = "runtime/policy";
/// Key of the time since when auditing is switched off.
const AUDITING_OFF_KEY: &str = "runtime/auditing-off";

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is locked, or of another version.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal can't be opened.
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    /// The policy can't be read.
    #[error("policy: {0}")]
    Policy(String),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something could not be written.
    #[error("{0}")]
    Other(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Policy(error.to_string())
    }
}

/// What a data folder stands on: the machine's own by default; tests put simulated ones in its place. The lock and the
/// control socket are always on the real file system.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Where everything durable goes.
    pub storage: Arc<dyn Storage>,
    /// Where the time of records and statements comes from.
    pub clock: Arc<dyn Clock>,
    /// How the journal is written; the configuration's segment size and budget replace those in here.
    pub journal: JournalOptions,
}

impl Default for Platform {
    fn default() -> Self {
        Self { storage: Arc::new(DiskStorage), clock: Arc::new(SystemClock), journal: JournalOptions::default() }
    }
}

/// A data folder in use.
pub struct Instance {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) metrics: Metrics,
    pub(crate) data_dir: PathBuf,
    /// What was found when the journal was opened.
    pub(crate) recovery: Recovery,
    policies: tokio::sync::Mutex<PolicyStore>,
    hash_key: Option<Secret>,
    cursors: Mutex<BTreeMap<String, Arc<SinkCursor>>>,
    budget: u64,
    _lock: DataLock,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Where the policy lies below the data folder.
pub fn policy_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("policy")
}

/// Where the journal lies below the data folder.
pub fn journal_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

impl Instance {
    /// Locks the folder and opens what is in it; at the first time it makes it. Relative paths of secrets are seen from
    /// `config_dir`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &Config, config_dir: &Path) -> Result<Self, OpenError> {
        Self::open_on(Platform::default(), config, config_dir).await
    }

    /// The same on a platform of the caller's choice.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_on(platform: Platform, config: &Config, config_dir: &Path) -> Result<Self, OpenError> {
        let Platform { storage, clock, journal } = platform;
        let data_dir = config.data_dir.clone();
        let lock = DataLock::acquire(&data_dir)?;
        let hash_key = match &config.policy.hash_key {
            Some(reference) => Some(reference.load(config_dir).map_err(|e| e.within("policy.hash_key"))?),
            None => None,
        };
        let options = JournalOptions {
            segment_bytes: config.journal.segment_size.0,
            budget_bytes: config.journal.budget.0,
            ..journal
        };
        let folder = journal_folder(&data_dir);
        let opening = (Arc::clone(&storage), Arc::clone(&clock));
        let opened = tokio::task::spawn_blocking(move || Journal::open(opening.0, &folder, options, opening.1));
        let (journal, recovery) = opened.await.map_err(|error| OpenError::Other(error.to_string()))??;
        if recovery.torn_bytes > 0 {
            warn!(bytes = recovery.torn_bytes, "a torn tail of the journal, never acknowledged, was cut off");
        }
        for damage in &recovery.damaged {
            let segment = damage.segment.display();
            warn!(%segment, lost = ?damage.lost, "the journal is damaged; see `actlog journal verify`");
        }
        let store = PolicyStore::new(Arc::clone(&storage), policy_folder(&data_dir));
        let published = store.load_or_initialize(clock.now())?;
        let policy = Policy::compile(&published.document, published.version, hash_key.as_ref().map(Secret::expose))
            .map_err(|error| OpenError::Policy(format!("the published version {}: {error}", published.version)))?;
        for warning in policy.warnings() {
            warn!(warning, "policy");
        }
        let dead_letters = DeadLetters::new(Arc::clone(&storage), &data_dir);
        let pipeline = Pipeline {
            journal,
            policy: ArcSwap::from_pointee(policy),
            dead_letters: Arc::new(Mutex::new(dead_letters)),
            clock,
            enrichments: OnceLock::new(),
        };
        let instance = Self {
            pipeline: Arc::new(pipeline),
            storage,
            metrics: Metrics::default(),
            data_dir,
            recovery,
            policies: tokio::sync::Mutex::new(store),
            hash_key,
            cursors: Mutex::default(),
            budget: config.journal.budget.0,
            _lock: lock,
        };
        instance.catch_up(&*instance.policies.lock().await).await.map_err(OpenError::Other)?;
        Ok(instance)
    }

    /// Writes what waits, and lets the folder go.
    pub async fn close(&self) {
        if let Err(error) = self.pipeline.journal.shutdown().await {
            warn!(%error, "the journal was not closed in good order");
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.pipeline.journal
    }

    pub(crate) fn add_cursor(&self, cursor: Arc<SinkCursor>) {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).insert(cursor.name.clone(), cursor);
    }

    pub(crate) fn cursors(&self) -> Vec<Arc<SinkCursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Cursors that the journal holds: sink and index. Those of sinks that are no longer configured are among them.
    pub(crate) fn stored_cursors(&self) -> Vec<(String, u64)> {
        let states = self.journal().states().into_iter();
        states
            .filter_map(|(key, value)| {
                let sink = key.strip_prefix("sink/")?;
                Some((sink.to_owned(), decode_cursor(&value)?.0))
            })
            .collect()
    }

    /// Carries out a command of `actor`.
    ///
    /// # Errors
    /// What is wrong with the request or kept it from being carried out, for a person.
    pub async fn carry_out(&self, request: Request, actor: &str) -> Result<serde_json::Value, String> {
        match request {
            Request::Status => Ok(self.status()),
            Request::PublishPolicy { confirm } => self.publish_policy(actor, confirm).await,
            Request::ReplayDeadLetters { component, numbers } => self.replay(actor, &component, &numbers).await,
            Request::SkipSink { sink } => self.skip_sink(actor, &sink).await,
            Request::State { action, gaps } => self.state_command(actor, action, gaps).await,
            Request::ForgetSink { sink } => self.forget_sink(actor, &sink).await,
        }
    }

    /// What can be said without looking at components.
    pub(crate) fn status(&self) -> serde_json::Value {
        let journal = self.journal();
        let segments = journal.segments();
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let stored: BTreeMap<String, serde_json::Value> = self
            .stored_cursors()
            .into_iter()
            .map(|(sink, next)| {
                let waiting = journal.durable().saturating_sub(next);
                (sink, json!({ "next_index": next, "waiting": waiting }))
            })
            .collect();
        let dead_letters = self.pipeline.dead_letters.lock().unwrap_or_else(PoisonError::into_inner).counts();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "data_dir": self.data_dir,
            "policy_version": self.pipeline.policy.load().version(),
            "journal": {
                "first_index": journal.first_index(),
                "next_index": journal.durable(),
                "bytes": bytes,
                "budget": self.budget,
                "segments": segments.len(),
                "pressure": journal.pressure().map(|pressure| pressure.to_string()),
            },
            "cursors": stored,
            "dead_letters": dead_letters.unwrap_or_default(),
        })
    }

    async fn publish_policy(&self, actor: &str, confirm: bool) -> Result<serde_json::Value, String> {
        let store = self.policies.lock().await;
        self.catch_up(&store).await?;
        let hash_key = self.hash_key.as_ref().map(Secret::expose);
        let published = store.publish(actor, confirm, hash_key, self.pipeline.clock.now());
        let (published, policy) = published.map_err(|error| match error {
            PublishError::ConfirmationRequired { .. } => format!("{error}: --confirm"),
            error => error.to_string(),
        })?;
        self.pipeline.policy.store(Arc::new(policy));
        info!(version = published.version, actor, "policy published");
        self.state_policy(&published).await.map_err(|error| {
            let version = published.version;
            format!("version {version} is in force, but could not be stated in the journal ({error}); the next start will do it")
        })?;
        Ok(json!({ "version": published.version, "changes": published.changes }))
    }

    /// Puts the last version that the store has into force, and states all that have not been stated: publishing may
    /// have failed after its version was there, or before it was stated.
    async fn catch_up(&self, store: &PolicyStore) -> Result<(), String> {
        let last = store.load().map_err(|error| error.to_string())?;
        if last.version > self.pipeline.policy.load().version() {
            let hash_key = self.hash_key.as_ref().map(Secret::expose);
            let policy = Policy::compile(&last.document, last.version, hash_key).map_err(|error| error.to_string())?;
            self.pipeline.policy.store(Arc::new(policy));
            info!(version = last.version, actor = last.actor, "policy published");
        }
        let stated = self.journal().state(POLICY_KEY).and_then(|bytes| serde_json::from_slice::<u64>(&bytes).ok());
        let first = stated.map_or(last.version, |stated| stated + 1);
        for version in first..last.version {
            match store.version(version) {
                Ok(published) => self.state_policy(&published).await?,
                Err(StoreError::NoSuchVersion { .. } | StoreError::Damaged { .. }) => {
                    warn!(version, "this version of the policy can't be stated: its file is missing or damaged");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.state_policy(&last).await
    }

    /// States the published policy in the journal unless it has been, and the gap that auditing switched off opens or
    /// switched on closes.
    async fn state_policy(&self, published: &Published) -> Result<(), String> {
        let journal = self.journal();
        let stated = journal.state(POLICY_KEY).and_then(|bytes| serde_json::from_slice::<u64>(&bytes).ok());
        if stated == Some(published.version) {
            return Ok(());
        }
        let time = self.pipeline.clock.now();
        let mut batch = Batch::new().control();
        let statement = Statement::Policy {
            time,
            version: published.version,
            actor: published.actor.clone(),
            changes: published.changes.clone(),
        };
        statements::add(&mut batch, &statement)?;
        batch.set_state(POLICY_KEY, published.version.to_string());
        let since: Option<Timestamp> =
            journal.state(AUDITING_OFF_KEY).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let off = actlog_policy::auditing_off(&published.document);
        match (since, off.is_empty()) {
            (None, false) => {
                let detail = format!("auditing is switched off for {}", off.join(", "));
                statements::add(
                    &mut batch,
                    &statements::gap(time, published.time, None, "auditing-off", Some(detail)),
                )?;
                batch.set_state(AUDITING_OFF_KEY, serde_json::to_vec(&published.time).map_err(|e| e.to_string())?);
            }
            (Some(since), true) => {
                statements::add(&mut batch, &statements::gap(time, since, Some(published.time), "auditing-off", None))?;
                batch.remove_state(AUDITING_OFF_KEY);
            }
            _ => {}
        }
        statements::write(journal, batch).await
    }

    async fn replay(&self, actor: &str, component: &str, numbers: &[u64]) -> Result<serde_json::Value, String> {
        let cursor = self.cursor(component).ok_or_else(|| {
            format!("{component:?} is no running sink; dead letters are given to the sink that refused them, while `actlog run` runs")
        })?;
        let letters = {
            let dead_letters = self.pipeline.dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
            dead_letters.list().map_err(|error| error.to_string())?
        };
        let wanted = |number: u64| numbers.is_empty() || numbers.contains(&number);
        let letters: Vec<_> =
            letters.into_iter().filter(|letter| letter.component == component && wanted(letter.number)).collect();
        if let Some(missing) = numbers.iter().find(|number| !letters.iter().any(|letter| letter.number == **number)) {
            return Err(format!("{component} has no dead letter {missing}"));
        }
        let count = letters.len();
        self.state_action(actor, format!("replay {count} dead letters of the sink {component}")).await?;
        cursor.replay(letters);
        Ok(json!({ "replaying": count }))
    }

    async fn skip_sink(&self, actor: &str, sink: &str) -> Result<serde_json::Value, String> {
        let stored = self.journal().state(&cursor_key(sink)).ok_or_else(|| self.no_such_sink(sink))?;
        let (from, state) = decode_cursor(&stored).ok_or("the stored cursor is damaged")?;
        let end = self.journal().durable();
        let clock = &*self.pipeline.clock;
        self.state_action(actor, format!("skip the sink {sink} to entry {end}")).await?;
        match self.cursor(sink) {
            Some(cursor) => drop(cursor.skip_to(end, clock).await?),
            None => {
                let statement = Statement::Skip { time: clock.now(), sink: sink.to_owned(), from, to: end };
                let mut batch = statements::batch(&statement)?;
                batch.set_state(cursor_key(sink), encode_cursor(end.max(from), state));
                statements::write(self.journal(), batch).await?;
            }
        }
        Ok(json!({ "next_index": end }))
    }

    /// States what a command of a plugin does, and the gaps that it has found, in one frame.
    async fn state_command(&self, actor: &str, action: String, gaps: Vec<Gap>) -> Result<serde_json::Value, String> {
        let time = self.pipeline.clock.now();
        let mut batch = statements::batch(&Statement::Administration { time, actor: actor.to_owned(), action })?;
        for Gap { from, to, reason, detail } in gaps {
            statements::add(&mut batch, &statements::gap(time, from, to, &reason, detail))?;
        }
        statements::write(self.journal(), batch).await?;
        Ok(json!({}))
    }

    async fn forget_sink(&self, actor: &str, sink: &str) -> Result<serde_json::Value, String> {
        if self.cursor(sink).is_some() {
            return Err(format!("the sink {sink} is running; take it out of the configuration first"));
        }
        if self.journal().state(&cursor_key(sink)).is_none() {
            return Err(self.no_such_sink(sink));
        }
        let time = self.pipeline.clock.now();
        let action = format!("forget the sink {sink}");
        let mut batch = statements::batch(&Statement::Administration { time, actor: actor.to_owned(), action })?;
        batch.remove_state(cursor_key(sink));
        statements::write(self.journal(), batch).await?;
        Ok(json!({ "forgotten": sink }))
    }

    async fn state_action(&self, actor: &str, action: String) -> Result<(), String> {
        let time = self.pipeline.clock.now();
        let statement = Statement::Administration { time, actor: actor.to_owned(), action };
        statements::write(self.journal(), statements::batch(&statement)?).await
    }

    fn cursor(&self, sink: &str) -> Option<Arc<SinkCursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(sink).cloned()
    }

    fn no_such_sink(&self, sink: &str) -> String {
        let known: Vec<String> = self.stored_cursors().into_iter().map(|(name, _)| name).collect();
        format!("there is no cursor of a sink {sink:?}; the journal has cursors of: {}", known.join(", "))
    }
}
