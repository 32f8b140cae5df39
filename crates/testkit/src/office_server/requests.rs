//! One request to the stand-in, and its answer.

use actlog_core::Timestamp;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, DATE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method};
use serde_json::{Value, json};

use super::content::Blob;
use super::{CONTENT_TYPES, Inner, OfficeServer, RESOURCE, State, lock, time, violate};
use crate::server::{Bytes, Request, Response, StatusCode, decode, empty, json as json_answer, parameters};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// The service takes windows that begin so much longer ago than its reference says.
const GRACE: i64 = HOUR;

type Answer = Response<Bytes>;

/// An error in the service's form: status, code, message.
struct Refusal(StatusCode, &'static str, String);

impl Refusal {
    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, code, message.into())
    }
}

impl From<Refusal> for Answer {
    fn from(Refusal(status, code, message): Refusal) -> Self {
        json_answer(status, &json!({ "error": { "code": code, "message": message } }))
    }
}

pub(super) fn answer(inner: &Inner, request: &Request<Bytes>) -> Answer {
    let mut answer = respond(inner, request);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(date) = HeaderValue::from_str(&time::header(inner.now())) {
        headers.insert(DATE, date);
    }
    answer
}

fn respond(inner: &Inner, request: &Request<Bytes>) -> Answer {
    let mut state = lock(&inner.state);
    if state.is_down {
        state.answered.failures += 1;
        return unavailable();
    }
    let path = request.uri().path();
    if request.method() == Method::POST
        && let Some((status, token)) = inner.entra.answer(path, request.body())
    {
        return json_answer(status, &token);
    }
    // Routes don't depend on the case of letters, and slashes may be doubled.
    let path = decode(path, false);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let ["api", version, tenant, activity, feed, rest @ ..] = segments.as_slice() else {
        return empty(StatusCode::NOT_FOUND);
    };
    let is_interface = ["v1.0", "v1"].contains(version)
        && activity.eq_ignore_ascii_case("activity")
        && feed.eq_ignore_ascii_case("feed");
    if !is_interface {
        return empty(StatusCode::NOT_FOUND);
    }
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if inner.entra.check(authorization, RESOURCE).is_err() {
        let denied = json!({ "Message": "Authorization has been denied for this request." });
        return json_answer(StatusCode::UNAUTHORIZED, &denied);
    }
    if let Some(refusal) = throttled(inner, &mut state) {
        state.answered.failures += 1;
        return refusal;
    }
    let fault = fault(&mut state);
    let answer = check_tenant(tenant).and_then(|()| {
        let query = Query(parameters(request.uri().query().unwrap_or_default()));
        let mut exchange =
            Exchange { inner, state: &mut state, headers: request.headers(), query, is_lost: fault.is_some() };
        exchange.check_publisher();
        exchange.dispatch(request.method(), rest)
    });
    // What was asked for is done, whether the client hears of it or not.
    match fault {
        Some(fault) => {
            state.answered.failures += 1;
            fault
        }
        None => answer.unwrap_or_else(Answer::from),
    }
}

fn check_tenant(tenant: &str) -> Result<(), Refusal> {
    if tenant.eq_ignore_ascii_case(OfficeServer::TENANT) || tenant.eq_ignore_ascii_case(OfficeServer::CLIENT_ID) {
        return Ok(());
    }
    if uuid::Uuid::try_parse(tenant).is_err() {
        let message = format!("The tenant ID passed in the URL ({tenant}) is not a valid GUID.");
        return Err(Refusal::bad("AF20013", message));
    }
    let of_token = OfficeServer::TENANT;
    let message = format!(
        "The tenant ID passed in the URL ({tenant}) does not match the tenant ID passed in the access token ({of_token})."
    );
    Err(Refusal::bad("AF20010", message))
}

/// The limit of requests in a minute.
fn throttled(inner: &Inner, state: &mut State) -> Option<Answer> {
    let minute = inner.now().unix_milliseconds() / 60_000;
    if state.minute.0 != minute {
        state.minute = (minute, 0);
    }
    state.minute.1 += 1;
    let limit = inner.options.requests_per_minute?;
    (state.minute.1 > limit).then(|| too_many(state.minute.1.is_multiple_of(2)))
}

/// The reference shows 403, clients expect 429.
fn too_many(is_forbidden: bool) -> Answer {
    let status = if is_forbidden { StatusCode::FORBIDDEN } else { StatusCode::TOO_MANY_REQUESTS };
    let publisher = "00000000-0000-0000-0000-000000000000";
    Refusal(status, "AF429", format!("Too many requests. Method=GetBlob, PublisherId={publisher}")).into()
}

fn unavailable() -> Answer {
    let mut answer = Response::new(Bytes::from_static(b"<html><body>Service Unavailable</body></html>"));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// A failure at random, if it is time for one.
fn fault(state: &mut State) -> Option<Answer> {
    let per_mille = state.faults_per_mille;
    if !state.faults.per_mille(per_mille) {
        return None;
    }
    let internal = "An internal error occurred. Retry the request.";
    Some(match state.faults.below(6) {
        0 => too_many(true),
        1 => too_many(false),
        2 => Refusal(StatusCode::INTERNAL_SERVER_ERROR, "AF50000", internal.to_owned()).into(),
        3 => empty(StatusCode::INTERNAL_SERVER_ERROR),
        4 => unavailable(),
        _ => {
            let mut answer = unavailable();
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    })
}

/// Parameters of the query, whose names don't depend on the case of letters.
struct Query(Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A request that may be answered.
struct Exchange<'e> {
    inner: &'e Inner,
    state: &'e mut State,
    headers: &'e HeaderMap,
    query: Query,
    /// Whether the client will hear of a failure instead.
    is_lost: bool,
}

impl Exchange<'_> {
    fn check_publisher(&mut self) {
        if self.query.get("PublisherIdentifier").is_none_or(|id| uuid::Uuid::try_parse(id).is_err()) {
            violate(self.state, "a request without PublisherIdentifier");
        }
    }

    fn dispatch(&mut self, method: &Method, route: &[&str]) -> Result<Answer, Refusal> {
        let [area, name] = route else { return Ok(empty(StatusCode::NOT_FOUND)) };
        // Of a content id, the case of letters counts.
        let (area, operation) = (area.to_ascii_lowercase(), name.to_ascii_lowercase());
        let is_post = method == Method::POST;
        match (area.as_str(), operation.as_str()) {
            ("subscriptions", "list") if !is_post => Ok(self.list()),
            ("subscriptions", "start") if is_post => self.start(),
            ("subscriptions", "stop") if is_post => self.stop(),
            ("subscriptions", "content") if !is_post => self.page(),
            ("audit", _) if !is_post => self.blob(name),
            ("subscriptions", "list" | "start" | "stop" | "content") | ("audit", _) => {
                Ok(empty(StatusCode::METHOD_NOT_ALLOWED))
            }
            _ => Ok(empty(StatusCode::NOT_FOUND)),
        }
    }

    /// The content type that the request is about.
    fn content_type(&self) -> Result<&'static str, Refusal> {
        let missing = || Refusal::bad("AF20001", "Missing parameter: contentType.");
        let given = self.query.get("contentType").ok_or_else(missing)?;
        let known = CONTENT_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(given));
        known.ok_or_else(|| Refusal::bad("AF20020", "The specified content type is not valid."))
    }

    /// The content type, if it is subscribed to.
    fn subscribed(&self) -> Result<&'static str, Refusal> {
        let content_type = self.content_type()?;
        if self.state.enabled.contains(content_type) {
            return Ok(content_type);
        }
        Err(Refusal::bad("AF20022", "No subscription found for the specified content type."))
    }

    fn list(&mut self) -> Answer {
        if !self.is_lost {
            self.state.has_listed = true;
            self.state.answered.subscriptions += 1;
        }
        let enabled = CONTENT_TYPES.iter().filter(|content_type| self.state.enabled.contains(**content_type));
        json_answer(StatusCode::OK, &enabled.map(|content_type| subscription(content_type)).collect())
    }

    fn start(&mut self) -> Result<Answer, Refusal> {
        let content_type = self.content_type()?;
        self.state.answered.starts += u64::from(!self.is_lost);
        if !self.state.has_listed {
            violate(self.state, format!("{content_type} is started before anybody looked whether it is enabled"));
        }
        if content_type == "DLP.All" && !self.inner.options.may_read_dlp {
            let message = "The permission set () sent in the request does not include the expected permission.";
            return Err(Refusal(StatusCode::UNAUTHORIZED, "AF10001", message.to_owned()));
        }
        if !self.state.enabled.insert(content_type) {
            let message = "The subscription is already enabled. No property change.";
            return Err(Refusal::bad("AF20024", message));
        }
        Ok(json_answer(StatusCode::OK, &subscription(content_type)))
    }

    fn stop(&mut self) -> Result<Answer, Refusal> {
        let content_type = self.subscribed()?;
        self.state.enabled.remove(content_type);
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The period that is asked for; the last 24 hours where none is.
    fn window(&mut self) -> Result<(Timestamp, Timestamp), Refusal> {
        const RULE: &str = "Start time and end time must both be specified (or both omitted) and must be less than or \
                            equal to 24 hours apart, with the start time prior to end time and start time no more \
                            than 7 days in the past.";
        let now = self.inner.now();
        let read = |name: &str, text: &str| {
            let message = format!("Invalid parameter type: {name}. Expected type: datetime");
            time::parse(text).ok_or_else(|| Refusal::bad("AF20002", message))
        };
        let (start, end) = match (self.query.get("startTime"), self.query.get("endTime")) {
            (None, None) => return Ok((now.plus_milliseconds(-DAY), now)),
            (Some(start), Some(end)) => (read("startTime", start)?, read("endTime", end)?),
            _ => {
                violate(self.state, "one of startTime and endTime without the other");
                return Err(Refusal::bad("AF20030", RULE));
            }
        };
        let length = end.unix_milliseconds() - start.unix_milliseconds();
        if length > DAY {
            violate(self.state, format!("a window of more than 24 hours: {start} to {end}"));
        }
        if !(0..=DAY + 1000).contains(&length) || start < now.plus_milliseconds(-7 * DAY - GRACE) {
            return Err(Refusal::bad("AF20055", RULE));
        }
        Ok((start, end))
    }

    /// A page of a listing.
    fn page(&mut self) -> Result<Answer, Refusal> {
        let content_type = self.subscribed()?;
        let (start, end) = self.window()?;
        let token = self.query.get("nextPage").map(str::to_owned);
        // A token names the listing and the first blob that may be on the page.
        let (listing, first) = match &token {
            None => {
                self.state.listings += 1;
                (self.state.listings, 0)
            }
            Some(token) => {
                let parts = token.split_once('R').and_then(|(l, b)| Some((l.parse().ok()?, b.parse::<u64>().ok()?)));
                let invalid = || Refusal::bad("AF20031", format!("Invalid nextPage Input: {token}."));
                parts.ok_or_else(invalid)?
            }
        };
        let now = self.inner.now();
        let of_type = |blob: &Blob| blob.content_type == content_type && blob.listed <= now;
        let size = self.inner.options.page_size;
        let mut page: Vec<Blob> =
            self.inner.content.between(start, end, first).filter(of_type).take(size + 1).collect();
        let next = page.get(size).map(|blob| blob.number);
        page.truncate(size);

        // Nobody is promised an order within a page.
        for place in (1..page.len()).rev() {
            page.swap(place, self.state.faults.place(place + 1));
        }
        let base = self.base();
        let mut answer = json_answer(StatusCode::OK, &page.iter().map(|blob| self.entry(&base, blob)).collect());
        if let Some(next) = next {
            // The service spells this parameter in either way.
            let end_time = if listing % 2 == 0 { "endTime" } else { "endtime" };
            let next = format!(
                "{base}/subscriptions/content?contentType={content_type}&startTime={}&{end_time}={}&nextPage={listing:08}R{next:06}",
                time::parameter(start),
                time::parameter(end)
            );
            if let Ok(next) = HeaderValue::from_str(&next) {
                answer.headers_mut().insert("NextPageUri", next);
            }
        }
        if !self.is_lost {
            self.note_page(content_type, (start, end), token, &page);
        }
        Ok(answer)
    }

    /// Notes a page that the client gets.
    fn note_page(
        &mut self,
        content_type: &'static str,
        (start, end): (Timestamp, Timestamp),
        token: Option<String>,
        page: &[Blob],
    ) {
        self.state.answered.pages += 1;
        self.state.misdirected = self.state.misdirected.saturating_sub(1);
        self.state.named.extend(page.iter().map(|blob| blob.number));
        match token {
            Some(token) if !self.state.pages.insert(token.clone()) => {
                violate(self.state, format!("the page {token} is asked for twice"));
            }
            Some(_) => {}
            None => {
                let now = self.inner.now();
                // What is no longer listed can't be asked for.
                let earliest = now.plus_milliseconds(-7 * DAY + GRACE);
                let reached = self.state.reached.get(content_type).copied().filter(|reached| *reached > earliest);
                if let Some(reached) = reached.filter(|reached| start > *reached) {
                    violate(self.state, format!("nobody asked for {content_type} from {reached} to {start}"));
                }
                let reached = self.state.reached.entry(content_type).or_insert(start);
                *reached = (*reached).max(end.min(now));
            }
        }
    }

    /// Where the client sees the feed; at another host, when it is to be led astray.
    fn base(&self) -> String {
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let here = format!("http://{host}");
        let root = if self.state.misdirected > 0 { &self.inner.elsewhere } else { &here };
        format!("{root}/api/v1.0/{}/activity/feed", OfficeServer::TENANT)
    }

    fn entry(&self, base: &str, blob: &Blob) -> Value {
        // Of content that can't be fetched any more, some say so beforehand.
        let is_stated = blob.is_expired && blob.number.is_multiple_of(2);
        let lifetime = if is_stated { 1000 } else { self.inner.options.lifetime.as_millis() as i64 };
        json!({
            "contentUri": format!("{base}/audit/{}", blob.content_id),
            "contentId": blob.content_id,
            "contentType": blob.content_type,
            "contentCreated": time::content(blob.created),
            "contentExpiration": time::content(blob.created.plus_milliseconds(lifetime)),
        })
    }

    fn blob(&mut self, content_id: &str) -> Result<Answer, Refusal> {
        let no_such = || {
            let message = format!("The specified content ({content_id}) does not exist.");
            Refusal(StatusCode::NOT_FOUND, "AF20050", message)
        };
        let blob = self.inner.content.find(content_id).ok_or_else(no_such)?;
        if !self.state.named.contains(&blob.number) {
            violate(self.state, format!("content {content_id} is asked for, which no listing named"));
        }
        let now = self.inner.now();
        if now < blob.created {
            return Err(no_such());
        }
        let age = now.unix_milliseconds() - blob.created.unix_milliseconds();
        if blob.is_expired || age >= self.inner.options.lifetime.as_millis() as i64 {
            let message = format!(
                "Content requested with the key {content_id} has already expired. Content older than 7 days cannot be \
                 retrieved."
            );
            return Err(Refusal(StatusCode::NOT_FOUND, "AF20051", message));
        }
        let mut body = self.inner.content.body(&blob);
        if self.state.spoiled.contains(content_id) {
            body.truncate(body.len() / 2);
        }
        self.state.answered.blobs += u64::from(!self.is_lost);
        let mut answer = Response::new(Bytes::from(body));
        let content_type = HeaderValue::from_static("application/json; charset=utf-8");
        answer.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
        Ok(answer)
    }
}

fn subscription(content_type: &str) -> Value {
    json!({ "contentType": content_type, "status": "enabled", "webhook": null })
}
