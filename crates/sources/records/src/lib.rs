//! The `records` source: records in actlog's own schema, from applications of your own and from another actlog.
//!
//! It is the way in for whoever already knows what a record is: surround and custom applications that call Dynamics 365
//! and say so themselves, and an actlog elsewhere that passes on what it captured. `actlog-intake` takes posts and reads
//! files; here a record is checked and completed. It translates nothing: what has another shape belongs into a source
//! of its own. `docs/records-source.md` says what a sender must give.
//!
//! Invariants:
//! - What enters has exactly the keys and types of the schema; anything else is refused by its name.
//! - A sender can't pass for another way in: Source, CollectedTime and PolicyVersion are always this actlog's, and an
//!   application's Id becomes another one, so that it can't take the place of a record of another source.
//! - The same element gives the same Id each time.

use std::borrow::Cow;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, Json, RECORD_TYPE_CRM, Source, SourceContext, SourceError,
    SourcePlugin, Timestamp, WORKLOAD_ACTLOG, WORKLOAD_CRM, json::nested_deeper_than, register_source,
};
use actlog_intake::{Arrival, Format, Intake, IntakeConfig, keys, record_id};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::{Uuid, uuid};

register_source!(RecordsSource);

/// Namespace of the Ids of applications' records. Changing it would make every event a new one.
const NAMESPACE: Uuid = uuid!("6a2f1d0e-8c35-5b47-9d1a-3e7c90b4f512");
/// The member of Extra that says where a record was before it came here.
const ORIGIN: &str = "Origin";
/// The version of the schema.
const VERSION: i32 = 1;
/// Deepest nesting of an element. Readers of JSON commonly stop at 128.
const DEEPEST: usize = 100;

/// Configuration of the `records` source.
pub type RecordsConfig = IntakeConfig<RecordsKeys>;

/// The keys that only this source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(default)]
pub struct RecordsKeys {
    /// Who sends: `application`, whose records are completed and get Ids of their own; or `actlog`, another actlog,
    /// whose records are taken as they are, those of access to its log included.
    pub sender: Sender,
}

keys!(RecordsKeys { sender });

/// Who sends records, and so what is believed of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sender {
    /// Applications that tell what they do.
    #[default]
    Application,
    /// Another actlog.
    Actlog,
}

/// The source, ready to run.
#[derive(Debug)]
pub struct RecordsSource(Intake<Records>);

impl SourcePlugin for RecordsSource {
    const KIND: &'static str = "records";
    const SUMMARY: &'static str = "Records in actlog's own schema, from applications or from another actlog";
    const EXAMPLE: &'static str = "\
listen = \"127.0.0.1:7072\"
headers = { x-key = { env = \"ACTLOG_RECORDS_KEY\" } }
";
    type Config = RecordsConfig;

    fn validate(config: &RecordsConfig) -> Result<(), ConfigError> {
        config.intake.validate()
    }

    async fn build(config: &RecordsConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(Intake::build(&config.intake, Records { sender: config.own.sender }, cx).await?))
    }
}

#[async_trait]
impl Source for RecordsSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        Box::new(self.0).run(cx).await
    }
}

/// Records in JSON.
#[derive(Debug)]
struct Records {
    sender: Sender,
}

impl Format for Records {
    const ELEMENT: &'static str = "a record in JSON";
    const REFUSAL: &'static str = "not-a-record";
    type Envelope<'a> = Timestamp;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Timestamp {
        arrival.received
    }

    fn map<'a>(&self, element: &'a [u8], received: &Timestamp) -> Result<AuditRecord<'a>, String> {
        let element = element.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(element).trim_ascii();
        let text = std::str::from_utf8(element).map_err(|_| "the element is not UTF-8".to_owned())?;
        // Serde would take an array of values as well.
        if !text.starts_with('{') {
            return Err("the element is not a record: it is no JSON object".to_owned());
        }
        if nested_deeper_than(text, DEEPEST) {
            return Err(format!("the record is nested deeper than {DEEPEST} levels"));
        }
        let mut record = match self.sender {
            Sender::Application => of_application(element),
            Sender::Actlog => of_actlog(element),
        }?;
        if record.version != VERSION {
            return Err(format!("Version {} of the schema is not known; {VERSION} is", record.version));
        }
        if record.operation.is_empty() || record.workload.is_empty() {
            return Err("Operation and Workload must not be empty".to_owned());
        }
        record.source = None;
        record.policy_version = None;
        record.collected_time = Some(*received);
        Ok(record)
    }
}

fn decode(element: &[u8]) -> Result<AuditRecord<'_>, String> {
    AuditRecord::decode_borrowed(element).map_err(|error| format!("the element is not a record: {error}"))
}

/// A record as another actlog has it. What that one knew of its capture moves to Extra.
fn of_actlog(element: &[u8]) -> Result<AuditRecord<'_>, String> {
    let mut record = decode(element)?;
    let earlier = record.extra.get(ORIGIN).cloned();
    let origin = Origin {
        id: None,
        source: record.source.as_deref(),
        collected_time: record.collected_time,
        policy_version: record.policy_version,
        origin: earlier.as_ref().map(Json::get).map(serde_json::from_str).transpose().unwrap_or_default(),
    };
    let origin = origin.to_json()?;
    record.extra.insert(ORIGIN, origin);
    Ok(record)
}

/// A record as an application gives it, which may leave out what it need not know.
fn of_application(element: &[u8]) -> Result<AuditRecord<'_>, String> {
    // What is complete is parsed once.
    let (mut record, has_id) = match AuditRecord::decode_borrowed(element) {
        Ok(record) => (record, true),
        Err(error) => match Given::read(element) {
            None => return Err(format!("the element is not a record: {error}")),
            Some(given) => (decode(&given.completed(element)?)?.into_owned(), given.id.is_some()),
        },
    };
    let own = [
        ("Source", record.source.is_some()),
        ("CollectedTime", record.collected_time.is_some()),
        ("PolicyVersion", record.policy_version.is_some()),
        ("Extra.Origin", record.extra.get(ORIGIN).is_some()),
    ];
    if let Some((key, _)) = own.iter().find(|(_, is_given)| *is_given) {
        return Err(format!("{key} is set by actlog; leave it out (sender = \"actlog\" takes what an actlog sends)"));
    }
    if record.workload.trim().eq_ignore_ascii_case(WORKLOAD_ACTLOG) {
        let reason = "is kept for access to the log itself; name the product that the event is of";
        return Err(format!("the Workload {WORKLOAD_ACTLOG:?} {reason}"));
    }
    if has_id {
        let origin = Origin { id: Some(record.id), ..Origin::default() }.to_json()?;
        record.extra.insert(ORIGIN, origin);
    }
    record.id = record_id(&NAMESPACE, has_id.then_some(record.id), element);
    Ok(record)
}

/// Where a record was before it came here: the member Origin of Extra.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Origin<'a> {
    /// The Id that the application gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collected_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u64>,
    /// Where it was before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a RawValue>,
}

impl Origin<'_> {
    fn to_json(&self) -> Result<Json<'static>, String> {
        to_raw_value(self).map(Json::Owned).map_err(|error| error.to_string())
    }
}

/// Which of the required keys an application gave.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given<'a> {
    id: Option<IgnoredAny>,
    record_type: Option<IgnoredAny>,
    version: Option<IgnoredAny>,
    #[serde(borrow)]
    workload: Option<Cow<'a, str>>,
    creation_time: Option<IgnoredAny>,
    operation: Option<IgnoredAny>,
}

impl<'a> Given<'a> {
    /// None where the element is no object, or one that couldn't be completed anyway.
    fn read(element: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(element).ok()
    }

    /// The element with the keys that may be left out. They stand at its end, so that places in errors hold.
    fn completed(&self, element: &[u8]) -> Result<Vec<u8>, String> {
        if self.creation_time.is_none() {
            return Err("the record has no CreationTime (when the event happened, RFC 3339)".to_owned());
        }
        if self.operation.is_none() {
            return Err("the record has no Operation (what was done, such as \"Update\")".to_owned());
        }
        let is_crm = self.workload.as_ref().is_none_or(|workload| workload == WORKLOAD_CRM);
        let mut members = String::new();
        let mut add = |name: &str, value: &dyn std::fmt::Display| members.push_str(&format!(",\"{name}\":{value}"));
        if self.id.is_none() {
            add("Id", &format_args!("\"{}\"", Uuid::nil()));
        }
        if self.record_type.is_none() && is_crm {
            add("RecordType", &RECORD_TYPE_CRM);
        }
        if self.version.is_none() {
            add("Version", &VERSION);
        }
        if self.workload.is_none() {
            add("Workload", &format_args!("\"{WORKLOAD_CRM}\""));
        }
        let open = element.strip_suffix(b"}").unwrap_or(element);
        Ok([open, members.as_bytes(), b"}"].concat())
    }
}
