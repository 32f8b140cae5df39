//! Answers of the token endpoints where they give no token: Entra's codes, statuses and form.
//!
//! Collectors look at `error_codes`; the numbers and words are those of Microsoft's reference of error codes
//! (learn.microsoft.com/entra/identity-platform/reference-error-codes), the statuses those of the live service.

use std::time::Duration;

use actlog_core::Timestamp;
use actlog_http::oauth::Endpoint;
use actlog_http::{Response, json};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::Serialize;
use uuid::Uuid;

/// Why no token is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    words: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, code: u32, words: impl Into<String>) -> Self {
        Self { status, error, code, words: words.into(), retry_after: None }
    }

    fn bad(error: &'static str, code: u32, words: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, code, words)
    }

    fn invalid_client(code: u32, words: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", code, words)
    }

    /// The tenant in the path can't be one.
    pub(crate) fn invalid_tenant(tenant: &str) -> Self {
        let words = format!(
            "Specified tenant identifier '{}' is neither a valid DNS name, nor a valid external domain.",
            repeated(tenant)
        );
        Self::bad("invalid_request", 900_023, words)
    }

    /// The tenant in the path is not served here.
    pub(crate) fn unknown_tenant(tenant: &str) -> Self {
        let words = format!(
            "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are signing into the correct \
             cloud.",
            repeated(tenant)
        );
        Self::bad("invalid_request", 90_002, words)
    }

    pub(crate) fn missing_parameter(endpoint: Endpoint, name: &str) -> Self {
        match endpoint {
            Endpoint::V1 => {
                let words = format!("The required field '{name}' is missing from the credential.");
                Self::bad("invalid_request", 90_014, words)
            }
            Endpoint::V2 => {
                let words = format!("The request body must contain the following parameter: '{name}'.");
                Self::bad("invalid_request", 900_144, words)
            }
        }
    }

    pub(crate) fn repeated_parameter(name: &str) -> Self {
        Self::bad("invalid_request", 900_145, format!("The parameter '{name}' is there more than once."))
    }

    pub(crate) fn unsupported_grant() -> Self {
        let words = "The app requested an unsupported grant type; it must be 'client_credentials'.";
        Self::bad("unsupported_grant_type", 70_003, words)
    }

    pub(crate) fn missing_proof() -> Self {
        let words = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        Self::invalid_client(7_000_218, words)
    }

    pub(crate) fn unknown_client(client: &str) -> Self {
        let words = format!(
            "Application with identifier '{}' was not found in the directory. It can be registered with `actlog clients \
             add`.",
            repeated(client)
        );
        Self::bad("unauthorized_client", 700_016, words)
    }

    pub(crate) fn wrong_secret(client: Uuid) -> Self {
        let words = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{client}'."
        );
        Self::invalid_client(7_000_215, words)
    }

    pub(crate) fn expired_secret(client: Uuid) -> Self {
        Self::invalid_client(7_000_222, format!("The provided client secret keys for app '{client}' are expired."))
    }

    pub(crate) fn assertion(reason: super::assertion::Refused) -> Self {
        use super::assertion::Refused;
        match reason {
            Refused::Busy => Self::busy(Duration::from_secs(10)),
            Refused::Malformed | Refused::Claims => {
                Self::bad("invalid_request", 50_027, format!("The client assertion is invalid: {reason}."))
            }
            Refused::Time => Self::invalid_client(
                700_024,
                format!("The client assertion is not within its valid time range: {reason}."),
            ),
            _ => Self::invalid_client(700_027, format!("The client assertion failed validation: {reason}.")),
        }
    }

    pub(crate) fn assertion_type() -> Self {
        let words = format!("The parameter 'client_assertion_type' must be '{}'.", super::assertion::ASSERTION_TYPE);
        Self::bad("invalid_request", 700_021, words)
    }

    /// The resource or scope is not this interface.
    pub(crate) fn unknown_resource(endpoint: Endpoint, asked: &str) -> Self {
        let asked = repeated(asked);
        match endpoint {
            Endpoint::V1 => {
                let words = format!("The resource principal named {asked} was not found in the tenant.");
                Self::bad("invalid_resource", 500_011, words)
            }
            Endpoint::V2 => {
                let words = format!(
                    "The provided value for the scope {asked} is not valid. Client credential flows must have a scope \
                     value with /.default suffixed to the resource identifier, such as \
                     https://manage.office.com/.default."
                );
                Self::bad("invalid_scope", 1_002_012, words)
            }
        }
    }

    /// Somebody guesses, or there is too much to do.
    pub(crate) fn busy(wait: Duration) -> Self {
        let words = "The request was throttled. Try again later.";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", 90_055, words);
        Self { retry_after: Some(wait), ..refusal }
    }

    pub(crate) fn internal() -> Self {
        let words = "A transient error has occurred. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", 90_033, words)
    }

    /// Entra's number.
    pub(crate) fn code(&self) -> u32 {
        self.code
    }

    /// The answer; `correlation_id` is what the client calls its request.
    pub(crate) fn response(&self, correlation_id: Option<Uuid>, now: Timestamp) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            error_description: String,
            error_codes: [u32; 1],
            timestamp: String,
            trace_id: Uuid,
            correlation_id: Uuid,
            error_uri: String,
        }
        let (trace_id, correlation_id) = (Uuid::new_v4(), correlation_id.unwrap_or_else(Uuid::new_v4));
        let timestamp = now.to_datetime().format("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { error, code, words, .. } = self;
        let description = format!(
            "AADSTS{code}: {words} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
        );
        let body = Body {
            error,
            error_description: description,
            error_codes: [*code],
            timestamp,
            trace_id,
            correlation_id,
            error_uri: format!("https://login.microsoftonline.com/error?code={code}"),
        };
        let mut response = json(self.status, &body);
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never too early.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}

/// A client's own text as an answer repeats it.
fn repeated(text: &str) -> String {
    text.chars().take(128).map(|c| if c.is_control() || c == '\'' { ' ' } else { c }).collect()
}
