//! The interface's errors: a code, its words, and the status that it comes with.
//!
//! The words are those of Microsoft's reference, or of the live service where that was seen to differ: collectors
//! compare some of them letter by letter. Statuses are those of the one table of codes, [`actlog_office::errors`].

use std::fmt::Display;
use std::time::Duration;

use actlog_http::Response;
use actlog_office::errors::lookup;
use hyper::StatusCode;

/// One error of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedError {
    code: &'static str,
    message: String,
}

/// Characters of a client's own text that an error repeats.
const REPEATED: usize = 256;

/// A client's own text as an error repeats it: on one line, and not without bound.
fn repeated(text: &str) -> String {
    text.chars().take(REPEATED).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl FeedError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `AF10001`: the token has none of the permissions that are needed; `has` lists those that it has.
    pub(crate) fn missing_permission(has: &str) -> Self {
        let message =
            format!("The permission set ({has}) sent in the request does not include the expected permission.");
        Self::new("AF10001", message)
    }

    /// `AF20001`
    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::new("AF20001", format!("Missing parameter: {name}."))
    }

    /// `AF20002`: `expected` is `int`, `datetime`, `guid` …
    pub(crate) fn invalid_parameter(name: &str, expected: &str) -> Self {
        Self::new("AF20002", format!("Invalid parameter type: {name}. Expected type: {expected}"))
    }

    /// `AF20003`: the expiration of a webhook, as the client sent it.
    pub(crate) fn expiration_in_the_past(expiration: &str) -> Self {
        let message = format!("Expiration {} provided is set to past date and time.", repeated(expiration));
        Self::new("AF20003", message)
    }

    /// `AF20010`
    pub(crate) fn other_tenant(in_url: &str, in_token: impl Display) -> Self {
        let message = format!(
            "The tenant ID passed in the URL ({}) does not match the tenant ID passed in the access token ({in_token}).",
            repeated(in_url)
        );
        Self::new("AF20010", message)
    }

    /// `AF20011`
    pub(crate) fn unknown_tenant(in_url: &str) -> Self {
        let message =
            format!("Specified tenant ID ({}) does not exist in the system or has been deleted.", repeated(in_url));
        Self::new("AF20011", message)
    }

    /// `AF20013`
    pub(crate) fn tenant_is_no_guid(in_url: &str) -> Self {
        let message = format!("The tenant ID passed in the URL ({}) is not a valid GUID.", repeated(in_url));
        Self::new("AF20013", message)
    }

    /// `AF20020`
    pub(crate) fn unknown_content_type() -> Self {
        Self::new("AF20020", "The specified content type is not valid.")
    }

    /// `AF20021`: `reason` is a sentence.
    pub(crate) fn webhook_not_validated(address: &str, reason: &str) -> Self {
        let message = format!("The webhook endpoint ({}) could not be validated. {reason}", repeated(address));
        Self::new("AF20021", message)
    }

    /// `AF20022`
    pub(crate) fn no_subscription() -> Self {
        Self::new("AF20022", "No subscription found for the specified content type.")
    }

    /// `AF20024`. Collectors look for these very words.
    pub(crate) fn already_enabled() -> Self {
        Self::new("AF20024", "The subscription is already enabled. No property change.")
    }

    /// `AF20030`: one of the two times is missing.
    pub(crate) fn half_a_window() -> Self {
        let message = "Start time and end time must both be specified (or both omitted) and must be less than or \
                       equal to 24 hours apart, with the start time no more than 7 days in the past.";
        Self::new("AF20030", message)
    }

    /// `AF20031`
    pub(crate) fn invalid_next_page(next_page: &str) -> Self {
        Self::new("AF20031", format!("Invalid nextPage Input: {}.", repeated(next_page)))
    }

    /// `AF20050`
    pub(crate) fn unknown_content(id: &str) -> Self {
        Self::new("AF20050", format!("The specified content ({}) does not exist.", repeated(id)))
    }

    /// `AF20051`
    pub(crate) fn expired_content(id: &str) -> Self {
        let message = format!(
            "Content requested with the key {} has already expired. Content older than 7 days cannot be retrieved.",
            repeated(id)
        );
        Self::new("AF20051", message)
    }

    /// `AF20052`
    pub(crate) fn invalid_content_id(id: &str) -> Self {
        Self::new("AF20052", format!("Content ID {} in the URL is invalid.", repeated(id)))
    }

    /// `AF20053`
    pub(crate) fn several_languages() -> Self {
        Self::new("AF20053", "Only one language may be present in the Accept-Language header.")
    }

    /// `AF20054`
    pub(crate) fn invalid_language() -> Self {
        Self::new("AF20054", "Invalid syntax in Accept-Language header.")
    }

    /// `AF20055`: the window is too long, too old, or ends before it begins.
    pub(crate) fn impossible_window() -> Self {
        let message = "Start time and end time must both be specified (or both omitted) and must be less than or \
                       equal to 24 hours apart, with the start time prior to end time and start time no more than \
                       7 days in the past.";
        Self::new("AF20055", message)
    }

    /// `AF429`: `method` is the operation, `publisher` what the client calls itself.
    pub(crate) fn too_many_requests(method: &str, publisher: impl Display) -> Self {
        Self::new("AF429", format!("Too many requests. Method={method}, PublisherId={publisher}"))
    }

    /// `429`, as the service answers a start that follows another too soon.
    pub(crate) fn too_many_starts(wait: Duration) -> Self {
        let (minutes, seconds) = (wait.as_secs() / 60, wait.as_secs() % 60);
        let message =
            format!("Too many frequent subscription start requests. Please retry again after {minutes}m {seconds}s.");
        Self::new("429", message)
    }

    /// `AF50000`: the cause is for the log, not for the client.
    pub(crate) fn internal() -> Self {
        Self::new("AF50000", "An internal error occurred. Retry the request.")
    }

    /// Its code, such as `AF20024`.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// Its words.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The status that it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        let status = lookup(self.code).and_then(|known| StatusCode::from_u16(known.status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer: `{"error":{"code":"AF20024","message":"…"}}`.
    pub(crate) fn response(&self) -> Response {
        actlog_http::error(self.status(), self.code, &self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each.
    fn all() -> Vec<FeedError> {
        vec![
            FeedError::missing_permission(""),
            FeedError::missing_parameter("contentType"),
            FeedError::invalid_parameter("startTime", "datetime"),
            FeedError::expiration_in_the_past("2001-01-01"),
            FeedError::other_tenant("a", "b"),
            FeedError::unknown_tenant("a"),
            FeedError::tenant_is_no_guid("a"),
            FeedError::unknown_content_type(),
            FeedError::webhook_not_validated("https://a", "The endpoint did not return HTTP 200."),
            FeedError::no_subscription(),
            FeedError::already_enabled(),
            FeedError::half_a_window(),
            FeedError::invalid_next_page("x"),
            FeedError::unknown_content("x"),
            FeedError::expired_content("x"),
            FeedError::invalid_content_id("x"),
            FeedError::several_languages(),
            FeedError::invalid_language(),
            FeedError::impossible_window(),
            FeedError::too_many_requests("GetBlob", "x"),
            FeedError::too_many_starts(Duration::from_secs(526)),
            FeedError::internal(),
        ]
    }

    #[test]
    fn every_code_is_in_the_table_and_no_two_errors_share_one() {
        let mut codes: Vec<_> = all().iter().map(FeedError::code).collect();
        assert!(codes.iter().all(|code| lookup(code).is_some()), "{codes:?}");
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all().len());
    }

    #[test]
    fn the_error_that_collectors_compare_is_what_the_service_sends_to_the_byte() {
        let response = FeedError::already_enabled().response();
        let body =
            r#"{"error":{"code":"AF20024","message":"The subscription is already enabled. No property change."}}"#;
        assert_eq!((response.status(), response.body().as_ref()), (StatusCode::BAD_REQUEST, body.as_bytes()));
        assert_eq!(body.len(), 97);
    }

    #[test]
    fn a_start_that_came_too_soon_says_how_long_to_wait() {
        let error = FeedError::too_many_starts(Duration::from_secs(526));
        assert_eq!(error.message(), "Too many frequent subscription start requests. Please retry again after 8m 46s.");
        let known = actlog_office::errors::ServiceError::from_answer(429, error.response().body());
        assert_eq!(known.wait(), Some(Duration::from_secs(526)), "our own client understands it");
    }

    #[test]
    fn what_a_client_sent_is_repeated_on_one_line_and_not_without_bound() {
        let error = FeedError::invalid_content_id(&format!("a\nb{}", "x".repeat(10_000)));
        assert!(error.message().starts_with("Content ID a bx") && error.message().len() < 400, "{}", error.message());
    }
}
