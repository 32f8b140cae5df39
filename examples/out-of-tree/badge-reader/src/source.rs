//! The source: from a file to records, with a position that survives restarts.

use std::io::SeekFrom;
use std::path::PathBuf;

use actlog_core::{
    BuildContext, BuildError, ConfigError, RejectedInput, Source, SourceContext, SourceError, SourcePlugin,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncSeekExt, BufReader};

use crate::event;

/// Bytes that a line may have; no controller writes lines of even a tenth of that.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// Lines that are handed over together, and so the most that are in memory.
const BATCH: usize = 100;

/// `[sources.NAME]` with `type = "badge-reader"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The export. It is read to its end, and at the next start from where the last one stopped. Relative paths are
    /// seen from the configuration's folder.
    pub path: PathBuf,
}

/// Reads an export to its end.
#[derive(Debug)]
pub struct BadgeReader {
    path: PathBuf,
}

actlog_core::register_source!(BadgeReader);

impl SourcePlugin for BadgeReader {
    const KIND: &'static str = "badge-reader";
    const SUMMARY: &'static str = "Reads the exports of door badge readers";
    const EXAMPLE: &'static str = "path = \"badges.csv\"";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), ConfigError> {
        if config.path.as_os_str().is_empty() {
            return Err(ConfigError::new("path", "is empty; name the export"));
        }
        Ok(())
    }

    async fn build(config: &Config, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self { path: cx.config_dir.join(&config.path) })
    }
}

/// How far the source has come. The journal keeps it together with the records before it.
#[derive(Serialize, Deserialize)]
struct Position {
    /// The export that the offset is in: another one begins at its beginning.
    path: PathBuf,
    /// Bytes of complete lines that are done with.
    offset: u64,
}

#[async_trait]
impl Source for BadgeReader {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        let received = cx.metrics.counter("actlog_source_received", "Lines of exports", &[]);
        let failed = |error| SourceError::File { path: self.path.display().to_string(), error };
        let mut position = self.begin_at(cx.position.as_deref())?;
        let mut file = File::open(&self.path).await.map_err(failed)?;
        file.seek(SeekFrom::Start(position.offset)).await.map_err(failed)?;
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
                let event = if line.len() > LONGEST_LINE {
                    Err(format!("the line has more than {LONGEST_LINE} bytes"))
                } else {
                    event::read(&line)
                };
                match event {
                    Ok(record) => records.extend(record),
                    // Safe when this returns, so the position may move on past it.
                    Err(reason) => {
                        let place = format!("{} at byte {}", self.path.display(), position.offset);
                        cx.emitter.reject(RejectedInput { place, reason, organization: None, bytes: &line }).await?;
                    }
                }
                position.offset += length;
            }
            let encoded = serde_json::to_vec(&position).map_err(|error| SourceError::Other(error.to_string()))?;
            // Nothing is read on before the batch is durable: memory is bounded, and a journal that is full stops us.
            cx.emitter.emit(records, Some(encoded)).await?.await?;
        }
        Ok(())
    }
}

impl BadgeReader {
    fn begin_at(&self, stored: Option<&[u8]>) -> Result<Position, SourceError> {
        let beginning = Position { path: self.path.clone(), offset: 0 };
        let Some(stored) = stored else { return Ok(beginning) };
        let stored: Position = serde_json::from_slice(stored)
            .map_err(|error| SourceError::Other(format!("the stored position can't be read: {error}")))?;
        Ok(if stored.path == self.path { stored } else { beginning })
    }
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
