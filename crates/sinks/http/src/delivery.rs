//! One batch's way to the receiver, until each of its records is there for good or was refused for good.

use std::io::Write;
use std::sync::Arc;

use actlog_core::Entry;
use bytes::Bytes;
use flate2::write::GzEncoder;
use tokio::time::Instant;

use crate::circuit::Circuit;
use crate::config::Compression;
use crate::encode::Piece;
use crate::figures::Figures;
use crate::formats::{Format, Frame};
use crate::link::{Link, Payload};
use crate::verdict::{Statuses, Verdict};

/// So many records of one batch, each refused by itself before any was taken, say that the receiver takes nothing at
/// all: a wrong address, or a form that it doesn't know. They must not become dead letters.
const SUSPICIOUS: usize = 20;

/// What all deliveries of a run share.
pub(crate) struct Delivery {
    pub(crate) format: Arc<dyn Format>,
    pub(crate) link: Link,
    pub(crate) statuses: Statuses,
    pub(crate) compression: Compression,
    pub(crate) circuit: Circuit,
    pub(crate) figures: Figures,
}

/// Nothing can be delivered until somebody changes something; why, for a person.
#[derive(Debug)]
pub(crate) struct Fatal(pub(crate) String);

/// Entries that the receiver refuses for good, and why.
pub(crate) type Refused = Vec<(Entry, String)>;

impl Delivery {
    /// Comes to terms with the receiver, however long that takes.
    pub(crate) async fn greet(&self) -> Result<(), Fatal> {
        loop {
            let permit = self.circuit.permit().await;
            match self.format.greet(&self.link).await {
                Verdict::Delivered | Verdict::Partly { .. } => {
                    permit.succeeded();
                    return Ok(());
                }
                Verdict::Retry { reason, after } => permit.failed(reason, after),
                Verdict::Refused { reason, .. } | Verdict::Fatal(reason) => return Err(Fatal(reason)),
            }
        }
    }

    /// Delivers these pieces, in order as far as the receiver takes or refuses a request as a whole. Dropping the
    /// future ends it.
    pub(crate) async fn deliver(&self, pieces: Vec<Piece>) -> Result<Refused, Fatal> {
        let mut refused = Refused::new();
        let (mut takes_some, mut refused_alone) = (false, 0);
        // What is still to be sent, the next group last.
        let mut todo = vec![pieces];
        while let Some(mut group) = todo.pop() {
            if group.is_empty() {
                continue;
            }
            match self.send(&group).await {
                Verdict::Delivered => {
                    takes_some = true;
                    self.figures.delivered.inc_by(group.len() as u64);
                }
                Verdict::Partly { refused: places, again, .. } => {
                    let taken = group.len().saturating_sub(places.len() + again.len());
                    takes_some |= taken > 0;
                    self.figures.delivered.inc_by(taken as u64);
                    refused.extend(
                        places.into_iter().filter_map(|(place, why)| Some((group.get(place)?.entry.clone(), why))),
                    );
                    todo.push(again.into_iter().filter_map(|place| group.get(place).cloned()).collect());
                }
                Verdict::Refused { reason, suspect, is_certain } => match (group.len(), suspect) {
                    (1, _) => {
                        refused_alone += usize::from(!is_certain);
                        if !takes_some && refused_alone == SUSPICIOUS {
                            return Err(Fatal(format!(
                                "{reason}, to each of {SUSPICIOUS} records; check url, format and body. If all of them \
                                 are to become dead letters, put the status into status.reject"
                            )));
                        }
                        refused.extend(group.pop().map(|piece| (piece.entry, reason)));
                    }
                    // The suspect alone, and what was before and behind it, as whoever refused it has kept none of them.
                    (_, Some(suspect)) if suspect < group.len() => {
                        let mut behind = group.split_off(suspect);
                        let rest = behind.split_off(1);
                        todo.extend([rest, behind, group]);
                    }
                    _ => {
                        let second = group.split_off(group.len() / 2);
                        todo.extend([second, group]);
                    }
                },
                Verdict::Fatal(reason) => return Err(Fatal(reason)),
                // `send` goes on until it is something else.
                Verdict::Retry { .. } => todo.push(group),
            }
        }
        Ok(refused)
    }

    /// Sends a group until the receiver has said what becomes of it.
    async fn send(&self, group: &[Piece]) -> Verdict {
        let payload = match self.payload(group).await {
            Ok(payload) => payload,
            Err(reason) => return Verdict::Fatal(reason),
        };
        loop {
            let permit = self.circuit.permit().await;
            let began = Instant::now();
            let (answer, verdict) = self.format.send(&self.link, &payload, group.len()).await;
            self.figures.seconds.observe(began.elapsed().as_secs_f64());
            match &answer {
                Some(_) => self.figures.requests.inc(),
                None => self.figures.failed.inc(),
            };
            self.figures.sent_bytes.inc_by(payload.bytes.len() as u64);
            let configured = answer.as_ref().and_then(|answer| self.statuses.configured(answer));
            match configured.unwrap_or(verdict) {
                Verdict::Retry { reason, after } => {
                    self.figures.retries.inc();
                    permit.failed(reason, after);
                }
                Verdict::Partly { refused, again, reason } if !again.is_empty() => {
                    self.figures.retries.inc();
                    permit.failed(reason.as_str(), None);
                    return Verdict::Partly { refused, again, reason };
                }
                Verdict::Fatal(reason) => return Verdict::Fatal(reason),
                verdict => {
                    permit.succeeded();
                    return verdict;
                }
            }
        }
    }

    /// A group as a request's body.
    async fn payload(&self, group: &[Piece]) -> Result<Payload, String> {
        let frame = self.format.frame();
        let content_type = frame.content_type;
        let pieces: Vec<Bytes> = group.iter().map(|piece| piece.bytes.clone()).collect();
        if self.compression == Compression::None {
            let mut body = Vec::with_capacity(length(frame, &pieces));
            write(frame, &pieces, &mut body).map_err(|error| error.to_string())?;
            return Ok(Payload { content_type, bytes: body.into() });
        }
        let (format, compression) = (Arc::clone(&self.format), self.compression);
        let compressed = tokio::task::spawn_blocking(move || compress(format.frame(), &pieces, compression)).await;
        match compressed {
            Ok(Ok(body)) => Ok(Payload { content_type, bytes: body.into() }),
            Ok(Err(error)) => Err(format!("a body can't be compressed: {error}")),
            Err(error) => Err(format!("the thread that compresses bodies ended early: {error}")),
        }
    }
}

/// Bytes of a body.
pub(crate) fn length(frame: &Frame, pieces: &[Bytes]) -> usize {
    let between = frame.between.len() * pieces.len().saturating_sub(1);
    frame.overhead() + between + pieces.iter().map(Bytes::len).sum::<usize>()
}

fn write(frame: &Frame, pieces: &[Bytes], out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(&frame.begin)?;
    for (place, piece) in pieces.iter().enumerate() {
        if place > 0 {
            out.write_all(frame.between)?;
        }
        out.write_all(piece)?;
    }
    out.write_all(&frame.end)
}

fn compress(frame: &Frame, pieces: &[Bytes], compression: Compression) -> std::io::Result<Vec<u8>> {
    let out = Vec::with_capacity(length(frame, pieces) / 4);
    match compression {
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            write(frame, pieces, &mut encoder)?;
            encoder.finish()
        }
        _ => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::fast());
            write(frame, pieces, &mut encoder)?;
            encoder.finish()
        }
    }
}
