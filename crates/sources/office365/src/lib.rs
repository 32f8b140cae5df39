//! The `office365` source: the Office 365 Management Activity API, so that activity across Office, Entra, the Power
//! Platform and Dynamics 365 lands in one log.
//!
//! It stands at the beginning of a record's way: it lists what became available, fetches it, has each record mapped by
//! `actlog-office`, and emits what was not seen before. It knows the service and its errors; it decides neither what a
//! record means nor what is audited. It never holds a record back, and never joins the parts of a divided one.
//!
//! ```text
//! feed (one for each tenant and content type) ── list, fetch ──┐
//! feed ────────────────────────────────────────────────────────┼─► committer ── index, batch, position ──► journal
//! feed ────────────────────────────────────────────────────────┘
//! ```
//!
//! - **Feeds** (module `feed`) work side by side. What fails in one does not hold up another; health says which.
//! - **The committer** takes what they hand over, in order, and is alone in touching the position.
//! - **The index** (module `seen`) knows the Ids and contents of 8 days, exactly.
//!
//! Invariants: a position never vouches for anything that is not durable, be it in the journal, in the index or with the
//! dead letters; it passes content only when its records are taken or a gap is stated; a record whose Id was seen is not
//! emitted again, whatever crashed in between; a token goes to the service's own host alone; everything that is held is
//! bounded.

mod batch;
mod blob;
mod committer;
mod config;
mod feed;
mod figures;
mod position;
mod seen;
mod service;
mod turns;
mod window;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_core::{
    BuildContext, BuildError, Clock, ConfigError, Source, SourceContext, SourceError, SourcePlugin, Storage,
    register_source,
};
use actlog_http::client::Client;
use actlog_http::oauth::TokenSource;
use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use url::Url;

use batch::Maker;
use committer::{Committer, blocking, oldest};
pub use config::{Office365Config, TenantConfig};
use feed::{Feed, ROOM, Shared, Subscribed};
use figures::{Figures, Problems};
use position::Position;
use seen::Seen;
use service::{Access, Service};

register_source!(Office365Source);

/// The source, ready to run.
pub struct Office365Source {
    tenants: Vec<Access>,
    content_types: Vec<&'static str>,
    poll: Duration,
    overlap: Duration,
    since: Duration,
    concurrency: usize,
    batch_size: usize,
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Office365Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenants: Vec<&str> = self.tenants.iter().map(|tenant| &*tenant.name).collect();
        f.debug_struct("Office365Source").field("tenants", &tenants).finish_non_exhaustive()
    }
}

impl SourcePlugin for Office365Source {
    const KIND: &'static str = "office365";
    const SUMMARY: &'static str = "Activity across Office 365, from the Management Activity API";
    const EXAMPLE: &'static str = "\
tenants.contoso.id = \"11111111-1111-1111-1111-111111111111\"
tenants.contoso.application = { client_id = \"22222222-2222-2222-2222-222222222222\", secret = { env = \"ACTLOG_OFFICE_SECRET\" } }
";
    type Config = Office365Config;

    fn validate(config: &Office365Config) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &Office365Config, cx: &BuildContext) -> Result<Self, BuildError> {
        let client = Client::new(&config.client, &cx.config_dir).map_err(|error| error.within("client"))?;
        let mut tenants = Vec::with_capacity(config.tenants.len());
        for (name, tenant) in &config.tenants {
            let cloud = config.cloud_of(tenant);
            let base = config.base_url.as_deref().unwrap_or(cloud.base_url());
            let base = Url::parse(base).map_err(|error| ConfigError::new("base_url", error.to_string()))?;
            let tokens = TokenSource::new(
                client.clone(),
                &tenant.id.to_string(),
                &tenant.application(cloud),
                config.token_endpoint,
                cloud.base_url(),
                &cx.config_dir,
            );
            tenants.push(Access {
                name: name.as_str().into(),
                tenant: tenant.id,
                client: client.clone(),
                tokens: tokens.map_err(|error| error.within(&format!("tenants.{name}.application")))?,
                base,
                publisher: config.publisher.unwrap_or(tenant.id),
                requests_per_minute: config.requests_per_minute,
                clock: Arc::clone(&cx.clock),
            });
        }
        Ok(Self {
            tenants,
            content_types: config.content_types().collect(),
            poll: config.poll.0,
            overlap: config.overlap.0,
            since: config.since.0,
            concurrency: usize::from(config.concurrency),
            // Validation has bounded it far below what fits.
            batch_size: usize::try_from(config.batch_size.0).unwrap_or(usize::MAX),
            storage: Arc::clone(&cx.storage),
            folder: cx.data_dir.join("sources").join(&*cx.name),
            clock: Arc::clone(&cx.clock),
        })
    }
}

#[async_trait]
impl Source for Office365Source {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let Position { mut reached, seen: manifest, .. } = match cx.position.as_deref().map(Position::decode) {
            None => Position::default(),
            Some(Ok(position)) => position,
            Some(Err(error)) => {
                let message = format!(
                    "the position of the last run can't be read ({error}): it is of another version of actlog; use that \
                     version, or give the source another name to begin anew"
                );
                return Err(SourceError::Other(message));
            }
        };
        reached.retain(|tenant, _| self.tenants.iter().any(|configured| configured.tenant == *tenant));

        let (storage, folder, committed) = (self.storage, self.folder, manifest.clone());
        let oldest = oldest(&reached);
        let (seen, lost) = blocking(move || Seen::open(storage, folder, &committed, oldest)).await?;
        let problems = Problems::new(cx.health);
        if !lost.is_empty() {
            let lost = lost.join("; ");
            problems.set("index", format!("{lost}; records of the last 8 days may come in a second time"));
        }

        let shared = Arc::new(Shared {
            poll: self.poll,
            overlap: self.overlap,
            since: self.since,
            concurrency: self.concurrency,
            seen: Arc::new(Mutex::new(seen)),
            slots: Semaphore::new(self.concurrency),
            room: Arc::new(Semaphore::new(ROOM)),
            figures: Figures::new(cx.metrics),
            problems,
        });
        let maker = Maker { emitter: cx.emitter, batch_size: self.batch_size };
        let committer = Committer::new(maker, Arc::clone(&shared), reached.clone(), self.clock, cx.shutdown);

        let (sender, mut deliveries) = mpsc::channel(self.concurrency);
        let mut feeds = JoinSet::new();
        for access in self.tenants {
            let service = Arc::new(Service::new(access, &shared.figures));
            for content_type in &self.content_types {
                let reached = reached.get(&service.tenant).and_then(|of_tenant| of_tenant.get(*content_type)).copied();
                let feed = Feed {
                    service: Arc::clone(&service),
                    content_type,
                    shared: Arc::clone(&shared),
                    deliveries: sender.clone(),
                    reached,
                    subscription: Subscribed::default(),
                };
                feeds.spawn(feed.run());
            }
        }
        drop(sender);
        let outcome = tokio::select! {
            outcome = committer.run(&manifest, &mut deliveries) => outcome,
            Some(Err(panic)) = feeds.join_next() => Err(SourceError::Other(format!("a feed has failed: {panic}"))),
        };
        feeds.shutdown().await;
        outcome
    }
}
