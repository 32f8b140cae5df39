//! The sink keeps the contract of `docs/component-spec.md`, with every format.

#![allow(clippy::unwrap_used, reason = "the adapter is a part of the test")]

mod receivers;

use std::path::PathBuf;
use std::sync::Arc;

use actlog_core::{AuditRecord, BuildContext, SystemClock};
use actlog_sink_http::HttpSink;
use actlog_testkit::compliance::{Guarantee, Outage, SinkUnderTest};
use actlog_testkit::records::Records;
use actlog_testkit::storage::FaultStorage;
use async_trait::async_trait;
use receivers::{Kind, Receiver, UNACCEPTABLE, kinds, put_secrets};
use uuid::Uuid;

/// A receiver, and how the sink is told of it.
struct World {
    receiver: Receiver,
    kind: Kind,
    folder: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("http-sink-compliance").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        put_secrets(&folder);
        let kind = kinds().into_iter().find(|kind| kind.name == name).unwrap();
        Self { receiver: Receiver::start_now(Arc::clone(&kind.rules)), kind, folder }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.receiver.check();
        }
    }
}

#[async_trait]
impl SinkUnderTest for World {
    type Plugin = HttpSink;

    fn config(&self) -> String {
        self.kind.config(&self.receiver.url())
    }

    fn build_context(&self) -> BuildContext {
        let mut context = BuildContext::new("/data", Arc::new(FaultStorage::new(1)), Arc::new(SystemClock));
        context.config_dir.clone_from(&self.folder);
        context
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn is_ordered(&self) -> bool {
        self.kind.is_ordered
    }

    async fn delivered(&self) -> Vec<Uuid> {
        self.receiver.ids()
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        self.receiver.set_outage(outage);
        true
    }

    fn unacceptable(&self) -> Option<AuditRecord<'static>> {
        let mut record = Records::new(7).next_record();
        record.user_agent = Some(UNACCEPTABLE.into());
        Some(record)
    }
}

macro_rules! keeps_the_contract {
    ($($test:ident: $kind:literal),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            actlog_testkit::compliance::sink(|| World::new($kind)).await;
        })*

        #[test]
        fn no_kind_of_receiver_is_left_out() {
            assert_eq!(kinds().iter().map(|kind| kind.name).collect::<Vec<_>>(), [$($kind),*]);
        }
    };
}

keeps_the_contract! {
    json_keeps_the_contract_of_sinks: "json",
    ndjson_keeps_the_contract_of_sinks: "ndjson",
    ndjson_keeps_the_contract_of_sinks_where_records_are_divided: "ndjson in parts",
    cloudevents_keep_the_contract_of_sinks: "cloudevents",
    splunk_keeps_the_contract_of_sinks: "splunk-hec",
    splunk_with_acknowledgement_keeps_the_contract_of_sinks: "splunk-hec with acknowledgement",
    elasticsearch_keeps_the_contract_of_sinks: "elasticsearch",
    otlp_keeps_the_contract_of_sinks: "otlp",
    azure_keeps_the_contract_of_sinks: "azure-logs",
}
