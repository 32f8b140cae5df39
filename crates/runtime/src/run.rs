//! Running a configuration: from the first component built to the last one stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{
    BuildContext, BuildError, ConfigError, Emitter, Enrichment, EnrichmentContext, Gauge, Health, SinkContext,
    SourceContext, Status,
};
use actlog_http::{Server, ServerConfig};
use actlog_journal::Batch;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{Admin, Observed};
use crate::config::{Config, Plan, SinkPlan, SourcePlan};
use crate::control::{ControlSocket, Request};
use crate::housekeeping::keep_house;
use crate::instance::{Instance, OpenError, Platform};
use crate::pipeline::{ComponentEmit, position_key};
use crate::pull::{JournalPull, SinkCursor};
use crate::statements;
use crate::supervisor::supervise;

/// Why a run did not begin, or ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data folder can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A component's configuration turned out to be unusable when it was first built.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something the process needs for itself can't be had.
    #[error("{0}")]
    Start(String),
    /// The shutdown was not done in time. Everything that was acknowledged is in the journal.
    #[error("not everything had stopped after {0:?}; what the sinks have not received stays in the journal")]
    Deadline(Duration),
}

/// How to run.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// Starts no source, delivers what the journal holds, and ends.
    pub drain: bool,
    /// What it runs on.
    pub platform: Platform,
}

/// Runs everything that is configured until `stop` resolves, or until every source has come to its end and every sink
/// has caught up. `ready` is called once, when all components have been started.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    config: Config,
    config_dir: &Path,
    plan: Plan,
    options: RunOptions,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let RunOptions { drain, platform } = options;
    let instance = Arc::new(Instance::open_on(platform, &config, config_dir).await?);
    let outcome = run_on(&instance, config, config_dir, plan, drain, ready, stop).await;
    instance.close().await;
    outcome
}

async fn run_on(
    instance: &Arc<Instance>,
    config: Config,
    config_dir: &Path,
    plan: Plan,
    drain: bool,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let clock = Arc::clone(&instance.pipeline.clock);

    let mut build = BuildContext::new(&instance.data_dir, Arc::clone(&instance.storage), Arc::clone(&clock));
    build.config_dir = config_dir.to_owned();
    build.organizations = Arc::new(config.organizations.clone());

    let mut observed = BTreeMap::new();
    for (role, name, kind) in plan
        .sources
        .iter()
        .filter(|_| !drain)
        .map(|source| ("source", &source.name, source.kind))
        .chain(plan.sinks.iter().map(|sink| ("sink", &sink.name, sink.kind)))
        .chain(plan.enrichments.iter().map(|enrichment| ("enrichment", &enrichment.name, enrichment.kind)))
    {
        let labels = [("component", name.as_str()), ("role", role), ("kind", kind)];
        let up = instance.metrics.gauge("actlog_component_up", "Whether the component works", &labels);
        observed.insert((role, name.clone()), Component { kind, health: Health::default(), up });
    }
    let observer = Arc::new(Observer { instance: Arc::clone(instance), components: observed });

    // Cursors first: from here on the journal keeps for every sink what it has not received.
    let mut cursors = BTreeMap::new();
    for sink in &plan.sinks {
        let cursor = SinkCursor::open(instance.journal().clone(), &sink.name, sink.when_full, sink.start).await;
        let cursor = cursor.map_err(|error| RunError::Start(format!("cursor of the sink {}: {error}", sink.name)))?;
        instance.add_cursor(Arc::clone(&cursor));
        cursors.insert(sink.name.clone(), cursor);
    }
    for (sink, next) in instance.stored_cursors() {
        if !cursors.contains_key(&sink) {
            warn!(
                sink,
                next,
                "not configured any more; the journal keeps what it has not received until `actlog sinks forget {sink}`"
            );
        }
    }

    let services = CancellationToken::new();
    let mut background = JoinSet::new();
    let socket = ControlSocket::open(&instance.data_dir)
        .map_err(|error| RunError::Start(format!("control socket in {}: {error}", instance.data_dir.display())))?;
    let stop_control = services.child_token();
    let mut control = JoinSet::new();
    control.spawn(serve_control(socket, Arc::clone(&observer), stop_control.clone()));
    if config.admin.listen != "off" {
        let server = bind_admin(&config, config_dir, &build).await?;
        info!(address = %server.local_address(), "health and metrics");
        let admin = Arc::new(Admin { observed: Arc::clone(&observer), metrics: instance.metrics.clone() });
        let metrics = instance.metrics.with_labels(&[("component", "admin"), ("role", "admin")]);
        let shutdown = services.clone();
        background.spawn(async move { server.serve(admin, &metrics, shutdown, Duration::from_secs(1)).await });
    }
    let mut enrichments = Vec::new();
    for plan in plan.enrichments {
        let path = format!("enrichments.{}", plan.name);
        let metrics = instance.metrics.with_labels(&[("component", plan.name.as_str()), ("role", "enrichment")]);
        let built = plan.factory.build(&build.named(plan.name.as_str()), &metrics).await.map_err(|error| match error {
            BuildError::Config(error) => RunError::Config(error.within(&path)),
            error => RunError::Start(format!("{path}: {error}")),
        });
        enrichments.push((plan.name, built?));
    }
    let in_order = enrichments.iter().map(|(_, enrichment)| Arc::clone(enrichment)).collect();
    if instance.pipeline.enrichments.set(in_order).is_err() {
        return Err(RunError::Start("this data folder runs already".to_owned()));
    }
    // Nothing that can keep the run from beginning comes behind this.
    statements::start(instance.journal(), &*clock, &instance.recovery).await.map_err(RunError::Start)?;
    background.spawn(keep_house(Arc::clone(instance), config.journal.clone(), services.clone()));

    let (fatal, mut fatal_errors) = mpsc::unbounded_channel();
    let start = Starter { instance: Arc::clone(instance), observer: Arc::clone(&observer), build, fatal };
    let (stop_sinks, stop_sources) = (CancellationToken::new(), CancellationToken::new());
    for (name, enrichment) in enrichments {
        background.spawn(start.enrichment(name, enrichment, services.clone()));
    }
    let serves = plan.sinks.iter().any(|sink| sink.factory.serves());
    let mut sinks = JoinSet::new();
    for sink in plan.sinks {
        let cursor = Arc::clone(&cursors[&sink.name]);
        sinks.spawn(start.sink(sink, cursor, stop_sinks.clone()));
    }
    let mut sources = JoinSet::new();
    if !drain {
        for source in plan.sources {
            sources.spawn(start.source(source, stop_sources.clone()));
        }
    }
    ready();

    let by_itself = async {
        while sources.join_next().await.is_some() {}
        if serves && !drain {
            std::future::pending::<()>().await;
        }
        wait_until_caught_up(instance).await;
        // Whoever is told "published" in the last moment finds that delivered too.
        stop_control.cancel();
        while control.join_next().await.is_some() {}
        wait_until_caught_up(instance).await;
    };
    let mut outcome = Ok(());
    tokio::select! {
        () = stop => info!("stopping"),
        () = by_itself => info!("all input has been read and delivered"),
        Some(error) = fatal_errors.recv() => outcome = Err(RunError::Config(error)),
    }

    let deadline = Instant::now() + config.shutdown_deadline.0;
    let mut in_time = true;
    for (token, tasks) in [(stop_sources, &mut sources), (stop_sinks, &mut sinks)] {
        token.cancel();
        let all = async { while tasks.join_next().await.is_some() {} };
        in_time &= timeout_at(deadline, all).await.is_ok();
        tasks.abort_all();
    }
    services.cancel();
    while control.join_next().await.is_some() || background.join_next().await.is_some() {}
    if let Err(error) = statements::stop(instance.journal(), &*clock).await {
        error!(error, "the end of capture could not be stated");
    }
    if outcome.is_ok() && !in_time {
        outcome = Err(RunError::Deadline(config.shutdown_deadline.0));
    }
    outcome
}

async fn bind_admin(config: &Config, config_dir: &Path, build: &BuildContext) -> Result<Server, RunError> {
    let address = config.admin.listen.parse().map_err(|error| {
        let message = format!(
            "{:?} is not an address with a port ({error}); write for example \"127.0.0.1:9700\", or \"off\"",
            config.admin.listen
        );
        ConfigError::new("admin.listen", message)
    })?;
    let mut server = ServerConfig::new(address);
    // It shows figures only, so it may be read over plain HTTP where the deployment opens it to its monitoring.
    server.plaintext = true;
    Server::bind(&server, config_dir, Arc::clone(&build.body_budget))
        .await
        .map_err(|error| RunError::Start(format!("admin listener: {error}; change admin.listen, or set it to \"off\"")))
}

/// Waits until every sink is done with everything that is durable now.
async fn wait_until_caught_up(instance: &Instance) {
    // Everything that the sources emitted is durable: they have ended.
    let end = instance.journal().durable();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while instance.cursors().iter().any(|cursor| cursor.committed() < end) {
        ticks.tick().await;
    }
}

async fn serve_control(socket: ControlSocket, observer: Arc<Observer>, shutdown: CancellationToken) {
    let handle = |request: Request, actor: String| {
        let observer = Arc::clone(&observer);
        async move {
            match request {
                Request::Status => Ok(observer.status()),
                request => observer.instance.carry_out(request, &actor).await,
            }
        }
    };
    socket.serve(shutdown, handle).await;
}

struct Component {
    kind: &'static str,
    health: Health,
    up: Gauge,
}

/// Who knows how everything is.
struct Observer {
    instance: Arc<Instance>,
    components: BTreeMap<(&'static str, String), Component>,
}

impl Observer {
    fn health(&self, role: &'static str, name: &str) -> Health {
        self.components.get(&(role, name.to_owned())).map(|component| component.health.clone()).unwrap_or_default()
    }

    fn status(&self) -> serde_json::Value {
        let mut status = self.instance.status();
        let of_role = |wanted: &str| {
            let components = self.components.iter().filter(|((role, _), _)| *role == wanted);
            let entries = components.map(|((_, name), component)| {
                let mut entry = json!({ "type": component.kind });
                if let (Some(entry), Ok(serde_json::Value::Object(health))) =
                    (entry.as_object_mut(), serde_json::to_value(component.health.get()))
                {
                    entry.extend(health);
                }
                (name.clone(), entry)
            });
            serde_json::Value::Object(entries.collect())
        };
        status["sources"] = of_role("source");
        status["sinks"] = of_role("sink");
        status["enrichments"] = of_role("enrichment");
        status["running"] = json!(true);
        status
    }
}

impl Observed for Observer {
    fn not_ready(&self) -> Option<String> {
        if let Some(pressure) = self.instance.journal().pressure() {
            return Some(pressure.to_string());
        }
        let mut components = self.components.iter();
        components.find_map(|((role, name), component)| match component.health.get() {
            Status::Starting => Some(format!("the {role} {name} is starting")),
            Status::Failed { .. } => Some(format!("the {role} {name} has failed")),
            Status::Ok | Status::Degraded { .. } | Status::Stopped => None,
        })
    }

    fn refresh_metrics(&self) {
        for component in self.components.values() {
            let up = matches!(component.health.get(), Status::Ok | Status::Degraded { .. });
            component.up.set(i64::from(up));
        }
        let journal = self.instance.journal();
        let gauge = |name, help, value: u64| {
            self.instance.metrics.gauge(name, help, &[]).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        let segments = journal.segments();
        gauge(
            "actlog_journal_bytes",
            "Bytes of the journal on disk",
            segments.iter().map(|segment| segment.bytes).sum(),
        );
        gauge("actlog_journal_segments", "Segments of the journal", segments.len() as u64);
        gauge("actlog_journal_first_index", "First entry that the journal holds", journal.first_index());
        gauge("actlog_journal_next_index", "One past the last durable entry", journal.durable());
        gauge("actlog_journal_full", "Whether nothing can be taken in", u64::from(journal.pressure().is_some()));
        gauge(
            "actlog_policy_version",
            "Version of the policy in force",
            self.instance.pipeline.policy.load().version(),
        );
        for cursor in self.instance.cursors() {
            let lag = journal.durable().saturating_sub(cursor.committed());
            let labels = [("component", cursor.name.as_str()), ("role", "sink")];
            let name = "actlog_sink_lag_entries";
            let gauge = self.instance.metrics.gauge(name, "Durable entries that the sink is not done with", &labels);
            gauge.set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
    }
}

/// Makes the tasks of components.
struct Starter {
    instance: Arc<Instance>,
    observer: Arc<Observer>,
    build: BuildContext,
    /// Configuration errors of a first build: the run ends with them.
    fatal: mpsc::UnboundedSender<ConfigError>,
}

impl Starter {
    fn source(&self, plan: SourcePlan, shutdown: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let instance = Arc::clone(&self.instance);
        let health = self.observer.health("source", &plan.name);
        let build = self.build.named(plan.name.as_str());
        let labels = [("component", plan.name.as_str()), ("role", "source")];
        let metrics = instance.metrics.with_labels(&labels);
        let restarts = metrics.counter("actlog_component_restarts", "Fresh starts after an error", &[]);
        let emit = Arc::new(ComponentEmit::new(Arc::clone(&instance.pipeline), metrics.clone()));
        let emitter = Emitter::new(plan.name.as_str(), emit);
        let mut first_build = FirstBuild::new(format!("sources.{}", plan.name), self.fatal.clone());
        let (name, factory) = (plan.name, Arc::from(plan.factory));
        async move {
            let attempt = || {
                let (instance, factory, build) = (Arc::clone(&instance), Arc::clone(&factory), build.clone());
                let (emitter, metrics, health) = (emitter.clone(), metrics.clone(), health.clone());
                let (shutdown, first_build) = (shutdown.clone(), first_build.take());
                async move {
                    let factory: Arc<dyn actlog_core::SourceFactory> = factory;
                    let source = factory.build(&build).await.map_err(|error| first_build.report(error))?;
                    // What an earlier run has handed over becomes durable, or not, before its position is read; from
                    // there this run begins anew.
                    let mut barrier = Batch::new().control();
                    barrier.mend(position_key(emitter.component()));
                    let barrier = instance.journal().submit(barrier).await;
                    barrier.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())?;
                    let position = instance.journal().state(&position_key(emitter.component())).map(Vec::from);
                    health.set(Status::Ok);
                    let cx = SourceContext::new(emitter, position, shutdown, metrics, health);
                    source.run(cx).await.map_err(|error| error.to_string())
                }
            };
            if supervise(&name, &health, &shutdown, &restarts, attempt).await {
                info!(source = name, "has come to its end");
            }
        }
    }

    fn enrichment(
        &self,
        name: String,
        enrichment: Arc<dyn Enrichment>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let health = self.observer.health("enrichment", &name);
        let labels = [("component", name.as_str()), ("role", "enrichment")];
        let metrics = self.instance.metrics.with_labels(&labels);
        let restarts = metrics.counter("actlog_component_restarts", "Fresh starts after an error", &[]);
        async move {
            let attempt = || {
                let (enrichment, health) = (Arc::clone(&enrichment), health.clone());
                let cx = EnrichmentContext::new(name.as_str(), shutdown.clone(), health.clone());
                async move {
                    health.set(Status::Ok);
                    enrichment.run(cx).await.map_err(|error| error.to_string())
                }
            };
            supervise(&name, &health, &shutdown, &restarts, attempt).await;
        }
    }

    fn sink(
        &self,
        plan: SinkPlan,
        cursor: Arc<SinkCursor>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let instance = Arc::clone(&self.instance);
        let health = self.observer.health("sink", &plan.name);
        let build = self.build.named(plan.name.as_str());
        let labels = [("component", plan.name.as_str()), ("role", "sink")];
        let metrics = instance.metrics.with_labels(&labels);
        let restarts = metrics.counter("actlog_component_restarts", "Fresh starts after an error", &[]);
        let emit = Arc::new(ComponentEmit::new(Arc::clone(&instance.pipeline), metrics.clone()));
        let emitter = Emitter::new(plan.name.as_str(), emit);
        let mut first_build = FirstBuild::new(format!("sinks.{}", plan.name), self.fatal.clone());
        let (name, factory) = (plan.name, Arc::from(plan.factory));
        async move {
            let attempt = || {
                let (instance, factory, build) = (Arc::clone(&instance), Arc::clone(&factory), build.clone());
                let (emitter, metrics, health) = (emitter.clone(), metrics.clone(), health.clone());
                let (shutdown, first_build, cursor) = (shutdown.clone(), first_build.take(), Arc::clone(&cursor));
                async move {
                    let factory: Arc<dyn actlog_core::SinkFactory> = factory;
                    let sink = factory.build(&build).await.map_err(|error| first_build.report(error))?;
                    // A commit that was reported as failed may still turn up after a crash, with lengths of files that
                    // this run will cut: a later frame makes it void first.
                    statements::write(instance.journal(), Batch::new().control()).await?;
                    let letters = Arc::clone(&instance.pipeline.dead_letters);
                    let clock = Arc::clone(&instance.pipeline.clock);
                    let pull = JournalPull::new(Arc::clone(&cursor), letters, clock, &metrics);
                    let ended = shutdown.clone();
                    health.set(Status::Ok);
                    let cx = SinkContext::new(emitter, Box::new(pull), cursor.state(), shutdown, metrics, health);
                    sink.run(cx).await.map_err(|error| error.to_string())?;
                    if ended.is_cancelled() { Ok(()) } else { Err("ended without being told to".to_owned()) }
                }
            };
            supervise(&name, &health, &shutdown, &restarts, attempt).await;
        }
    }
}

/// Tells a component's first build from later ones: what can't be configured at the start is for the person who starts
/// it to mend; later it may be a file that will come back.
struct FirstBuild {
    path: String,
    fatal: Option<mpsc::UnboundedSender<ConfigError>>,
}

impl FirstBuild {
    fn new(path: String, fatal: mpsc::UnboundedSender<ConfigError>) -> Self {
        Self { path, fatal: Some(fatal) }
    }

    fn take(&mut self) -> Self {
        Self { path: self.path.clone(), fatal: self.fatal.take() }
    }

    fn report(&self, error: BuildError) -> String {
        match (error, &self.fatal) {
            (BuildError::Config(error), Some(fatal)) => {
                let error = error.within(&self.path);
                let text = error.to_string();
                // Nobody listens any more when the run is ending already.
                let _ = fatal.send(error);
                text
            }
            (error, _) => error.to_string(),
        }
    }
}
