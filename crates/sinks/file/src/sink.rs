//! The sink: pulls entries, hands them to the writer, and commits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{
    BuildContext, BuildError, Clock, ConfigError, Entry, Health, Sink, SinkContext, SinkError, SinkPlugin, Span, Status,
};
use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::FileConfig;
use crate::housekeeping::{Done, Housekeeping, Retention};
use crate::lease;
use crate::metrics::FileMetrics;
use crate::template::{Router, Template};
use crate::writer::{Appended, Writer};

/// About how many bytes are pulled at once.
const PULL_BYTES: usize = 1 << 20;
/// How often it looks at the clock when nothing comes: whether a file's day, hour or age has passed.
const IDLE: Duration = Duration::from_secs(10);
/// How often it looks at a job in the background.
const BUSY: Duration = Duration::from_millis(50);

/// The sink `file`.
#[derive(Debug)]
pub struct FileSink {
    config: FileConfig,
    build: BuildContext,
    router: Arc<Router>,
}

actlog_core::register_sink!(FileSink);

impl SinkPlugin for FileSink {
    const KIND: &'static str = "file";
    const SUMMARY: &'static str = "Files: JSONL, CSV, or the layout of the specification's examples";
    const EXAMPLE: &'static str = r#"path = "{data_dir}/audit/{date}.jsonl"
rotate = { size = "256 MiB" }
compress = "zstd"
max_age = "400 days"
proof = true
"#;
    type Config = FileConfig;

    fn validate(config: &FileConfig) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &FileConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let router = Arc::new(Router::new(Template::parse(&config.path)?, cx)?);
        Ok(Self { config: config.clone(), build: cx.clone(), router })
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        let lease = tokio::select! {
            lease = lease::acquire(&self.build) => lease,
            () = cx.shutdown.cancelled() => return Ok(()),
        };
        let (config, build, router) = (self.config.clone(), self.build.clone(), Arc::clone(&self.router));
        let (state, metrics) = (cx.state.take(), FileMetrics::new(&cx.metrics));
        let (writers_metrics, writers_lease) = (metrics.clone(), lease.clone());
        let recover =
            move || Writer::recover(&config, &build, router, state.as_deref(), writers_metrics, writers_lease);
        let writer = blocking(recover).await??;
        let housekeeping = Housekeeping::new(&self.build, self.retention()?, metrics.clone(), lease);
        let mut pump = Pump {
            clock: Arc::clone(&self.build.clock),
            commit_interval: self.config.commit_interval.0,
            commit_bytes: self.config.commit_bytes.0,
            writer: Arc::new(Mutex::new(writer)),
            housekeeping,
            metrics,
            next_index: None,
            due: None,
            is_degraded: false,
        };
        let result = pump.run(&mut cx).await;
        pump.housekeeping.stop().await;
        let writer = Arc::clone(&pump.writer);
        blocking(move || writer.lock().unwrap_or_else(PoisonError::into_inner).abandon()).await?;
        match result {
            Err(SinkError::File { path, error }) if cx.shutdown.is_cancelled() => {
                tracing::warn!(%path, "could not be written at shutdown: {error}; the journal keeps what is missing from it");
                Ok(())
            }
            result => result,
        }
    }
}

impl FileSink {
    fn retention(&self) -> Result<Option<Retention>, SinkError> {
        let Some(Span(max_age)) = self.config.max_age else { return Ok(None) };
        let (folder, depth, files) = self.router.files().map_err(|error| SinkError::Other(error.to_string()))?;
        Ok(Some(Retention { max_age, folder, depth, files }))
    }
}

/// What runs between the journal and the writer.
struct Pump {
    clock: Arc<dyn Clock>,
    commit_interval: Duration,
    commit_bytes: u64,
    /// Only one thread at a time uses it: this task, or the blocking thread that this task waits for.
    writer: Arc<Mutex<Writer>>,
    housekeeping: Housekeeping,
    metrics: FileMetrics,
    /// The first entry that is not done with; none until one came.
    next_index: Option<u64>,
    /// When what was taken since the last commit must be committed; none if there is nothing.
    due: Option<Instant>,
    is_degraded: bool,
}

impl Pump {
    async fn run(&mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        loop {
            let stopping = cx.shutdown.is_cancelled();
            self.lock().close_outdated(self.clock.now());
            if self.must_commit(stopping) {
                self.commit(cx).await?;
            }
            if stopping {
                return Ok(());
            }
            self.keep_house(&cx.health).await;
            let entries = cx.next(PULL_BYTES, self.wait()).await?;
            self.take(entries, cx).await?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A panic while it was held has ended this run with an error already.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with_writer<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<R, SinkError> + Send + 'static,
    ) -> Result<R, SinkError> {
        let writer = Arc::clone(&self.writer);
        blocking(move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }

    fn must_commit(&self, stopping: bool) -> bool {
        let writer = self.lock();
        self.next_index.is_some()
            && (writer.is_closing()
                || writer.uncommitted() >= self.commit_bytes
                || self.due.is_some_and(|due| stopping || due <= Instant::now()))
    }

    /// Takes what was appended for delivered: first the files are made durable, then the cursor and the files' lengths.
    async fn commit(&mut self, cx: &mut SinkContext) -> Result<(), SinkError> {
        let Some(next_index) = self.next_index else { return Ok(()) };
        let state = self.with_writer(Writer::sync).await?;
        cx.commit(next_index, state).await?;
        self.due = None;
        self.with_writer(Writer::committed).await
    }

    /// Writes entries. Where one needs a file that has yet to be begun, everything before it is committed, together with
    /// the name of that file.
    async fn take(&mut self, entries: Vec<Entry>, cx: &mut SinkContext) -> Result<(), SinkError> {
        let entries: Arc<[Entry]> = entries.into();
        let mut from = 0;
        while let Some(first) = entries.get(from) {
            self.next_index = Some(first.index);
            self.due.get_or_insert_with(|| Instant::now() + self.commit_interval);
            let (batch, now) = (Arc::clone(&entries), self.clock.now());
            let Appended { done, rejected } =
                self.with_writer(move |writer| writer.append(&batch[from..], now)).await?;
            for (place, reason) in rejected {
                self.metrics.rejected.inc();
                cx.reject(&entries[from + place], &reason).await?;
            }
            from += done;
            match entries.get(from) {
                Some(next) => {
                    self.next_index = Some(next.index);
                    self.commit(cx).await?;
                }
                None => self.next_index = entries.last().map(|last| last.index + 1),
            }
        }
        Ok(())
    }

    /// Begins and ends jobs in the background, without waiting for them.
    async fn keep_house(&mut self, health: &Health) {
        loop {
            let pending = self.lock().pending().first().cloned();
            let writer = Arc::clone(&self.writer);
            let open = move || writer.lock().unwrap_or_else(PoisonError::into_inner).open_paths();
            let Some(done) = self.housekeeping.step(pending, open).await else { return };
            match done {
                Done::Failed { pending, reason } => {
                    // Behind the others, so that one bad file does not keep them waiting.
                    pending.into_iter().for_each(|pending| self.lock().put_off(pending));
                    tracing::warn!("{reason}; trying again in a minute");
                    health.set(Status::Degraded { reason });
                    self.is_degraded = true;
                    continue;
                }
                Done::Compressed(path) => self.lock().compressed(&path),
                Done::Scanned => {}
            }
            if std::mem::take(&mut self.is_degraded) {
                health.set(Status::Ok);
            }
        }
    }

    /// How long to wait for entries.
    fn wait(&self) -> Duration {
        let longest = if self.housekeeping.is_busy() { BUSY } else { IDLE };
        self.due.map_or(longest, |due| due.saturating_duration_since(Instant::now()).min(longest))
    }
}

/// Does what blocks on a thread for that.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, SinkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SinkError::Other(format!("the thread that writes files ended early: {error}")))
}
