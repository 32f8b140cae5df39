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
use receivers::{Receiver, Rules, UNACCEPTABLE, azure, splunk};
use uuid::Uuid;

/// Small enough for several requests a round.
const SMALL: &str = "batch = { count = 7, age = \"10 ms\" }\nclient = { allow_private = true }\n";

/// A receiver, and how the sink is told of it.
struct World {
    receiver: Receiver,
    folder: PathBuf,
    config: String,
    is_ordered: bool,
    takes_everything: bool,
}

impl World {
    fn new(rules: impl Rules, is_ordered: bool, config: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("http-sink-compliance");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hec"), splunk::TOKEN).unwrap();
        std::fs::write(folder.join("entra"), azure::SECRET).unwrap();
        let receiver = Receiver::start_now(rules);
        let config = config.replace("{url}", &receiver.url());
        let config = format!("url = \"{}\"\n{SMALL}{config}", receiver.url());
        Self { receiver, folder, config, is_ordered, takes_everything: false }
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
        self.config.clone()
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
        self.is_ordered
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
        (!self.takes_everything).then_some(record)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_keeps_the_contract_of_sinks() {
    let config = "format = \"json\"\ncompression = \"zstd\"";
    actlog_testkit::compliance::sink(|| World::new(receivers::plain::Plain::json(), true, config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_keeps_the_contract_of_sinks_where_long_records_are_divided() {
    let config = "format = \"ndjson\"\nmax_record_bytes = \"4 KiB\"";
    actlog_testkit::compliance::sink(|| World::new(receivers::plain::Plain::ndjson(), true, config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_keep_the_contract_of_sinks() {
    let config = "format = \"cloudevents\"\ncloudevents = { handshake = true }";
    let rules = || receivers::cloudevents::CloudEvents::allowing("*");
    actlog_testkit::compliance::sink(|| World::new(rules(), true, config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_keeps_the_contract_of_sinks() {
    let config = "format = \"splunk-hec\"\nauth = { splunk = { file = \"hec\" } }\nsplunk = { index = \"audit\" }";
    actlog_testkit::compliance::sink(|| World::new(splunk::Splunk::default(), false, config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_with_acknowledgement_keeps_the_contract_of_sinks() {
    let config = "format = \"splunk-hec\"\nauth = { splunk = { file = \"hec\" } }\nsplunk = { ack = true }";
    actlog_testkit::compliance::sink(|| World::new(splunk::Splunk::with_acks(), false, config)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_keeps_the_contract_of_sinks() {
    let rules = || receivers::elasticsearch::Elasticsearch::with_busy_items(3);
    actlog_testkit::compliance::sink(|| World::new(rules(), false, "format = \"elasticsearch\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_keeps_the_contract_of_sinks() {
    actlog_testkit::compliance::sink(|| World::new(receivers::otlp::Otlp, false, "format = \"otlp\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_the_contract_of_sinks() {
    let config = format!(
        "format = \"azure-logs\"\nazure = {{ rule = \"{}\", stream = \"{}\" }}\n[auth.entra]\ntenant = \"{}\"\n\
         application = {{ client_id = \"{}\", secret = {{ file = \"entra\" }}, authority = \"{{url}}\" }}\n",
        azure::RULE,
        azure::STREAM,
        azure::TENANT,
        azure::CLIENT
    );
    actlog_testkit::compliance::sink(|| World::new(azure::Azure::new(), false, &config)).await;
}
