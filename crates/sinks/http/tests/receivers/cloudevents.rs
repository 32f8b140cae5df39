//! A consumer of CloudEvents that wants to be asked before it gets any.

use std::sync::atomic::{AtomicBool, Ordering};

use actlog_core::Timestamp;
use actlog_testkit::server::{Bytes, Request, Response, StatusCode, empty};
use serde_json::Value;

use super::{Kept, Rules, header, is_unacceptable};

pub(crate) struct CloudEvents {
    pub(crate) allowed: &'static str,
    was_asked: AtomicBool,
}

impl CloudEvents {
    pub(crate) fn allowing(allowed: &'static str) -> Self {
        Self { allowed, was_asked: AtomicBool::new(false) }
    }
}

impl Rules for CloudEvents {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        if request.method() == "OPTIONS" {
            if header(request, "webhook-request-origin").is_empty() {
                return kept.violation(StatusCode::BAD_REQUEST, "nobody says who asks");
            }
            self.was_asked.store(true, Ordering::Relaxed);
            let mut answer = empty(StatusCode::OK);
            answer.headers_mut().insert("webhook-allowed-origin", self.allowed.parse().unwrap());
            return answer;
        }
        if !self.was_asked.load(Ordering::Relaxed) {
            return kept.violation(StatusCode::FORBIDDEN, "nobody has asked for permission");
        }
        if header(request, "content-type") != "application/cloudevents-batch+json" {
            return kept.violation(StatusCode::UNSUPPORTED_MEDIA_TYPE, header(request, "content-type"));
        }
        let events: Vec<Value> = match serde_json::from_slice(request.body()) {
            Ok(events) => events,
            Err(error) => return kept.violation(StatusCode::BAD_REQUEST, error.to_string()),
        };
        for event in &events {
            let has = |name: &str| event[name].as_str().is_some_and(|text| !text.is_empty());
            let time = event["time"].as_str().map(Timestamp::parse);
            if event["specversion"] != "1.0" || !(has("id") && has("source") && has("type")) {
                return kept.violation(StatusCode::BAD_REQUEST, format!("not an event: {event}"));
            }
            if time.is_some_and(|time| time.is_err()) || event["datacontenttype"] != "application/json" {
                return kept.violation(StatusCode::BAD_REQUEST, format!("not an event of ours: {event}"));
            }
        }
        if is_unacceptable(request.body()) {
            return empty(StatusCode::BAD_REQUEST);
        }
        for event in &events {
            if event["data"]["Id"] != event["id"] {
                return kept.violation(StatusCode::BAD_REQUEST, "the event's id is not its record's");
            }
            if let Err(error) = kept.take_record(event["data"].to_string().as_bytes()) {
                return kept.violation(StatusCode::BAD_REQUEST, error);
            }
        }
        empty(StatusCode::ACCEPTED)
    }
}
