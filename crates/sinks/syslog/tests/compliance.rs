//! The sink keeps the contract of `docs/component-spec.md`, in both formats.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the adapter is a part of the test")]

mod common;

use std::path::Path;

use actlog_core::BuildContext;
use actlog_sink_syslog::SyslogSink;
use actlog_testkit::compliance::{Guarantee, Outage, SinkUnderTest};
use async_trait::async_trait;
use common::receiver::{Mode, Receiver};
use uuid::Uuid;

/// A world with a strict receiver.
struct World {
    receiver: Receiver,
    format: &'static str,
}

impl World {
    fn new(format: &'static str) -> Self {
        let receiver = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Receiver::new()));
        Self { receiver, format }
    }
}

#[async_trait]
impl SinkUnderTest for World {
    type Plugin = SyslogSink;

    fn config(&self) -> String {
        let (address, format) = (self.receiver.address, self.format);
        format!("address = \"{address}\"\ntransport = \"tcp\"\nformat = \"{format}\"\ncommit_interval = \"10 ms\"\n")
    }

    fn build_context(&self) -> BuildContext {
        common::build_context(Path::new(""))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn delivered(&self) -> Vec<Uuid> {
        let messages = self.receiver.messages();
        match self.format {
            "cef" => common::ids_of_cef(&messages),
            _ => common::records(messages.iter().map(|message| common::json(message))).iter().map(|r| r.id).collect(),
        }
    }

    async fn set_outage(&self, outage: Option<Outage>) -> bool {
        self.receiver.set(match outage {
            Some(Outage::Fails) => Mode::Closes,
            Some(Outage::Hangs) => Mode::Hangs,
            None => Mode::Good,
        });
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_syslog_sink_keeps_the_contract_of_sinks_with_json() {
    actlog_testkit::compliance::sink(|| World::new("rfc5424")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_syslog_sink_keeps_the_contract_of_sinks_with_cef() {
    actlog_testkit::compliance::sink(|| World::new("cef")).await;
}
