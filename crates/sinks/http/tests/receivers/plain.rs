//! A webhook of somebody's own: takes records in an array or on lines, with the credentials it was told.

use actlog_testkit::server::{Bytes, Request, Response, StatusCode, empty};
use serde_json::value::RawValue;

use super::{Kept, Rules, header, is_unacceptable};

pub(crate) struct Plain {
    pub(crate) content_type: &'static str,
    /// Bytes that a request may have, decompressed.
    pub(crate) most: usize,
}

impl Plain {
    pub(crate) fn json() -> Self {
        Self { content_type: "application/json", most: usize::MAX }
    }

    pub(crate) fn ndjson() -> Self {
        Self { content_type: "application/x-ndjson", most: usize::MAX }
    }
}

impl Rules for Plain {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        let body = request.body();
        if request.method() != "POST" || header(request, "content-type") != self.content_type {
            return kept.violation(StatusCode::UNSUPPORTED_MEDIA_TYPE, header(request, "content-type"));
        }
        if body.len() > self.most {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let records: Vec<&[u8]> = if self.content_type == "application/json" {
            match serde_json::from_slice::<Vec<&RawValue>>(body) {
                Ok(records) => records.into_iter().map(|record| record.get().as_bytes()).collect(),
                Err(error) => return kept.violation(StatusCode::BAD_REQUEST, error.to_string()),
            }
        } else {
            let Some(lines) = body.strip_suffix(b"\n") else {
                return kept.violation(StatusCode::BAD_REQUEST, "the last line has no end");
            };
            lines.split(|byte| *byte == b'\n').collect()
        };
        if records.is_empty() {
            return kept.violation(StatusCode::BAD_REQUEST, "a request without records");
        }
        if is_unacceptable(body) {
            return empty(StatusCode::UNPROCESSABLE_ENTITY);
        }
        for record in records {
            if let Err(error) = kept.take_record(record) {
                return kept.violation(StatusCode::BAD_REQUEST, error);
            }
        }
        empty(StatusCode::NO_CONTENT)
    }
}
