//! The sink as the host sees it: builds what is needed, and lets it run.

use std::sync::Arc;

use actlog_core::{BuildContext, BuildError, Clock, ConfigError, Sink, SinkContext, SinkError, SinkPlugin, WhenFull};
use async_trait::async_trait;

use crate::circuit::Circuit;
use crate::config::HttpConfig;
use crate::delivery::{Delivery, Fatal};
use crate::encode::Encoder;
use crate::figures::Figures;
use crate::formats::{self, Format};
use crate::link::Link;
use crate::pump::{Limits, Pump};
use crate::verdict::Statuses;

/// The sink `http`.
pub struct HttpSink {
    encoder: Encoder,
    format: Arc<dyn Format>,
    link: Link,
    config: HttpConfig,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSink").field("format", &self.config.format).finish_non_exhaustive()
    }
}

actlog_core::register_sink!(HttpSink);

impl SinkPlugin for HttpSink {
    const KIND: &'static str = "http";
    const SUMMARY: &'static str = "HTTP receivers: webhooks, CloudEvents, Splunk, Elasticsearch, OTLP, Azure Monitor";
    const EXAMPLE: &'static str = r#"url = "https://hooks.example.com/audit"
format = "ndjson"
compression = "gzip"
auth = { bearer = { env = "HOOK_TOKEN" } }
batch = { count = 500, bytes = "1 MiB", age = "2 s" }
"#;
    /// A receiver that is away for longer than the journal can wait must not stop the capture of events.
    const WHEN_FULL: WhenFull = WhenFull::Skip;
    type Config = HttpConfig;

    fn validate(config: &HttpConfig) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &HttpConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let format: Arc<dyn Format> = formats::build(config)?.into();
        let (blocking, folder) = (config.clone(), cx.config_dir.clone());
        let link = tokio::task::spawn_blocking(move || Link::new(&blocking, &folder)).await;
        let link = link.map_err(|error| BuildError::Other(format!("secrets and certificates: {error}")))??;
        let encoder = Encoder::new(config, Arc::clone(&format));
        Ok(Self { encoder, format, link, config: config.clone(), clock: Arc::clone(&cx.clock) })
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        let figures = Figures::new(&cx.metrics);
        let delivery = Delivery {
            circuit: Circuit::new(self.clock, cx.health.clone(), figures.circuit_open.clone()),
            statuses: Statuses::new(&self.config.status),
            format: self.format,
            link: self.link,
            compression: self.config.compression(),
            figures,
        };
        let shutdown = cx.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            greeted = delivery.greet() => greeted.map_err(|Fatal(reason)| SinkError::Other(reason))?,
        }
        let limits = Limits {
            count: self.config.batch.count as usize,
            bytes: self.config.batch_bytes(),
            age: self.config.batch.age.0,
        };
        let pump = Pump::new(self.encoder, delivery, limits, usize::from(self.config.concurrency()));
        pump.run(&mut cx).await
    }
}
