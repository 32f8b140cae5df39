//! The `_bulk` interface of Elasticsearch, in front of a data stream.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use actlog_core::Timestamp;
use actlog_testkit::server::{Bytes, Request, Response, StatusCode, json};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Kept, Rules, header, is_unacceptable};

/// `http.max_content_length` of small clusters at AWS.
const MOST: usize = 10 << 20;

#[derive(Default)]
pub(crate) struct Elasticsearch {
    ids: Mutex<HashSet<String>>,
    /// How many items are to be answered with 429 before any is taken.
    pub(crate) busy_items: AtomicUsize,
}

impl Elasticsearch {
    pub(crate) fn with_busy_items(busy_items: usize) -> Self {
        Self { busy_items: AtomicUsize::new(busy_items), ..Self::default() }
    }

    fn item(&self, document: &str, id: &str, kept: &mut Kept) -> Value {
        let error = |status: u16, kind: &str, reason: &str| json!({ "create": { "_id": id, "status": status, "error": { "type": kind, "reason": reason } } });
        let busy = self.busy_items.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if busy.is_ok() {
            return error(429, "es_rejected_execution_exception", "rejected execution of coordinating operation");
        }
        let Ok(fields) = serde_json::from_str::<Value>(document) else {
            kept.violations.push(format!("a document that is no JSON: {document}"));
            return error(400, "document_parsing_exception", "failed to parse");
        };
        if fields["@timestamp"].as_str().is_none_or(|time| Timestamp::parse(time).is_err()) {
            kept.violations.push("a document of a data stream without @timestamp".to_owned());
            return error(400, "document_parsing_exception", "data stream timestamp field [@timestamp] is missing");
        }
        if is_unacceptable(document.as_bytes()) {
            return error(400, "document_parsing_exception", "[1:17] failed to parse field [x] of type [ip]");
        }
        if !self.ids.lock().unwrap().insert(id.to_owned()) {
            return error(409, "version_conflict_engine_exception", "document already exists");
        }
        match Uuid::parse_str(id) {
            Ok(id) => kept.ids.push(id),
            Err(_) => kept.violations.push(format!("{id} is no Id of ours")),
        }
        json!({ "create": { "_id": id, "status": 201 } })
    }
}

impl Rules for Elasticsearch {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        let refuse = |status: StatusCode, kind: &str, reason: &str| {
            json(status, &json!({ "error": { "type": kind, "reason": reason }, "status": status.as_u16() }))
        };
        if request.uri().path() != "/logs-actlog.audit-default/_bulk" {
            return refuse(StatusCode::NOT_FOUND, "index_not_found_exception", "no such index");
        }
        if !matches!(header(request, "content-type"), "application/x-ndjson" | "application/json") {
            kept.violations.push(header(request, "content-type").to_owned());
            return refuse(StatusCode::NOT_ACCEPTABLE, "media_type_header_exception", "Content-Type is not supported");
        }
        let Ok(body) = std::str::from_utf8(request.body()) else {
            return kept.violation(StatusCode::BAD_REQUEST, "not UTF-8");
        };
        if body.len() > MOST {
            return kept.violation(StatusCode::PAYLOAD_TOO_LARGE, "too large");
        }
        let Some(lines) = body.strip_suffix('\n') else {
            kept.violations.push("the last line has no end".to_owned());
            let reason = "The bulk request must be terminated by a newline [\\n]";
            return refuse(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason);
        };
        let (mut lines, mut items) = (lines.split('\n'), Vec::new());
        while let Some(action) = lines.next() {
            let action: Value = serde_json::from_str(action).unwrap_or_default();
            let Some(id) = action["create"]["_id"].as_str().filter(|_| action.as_object().unwrap().len() == 1) else {
                kept.violations.push(format!("a data stream takes nothing but create: {action}"));
                let reason = "only write ops with an op_type of create are allowed in data streams";
                return refuse(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason);
            };
            items.push(self.item(lines.next().unwrap_or_default(), id, kept));
        }
        let errors = items.iter().any(|item| !item["create"]["error"].is_null());
        json(StatusCode::OK, &json!({ "took": 3, "errors": errors, "items": items }))
    }
}
