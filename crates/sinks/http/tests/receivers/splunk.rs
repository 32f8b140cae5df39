//! Splunk's HTTP Event Collector, with indexer acknowledgement where the token has it.

use std::collections::HashMap;
use std::sync::Mutex;

use actlog_testkit::server::{Bytes, Request, Response, StatusCode, json, parameters};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Kept, Rules, header, is_unacceptable};

pub(crate) const TOKEN: &str = "b8a1f3c2-hec-token-canary";
/// The collector's `max_content_length` in Splunk Cloud.
const MOST: usize = 1_000_000;

#[derive(Default)]
pub(crate) struct Splunk {
    /// Whether the token has acknowledgement.
    pub(crate) acks: bool,
    channels: Mutex<HashMap<String, Channel>>,
}

#[derive(Default)]
struct Channel {
    next: u64,
    /// How often each was asked for.
    asked: HashMap<u64, u32>,
}

impl Splunk {
    pub(crate) fn with_acks() -> Self {
        Self { acks: true, ..Self::default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    time: Option<f64>,
    #[serde(rename = "host")]
    _host: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(rename = "sourcetype")]
    _sourcetype: Option<String>,
    index: Option<String>,
    #[serde(rename = "fields")]
    _fields: Option<HashMap<String, String>>,
}

fn says(status: StatusCode, code: u32, text: &str) -> Response<Bytes> {
    json(status, &json!({ "text": text, "code": code }))
}

impl Rules for Splunk {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        match header(request, "authorization").split_once(' ') {
            None => return says(StatusCode::UNAUTHORIZED, 2, "Token is required"),
            Some(("Splunk", TOKEN)) => {}
            Some(("Splunk", _)) => return says(StatusCode::FORBIDDEN, 4, "Invalid token"),
            Some(_) => return says(StatusCode::UNAUTHORIZED, 3, "Invalid authorization"),
        }
        let channel = header(request, "x-splunk-request-channel");
        if self.acks && channel.is_empty() {
            return says(StatusCode::BAD_REQUEST, 10, "Data channel is missing");
        }
        if !channel.is_empty() && Uuid::parse_str(channel).is_err() {
            return says(StatusCode::BAD_REQUEST, 11, "Invalid data channel");
        }
        let mut channels = self.channels.lock().unwrap();
        let known = channels.entry(channel.to_owned()).or_default();
        match request.uri().path() {
            "/services/collector/event" | "/services/collector" => {}
            "/services/collector/ack" => {
                if !self.acks {
                    return says(StatusCode::BAD_REQUEST, 14, "ACK is disabled");
                }
                let named = parameters(request.uri().query().unwrap_or_default());
                if named != [("channel".to_owned(), channel.to_owned())] {
                    return kept.violation(StatusCode::BAD_REQUEST, "the channel is not in the URL");
                }
                let asked: Value = serde_json::from_slice(request.body()).unwrap();
                let mut acks = serde_json::Map::new();
                for ack in asked["acks"].as_array().unwrap() {
                    // The first question comes before the indexers are ready; a yes is said once.
                    let times = known.asked.get_mut(&ack.as_u64().unwrap());
                    let yes = times.is_some_and(|times| {
                        *times += 1;
                        *times == 2
                    });
                    acks.insert(ack.to_string(), yes.into());
                }
                return json(StatusCode::OK, &json!({ "acks": acks }));
            }
            other => return kept.violation(StatusCode::NOT_FOUND, format!("no such path: {other}")),
        }
        let body = request.body();
        if body.len() > MOST {
            return kept.violation(StatusCode::PAYLOAD_TOO_LARGE, format!("{} bytes", body.len()));
        }
        let mut events = Vec::new();
        for (place, event) in serde_json::Deserializer::from_slice(body).into_iter::<Event<'_>>().enumerate() {
            let invalid = |code: u32, text: &str| {
                json(StatusCode::BAD_REQUEST, &json!({ "text": text, "code": code, "invalid-event-number": place }))
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    kept.violations.push(error.to_string());
                    return invalid(6, "Invalid data format");
                }
            };
            match event.event.map(RawValue::get) {
                None => return invalid(12, "Event field is required"),
                Some("null" | "\"\"") => return invalid(13, "Event field cannot be blank"),
                Some(text) if is_unacceptable(text.as_bytes()) => return invalid(6, "Invalid data format"),
                Some(text) => events.push(text),
            }
            if event.index.is_some_and(|index| index != "audit") {
                return invalid(7, "Incorrect index");
            }
            if event.time.is_none() {
                kept.violations.push("an event without its time".to_owned());
            }
        }
        if events.is_empty() {
            return says(StatusCode::BAD_REQUEST, 5, "No data");
        }
        for event in events {
            if let Err(error) = kept.take_record(event.as_bytes()) {
                return kept.violation(StatusCode::BAD_REQUEST, error);
            }
        }
        if !self.acks {
            return says(StatusCode::OK, 0, "Success");
        }
        let ack = known.next;
        known.next += 1;
        known.asked.insert(ack, 0);
        json(StatusCode::OK, &json!({ "text": "Success", "code": 0, "ackId": ack }))
    }
}
