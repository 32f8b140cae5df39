//! Seeded, realistic webhook traffic of a Dataverse environment.
//!
//! The bodies are `RemoteExecutionContext`s in the platform's own dialect: its member order, its escapes, both of its
//! date forms, synchronous and asynchronous posts, the enclosing context of stage 30. What is in them is invented.
//! Users, tables and rows are skewed by Zipf's law, times follow an office day, sizes vary around a mean, and one
//! query in eighty returns 50 to 250 rows.
//!
//! The same seed and settings give the same bytes for ever, on every machine: a test fixes their SHA-256. Each body
//! depends on nothing but its number, so a generator may begin anywhere ([`Generator::starting_at`]).
//!
//! ```
//! use actlog_testkit::generator::Generator;
//!
//! let mut generator = Generator::new(1);
//! let mut body = Vec::new();
//! let expected = generator.body(&mut body);
//! assert!(body.starts_with(br#"{"BusinessUnitId":""#));
//! assert_eq!(expected.number, 0);
//! ```

mod messages;
mod queries;
mod wire;
mod world;

use std::fmt::Write as _;

use actlog_core::Timestamp;
use uuid::Uuid;

use crate::random::{Random, Zipf, id_of};
use messages::{Parts, Post};
use wire::{NONE, Wire};

/// Streams of choices and of ids; never renumber them.
mod purpose {
    pub(super) const EVENT: u64 = 100;
    pub(super) const EXPORT: u64 = 101;
    pub(super) const USER: u64 = 102;
    pub(super) const USER_OBJECT: u64 = 103;
    pub(super) const ORGANIZATION: u64 = 104;
    pub(super) const BUSINESS_UNIT: u64 = 105;
    pub(super) const STEP: u64 = 106;
    pub(super) const TABLE: u64 = 1000;
}

/// Monday, 2 March 2026, 00:00 UTC.
const FIRST_DAY: u64 = 1_772_409_600_000;
/// Events of a day; their number decides how far apart they are.
const EVENTS_PER_DAY: u64 = 1_000_000;
/// How many events each hour has, beside the others.
const HOURS: [u64; 24] = [6, 4, 3, 3, 4, 8, 22, 50, 82, 96, 100, 94, 70, 84, 96, 94, 84, 62, 40, 28, 24, 18, 12, 8];
/// Rows of each table.
const ROWS: usize = 20_000;

/// What a body says, for comparing it with the record that becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Place in the series, from 0.
    pub number: u64,
    /// `MessageName`: the pipeline's name, such as `Win`.
    pub message: &'static str,
    /// `PrimaryEntityName`, which may be `none`.
    pub primary_entity: &'static str,
    /// `PrimaryEntityId`; none where it is zeros.
    pub primary_entity_id: Option<Uuid>,
    /// Table and id of the row that the operation is about, wherever the body says it; none for queries, and for
    /// operations on no row.
    pub target: Option<(&'static str, Uuid)>,
    /// The operation that encloses this one, such as `ExportToExcel` around a `RetrieveMultiple`.
    pub enclosing: Option<&'static str>,
    /// `UserId`.
    pub user_id: Uuid,
    /// `InitiatingUserId`: another than `user_id` under impersonation.
    pub initiating_user_id: Uuid,
    /// `OrganizationId`.
    pub organization_id: Uuid,
    /// `CorrelationId`.
    pub correlation_id: Uuid,
    /// `OperationId`.
    pub operation_id: Uuid,
    /// `OperationCreatedOn`.
    pub created: Timestamp,
    /// Whether the step is asynchronous.
    pub is_async: bool,
    /// Ids of the rows that came back, of a query or as targets of an export to Word.
    pub rows: Vec<Uuid>,
}

/// An endless series of webhook posts.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    next: u64,
    /// What the messages that can vary aim at.
    size: u64,
    users: Zipf,
    rows: Zipf,
    organization_id: Uuid,
    business_unit_id: Uuid,
    host: String,
    name: String,
    parts: Parts,
}

impl Generator {
    /// Users, unless said otherwise.
    pub const USERS: usize = 5000;
    /// Mean size of a body in bytes, unless said otherwise.
    pub const MEAN_SIZE: usize = 4096;

    /// The series of that seed.
    pub fn new(seed: u64) -> Self {
        let organization_id = id_of(seed, purpose::ORGANIZATION, 0);
        let simple = organization_id.simple().to_string();
        Self {
            seed,
            next: 0,
            size: size_for_mean(Self::MEAN_SIZE as u64),
            users: Zipf::new(Self::USERS),
            rows: Zipf::new(ROWS),
            organization_id,
            business_unit_id: id_of(seed, purpose::BUSINESS_UNIT, 0),
            host: format!("org{}.crm4.dynamics.com", &simple[..8]),
            name: format!("unq{}", &simple[..29]),
            parts: Parts::default(),
        }
    }

    /// The same with another number of users, at least 1.
    #[must_use]
    pub fn with_users(self, users: usize) -> Self {
        Self { users: Zipf::new(users.max(1)), ..self }
    }

    /// The same with bodies of about that many bytes on average. Some messages say little and stay near 1.5 KB, others
    /// need 4 KB for what the platform adds; so means below 3.8 KB are not reached.
    #[must_use]
    pub fn with_mean_size(self, bytes: usize) -> Self {
        Self { size: size_for_mean(bytes as u64), ..self }
    }

    /// The same beginning with the body of that number.
    #[must_use]
    pub fn starting_at(self, number: u64) -> Self {
        Self { next: number, ..self }
    }

    /// Appends the next body, on one line without a line end, and says what is in it.
    pub fn body(&mut self, out: &mut Vec<u8>) -> Expected {
        let number = self.next;
        self.next += 1;
        // Two events in a row may be the halves of an export: the query inside, then the export itself.
        let mut export = Random::new(self.seed, purpose::EXPORT, number / 2);
        let is_export = export.per_mille(4);
        let mut own = Random::new(self.seed, purpose::EVENT, number);
        let mut post = self.post(number, if is_export { &mut export } else { &mut own });
        self.parts.clear();
        let half = is_export.then_some(number.is_multiple_of(2));
        messages::fill(&mut post, &mut self.parts, half, if is_export { &mut export } else { &mut own });
        if is_export {
            // What the halves share is drawn; what tells them apart is not.
            post.operation_id = own.uuid();
            post.request_id = post.operation_id;
        }
        self.write(&post, out);
        Expected {
            number,
            message: post.message,
            primary_entity: post.primary_entity,
            primary_entity_id: Some(post.primary_entity_id).filter(|id| *id != NONE),
            target: post.target,
            enclosing: post.enclosing,
            user_id: post.user_id,
            initiating_user_id: post.initiating_user_id,
            organization_id: self.organization_id,
            correlation_id: post.correlation_id,
            operation_id: post.operation_id,
            created: Timestamp::from_unix_milliseconds(if post.is_async {
                (post.created / 1000 * 1000) as i64
            } else {
                post.created as i64
            }),
            is_async: post.is_async,
            rows: std::mem::take(&mut self.parts.rows),
        }
    }

    /// The headers that the platform sends with a body.
    pub fn headers(&self, expected: &Expected) -> [(&'static str, String); 5] {
        [
            ("Content-Type", "application/json".to_owned()),
            ("x-ms-dynamics-organization", self.host.clone()),
            ("x-ms-dynamics-entity-name", expected.primary_entity.to_owned()),
            ("x-ms-dynamics-request-name", expected.message.to_owned()),
            ("x-ms-correlation-request-id", expected.correlation_id.to_string()),
        ]
    }

    /// `OrganizationId` of all bodies.
    pub fn organization_id(&self) -> Uuid {
        self.organization_id
    }

    /// `OrganizationName` of all bodies.
    pub fn organization_name(&self) -> &str {
        &self.name
    }

    /// Who does something, when, and how large it is to be.
    fn post(&self, number: u64, random: &mut Random) -> Post {
        let user = self.users.draw(random);
        let user_id = id_of(self.seed, purpose::USER, user);
        // Some posts are made by a service on behalf of the user.
        let is_impersonated = random.per_mille(15);
        let initiator = if is_impersonated { 0 } else { user };
        let operation_id = random.uuid();
        // Sizes lie between 0.55 and 1.75 of the middle, the smaller ones more often.
        let spread = 55 + random.below(121).min(random.below(121));
        Post {
            seed: self.seed,
            created: time_of(number),
            user_id,
            user_object_id: id_of(self.seed, purpose::USER_OBJECT, user),
            initiating_user_id: id_of(self.seed, purpose::USER, initiator),
            initiator,
            initiating_user_object_id: id_of(self.seed, purpose::USER_OBJECT, initiator),
            business_unit_id: self.business_unit_id,
            correlation_id: random.uuid(),
            operation_id,
            request_id: operation_id,
            row: self.rows.draw(random),
            size: self.size * spread / 95,
            is_async: false,
            depth: 1,
            message: "",
            primary_entity: "none",
            primary_entity_id: NONE,
            target: None,
            enclosing: None,
            parent_message: "",
            parent_entity: "none",
            has_parent: false,
        }
    }

    fn write(&self, post: &Post, out: &mut Vec<u8>) {
        let parts = &self.parts;
        self.head(post, out, &parts.input, post.message, post.depth);
        out.put(r#","OutputParameters":["#);
        out.extend_from_slice(&parts.output);
        out.put("],");
        self.step(post, out, post.message, post.primary_entity);
        out.put(r#","ParentContext":"#);
        if post.has_parent {
            // In asynchronous posts the platform gives the enclosing context the name of the inner message.
            let message = if post.is_async { post.message } else { post.parent_message };
            self.head(post, out, &parts.parent_input, message, 1);
            out.put(r#","OutputParameters":[],"#);
            self.step(post, out, message, post.parent_entity);
            out.put(r#","ParentContext":null,"PostEntityImages":[],"PreEntityImages":[]"#);
            let id = if post.parent_entity == post.primary_entity { post.primary_entity_id } else { NONE };
            self.tail(post, out, post.parent_entity, id, &parts.parent_shared, 30);
        } else {
            out.put("null");
        }
        out.put(r#","PostEntityImages":["#);
        out.extend_from_slice(&parts.post_images);
        out.put(r#"],"PreEntityImages":["#);
        out.extend_from_slice(&parts.pre_images);
        out.put("]");
        self.tail(post, out, post.primary_entity, post.primary_entity_id, &parts.shared, 40);
    }

    /// From the opening brace to `OrganizationName`.
    fn head(&self, post: &Post, out: &mut Vec<u8>, input: &[u8], message: &str, depth: u64) {
        out.put(r#"{"BusinessUnitId":"#);
        out.id(post.business_unit_id);
        out.put(r#","CorrelationId":"#);
        out.id(post.correlation_id);
        out.put(r#","Depth":"#);
        out.number(depth);
        out.put(r#","InitiatingUserAgent":"#);
        out.text(user_agent(post.initiator));
        out.put(r#","InitiatingUserAzureActiveDirectoryObjectId":"#);
        out.id(if post.is_async { NONE } else { post.initiating_user_object_id });
        out.put(r#","InitiatingUserId":"#);
        out.id(post.initiating_user_id);
        out.put(r#","InputParameters":["#);
        out.extend_from_slice(input);
        out.put(r#"],"IsExecutingOffline":false,"IsInTransaction":"#);
        out.put(if post.is_async { "false" } else { "true" });
        out.put(r#","IsOfflinePlayback":false,"IsolationMode":1,"MessageName":""#);
        out.put(message);
        out.put(if post.is_async { r#"","Mode":1"# } else { r#"","Mode":0"# });
        out.put(r#","OperationCreatedOn":"#);
        if post.is_async {
            out.zoned_date(post.created)
        } else {
            out.date(post.created)
        }
        out.put(r#","OperationId":"#);
        out.id(post.operation_id);
        out.put(r#","OrganizationId":"#);
        out.id(self.organization_id);
        out.put(r#","OrganizationName":""#);
        out.put(&self.name);
        out.put("\"");
    }

    /// The step that posts; its name comes with synchronous posts only.
    fn step(&self, post: &Post, out: &mut Vec<u8>, message: &str, entity: &str) {
        out.put(r#""OwningExtension":{"Id":"#);
        out.id(id_of(self.seed, purpose::STEP, messages::name_number(message)));
        out.put(r#","KeyAttributes":[],"LogicalName":"sdkmessageprocessingstep","Name":"#);
        if post.is_async {
            out.put("null");
        } else {
            out.put(r#""activity-log: "#);
            out.put(message);
            out.put(" of ");
            out.put(if entity == "none" { "any entity" } else { entity });
            out.put("\"");
        }
        out.put(r#","RowVersion":null}"#);
    }

    /// From `PrimaryEntityId` to the closing brace.
    fn tail(&self, post: &Post, out: &mut Vec<u8>, entity: &str, id: Uuid, shared: &[u8], stage: u64) {
        out.put(r#","PrimaryEntityId":"#);
        out.id(id);
        out.put(r#","PrimaryEntityName":""#);
        out.put(entity);
        out.put(r#"","RequestId":"#);
        out.id(post.request_id);
        out.put(r#","SecondaryEntityName":"none","SharedVariables":["#);
        out.extend_from_slice(shared);
        out.put(r#"],"Stage":"#);
        out.number(stage);
        out.put(r#","UserAzureActiveDirectoryObjectId":"#);
        out.id(if post.is_async { NONE } else { post.user_object_id });
        out.put(r#","UserId":"#);
        out.id(post.user_id);
        out.put("}");
    }
}

impl Iterator for Generator {
    type Item = (Vec<u8>, Expected);

    fn next(&mut self) -> Option<Self::Item> {
        let mut body = Vec::new();
        let expected = self.body(&mut body);
        Some((body, expected))
    }
}

/// Bodies, one a line, with what is in them: the content of a file that a source reads.
pub fn ndjson(generator: &mut Generator, count: usize) -> (Vec<u8>, Vec<Expected>) {
    let mut lines = Vec::new();
    let expected = (0..count)
        .map(|_| {
            let expected = generator.body(&mut lines);
            lines.push(b'\n');
            expected
        })
        .collect();
    (lines, expected)
}

/// What messages must aim at for such a mean over all; measured, because small messages and long answers pull it.
fn size_for_mean(mean: u64) -> u64 {
    match mean.checked_sub(6000) {
        Some(more) => 5440 + more * 1106 / 1000,
        None => 5440_u64.saturating_sub((6000 - mean) * 1255 / 1000),
    }
}

/// When the event of that number happens: never before the one in front of it, and denser by day than by night.
fn time_of(number: u64) -> u64 {
    let total: u64 = HOURS.iter().sum();
    let (day, place) = (number / EVENTS_PER_DAY, number % EVENTS_PER_DAY);
    let mut before = 0;
    for (hour, weight) in HOURS.iter().enumerate() {
        let reached = (before + weight) * EVENTS_PER_DAY;
        if place * total < reached {
            let within = (place * total - before * EVENTS_PER_DAY) * 3_600_000 / (weight * EVENTS_PER_DAY);
            return FIRST_DAY + day * 86_400_000 + hour as u64 * 3_600_000 + within;
        }
        before += weight;
    }
    FIRST_DAY + (day + 1) * 86_400_000
}

/// People have browsers; one user in thirty is a program.
fn user_agent(user: u64) -> &'static str {
    const BROWSERS: [&str; 5] = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/134.0.0.0 Safari/537.36 Edg/134.0.0.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/134.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Safari/605.1.15",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:136.0) Gecko/20100101 Firefox/136.0",
        "",
    ];
    if user.is_multiple_of(30) {
        return "Contoso.Integration (DataverseSvcClient:1.1.0.11)";
    }
    BROWSERS[(user % 5) as usize]
}

impl Expected {
    /// One line for a person who looks for the body that a test complains about.
    pub fn describe(&self) -> String {
        let mut text = format!("body {}: {} of {}", self.number, self.message, self.primary_entity);
        if let Some((table, id)) = self.target {
            // Writing into a String can't fail.
            let _ = write!(text, ", {table} {id}");
        }
        text
    }
}
