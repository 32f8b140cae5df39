//! The source `new-plugin`: reads events from a file, one JSON object a line, to its end.
//!
//! It turns each line into an audit record and remembers how far it has come. It is not a parser of other formats, and
//! knows nothing of where records go.

use std::io::SeekFrom;
use std::path::PathBuf;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, RejectedInput, Source, SourceContext, SourceError,
    SourcePlugin, Timestamp,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncSeekExt, BufReader};
use uuid::Uuid;

/// What all Ids of this source are made from. It never changes: an event that is read again has the same Id.
const NAMESPACE: Uuid = Uuid::from_u128(0x4e41_4d45_5350_4143_4500_0000_0000_0000);

/// Bytes that a line may have.
const LONGEST_LINE: usize = 64 << 10;

/// Lines that are handed over together, and so the most that are in memory.
const BATCH: usize = 100;

/// `[sources.NAME]` with `type = "new-plugin"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPluginConfig {
    /// The file. It is read to its end, and at the next start from where the last one stopped. Relative paths are seen
    /// from the configuration's folder.
    pub path: PathBuf,
}

/// Reads a file to its end.
#[derive(Debug)]
pub struct NewPlugin {
    path: PathBuf,
}

actlog_core::register_source!(NewPlugin);

impl SourcePlugin for NewPlugin {
    const KIND: &'static str = "new-plugin";
    const SUMMARY: &'static str = "Reads events from a file, one JSON object a line";
    const EXAMPLE: &'static str = include_str!("../example.toml");
    type Config = NewPluginConfig;

    fn validate(config: &NewPluginConfig) -> Result<(), ConfigError> {
        if config.path.as_os_str().is_empty() {
            return Err(ConfigError::new("path", "is empty; name a file"));
        }
        Ok(())
    }

    async fn build(config: &NewPluginConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self { path: cx.config_dir.join(&config.path) })
    }
}

/// An event, as a line has it.
#[derive(Deserialize)]
struct Event {
    /// What identifies it where it comes from.
    id: String,
    /// RFC 3339.
    time: Timestamp,
    operation: String,
    user: Option<String>,
}

impl Event {
    fn read(line: &[u8]) -> Result<AuditRecord<'static>, String> {
        if line.len() > LONGEST_LINE {
            return Err(format!("the line has more than {LONGEST_LINE} bytes"));
        }
        let event: Self = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        Ok(AuditRecord {
            id: Uuid::new_v5(&NAMESPACE, event.id.as_bytes()),
            version: 1,
            workload: "new-plugin".into(),
            creation_time: event.time,
            operation: event.operation.into(),
            user_id: event.user.map(Into::into),
            ..AuditRecord::default()
        })
    }
}

#[async_trait]
impl Source for NewPlugin {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let received = cx.metrics.counter("actlog_source_received", "Lines that were read", &[]);
        let failed = |error| SourceError::File { path: self.path.display().to_string(), error };
        let mut offset = begin_at(cx.position.as_deref())?;
        let mut file = File::open(&self.path).await.map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut input = BufReader::new(file);
        let mut line = Vec::new();
        let mut is_at_end = false;
        while !is_at_end && !cx.shutdown.is_cancelled() {
            let mut records = Vec::with_capacity(BATCH);
            for _ in 0..BATCH {
                let Some(length) = read_line(&mut input, &mut line).await.map_err(failed)? else {
                    is_at_end = true;
                    break;
                };
                received.inc();
                match Event::read(&line) {
                    Ok(record) => records.push(record),
                    // Safe when this returns, so the position may move on past it.
                    Err(reason) => {
                        let place = format!("{} at byte {offset}", self.path.display());
                        cx.emitter.reject(RejectedInput { place, reason, organization: None, bytes: &line }).await?;
                    }
                }
                offset += length;
            }
            // Nothing is read on before the batch is durable: memory is bounded, and a journal that is full stops us.
            cx.emitter.emit(records, Some(offset.to_string().into_bytes())).await?.await?;
        }
        Ok(())
    }
}

/// The position is the number of bytes that are done with, as text.
fn begin_at(stored: Option<&[u8]>) -> Result<u64, SourceError> {
    let Some(stored) = stored else { return Ok(0) };
    let offset = std::str::from_utf8(stored).ok().and_then(|text| text.parse().ok());
    offset.ok_or_else(|| SourceError::Other("the stored position can't be read: it is no number".to_owned()))
}

/// Reads a line with its end into `line`, of which at most one byte more than [`LONGEST_LINE`] is kept, and returns its
/// length. None where the file ends: a line without its end is still being written, and is left for the next start.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
    line.clear();
    let mut length = 0;
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let room = (LONGEST_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        input.consume(taken);
        length += taken as u64;
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}
