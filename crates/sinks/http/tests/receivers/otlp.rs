//! A collector of OpenTelemetry logs: `/v1/logs`, in JSON.

use actlog_testkit::server::{Bytes, Request, Response, StatusCode, json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Kept, Rules, header, is_unacceptable};

pub(crate) struct Otlp;

/// The parts of `ExportLogsServiceRequest` that a receiver can't do without.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Export {
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    log_records: Vec<LogRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogRecord {
    time_unix_nano: String,
    #[serde(rename = "observedTimeUnixNano")]
    _observed: Option<String>,
    severity_number: u8,
    #[serde(rename = "severityText")]
    _severity_text: Option<String>,
    #[serde(rename = "eventName")]
    _event_name: Option<String>,
    body: AnyValue,
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnyValue {
    string_value: String,
}

impl Rules for Otlp {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        let bad = |message: &str| json(StatusCode::BAD_REQUEST, &json!({ "code": 3, "message": message }));
        if request.uri().path() != "/v1/logs" || header(request, "content-type") != "application/json" {
            return kept.violation(StatusCode::UNSUPPORTED_MEDIA_TYPE, request.uri().path());
        }
        let export: Export = match serde_json::from_slice(request.body()) {
            Ok(export) => export,
            Err(error) => return kept.violation(StatusCode::BAD_REQUEST, error.to_string()),
        };
        if is_unacceptable(request.body()) {
            return bad("proto: syntax error (line 1:17): invalid value");
        }
        let scopes = export.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        for record in scopes.flat_map(|scope| scope.log_records) {
            let id = record.attributes.iter().find(|attribute| attribute.key == "log.record.uid");
            let body: Value = serde_json::from_str(&record.body.string_value).unwrap();
            let is_whole = id.is_some_and(|id| id.value["stringValue"] == body["Id"]);
            if record.time_unix_nano.parse::<u64>().is_err() || !(1..=24).contains(&record.severity_number) || !is_whole
            {
                return kept.violation(StatusCode::BAD_REQUEST, "a log record that is none");
            }
            if let Err(error) = kept.take_record(record.body.string_value.as_bytes()) {
                return kept.violation(StatusCode::BAD_REQUEST, error);
            }
        }
        json(StatusCode::OK, &json!({}))
    }
}
