//! Reports that were looked at: rows of the view ExecutionLog3 of SQL Server Reporting Services.
//!
//! Columns and their values are those of Microsoft's page "Report Server ExecutionLog and the ExecutionLog3 View". What
//! they mean for the specification's three rows is decided here, and explained in `docs/admin-events.md`.

use std::borrow::Cow;
use std::fmt;

use actlog_core::{AuditRecord, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use actlog_intake::{Arrival, Format};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use uuid::{Uuid, uuid};

use crate::event::{ADMIN_EVENT, Event};

/// Namespace of the Ids of rows. Changing it would make every row a new one.
const NAMESPACE: Uuid = uuid!("8c5a71e0-2f4d-5b36-a1d9-6e0f93b7c218");
/// What a folder is called in which Dynamics 365 keeps an organisation's reports, behind the organisation's name.
const FOLDER_SUFFIX: &str = "_MSCRM";

/// A row as it comes: with texts only from CSV, with numbers too from JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct Row<'a> {
    #[serde(borrow)]
    instance_name: Value<'a>,
    #[serde(borrow)]
    item_path: Value<'a>,
    #[serde(borrow)]
    user_name: Value<'a>,
    #[serde(borrow)]
    execution_id: Value<'a>,
    #[serde(borrow)]
    request_type: Value<'a>,
    #[serde(borrow)]
    format: Value<'a>,
    #[serde(borrow)]
    parameters: Value<'a>,
    #[serde(borrow)]
    item_action: Value<'a>,
    #[serde(borrow)]
    time_start: Value<'a>,
    #[serde(borrow)]
    time_end: Value<'a>,
    #[serde(borrow)]
    time_data_retrieval: Value<'a>,
    #[serde(borrow)]
    time_processing: Value<'a>,
    #[serde(borrow)]
    time_rendering: Value<'a>,
    #[serde(borrow)]
    source: Value<'a>,
    #[serde(borrow)]
    status: Value<'a>,
    #[serde(borrow)]
    byte_count: Value<'a>,
    #[serde(borrow)]
    row_count: Value<'a>,
    #[serde(borrow)]
    additional_info: Value<'a>,
}

/// The value of a column as text; none for null and for an empty text.
#[derive(Clone, Debug, Default)]
struct Value<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or null")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value((!text.is_empty()).then_some(Cow::Borrowed(text))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value((!text.is_empty()).then(|| Cow::Owned(text.to_owned()))))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
                Ok(Value(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
                Ok(Value(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
                Ok(Value(None))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl Value<'_> {
    fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    fn is_any_of(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.text().eq_ignore_ascii_case(text))
    }
}

/// Rows in CSV or JSON.
#[derive(Debug)]
pub(crate) struct ExecutionLog;

impl Format for ExecutionLog {
    const ELEMENT: &'static str = "a row of ExecutionLog3 in CSV or JSON";
    const REFUSAL: &'static str = "not-a-row";
    const TAKES_CSV: bool = true;
    type Envelope<'a> = Timestamp;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Timestamp {
        arrival.received
    }

    fn map<'a>(&self, element: &'a [u8], received: &Timestamp) -> Result<AuditRecord<'a>, String> {
        let row: Row<'a> = serde_json::from_slice(element).map_err(|error| error.to_string())?;
        for (column, value) in [("ExecutionId", &row.execution_id), ("TimeStart", &row.time_start)] {
            if value.0.is_none() {
                return Err(format!("{column} is missing; select all columns of ExecutionLog3"));
            }
        }
        let creation_time = time(row.time_start.text()).ok_or_else(|| {
            format!("TimeStart is {:?}; expected is 2018-03-02T23:25:56.250Z, in UTC", row.time_start.text())
        })?;
        let event = event(&row);
        let path = ReportPath::of(row.item_path.text());
        let (organization, report) = (path.organization.map(str::to_owned), path.report);
        let mut record = AuditRecord {
            id: id(&row),
            record_type: RECORD_TYPE_CRM,
            version: 1,
            workload: WORKLOAD_CRM.into(),
            creation_time,
            operation: event.operation().unwrap_or_default().into(),
            message: event.operation().map(Cow::Borrowed),
            crm_organization_unique_name: organization.map(Cow::Owned),
            user_id: row.user_name.0,
            result_status: row.status.0.map(|status| match &*status {
                "rsSuccess" => "Success".into(),
                _ => status,
            }),
            entity_name: event.entity().map(Cow::Borrowed),
            item_type: event.entity().map(Cow::Borrowed),
            entity_id: report,
            object_id: row.item_path.0,
            service_name: row.instance_name.0,
            collected_time: Some(*received),
            ..AuditRecord::default()
        };
        if let Some(row) = event.row() {
            record.extra.insert(ADMIN_EVENT, row);
        }
        for (name, value) in [
            ("ExecutionId", &row.execution_id),
            ("RequestType", &row.request_type),
            ("Format", &row.format),
            ("Parameters", &row.parameters),
            ("ItemAction", &row.item_action),
            ("TimeEnd", &row.time_end),
            ("TimeDataRetrieval", &row.time_data_retrieval),
            ("TimeProcessing", &row.time_processing),
            ("TimeRendering", &row.time_rendering),
            ("ReportSource", &row.source),
            ("ByteCount", &row.byte_count),
            ("RowCount", &row.row_count),
            ("AdditionalInfo", &row.additional_info),
        ] {
            if value.0.is_some() {
                record.extra.insert(name, value.text());
            }
        }
        Ok(record)
    }
}

/// What a row says that happened.
///
/// - Rendering for the screen, and whatever else is done with a report that is open, shows data: viewed.
/// - Rendering in any other format makes a file: exported.
/// - Images: requests for a single stream of a report; and the format IMAGE where a person is at the other end, with
///   which viewers show and print pages. (A TIFF that is saved by hand leaves the same row. The log can't tell them.)
fn event(row: &Row<'_>) -> Event {
    const FOR_THE_SCREEN: [&str; 3] = ["RPL", "RGDI", "NULL"];
    let format = row.format.text();
    let is_html = format.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("HTML"));
    let is_image = format.eq_ignore_ascii_case("IMAGE");
    if row.item_action.is_any_of(&["RenderStream", "GetImage"])
        || (is_image && row.request_type.is_any_of(&["", "Interactive"]))
    {
        return Event::ReportViewerRenderImage;
    }
    let renders = row.item_action.is_any_of(&["", "Render"]);
    if !renders || format.is_empty() || is_html || row.format.is_any_of(&FOR_THE_SCREEN) {
        return Event::ReportViewed;
    }
    Event::ReportViewerExport
}

/// All actions of a session have one ExecutionId; the log has no key of its own.
fn id(row: &Row<'_>) -> Uuid {
    let parts = [&row.instance_name, &row.execution_id, &row.time_start, &row.item_action, &row.format, &row.item_path];
    // Zero bytes don't occur in SQL Server's names, so that no two lists of parts give the same name.
    let name: Vec<&str> = parts.map(Value::text).into();
    Uuid::new_v5(&NAMESPACE, name.join("\0").as_bytes())
}

/// A time with `T` or a blank in the middle; without a zone it is UTC.
fn time(text: &str) -> Option<Timestamp> {
    /// Longer than any spelling of a time.
    const LONGEST: usize = 48;
    let text = text.trim();
    if text.len() > LONGEST {
        return None;
    }
    let text = text.replacen(' ', "T", 1).replace(' ', "");
    Timestamp::parse(&text).or_else(|_| Timestamp::parse(&format!("{text}Z"))).ok()
}

/// What the path of a report of Dynamics 365 says: `/Contoso_MSCRM/{4d4b0a21-…}`.
struct ReportPath<'a> {
    organization: Option<&'a str>,
    report: Option<Uuid>,
}

impl<'a> ReportPath<'a> {
    fn of(path: &'a str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let organization = segments.next().and_then(|folder| {
            let (name, suffix) = folder.split_at_checked(folder.len().checked_sub(FOLDER_SUFFIX.len())?)?;
            (suffix.eq_ignore_ascii_case(FOLDER_SUFFIX) && !name.is_empty()).then_some(name)
        });
        let report = segments.next_back().filter(|name| name.starts_with('{'));
        Self { organization, report: report.and_then(|name| Uuid::try_parse(name).ok()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(members: &str) -> String {
        format!(
            "{{\"ExecutionId\":\"kx0y5m45\",\"TimeStart\":\"2018-03-02 23:25:56.250\",\"UserName\":\"CONTOSO\\\\kim\",\
             \"ItemPath\":\"/Contoso_MSCRM/CustomReports/{{4d4b0a21-711e-e811-a952-000d3a732d76}}\",\
             \"Status\":\"rsSuccess\",\"ItemAction\":\"Render\",\"RequestType\":\"Interactive\"{members}}}"
        )
    }

    fn map(json: &str) -> Result<AuditRecord<'_>, String> {
        ExecutionLog.map(json.as_bytes(), &Timestamp::default())
    }

    #[test]
    fn viewing_exporting_and_images_are_told_by_action_format_and_request() {
        for (members, operation) in [
            (r#","Format":null"#, "ReportViewed"),
            (r#","Format":"HTML4.0""#, "ReportViewed"),
            (r#","Format":"html5""#, "ReportViewed"),
            (r#","Format":"RPL""#, "ReportViewed"),
            (r#","Format":"PDF""#, "ReportViewerExport"),
            (r#","Format":"EXCELOPENXML""#, "ReportViewerExport"),
            (r#","Format":"WORDOPENXML""#, "ReportViewerExport"),
            (r#","Format":"CSV""#, "ReportViewerExport"),
            (r#","Format":"XML""#, "ReportViewerExport"),
            (r#","Format":"MHTML""#, "ReportViewerExport"),
            (r#","Format":"PPTX""#, "ReportViewerExport"),
            (r#","Format":"IMAGE""#, "ReportViewerRenderImage"),
        ] {
            let record_json = row(members);
            let record = map(&record_json).unwrap();
            assert_eq!(record.operation, operation, "{members}");
            assert_eq!(record.entity_name.as_deref(), Some("report"));
        }
        let other = |action: &str, request: &str, format: &str| {
            let json = format!(
                "{{\"ExecutionId\":\"a\",\"TimeStart\":\"2018-03-02T23:25:56Z\",\"ItemAction\":\"{action}\",\
                 \"RequestType\":\"{request}\",\"Format\":\"{format}\"}}"
            );
            map(&json).unwrap().operation.into_owned()
        };
        assert_eq!(other("Render", "Subscription", "IMAGE"), "ReportViewerExport");
        assert_eq!(other("RenderStream", "Interactive", "HTML5"), "ReportViewerRenderImage");
        for action in ["Sort", "BookMarkNavigation", "DocumentNavigation", "GetDocumentMap", "FindString", "Execute"] {
            assert_eq!(other(action, "Interactive", "RPL"), "ReportViewed", "{action}");
        }
        assert_eq!(other("RenderEdit", "Interactive", ""), "ReportViewed");
    }

    #[test]
    fn a_row_of_a_report_of_dynamics_says_organisation_and_report() {
        let json = row(r#","InstanceName":"SQL1\\MSSQLSERVER","RowCount":42,"Parameters":"CRM_x=1","ByteCount":"900""#);
        let record = map(&json).unwrap();
        assert_eq!(record.crm_organization_unique_name.as_deref(), Some("Contoso"));
        assert_eq!(record.entity_id, Some("4d4b0a21-711e-e811-a952-000d3a732d76".parse().unwrap()));
        assert_eq!(record.user_id.as_deref(), Some("CONTOSO\\kim"));
        assert_eq!(record.result_status.as_deref(), Some("Success"));
        assert_eq!(record.creation_time.to_string(), "2018-03-02T23:25:56.250Z");
        for (name, json) in [("RowCount", "\"42\""), ("Parameters", "\"CRM_x=1\""), ("AdminEvent", "\"Report Viewed\"")]
        {
            assert_eq!(record.extra.get(name).unwrap().get(), json);
        }
        let elsewhere = r#"{"ExecutionId":"a","TimeStart":"2018-03-02T23:25:56Z","ItemPath":"/Sales/Top","Status":"rsProcessingAborted"}"#;
        let record = map(elsewhere).unwrap();
        assert_eq!((record.crm_organization_unique_name, record.entity_id), (None, None));
        assert_eq!(record.result_status.as_deref(), Some("rsProcessingAborted"));
    }

    #[test]
    fn a_row_keeps_its_id_and_another_action_of_the_session_has_another() {
        let (one, other) = (row(r#","Format":"PDF""#), row(r#","Format":"CSV""#));
        assert_eq!(map(&one).unwrap().id, map(&one).unwrap().id);
        assert_ne!(map(&one).unwrap().id, map(&other).unwrap().id);
    }

    #[test]
    fn times_are_utc_however_they_are_exported() {
        for text in [
            "2018-03-02T23:25:56.250Z",
            "2018-03-02 23:25:56.250",
            "2018-03-02T23:25:56.2500000",
            "2018-03-03 00:25:56.2500000 +01:00",
        ] {
            assert_eq!(time(text).unwrap().to_string(), "2018-03-02T23:25:56.250Z", "{text}");
        }
        for text in ["3/2/2018 11:25:56 PM", "", "2018-03-02", &"2018-03-02 ".repeat(100)] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_row_is_refused_with_what_would_be_right() {
        for (json, reason) in [
            (r#"{"TimeStart":"2018-03-02T23:25:56Z"}"#, "ExecutionId is missing"),
            (r#"{"ExecutionId":"a"}"#, "TimeStart is missing"),
            (r#"{"ExecutionId":"a","TimeStart":"3/2/2018 11:25 PM"}"#, "expected is 2018-03-02T23:25:56.250Z"),
            (r#"{"ExecutionId":"a","ReportPath":"/x"}"#, "`ReportPath`, expected one of `InstanceName`"),
            (r#"{"ExecutionId":["a"]}"#, "a text, a number or null"),
        ] {
            let error = map(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
