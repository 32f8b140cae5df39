//! The sink: pulls entries, sends them, and commits what the receiver has confirmed.

use std::collections::VecDeque;
use std::time::Duration;

use actlog_core::{
    BuildContext, BuildError, ConfigError, Counter, Entry, EntryKind, Metrics, Sink, SinkContext, SinkError, SinkPlugin,
};
use actlog_interop::syslog::SyslogOptions;
use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{Format, SyslogConfig};
use crate::connection::{Connection, ConnectionError, Connector};
use crate::message::Framer;

/// About how many bytes of entries are pulled and sent at once.
const PULL_BYTES: usize = 1 << 20;
/// How long it waits for entries when there is nothing else to do.
const IDLE: Duration = Duration::from_secs(60);
/// What sending and confirming may still take after shutdown was told.
const GRACE: Duration = Duration::from_secs(5);

/// The sink `syslog`.
#[derive(Debug)]
pub struct SyslogSink {
    config: SyslogConfig,
    connector: Connector,
    header: SyslogOptions,
}

actlog_core::register_sink!(SyslogSink);

impl SinkPlugin for SyslogSink {
    const KIND: &'static str = "syslog";
    const SUMMARY: &'static str = "Syslog receivers: RFC 5424 with JSON or CEF, over TLS or TCP";
    const EXAMPLE: &'static str = r#"address = "siem.example:6514"
tls = { ca = "ca.pem" }
"#;
    type Config = SyslogConfig;

    fn validate(config: &SyslogConfig) -> Result<(), ConfigError> {
        config.validate()
    }

    async fn build(config: &SyslogConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let (blocking, folder) = (config.clone(), cx.config_dir.clone());
        let connector = tokio::task::spawn_blocking(move || Connector::new(&blocking, &folder)).await;
        let connector = connector.map_err(|error| BuildError::Other(format!("certificates: {error}")))??;
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let header = SyslogOptions {
            facility: config.facility as u8,
            hostname: config.hostname.clone().unwrap_or_else(machine),
            app_name: config.app_name.clone(),
            structured_data: config.format == Format::Rfc5424,
        };
        Ok(Self { config: config.clone(), connector, header })
    }
}

#[async_trait]
impl Sink for SyslogSink {
    async fn run(self: Box<Self>, cx: SinkContext) -> Result<(), SinkError> {
        let limit = usize::try_from(self.config.max_record_bytes.0).unwrap_or(usize::MAX);
        let shutdown = cx.shutdown.clone();
        let pump = Pump {
            framer: Framer::new(self.config.format, self.header, limit),
            connector: self.connector,
            commit_interval: self.config.commit_interval.0,
            commit_bytes: usize::try_from(self.config.commit_bytes.0).unwrap_or(usize::MAX),
            figures: Figures::new(&cx.metrics),
            cx,
        };
        let too_late = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
            tracing::warn!(
                "the receiver has not confirmed everything at shutdown; it is sent that again at the next start"
            );
        };
        tokio::select! {
            biased;
            ended = pump.run() => match ended {
                Err(error) if shutdown.is_cancelled() => {
                    tracing::warn!("{error}; at shutdown: the journal keeps what was not delivered");
                    Ok(())
                }
                ended => ended,
            },
            () = too_late => Ok(()),
        }
    }
}

/// What runs between the journal and the receiver. It returns at the first failure: the next run begins at the cursor,
/// with everything that was not confirmed.
struct Pump {
    cx: SinkContext,
    framer: Framer,
    connector: Connector,
    commit_interval: Duration,
    commit_bytes: usize,
    figures: Figures,
}

/// Entries as they go out.
struct Batch {
    frames: Vec<u8>,
    /// The first entry behind them; none when there were none.
    next_index: Option<u64>,
}

impl Pump {
    async fn run(mut self) -> Result<(), SinkError> {
        // What the receiver has read and may still lose: the first entry behind it, and since when.
        let mut read: VecDeque<(u64, Instant)> = VecDeque::new();
        loop {
            let mut first = Batch { frames: Vec::new(), next_index: None };
            if read.is_empty() {
                let entries = self.cx.next(PULL_BYTES, IDLE).await?;
                if entries.is_empty() && self.cx.shutdown.is_cancelled() {
                    return Ok(());
                }
                first = self.frame(&entries).await?;
                if first.frames.is_empty() {
                    self.commit(first.next_index).await?;
                    continue;
                }
            }
            let sent = self.use_connection(first).await?;
            // The receiver is still there: it has had its time for what it had read an interval ago. A connection without
            // messages was open for as long as that.
            let now = Instant::now();
            let mut safe = None;
            while let Some((next_index, since)) = read.front().copied()
                && (!sent.has_messages || now.duration_since(since) >= self.commit_interval)
            {
                safe = Some(next_index);
                read.pop_front();
            }
            match sent.next_index {
                Some(next_index) if sent.has_messages => read.push_back((next_index, now)),
                // Statements only.
                next_index => safe = next_index.or(safe),
            }
            self.commit(safe).await?;
        }
    }

    /// Opens a connection, sends what comes within the interval, and lets the receiver confirm it.
    async fn use_connection(&mut self, first: Batch) -> Result<Sent, SinkError> {
        let mut connection = self.connector.connect().await?;
        self.figures.connections.inc();
        let until = Instant::now() + self.commit_interval;
        let mut sent = Sent { has_messages: false, next_index: None };
        let mut bytes = 0;
        let mut batch = first;
        loop {
            if !batch.frames.is_empty() {
                connection.send(&batch.frames).await?;
                sent.has_messages = true;
                bytes += batch.frames.len();
                self.figures.bytes.inc_by(batch.frames.len() as u64);
            }
            sent.next_index = batch.next_index.or(sent.next_index);
            if bytes >= self.commit_bytes || Instant::now() >= until {
                break;
            }
            let entries = self.next(&mut connection, until).await?;
            batch = self.frame(&entries).await?;
        }
        connection.confirm().await?;
        Ok(sent)
    }

    /// The next entries; none when the time has come and none came. Ends early with an error when the connection does.
    async fn next(&mut self, connection: &mut Connection, until: Instant) -> Result<Vec<Entry>, SinkError> {
        let next = async {
            let entries = self.cx.next(PULL_BYTES, until.saturating_duration_since(Instant::now())).await?;
            if entries.is_empty() {
                // At shutdown there are none at once; the receiver is watched for the same time all the same.
                sleep_until(until).await;
            }
            Ok(entries)
        };
        tokio::select! {
            biased;
            // Entries that were pulled meanwhile come again with the next run.
            error = connection.closed_early() => Err(error.into()),
            entries = next => entries,
        }
    }

    /// Entries as frames. Those that can't be sent go to the dead letters.
    async fn frame(&mut self, entries: &[Entry]) -> Result<Batch, SinkError> {
        let mut frames = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Record) {
            match self.framer.append(entry, &mut frames) {
                Ok(messages) => _ = self.figures.messages.inc_by(messages as u64),
                Err(reason) => {
                    self.figures.rejected.inc();
                    self.cx.reject(entry, &reason.to_string()).await?;
                }
            }
        }
        Ok(Batch { frames, next_index: entries.last().map(|last| last.index + 1) })
    }

    async fn commit(&mut self, next_index: Option<u64>) -> Result<(), SinkError> {
        match next_index {
            Some(next_index) => self.cx.commit(next_index, Vec::new()).await,
            None => Ok(()),
        }
    }
}

/// What went over a connection.
struct Sent {
    has_messages: bool,
    /// The first entry behind those that were taken care of while it was open; none when there were none.
    next_index: Option<u64>,
}

impl From<ConnectionError> for SinkError {
    fn from(error: ConnectionError) -> Self {
        Self::Other(error.to_string())
    }
}

/// The sink's own figures.
struct Figures {
    messages: Counter,
    bytes: Counter,
    connections: Counter,
    rejected: Counter,
}

impl Figures {
    fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        Self {
            messages: counter("actlog_sink_syslog_messages", "Syslog messages made, parts of divided records too"),
            bytes: counter("actlog_sink_syslog_bytes", "Bytes sent to the syslog receiver, before TLS"),
            connections: counter("actlog_sink_syslog_connections", "Connections that were made to the receiver"),
            rejected: counter("actlog_sink_syslog_rejected", "Entries that can't be sent and went to the dead letters"),
        }
    }
}
