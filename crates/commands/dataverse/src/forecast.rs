//! How many system jobs the steps will make, as far as the environment lets it be counted.

use actlog_core::{Clock, SystemClock};
use actlog_dataverse::webapi::WebApiError;
use serde::Deserialize;

use crate::environment::Environment;
use crate::output::count;
use crate::plan::Wanted;
use crate::rows::OrganizationRow;

/// The audit table's `operation` of the messages that it counts.
const COUNTED: [(&str, i32); 3] = [("Create", 1), ("Update", 2), ("Delete", 3)];
/// The environment counts no further.
const COUNT_LIMIT: u64 = 5000;
const DAY_IN_MILLISECONDS: i64 = 24 * 3600 * 1000;

#[derive(Deserialize)]
struct Counted {
    /// Negative where the environment does not count.
    #[serde(rename = "@odata.count")]
    count: i64,
}

/// Lines that say what is to be expected of asynchronous steps.
pub(crate) async fn lines(
    environment: &Environment,
    steps: &[Wanted],
    organization: Option<&OrganizationRow>,
) -> Vec<String> {
    let asynchronous: Vec<_> = steps.iter().filter(|step| !step.synchronous).collect();
    if asynchronous.is_empty() {
        return vec!["forecast: no system jobs, because every step is synchronous".to_owned()];
    }
    let is_audited = organization.and_then(|row| row.isauditenabled);
    let mut known = Vec::new();
    let mut problem = match is_audited {
        Some(true) => None,
        Some(false) => Some("auditing is off in the environment".to_owned()),
        None => Some("the environment's audit switches can't be read".to_owned()),
    };
    if problem.is_none() {
        let since = SystemClock.now().plus_milliseconds(-DAY_IN_MILLISECONDS);
        for (message, operation) in COUNTED {
            if !asynchronous.iter().any(|step| step.message == message) {
                continue;
            }
            let query = format!(
                "audits?$select=auditid&$filter=createdon ge {since} and operation eq {operation}&$count=true&$top=1"
            );
            match environment.api.get::<Counted>(&query).await {
                Ok(Counted { count }) => match u64::try_from(count) {
                    Ok(count) => known.push((message, count)),
                    Err(_) => {
                        problem = Some("the environment does not count its audit table".to_owned());
                        break;
                    }
                },
                Err(error) => {
                    problem = Some(reason(&error));
                    break;
                }
            }
        }
    }
    let mut lines = Vec::new();
    if !known.is_empty() {
        let at_least =
            |count: u64| if count < COUNT_LIMIT { count.to_string() } else { format!("{COUNT_LIMIT} or more") };
        let parts: Vec<_> = known.iter().map(|(message, count)| format!("{message} {}", at_least(*count))).collect();
        let audited = "as many as the audit table has of the last 24 hours; tables that it leaves out come on top";
        lines.push(format!("forecast: system jobs a day: {}: {audited}", parts.join(", ")));
    }
    let unknown = asynchronous.iter().filter(|step| !known.iter().any(|(message, _)| step.message == *message)).count();
    match problem {
        Some(problem) => lines.push(format!("forecast: system jobs a day are not known: {problem}")),
        None if unknown > 0 => {
            lines.push(format!(
                "forecast: not known for {}: the audit table does not count these",
                count(unknown, "other step")
            ));
        }
        None => {}
    }
    lines
}

fn reason(error: &WebApiError) -> String {
    match error.status() {
        Some(403) => "the application may not read the audit table (privilege prvReadAuditSummary)".to_owned(),
        _ => format!("the audit table can't be read: {error}"),
    }
}
