//! Reading bodies: bounded in size, time and memory, whatever the client does.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_ENCODING;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use zstd::stream::raw;
use zstd::stream::zio;
use zstd::zstd_safe::DParameter;

use crate::budget::Reservation;
use crate::request::Body;

/// Smallest step in which a body of unknown length takes memory.
const STEP: usize = 64 << 10;

/// Largest zstd window that is taken: 8 MiB, which RFC 8878 asks every decoder to support.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than allowed, as sent.
    TooLarge,
    /// It is larger than allowed, decompressed.
    TooLargeDecompressed,
    /// All listeners together hold as many bytes as they may.
    NoBudget,
    /// It did not come in time.
    TooSlow,
    /// The client went away, or broke the framing.
    Broken,
    /// It is not what `Content-Encoding` says, or ends too early.
    Undecodable,
}

/// How a body was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// As `Content-Encoding` says; none for a coding, or a sequence of codings, that isn't supported.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Some(Self::Identity) };
        let value = value.as_bytes().trim_ascii();
        let coding = if value.is_empty() || value.eq_ignore_ascii_case(b"identity") {
            Self::Identity
        } else if value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip") {
            Self::Gzip
        } else if value.eq_ignore_ascii_case(b"zstd") {
            Self::Zstd
        } else {
            return None;
        };
        values.next().is_none().then_some(coding)
    }
}

/// Bounds on one body.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) sent: usize,
    pub(crate) decompressed: usize,
    pub(crate) time: Duration,
    pub(crate) budget: Arc<Semaphore>,
}

/// Reads a body as it was sent. Memory is reserved as it grows, so that a mere announcement costs nothing.
pub(crate) async fn read(mut incoming: Incoming, limits: &BodyLimits) -> Result<Body, BodyError> {
    if incoming.is_end_stream() {
        return Ok(Body::default());
    }
    let announced = incoming.size_hint().exact().and_then(|exact| usize::try_from(exact).ok());
    let deadline = Instant::now() + limits.time;
    let mut reservation = Reservation::new(Arc::clone(&limits.budget));
    // Most bodies come in one piece, which is handed on as it is.
    let Some(first) = next_piece(&mut incoming, deadline).await? else { return Ok(Body::default()) };
    if first.len() > limits.sent {
        return Err(BodyError::TooLarge);
    }
    if incoming.is_end_stream() {
        let reserved = reservation.grow(first.len());
        return if reserved {
            Ok(Body { bytes: first, reservation: Some(reservation) })
        } else {
            Err(BodyError::NoBudget)
        };
    }
    let mut collected = Bounded::new(announced.unwrap_or(limits.sent).min(limits.sent), reservation);
    let failed = |error| match error {
        Refusal::Limit => BodyError::TooLarge,
        Refusal::Budget => BodyError::NoBudget,
    };
    collected.append(&first).map_err(failed)?;
    drop(first);
    while let Some(piece) = next_piece(&mut incoming, deadline).await? {
        collected.append(&piece).map_err(failed)?;
    }
    Ok(collected.into_body())
}

/// The next bytes of the body; none at its end. Trailers are passed over.
async fn next_piece(incoming: &mut Incoming, deadline: Instant) -> Result<Option<Bytes>, BodyError> {
    loop {
        match timeout_at(deadline, incoming.frame()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            },
        }
    }
}

/// Undoes the compression, streamed into a bounded buffer. Blocks the thread for as long as that takes.
pub(crate) fn decompress(sent: Body, coding: Coding, limits: &BodyLimits) -> Result<Body, BodyError> {
    let sink = Bounded::new(limits.decompressed, Reservation::new(Arc::clone(&limits.budget)));
    let (sink, result) = match coding {
        Coding::Identity => return Ok(sent),
        Coding::Gzip => {
            let mut decoder = MultiGzDecoder::new(sink);
            let result = decoder.write_all(&sent).and_then(|()| decoder.try_finish());
            (std::mem::replace(decoder.get_mut(), Bounded::closed()), result)
        }
        Coding::Zstd => {
            let decoder = raw::Decoder::new().and_then(|mut decoder| {
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Ok(decoder)
            });
            // Only a machine without memory comes here.
            let Ok(decoder) = decoder else { return Err(BodyError::NoBudget) };
            let mut decoder = zio::Writer::new(sink, decoder);
            let result = decoder.write_all(&sent).and_then(|()| decoder.finish());
            (decoder.into_inner().0, result)
        }
    };
    match (result, sink.refused) {
        (Ok(()), None) => Ok(sink.into_body()),
        (_, Some(Refusal::Limit)) => Err(BodyError::TooLargeDecompressed),
        (_, Some(Refusal::Budget)) => Err(BodyError::NoBudget),
        (Err(_), None) => Err(BodyError::Undecodable),
    }
}

/// A buffer that takes so many bytes and no more, and only what the budget has.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    reservation: Option<Reservation>,
    refused: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Limit,
    Budget,
}

impl Bounded {
    fn new(limit: usize, reservation: Reservation) -> Self {
        Self { bytes: Vec::new(), limit, reservation: Some(reservation), refused: None }
    }

    /// Takes nothing at all.
    fn closed() -> Self {
        Self { bytes: Vec::new(), limit: 0, reservation: None, refused: None }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let result = self.make_room(piece.len());
        match result {
            Ok(()) => self.bytes.extend_from_slice(piece),
            Err(refusal) => self.refused = Some(refusal),
        }
        result
    }

    /// Invariant: the reservation covers the buffer's capacity, not only what is in it.
    fn make_room(&mut self, more: usize) -> Result<(), Refusal> {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.limit {
            return Err(Refusal::Limit);
        }
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let target = needed.max(capacity.saturating_mul(2)).max(STEP).min(self.limit);
            if !self.reservation.as_mut().is_some_and(|held| held.grow(target - capacity)) {
                return Err(Refusal::Budget);
            }
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        Ok(())
    }

    fn into_body(self) -> Body {
        Body { bytes: self.bytes.into(), reservation: self.reservation }
    }
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.append(piece) {
            Ok(()) => Ok(piece.len()),
            Err(_) => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(decompressed: usize, budget: &Arc<Semaphore>) -> BodyLimits {
        BodyLimits { sent: 1 << 20, decompressed, time: Duration::from_secs(1), budget: Arc::clone(budget) }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 19).unwrap()
    }

    #[test]
    fn members_and_frames_one_after_another_are_one_body() {
        let budget = Arc::new(Semaphore::new(1 << 20));
        for (coding, encode) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Zstd, zstd)] {
            let sent = [encode(b"one "), encode(b""), encode(b"two")].concat();
            let body = decompress(sent.into(), coding, &limits(100, &budget)).unwrap();
            assert_eq!(&*body, b"one two", "{coding:?}");
            drop(body);
            assert_eq!(budget.available_permits(), 1 << 20);
        }
    }

    #[test]
    fn a_bomb_costs_no_more_memory_than_the_limit() {
        let zeros = vec![0; 32 << 20];
        for (coding, bomb) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            assert!(bomb.len() < 64 << 10, "{}", bomb.len());
            // The budget has room for the limit and not a byte more: had the decoder taken more, the error would differ.
            let budget = Arc::new(Semaphore::new(1 << 20));
            let error = decompress(bomb.clone().into(), coding, &limits(1 << 20, &budget)).unwrap_err();
            assert_eq!(error, BodyError::TooLargeDecompressed, "{coding:?}");
            let error = decompress(bomb.into(), coding, &limits(2 << 20, &budget)).unwrap_err();
            assert_eq!(error, BodyError::NoBudget, "{coding:?}");
            assert_eq!(budget.available_permits(), 1 << 20);
        }
    }

    #[test]
    fn exactly_the_limit_is_taken() {
        let budget = Arc::new(Semaphore::new(1 << 20));
        for (coding, sent) in [(Coding::Gzip, gzip(&[7; 1000])), (Coding::Zstd, zstd(&[7; 1000]))] {
            assert_eq!(decompress(sent.clone().into(), coding, &limits(1000, &budget)).unwrap().len(), 1000);
            let error = decompress(sent.into(), coding, &limits(999, &budget)).unwrap_err();
            assert_eq!(error, BodyError::TooLargeDecompressed);
        }
    }

    #[test]
    fn cut_or_damaged_bodies_are_refused() {
        let budget = Arc::new(Semaphore::new(1 << 20));
        for (coding, sent) in [(Coding::Gzip, gzip(&[7; 1000])), (Coding::Zstd, zstd(&[7; 1000]))] {
            for length in 0..sent.len() {
                let error = decompress(sent[..length].to_vec().into(), coding, &limits(1000, &budget)).unwrap_err();
                assert_eq!(error, BodyError::Undecodable, "{coding:?} cut to {length}");
            }
            let error = decompress(b"plain text".to_vec().into(), coding, &limits(1000, &budget)).unwrap_err();
            assert_eq!(error, BodyError::Undecodable, "{coding:?}");
        }
    }

    #[test]
    fn a_zstd_window_beyond_the_cap_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 1000]).unwrap();
        let sent = encoder.finish().unwrap();
        let budget = Arc::new(Semaphore::new(1 << 20));
        let error = decompress(sent.into(), Coding::Zstd, &limits(1 << 20, &budget)).unwrap_err();
        assert_eq!(error, BodyError::Undecodable);
    }
}
