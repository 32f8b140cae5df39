//! A stand-in for the Web API of a Dataverse environment, with Entra's token endpoints beside it.
//!
//! A real HTTP server on the loopback interface, strict about what it takes: unknown columns, properties in the wrong
//! case, literals of the wrong type, steps that the platform refuses, and requests without a token are errors, in the
//! platform's form. What a client should not do although the platform lets it pass is noted as a
//! [violation](DataverseServer::violations).
//!
//! ```no_run
//! # async fn test() {
//! use actlog_testkit::dataverse_server::DataverseServer;
//! use serde_json::json;
//!
//! let server = DataverseServer::start().await;
//! let user = server.insert("systemusers", json!({ "domainname": "alice@contoso.com", "fullname": "Alice" }));
//! server.insert("audits", json!({ "action": 64, "operation": 4, "_userid_value": user }));
//! let config = server.organization("contoso");    // [organizations.contoso] … with url, tenant and application
//! std::fs::write("secret", DataverseServer::SECRET).unwrap();
//! // … let actlog work on it …
//! assert_eq!(server.violations(), Vec::<String>::new());
//! # }
//! ```
//!
//! Where the documentation does not say what the platform does, the stand-in takes the stricter reading; those places
//! are marked "not documented".

mod definitions;
mod jobs;
mod odata;
mod requests;
mod rules;
mod schema;
mod seed;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actlog_core::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::jobs::Posted;
use self::odata::Row;
use self::schema::{Kind, table};
use crate::entra::Entra;
use crate::random::Random;
use crate::server::Server;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// `GET`, `POST` …
    pub method: String,
    /// What follows `/api/data/v9.2/`, decoded, without the query string.
    pub path: String,
    /// The query string, decoded.
    pub query: String,
    /// The body, as text.
    pub body: String,
    /// The status that it was answered with.
    pub status: u16,
}

/// The running stand-in. It ends when it is dropped.
#[derive(Debug)]
pub struct DataverseServer {
    inner: Arc<Inner>,
    server: Server,
}

#[derive(Debug)]
struct Inner {
    entra: Entra,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Without a slash at its end.
    url: String,
    /// Rows by set and id.
    rows: BTreeMap<&'static str, BTreeMap<Uuid, Row>>,
    /// Definitions of tables and columns that were changed and not published yet.
    unpublished: BTreeMap<(&'static str, Uuid), Row>,
    /// Answers of `RetrieveAuditDetails`, by audit id.
    details: HashMap<Uuid, Value>,
    details_refused: bool,
    /// Where pages go on: the row before.
    skip_tokens: HashMap<String, Row>,
    faults: VecDeque<Fault>,
    /// Of 1000 requests, so many are refused with 429, and so many with 503.
    chaos: Option<(Random, u64, u64)>,
    /// What jobs post: the context, by the job's id.
    jobs: HashMap<Uuid, jobs::Job>,
    /// Jobs that the platform does not resume.
    stuck: Vec<Uuid>,
    requests: Vec<Recorded>,
    violations: Vec<String>,
}

/// How one request is to be refused.
#[derive(Clone, Debug)]
struct Fault {
    status: u16,
    retry_after: Option<Duration>,
}

impl DataverseServer {
    /// The tenant whose tokens are taken.
    pub const TENANT: &'static str = "8f0e3d9a-52c1-4f6e-9a43-1f7f2f8b7c10";
    /// The application that is registered there.
    pub const CLIENT_ID: &'static str = "6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11";
    /// Its secret.
    pub const SECRET: &'static str = "stand-in~secret+of%the&application";
    /// `OrganizationId` of the environment.
    pub const ORGANIZATION_ID: Uuid = Uuid::from_u128(0x4b2c_9f51_7d3e_4a86_b1c0_5e6f_7a8b_9c0d);

    /// Starts an environment as it is when it is new: the organisation's row with auditing on, a few tables, the
    /// messages that have them, no steps, no users.
    pub async fn start() -> Self {
        let entra = Entra::new(Self::TENANT, Self::CLIENT_ID, Self::SECRET);
        let inner = Arc::new(Inner { entra, state: Mutex::default() });
        let answering = Arc::clone(&inner);
        let server = Server::start(move |request| {
            let inner = Arc::clone(&answering);
            async move { requests::answer(inner, request).await }
        })
        .await;
        let this = Self { inner, server };
        this.state().url = this.url();
        seed::plant(&this);
        this
    }

    /// URL of the environment and of its token endpoints, without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The table `[organizations.NAME]` of a configuration that leads here; the secret is in the file `secret` beside
    /// the configuration. Whatever uses it must allow private addresses.
    pub fn organization(&self, name: &str) -> String {
        let url = self.url();
        format!(
            "[organizations.{name}]\nid = \"{}\"\nunique_name = \"{name}\"\ntenant = \"{}\"\nurl = \"{url}\"\n\
             application = {{ client_id = \"{}\", secret = {{ file = \"secret\" }}, authority = \"{url}\" }}\n",
            Self::ORGANIZATION_ID,
            Self::TENANT,
            Self::CLIENT_ID,
        )
    }

    /// The token endpoints: for changing the secret, revoking tokens, shortening their life.
    pub fn entra(&self) -> &Entra {
        &self.inner.entra
    }

    /// Adds a row. Columns that are not given are null, `createdon` is now; the id is made where it is not given.
    /// Members whose name has an `@` are annotations.
    ///
    /// # Panics
    /// When there is no such set, or no such column.
    pub fn insert(&self, set: &str, row: Value) -> Uuid {
        let table = table(set).unwrap_or_else(|| panic!("the stand-in has no set {set}"));
        let Value::Object(given) = row else { panic!("a row is an object") };
        for name in given.keys().filter(|name| !name.contains('@')) {
            assert!(table.column(name).is_some(), "{set} has no column {name}");
        }
        let id = given.get(table.id).and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
        let id = id.unwrap_or_else(Uuid::new_v4);
        self.state().put(table, id, given);
        id
    }

    /// All rows of a set, in the order of their ids, as they are in the database: with secrets, and with what was
    /// published.
    pub fn rows(&self, set: &str) -> Vec<Value> {
        let state = self.state();
        state.rows.get(set).into_iter().flat_map(BTreeMap::values).cloned().map(Value::Object).collect()
    }

    /// Changes columns of a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn change(&self, set: &str, id: Uuid, columns: Value) {
        let mut state = self.state();
        let row = table(set).and_then(|table| state.rows.get_mut(table.set)?.get_mut(&id));
        let (Some(row), Value::Object(columns)) = (row, columns) else { panic!("{set} has no row {id}") };
        row.extend(columns);
    }

    /// Removes a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn remove(&self, set: &str, id: Uuid) {
        let mut state = self.state();
        let removed = table(set).and_then(|table| state.rows.get_mut(table.set)?.remove(&id));
        assert!(removed.is_some(), "{set} has no row {id}");
    }

    /// Sets what `RetrieveAuditDetails` answers about a row of `audits`: the value of `AuditDetail`, with its
    /// `@odata.type`. Rows without one have an empty `AttributeAuditDetail`.
    pub fn set_audit_detail(&self, audit: Uuid, detail: Value) {
        self.state().details.insert(audit, detail);
    }

    /// Whether `RetrieveAuditDetails` is refused with 403, as it is without the privilege.
    pub fn refuse_audit_details(&self, refuse: bool) {
        self.state().details_refused = refuse;
    }

    /// The next `count` requests of the Web API are refused with that status; `retry_after` goes into the header.
    pub fn fail_next(&self, count: usize, status: u16, retry_after: Option<Duration>) {
        self.state().faults.extend(std::iter::repeat_n(Fault { status, retry_after }, count));
    }

    /// From now on, so many of 1000 requests are refused with 429 (`Retry-After: 0`), and so many with 503, at random
    /// by `seed`. All zero ends it.
    pub fn refuse_at_random(&self, seed: u64, throttled_per_mille: u64, unavailable_per_mille: u64) {
        let random = Random::new(seed, 0, 0);
        let any = throttled_per_mille + unavailable_per_mille > 0;
        self.state().chaos = any.then_some((random, throttled_per_mille, unavailable_per_mille));
    }

    /// Every request of the Web API so far, those that were refused too.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// What a client has done that it should not, a sentence each.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes a row with all of its columns; those that are not given are null.
    fn put(&mut self, table: &'static schema::Table, id: Uuid, mut given: Row) {
        for (column, kind) in table.columns {
            let missing = || match (*kind, *column) {
                (Kind::Time, "createdon" | "modifiedon") => json!(SystemClock.now()),
                _ => Value::Null,
            };
            given.entry(*column).or_insert_with(missing);
        }
        given.insert(table.id.to_owned(), json!(id));
        self.rows.entry(table.set).or_default().insert(id, given);
    }

    fn row(&self, set: &str, id: Uuid) -> Option<&Row> {
        self.rows.get(set)?.get(&id)
    }

    /// The rows that a navigation property leads to.
    fn related(&self, table: &schema::Table, name: &str, row: &Row) -> Vec<Row> {
        let id = &row[table.id];
        if let Some((_, set, column)) = table.collections.iter().find(|(known, ..)| *known == name) {
            let all = self.rows.get(set).into_iter().flat_map(BTreeMap::values);
            return all.filter(|row| row.get(*column) == Some(id)).cloned().collect();
        }
        if let Some((_, set, column)) = table.lookups.iter().find(|(known, ..)| *known == name) {
            return id_in(row, column).and_then(|id| self.row(set, id)).cloned().into_iter().collect();
        }
        let Some((_, set, pairs)) = table.associations.iter().find(|(known, ..)| *known == name) else {
            return Vec::new();
        };
        let Some(target) = schema::table(set) else { return Vec::new() };
        let pairs = self.rows.get(pairs).into_iter().flat_map(BTreeMap::values);
        let ids = pairs.filter(|pair| pair.get(table.id) == Some(id)).filter_map(|pair| id_in(pair, target.id));
        ids.filter_map(|id| self.row(set, id)).cloned().collect()
    }
}

/// The id in a column.
fn id_in(row: &Row, column: &str) -> Option<Uuid> {
    Uuid::try_parse(row.get(column)?.as_str()?).ok()
}
