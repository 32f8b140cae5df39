//! The `directory` enrichment: who the users are that records name by id only.
//!
//! Contexts of Dataverse carry the ids of system users, no names. This completes records with UserUpn, UserKey and
//! UserType, and puts the name into UserId where only the id stood, on their way from any source to the policy. What it
//! knows comes from the `systemusers` table of an organisation, read again every so often, or from a CSV file.
//!
//! It is no source: it captures nothing, and capture never waits for it. A user who is not known stays an id, and is
//! counted; since `actlog_dataverse::directory` keeps what was ever known, a later query by name finds those records too.
//!
//! Invariants: what it knows of a user is on disk before a record shows it; what a source has said itself is never
//! changed, but for UserType where a rule says that the user is Microsoft's support.

mod command;
mod complete;
mod config;
mod csv_file;
mod live;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actlog_core::config::pick_organization;
use actlog_core::{
    AuditRecord, BuildContext, BuildError, Clock, ConfigError, Counter, Enrichment, EnrichmentContext, EnrichmentError,
    EnrichmentPlugin, Gauge, Metrics, Status, register_command, register_enrichment,
};
use actlog_dataverse::directory::{Directory, User, file};
use actlog_dataverse::webapi::WebApi;
use actlog_http::client::{Backoff, Client};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use globset::GlobSet;
use uuid::Uuid;

pub use config::DirectoryConfig;

use complete::Known;

register_enrichment!(DirectoryEnrichment);
register_command!("directory", "Shows what is known of a user, now and earlier", command::run);

/// The first pause after a failed refresh, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The enrichment.
#[derive(Debug)]
pub struct DirectoryEnrichment {
    users: Users,
    refresh: Duration,
    /// Records of other organisations are none of its business.
    organization: Option<Uuid>,
    support: GlobSet,
    clock: Arc<dyn Clock>,
    /// Locked by the one refresh that is under way.
    directory: Arc<Mutex<Directory>>,
    known: ArcSwap<Known>,
    unknown: Counter,
    size: Gauge,
}

/// Where the users are listed.
#[derive(Clone, Debug)]
enum Users {
    File(PathBuf),
    Live(WebApi),
}

impl EnrichmentPlugin for DirectoryEnrichment {
    const KIND: &'static str = "directory";
    const SUMMARY: &'static str = "Names, keys and types of users, from Dataverse's systemusers table or a CSV file";
    const EXAMPLE: &'static str = "path = \"users.csv\"\n";
    type Config = DirectoryConfig;

    fn validate(config: &DirectoryConfig) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &DirectoryConfig, cx: &BuildContext, metrics: &Metrics) -> Result<Self, BuildError> {
        let organization = match (&config.organization, &config.path) {
            (None, Some(_)) => None,
            (name, _) => Some(pick_organization(&cx.organizations, name.as_deref())?),
        };
        let users = match (&config.path, organization) {
            (Some(path), _) => Users::File(cx.config_dir.join(path)),
            (None, Some((name, organization))) => {
                let client = Client::new(&config.client, &cx.config_dir).map_err(|error| error.within("client"))?;
                let api = WebApi::connect(organization, client, &cx.config_dir);
                let in_its_table = |error: ConfigError| format!("[organizations.{name}] {error}");
                Users::Live(api.map_err(|error| ConfigError::new("organization", in_its_table(error)))?)
            }
            // `pick_organization` has answered with an error in this case.
            (None, None) => return Err(ConfigError::new("organization", "is missing").into()),
        };
        let path = file(&cx.data_dir, &cx.name);
        let storage = Arc::clone(&cx.storage);
        let opened = path.clone();
        let opening = tokio::task::spawn_blocking(move || Directory::open(storage, opened)).await;
        let directory = opening
            .map_err(|error| BuildError::Other(error.to_string()))?
            .map_err(|error| BuildError::File { path: path.display().to_string(), error })?;
        let enrichment = Self {
            users,
            refresh: config.refresh.0,
            organization: organization.and_then(|(_, organization)| organization.id),
            support: config.support()?,
            clock: Arc::clone(&cx.clock),
            known: ArcSwap::from_pointee(Known::new(directory.known())),
            directory: Arc::new(Mutex::new(directory)),
            unknown: metrics.counter(
                "actlog_directory_unknown_users",
                "Records whose system user the directory does not know",
                &[],
            ),
            size: metrics.gauge("actlog_directory_users", "Users that the directory knows", &[]),
        };
        enrichment.show_size();
        if let Users::File(path) = &enrichment.users {
            // A file is there, or it was mistyped: better said at once than found out from the records.
            let error = |message| ConfigError::new("path", message);
            enrichment
                .refresh_from(csv_file::read(path.clone()).await.map_err(error)?)
                .await
                .map_err(BuildError::Other)?;
        }
        Ok(enrichment)
    }
}

impl DirectoryEnrichment {
    fn show_size(&self) {
        self.size.set(i64::try_from(self.known.load().len()).unwrap_or(i64::MAX));
    }

    /// Reads the table, and takes in what it says.
    async fn refresh(&self) -> Result<(), String> {
        let users = match &self.users {
            Users::File(path) => csv_file::read(path.clone()).await?,
            Users::Live(api) => live::read(api).await.map_err(|error| format!("the table systemusers: {error}"))?,
        };
        self.refresh_from(users).await
    }

    async fn refresh_from(&self, users: BTreeMap<Uuid, User>) -> Result<(), String> {
        let (directory, now) = (Arc::clone(&self.directory), self.clock.now());
        let updating = tokio::task::spawn_blocking(move || {
            let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
            let written = directory.update(users, now)?;
            Ok::<_, std::io::Error>((written > 0).then(|| (written, Known::new(directory.known()))))
        });
        let updated = updating.await.map_err(|error| error.to_string())?;
        let updated = updated.map_err(|error| format!("what is known of users could not be written: {error}"))?;
        if let Some((written, known)) = updated {
            tracing::info!(users = known.len(), changed = written, "directory read");
            self.known.store(Arc::new(known));
            self.show_size();
        }
        Ok(())
    }
}

#[async_trait]
impl Enrichment for DirectoryEnrichment {
    fn complete(&self, record: &mut AuditRecord<'_>) {
        let is_foreign = matches!((self.organization, record.organization_id), (Some(own), Some(its)) if own != its);
        if !is_foreign && !self.known.load().complete(record, &self.support) {
            self.unknown.inc();
        }
    }

    async fn run(self: Arc<Self>, cx: EnrichmentContext) -> Result<(), EnrichmentError> {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let refreshed = tokio::select! {
                refreshed = self.refresh() => refreshed,
                () = cx.shutdown.cancelled() => return Ok(()),
            };
            let pause = match refreshed {
                Ok(()) => {
                    cx.health.set(Status::Ok);
                    pauses.reset();
                    self.refresh
                }
                // Records are completed meanwhile with what is known.
                Err(reason) => {
                    tracing::warn!(component = &*cx.name, reason, "the directory could not be read again");
                    cx.health.set(Status::Degraded { reason });
                    pauses.next().min(self.refresh)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cx.shutdown.cancelled() => return Ok(()),
            }
        }
    }
}
