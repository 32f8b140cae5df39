//! The run, on a disk and a journal that fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers are parts of tests")]

mod compliance;
mod faults;
mod tenants;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::config::{Organization, Organizations};
use actlog_core::{AuditRecord, BuildContext, Entry, Health, Sink, SinkContext, SinkError, SinkPlugin, Status, config};
use actlog_office::output::{self, OutputOptions};
use actlog_testkit::compliance::{SinkHarness, SinkRun};
use actlog_testkit::records::Records;
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use serde::Deserialize;
use uuid::Uuid;

use super::ManagementApiSink;
use super::pump::Pump;
use crate::config::Config;
use crate::store::tests::{ManualClock, blobs};
use crate::store::{Partition, Store, StoreOptions};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const FOLDER: &str = "/data/content";
const DEADLINE: Duration = Duration::from_secs(60);

/// The sink without its listener: what is between the journal and the store.
struct Lone {
    config: Config,
    build: BuildContext,
}

#[async_trait]
impl Sink for Lone {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        let options = StoreOptions {
            folder: FOLDER.into(),
            retention: self.config.retention.0,
            budget: self.config.budget.0,
            blob_bytes: self.config.blob_bytes.0 as usize,
        };
        let (storage, clock) = (Arc::clone(&self.build.storage), Arc::clone(&self.build.clock));
        let store = tokio::task::spawn_blocking(move || Store::open(storage, clock, options)).await.unwrap()?;
        let state = cx.state.take();
        let no_problem = Box::new(|| None);
        let mut pump = Pump::new(&self.config, &self.build, &store, no_problem, state.as_deref(), &cx.metrics)?;
        pump.run(&mut cx).await
    }
}

/// A journal, a disk, and a configuration.
#[derive(Clone)]
struct Bench {
    harness: SinkHarness,
    storage: FaultStorage,
    clock: ManualClock,
    keys: String,
    organizations: Organizations,
}

impl Bench {
    /// Two tenants with an organisation each.
    fn new() -> Self {
        let bench = Self {
            harness: SinkHarness::new(),
            storage: FaultStorage::new(1),
            clock: ManualClock::new(),
            keys: String::new(),
            organizations: Organizations::new(),
        };
        bench.claimed("contoso", A).claimed("fabrikam", B)
    }

    /// An organisation is given a tenant.
    fn claimed(mut self, name: &str, tenant: Uuid) -> Self {
        let organization = Organization { tenant: Some(tenant), ..Organization::default() };
        self.organizations.insert(name.to_owned(), organization);
        self
    }

    /// The same journal on another disk.
    fn on(&self, storage: FaultStorage) -> Self {
        Self { storage, ..self.clone() }
    }

    fn config(&self) -> Config {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nclients = \"clients.toml\"\nblob_age = \"10 ms\"\nblob_bytes = \"16 KiB\"\n\
             tenants.a.id = \"{A}\"\ntenants.b = {{ id = \"{B}\", mode = \"observed\" }}\n{}",
            self.keys
        );
        let table: toml::Table = text.parse().unwrap();
        let config = config::deserialize(serde_json::to_value(table).unwrap()).unwrap();
        ManagementApiSink::validate(&config).unwrap();
        config
    }

    fn start(&self) -> SinkRun {
        let storage = Arc::new(self.storage.clone());
        let mut build = BuildContext::new("/data", storage, Arc::new(self.clock.clone()));
        build.organizations = Arc::new(self.organizations.clone());
        self.harness.start("office", "management-api", Box::new(Lone { config: self.config(), build }))
    }

    /// Runs until everything is committed, then to the end; an error is what the run ended with.
    async fn run(&self) -> Result<(), String> {
        let mut run = self.start();
        let end = self.harness.entries().len() as u64;
        while self.harness.cursor() < end && !run.is_finished() {
            self.harness.wait_for(Duration::from_millis(5), |harness| harness.cursor() >= end).await;
        }
        run.shutdown.cancel();
        run.finished(DEADLINE).await.expect("it ends").as_ref().map_err(ToString::to_string).copied()?;
        if self.harness.cursor() < end { Err("stopped early".to_owned()) } else { Ok(()) }
    }

    /// Waits until the health is as wanted.
    async fn healthy(&self, health: &Health, is_wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !is_wanted(&health.get()) {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", health.get());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        health.get()
    }

    /// Adds records of three organisations, the third of which nobody claims, and a statement between them.
    fn append(&self, records: &mut Records, count: usize) {
        for place in 0..count {
            let name = ["contoso", "fabrikam", "tailspin"][place % 3];
            let record = AuditRecord {
                crm_organization_unique_name: Some(name.into()),
                organization_id: None,
                // Some are divided.
                query: (place % 7 == 6).then(|| "q".repeat(5000).into()),
                ..records.next_record()
            };
            self.harness.append(&record);
            if place % 5 == 4 {
                self.harness.append_statement(&actlog_core::Statement::Heartbeat { time: record.creation_time });
            }
        }
    }

    /// Ids in the feeds, by tenant and content type; under the nil tenant those that nobody claims.
    fn feeds(&self) -> BTreeMap<Uuid, Vec<Uuid>> {
        let mut feeds: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for (partition, blob) in blobs(&self.storage, Path::new(FOLDER)) {
            let tenant = match partition {
                Partition::Tenant(tenant, _) => tenant,
                Partition::Unclaimed(_) => Uuid::nil(),
            };
            assert!(blob.len() <= 16 << 10 || tenant.is_nil(), "{} bytes", blob.len());
            feeds.entry(tenant).or_default().extend(ids(&blob));
        }
        feeds
    }

    /// What the feeds must hold: every record as it is mapped, once.
    fn expected(&self) -> BTreeMap<Uuid, Vec<Uuid>> {
        let config = self.config();
        let mut feeds: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for entry in self.harness.entries().iter().filter(|entry| entry.kind == actlog_core::EntryKind::Record) {
            let record = AuditRecord::decode(&entry.bytes).unwrap();
            let organization = record.crm_organization_unique_name.as_deref().unwrap();
            let claim = self.organizations.get(organization).and_then(|organization| organization.tenant);
            let Some(tenant) = config.tenants.values().find(|tenant| Some(tenant.id) == claim) else {
                feeds.entry(Uuid::nil()).or_default().push(entry.id);
                continue;
            };
            let options =
                OutputOptions { mode: tenant.mode, max_record_bytes: tenant.max_record_bytes, tenant: tenant.id };
            let feed = feeds.entry(tenant.id).or_default();
            output::to_office(&record, &options, &mut |id, _| feed.push(id)).unwrap();
        }
        feeds
    }

    /// Every record is in its feed exactly once, in the journal's order.
    fn assert_exactly_once(&self, what: &str) {
        let (feeds, expected) = (self.feeds(), self.expected());
        let count = |feeds: &BTreeMap<Uuid, Vec<Uuid>>| feeds.values().map(Vec::len).collect::<Vec<_>>();
        assert!(feeds == expected, "{what}: {:?} instead of {:?}", count(&feeds), count(&expected));
    }
}

/// The Ids of a blob's records.
fn ids(blob: &[u8]) -> Vec<Uuid> {
    #[derive(Deserialize)]
    struct Identified {
        #[serde(rename = "Id")]
        id: Uuid,
    }
    let records: Vec<Identified> = serde_json::from_slice(blob).unwrap();
    records.into_iter().map(|record| record.id).collect()
}

/// A journal's entry with these bytes.
fn entry(index: u64, bytes: &[u8]) -> Entry {
    Entry {
        index,
        kind: actlog_core::EntryKind::Record,
        id: Uuid::from_u128(u128::from(index)),
        time: actlog_core::Timestamp::default(),
        salt: [0; 32],
        bytes: bytes.to_vec().into(),
    }
}
