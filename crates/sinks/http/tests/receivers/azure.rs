//! The Logs Ingestion API of Azure Monitor, and the token endpoint in front of it.

use actlog_testkit::entra::{Entra, TokenFault};
use actlog_testkit::server::{Bytes, Request, Response, StatusCode, empty, json};
use serde_json::{Value, json};

use super::{Kept, Rules, header, is_unacceptable};

pub(crate) const TENANT: &str = "5c0b8a3e-5a8b-4a5c-9c53-5d3f3b8a3c11";
pub(crate) const CLIENT: &str = "6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11";
pub(crate) const SECRET: &str = "entra-secret-canary";
pub(crate) const RULE: &str = "dcr-00000000000000000000000000000001";
pub(crate) const STREAM: &str = "Custom-DataverseActivity_CL";

/// What a call takes, and a field.
const MOST: usize = 1_000_000;
const LONGEST_FIELD: usize = 64 << 10;

pub(crate) struct Azure {
    pub(crate) entra: Entra,
}

impl Azure {
    pub(crate) fn new() -> Self {
        Self { entra: Entra::new(TENANT, CLIENT, SECRET) }
    }
}

fn says(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    json(status, &json!({ "error": { "code": code, "message": message } }))
}

impl Rules for Azure {
    fn answer(&self, request: &Request<Bytes>, kept: &mut Kept) -> Response<Bytes> {
        if let Some((status, answer)) = self.entra.answer(request.uri().path(), request.body()) {
            return json(status, &answer);
        }
        match self.entra.check(Some(header(request, "authorization")), "https://monitor.azure.com") {
            Ok(()) => {}
            Err(TokenFault::Audience) => {
                return says(StatusCode::FORBIDDEN, "OperationFailed", "The authentication token's audience is wrong");
            }
            Err(_) => return says(StatusCode::UNAUTHORIZED, "InvalidToken", "The token is missing or has expired"),
        }
        if request.uri().path() != format!("/dataCollectionRules/{RULE}/streams/{STREAM}") {
            return says(StatusCode::NOT_FOUND, "NotFound", "Data collection rule or stream not found");
        }
        if request.uri().query() != Some("api-version=2023-01-01") {
            return says(StatusCode::BAD_REQUEST, "InvalidApiVersion", "The api-version is not supported");
        }
        let body = request.body();
        if body.len() > MOST {
            let answer =
                says(StatusCode::PAYLOAD_TOO_LARGE, "ContentLengthLimitExceeded", "Maximum allowed is 1048576");
            kept.violations.push(format!("{} bytes", body.len()));
            return answer;
        }
        let Ok(rows) = serde_json::from_slice::<Vec<serde_json::Map<String, Value>>>(body) else {
            return kept.violation(StatusCode::BAD_REQUEST, "not an array of objects");
        };
        if is_unacceptable(body) {
            return says(StatusCode::BAD_REQUEST, "InvalidPayload", "The payload can't be read");
        }
        for row in rows {
            for (name, value) in &row {
                let is_reserved = actlog_interop::azure::RESERVED.iter().any(|known| known.eq_ignore_ascii_case(name));
                if is_reserved || name.starts_with('_') {
                    kept.violations.push(format!("{name} is a name that the table keeps for itself"));
                }
                let length = value.as_str().map_or_else(|| value.to_string().len(), str::len);
                if length > LONGEST_FIELD {
                    kept.violations.push(format!("{name} has {length} bytes and would be cut off"));
                }
            }
            if !row["TimeGenerated"].is_string() {
                kept.violations.push("a row without its time".to_owned());
            }
            let id = row["SourceRecordId"].as_str().and_then(|id| id.parse().ok()).unwrap();
            let none = Value::Null;
            kept.take(id, row.get("CorrelationId").unwrap_or(&none), row.get("Extra").unwrap_or(&none));
        }
        empty(StatusCode::NO_CONTENT)
    }
}
