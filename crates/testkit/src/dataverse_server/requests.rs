//! From a request to an answer: tokens, paths, reading; writing is in [`rules`](super::rules).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::odata::{self, Options, Row};
use super::schema::{ATTRIBUTE_OF, ATTRIBUTES, DEFINITIONS, Kind, Table, table};
use super::{Fault, Inner, Recorded, State, id_in, jobs, rules};
use crate::entra::TokenFault;
use crate::server::{Bytes, Request, Response, StatusCode, decode, empty, json as json_answer, parameters};

const BASE: &str = "/api/data/v9.2/";
/// Rows of a page where the client does not ask for fewer, and at most.
const PAGE: usize = 5000;

/// Related rows that come with a row; more are behind a link. The platform's own number is not documented.
const EXPANDED: usize = 10;

/// Status, the platform's code, what it says.
pub(super) type Refusal = (u16, &'static str, String);

pub(super) fn refuse<T>(status: u16, code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err((status, code, message.into()))
}

/// What is wrong with a request's syntax or names.
pub(super) fn bad(message: impl Into<String>) -> Refusal {
    (400, "0x80060888", message.into())
}

pub(super) fn not_found(set: &str, id: impl std::fmt::Display) -> Refusal {
    (404, "0x80040217", format!("{set} With Id = {id} Does Not Exist"))
}

/// A request of the Web API, taken apart.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) segments: Vec<Segment>,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) body: Option<Row>,
    prefer: String,
    pub(super) merge_labels: bool,
}

/// `name(key)`
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) key: Option<Key>,
}

#[derive(Debug)]
pub(super) enum Key {
    Id(Uuid),
    LogicalName(String),
}

pub(super) async fn answer(inner: Arc<Inner>, request: Request<Bytes>) -> Response<Bytes> {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    if request.method() == "POST"
        && let Some((status, answer)) = inner.entra.answer(&path, request.body())
    {
        return json_answer(status, &answer);
    }
    let Some(rest) = path.strip_prefix(BASE).map(|rest| decode(rest, false)) else {
        inner.state().violations.push(format!("{path} is no path of the Web API"));
        return empty(StatusCode::NOT_FOUND);
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = Call {
        method: request.method().as_str(),
        segments: Vec::new(),
        parameters: parameters(&query),
        body: None,
        prefer: header("prefer").to_owned(),
        merge_labels: header("mscrm.mergelabels") == "true",
    };
    let mut state = inner.state();
    let token = inner.entra.check(request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()), &state.url);
    let outcome = match token {
        Err(fault) => Err((401, "0x80072560", format!("The token is not valid: {fault:?}"))),
        Ok(()) => match state.fault() {
            Some(fault) => Ok(fault.answer()),
            None => {
                state.note_headers(&request, &rest);
                state.carry_out(call, &rest, request.body())
            }
        },
    };
    if token == Err(TokenFault::Missing) || token == Err(TokenFault::Audience) {
        state.violations.push(format!("{} {rest} came with a token of another interface, or none", request.method()));
    }
    let response = outcome.unwrap_or_else(|(status, code, message)| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json_answer(status, &json!({ "error": { "code": code, "message": message } }))
    });
    let body = String::from_utf8_lossy(request.body()).into_owned();
    let (method, query) = (request.method().to_string(), decode(&query, true));
    state.requests.push(Recorded { method, path: rest, query, body, status: response.status().as_u16() });
    let woken = state.take_resumed();
    drop(state);
    if !woken.is_empty() {
        // As on the platform, a resumed job runs by itself, after the answer.
        tokio::spawn(jobs::run(Arc::clone(&inner), woken));
    }
    response
}

impl Fault {
    fn answer(&self) -> Response<Bytes> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (code, message) = match self.status {
            429 => ("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds."),
            _ => ("0x80044a02", "The service is temporarily unavailable."),
        };
        let mut response = json_answer(status, &json!({ "error": { "code": code, "message": message } }));
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }
}

impl State {
    /// How this request is to be refused, if it is.
    fn fault(&mut self) -> Option<Fault> {
        if let Some(fault) = self.faults.pop_front() {
            return Some(fault);
        }
        let (random, throttled, unavailable) = self.chaos.as_mut()?;
        let drawn = random.below(1000);
        match drawn {
            drawn if drawn < *throttled => Some(Fault { status: 429, retry_after: Some(std::time::Duration::ZERO) }),
            drawn if drawn < *throttled + *unavailable => Some(Fault { status: 503, retry_after: None }),
            _ => None,
        }
    }

    fn note_headers(&mut self, request: &Request<Bytes>, path: &str) {
        let writes = !request.body().is_empty();
        let needed: &[(&str, &str)] = if writes {
            &[("odata-version", "4.0"), ("accept", "application/json"), ("content-type", "application/json")]
        } else {
            &[("odata-version", "4.0"), ("accept", "application/json")]
        };
        for (name, value) in needed {
            let given = request.headers().get(*name).and_then(|given| given.to_str().ok()).unwrap_or_default();
            if !given.starts_with(value) {
                self.violations.push(format!("{} {path}: the header {name} is {given:?}", request.method()));
            }
        }
    }

    fn carry_out(&mut self, mut call: Call<'_>, path: &str, body: &[u8]) -> Result<Response<Bytes>, Refusal> {
        call.segments = path.split('/').map(segment).collect::<Result<_, _>>()?;
        if !body.is_empty() {
            let body = serde_json::from_slice::<Row>(body);
            call.body = Some(body.map_err(|error| bad(format!("Error identified in Payload: {error}")))?);
        }
        match call.method {
            "GET" => self.read(&call),
            "POST" | "PATCH" | "PUT" | "DELETE" => rules::write(self, &call),
            other => refuse(405, "0x80060888", format!("The method {other} is not allowed.")),
        }
    }

    fn read(&mut self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        match &call.segments[..] {
            [function] if function.name == "WhoAmI()" || function.name == "WhoAmI" => {
                let answer = json!({ "OrganizationId": super::DataverseServer::ORGANIZATION_ID });
                Ok(json_answer(StatusCode::OK, &answer))
            }
            [set] if set.key.is_none() => {
                let table = self.table(&set.name)?;
                let rows = self.rows.get(table.set).into_iter().flat_map(BTreeMap::values).cloned().collect();
                self.list(table, rows, call)
            }
            [set] => {
                let (table, id) = self.find(set)?;
                let row = self.row(table.set, id).cloned().unwrap_or_default();
                let options = odata::options(&call.parameters, table).map_err(bad)?;
                let mut shown = self.shown(table, &row, &options, call.wants_annotations())?;
                shown.insert("@odata.context".to_owned(), json!(format!("{}{BASE}$metadata#{}", self.url, table.set)));
                Ok(json_answer(StatusCode::OK, &Value::Object(shown)))
            }
            [set, function] if function.name == "Microsoft.Dynamics.CRM.RetrieveAuditDetails" => {
                let (table, id) = self.find(set)?;
                self.audit_details(table, id)
            }
            [definition, attributes] if definition.name == DEFINITIONS && attributes.key.is_some() => {
                let (table, id) = self.attribute(definition, attributes)?;
                let row = self.row(table.set, id).cloned().unwrap_or_default();
                let options = odata::options(&call.parameters, table).map_err(bad)?;
                Ok(json_answer(StatusCode::OK, &Value::Object(self.shown(table, &row, &options, true)?)))
            }
            [set, collection] if collection.key.is_none() => {
                let (table, id) = self.find(set)?;
                let target = odata::target(&collection.name, table).ok_or_else(|| unknown_segment(&collection.name))?;
                let row = self.row(table.set, id).cloned().unwrap_or_default();
                let rows = self.related(table, &collection.name, &row);
                self.list(target, rows, call)
            }
            _ => Err(unknown_segment(&call.segments.last().map(|last| last.name.clone()).unwrap_or_default())),
        }
    }

    pub(super) fn table(&self, set: &str) -> Result<&'static Table, Refusal> {
        table(set).filter(|table| table.set != ATTRIBUTES).ok_or_else(|| unknown_segment(set))
    }

    /// The row that a segment with a key names.
    pub(super) fn find(&self, segment: &Segment) -> Result<(&'static Table, Uuid), Refusal> {
        let table = self.table(&segment.name)?;
        match &segment.key {
            Some(Key::Id(id)) if self.row(table.set, *id).is_some() => Ok((table, *id)),
            Some(Key::Id(id)) => Err(not_found(table.logical_name, id)),
            Some(Key::LogicalName(name)) if table.set == DEFINITIONS => {
                let rows = self.rows.get(table.set).into_iter().flatten();
                let mut named = rows.filter(|(_, row)| row["LogicalName"] == name.as_str());
                named.next().map(|(id, _)| (table, *id)).ok_or_else(|| not_found(table.logical_name, name))
            }
            _ => Err(bad("The key in the path is not understood.")),
        }
    }

    /// The column definition that `EntityDefinitions(…)/Attributes(…)` names.
    pub(super) fn attribute(&self, of: &Segment, segment: &Segment) -> Result<(&'static Table, Uuid), Refusal> {
        let (_, definition) = self.find(of)?;
        let table = table(ATTRIBUTES).filter(|_| segment.name == ATTRIBUTES);
        let table = table.ok_or_else(|| unknown_segment(&segment.name))?;
        let mut rows = self.rows.get(ATTRIBUTES).into_iter().flatten();
        let found = rows.find(|(id, row)| {
            let named = match &segment.key {
                Some(Key::Id(key)) => key == *id,
                Some(Key::LogicalName(name)) => row["LogicalName"] == name.as_str(),
                None => false,
            };
            named && id_in(row, ATTRIBUTE_OF) == Some(definition)
        });
        found.map(|(id, _)| (table, *id)).ok_or_else(|| not_found(ATTRIBUTES, format!("{:?}", segment.key)))
    }

    fn list(&mut self, table: &'static Table, rows: Vec<Row>, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let options = odata::options(&call.parameters, table).map_err(bad)?;
        let related = |name: &str, row: &Row| self.related(table, name, row);
        let mut rows: Vec<Row> =
            rows.into_iter().filter(|row| options.filter.as_ref().is_none_or(|f| f.holds(row, &related))).collect();
        rows.sort_by(|a, b| odata::compare(a, b, &options.order, table));
        let total = rows.len();
        if let Some(token) = &options.skip_token {
            let last = self.skip_tokens.get(token).ok_or_else(|| bad("The skip token is not valid."))?;
            rows.retain(|row| odata::compare(row, last, &options.order, table) == Ordering::Greater);
        }
        // Definitions come in one piece; `$top` puts the preference out of force.
        let page = match options.top {
            Some(top) => top,
            None if table.set == DEFINITIONS || table.set == ATTRIBUTES => usize::MAX,
            None => call.page_size(),
        };
        let more = rows.len() > page && options.top.is_none();
        rows.truncate(page);
        let mut answer = Map::new();
        answer.insert("@odata.context".to_owned(), json!(format!("{}{BASE}$metadata#{}", self.url, table.set)));
        if options.count {
            // The platform counts up to 5000.
            answer.insert("@odata.count".to_owned(), json!(total.min(PAGE)));
        }
        let annotate = call.wants_annotations();
        let shown: Vec<Value> = rows
            .iter()
            .map(|row| self.shown(table, row, &options, annotate).map(Value::Object))
            .collect::<Result<_, _>>()?;
        answer.insert("value".to_owned(), Value::Array(shown));
        if let (true, Some(last)) = (more, rows.pop()) {
            let token = format!("%3Ccookie%20page={}%20/%3E", self.skip_tokens.len() + 1);
            let others = call.parameters.iter().filter(|(name, _)| name != "$skiptoken");
            let query: String = others.map(|(name, value)| format!("{name}={}&", encode(value))).collect();
            let path: Vec<String> = call.segments.iter().map(Segment::text).collect();
            let link = format!("{}{BASE}{}?{query}$skiptoken={}", self.url, path.join("/"), encode(&token));
            self.skip_tokens.insert(token, last);
            answer.insert("@odata.nextLink".to_owned(), json!(link));
        }
        Ok(json_answer(StatusCode::OK, &Value::Object(answer)))
    }

    /// A row as the Web API shows it.
    pub(super) fn shown(&self, table: &Table, row: &Row, options: &Options, annotate: bool) -> Result<Row, Refusal> {
        let wanted = |name: &str| {
            let own = options.select.as_ref();
            name == table.id || own.is_none_or(|select| select.iter().any(|column| column == name))
        };
        let mut shown = Row::new();
        for (column, kind) in table.columns {
            if wanted(column) && *kind != Kind::Secret && *column != ATTRIBUTE_OF {
                shown.insert((*column).to_owned(), row.get(*column).cloned().unwrap_or_default());
            }
        }
        for (name, value) in row.iter().filter(|(name, _)| name.contains('@')) {
            let of = name.split('@').next().unwrap_or_default();
            if of.is_empty() || (annotate && wanted(of)) {
                shown.insert(name.clone(), value.clone());
            }
        }
        for (name, inner) in &options.expand {
            let target = odata::target(name, table).ok_or_else(|| unknown_segment(name))?;
            let related = |name: &str, row: &Row| self.related(target, name, row);
            let rows = self.related(table, name, row).into_iter();
            let rows = rows.filter(|row| inner.filter.as_ref().is_none_or(|filter| filter.holds(row, &related)));
            let rows = rows.map(|row| self.shown(target, &row, inner, annotate).map(Value::Object));
            let mut rows: Vec<Value> = rows.collect::<Result<_, _>>()?;
            let single = table.lookups.iter().any(|(known, ..)| known == name);
            if rows.len() > EXPANDED && target.set != ATTRIBUTES {
                rows.truncate(EXPANDED);
                let (set, id) = (table.set, row[table.id].as_str().unwrap_or_default());
                let link = format!("{}{BASE}{set}({id})/{name}", self.url);
                shown.insert(format!("{name}@odata.nextLink"), json!(link));
            }
            let value = if single { rows.pop().unwrap_or_default() } else { Value::Array(rows) };
            shown.insert(name.clone(), value);
        }
        Ok(shown)
    }

    fn audit_details(&self, table: &Table, id: Uuid) -> Result<Response<Bytes>, Refusal> {
        if table.set != "audits" {
            return Err(unknown_segment("Microsoft.Dynamics.CRM.RetrieveAuditDetails"));
        }
        if self.details_refused {
            return refuse(403, "0x80040220", "Principal user is missing prvReadAuditSummary privilege");
        }
        let empty = || {
            json!({
                "@odata.type": "#Microsoft.Dynamics.CRM.AttributeAuditDetail", "InvalidNewValueAttributes": [],
                "LocLabelLanguageCode": 0, "DeletedAttributes": { "Count": 0, "Keys": [], "Values": [] },
            })
        };
        let detail = self.details.get(&id).cloned().unwrap_or_else(empty);
        let context = format!("{}{BASE}$metadata#Microsoft.Dynamics.CRM.RetrieveAuditDetailsResponse", self.url);
        Ok(json_answer(StatusCode::OK, &json!({ "@odata.context": context, "AuditDetail": detail })))
    }
}

impl Call<'_> {
    fn page_size(&self) -> usize {
        let asked = self.prefer.split(',').find_map(|part| part.trim().strip_prefix("odata.maxpagesize="));
        asked.and_then(|size| size.parse().ok()).unwrap_or(PAGE).clamp(1, PAGE)
    }

    fn wants_annotations(&self) -> bool {
        self.prefer.contains("odata.include-annotations")
    }

    pub(super) fn wants_representation(&self) -> bool {
        self.prefer.contains("return=representation")
    }
}

impl Segment {
    fn text(&self) -> String {
        match &self.key {
            None => self.name.clone(),
            Some(Key::Id(id)) => format!("{}({id})", self.name),
            Some(Key::LogicalName(name)) => format!("{}(LogicalName='{name}')", self.name),
        }
    }
}

pub(super) fn unknown_segment(name: &str) -> Refusal {
    (404, "0x80060888", format!("Resource not found for the segment '{name}'."))
}

fn segment(text: &str) -> Result<Segment, Refusal> {
    let Some((name, key)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
        return Ok(Segment { name: text.to_owned(), key: None });
    };
    let by_name = || key.strip_prefix("LogicalName='")?.strip_suffix('\'').map(|name| name.replace("''", "'"));
    let key = match Uuid::try_parse(key) {
        _ if key.is_empty() => None,
        Ok(id) => Some(Key::Id(id)),
        Err(_) => Some(Key::LogicalName(by_name().ok_or_else(|| bad(format!("Bad key '{key}' in the path.")))?)),
    };
    Ok(Segment { name: name.to_owned(), key })
}

/// A value of a query string; what must not be in one is escaped.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:,'()$".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// 204, with the id of the row in the header that clients read.
pub(super) fn written(url: &str, set: &str, id: Uuid) -> Response<Bytes> {
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Ok(value) = HeaderValue::from_str(&format!("{url}{BASE}{set}({id})")) {
        response.headers_mut().insert(HeaderName::from_static("odata-entityid"), value);
    }
    response
}
