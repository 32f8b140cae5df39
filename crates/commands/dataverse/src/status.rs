//! `status`.

use std::process::ExitCode;

use actlog_core::{CommandContext, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::environment::{Environment, PolicyInForce, policy_in_force};
use crate::output::{count, harmless, line};
use crate::plan::{Audited, Change, compare, compiled};
use crate::recover::failed_jobs;
use crate::register::{messages, organization, registered};
use crate::rows::{Job, OrganizationRow};
use crate::{Failure, Outcome};

/// The steps and the policy differ, or system jobs have failed.
const DRIFT: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
}

/// What `status --format json` prints.
#[derive(Serialize)]
struct Status {
    organization: String,
    url: String,
    /// The published version; absent where nothing has been published.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u64>,
    /// Where the webhook leads; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    steps: usize,
    drift: Vec<Drift>,
    failed_jobs: FailedJobs,
    /// Absent where the organisation's row can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    auditing: Option<Auditing>,
}

/// A step that is not as the policy wants it.
#[derive(Serialize)]
struct Drift {
    step: String,
    /// `missing`, `surplus`, `changed`, or `foreign`: on the webhook, and not named as ours.
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Serialize)]
struct FailedJobs {
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<Newest>,
}

#[derive(Serialize)]
struct Newest {
    id: Uuid,
    time: Timestamp,
    message: String,
}

/// The environment's own audit switches.
#[derive(Serialize)]
struct Auditing {
    enabled: Option<bool>,
    reading: Option<bool>,
    user_access: Option<bool>,
    user_access_interval_hours: Option<i32>,
    /// -1: for ever.
    retention_days: Option<i32>,
}

pub(crate) fn carry_out(arguments: &Arguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let in_force = policy_in_force(cx)?;
    let policy = compiled(&in_force.document)?;
    let (there, messages, row) = environment.wait(async {
        let there = registered(environment).await?;
        Ok::<_, Failure>((there, messages(environment).await?, organization(environment).await))
    })?;
    let jobs = environment.wait(failed_jobs(environment, &there.steps))?;
    let wish = Audited::new(&policy, &environment.name, &environment.organization).steps(&messages, &[])?;
    let difference = compare(&wish.steps, &there.steps, false);
    let changed = difference.changes.iter().map(|change| match change {
        Change::Create(step) => Drift { step: step.name(), kind: "missing", detail: String::new() },
        Change::Update { name, why, .. } => Drift { step: name.clone(), kind: "changed", detail: why.clone() },
        Change::Delete { name, .. } => Drift { step: name.clone(), kind: "surplus", detail: String::new() },
    });
    let foreign = difference.foreign.iter();
    let foreign = foreign.map(|name| Drift { step: name.clone(), kind: "foreign", detail: String::new() });
    let status = Status {
        organization: environment.name.clone(),
        url: environment.api.url().to_owned(),
        policy_version: in_force.version,
        webhook: there.endpoint.map(|endpoint| endpoint.url.unwrap_or_default()),
        steps: there.steps.len(),
        drift: changed.chain(foreign).collect(),
        failed_jobs: FailedJobs::of(&jobs),
        auditing: row.as_ref().map(Auditing::of),
    };
    match arguments.format {
        Format::Json => line(serde_json::to_string_pretty(&status)?),
        Format::Text => print(&status, environment, &in_force),
    }
    let drifted = status.drift.iter().any(|drift| drift.kind != "foreign") || status.failed_jobs.count > 0;
    Ok(if drifted { ExitCode::from(DRIFT) } else { ExitCode::SUCCESS })
}

fn print(status: &Status, environment: &Environment, in_force: &PolicyInForce) {
    line(format!("{}, {}", environment.title(), in_force.title()));
    match &status.webhook {
        Some(url) => line(format!("webhook: {}, with {}", harmless(url), count(status.steps, "step"))),
        None => line("webhook: none; `actlog dataverse register` makes it"),
    }
    if status.drift.is_empty() {
        line("steps: as the policy wants them");
    }
    for drift in &status.drift {
        let detail = if drift.detail.is_empty() { String::new() } else { format!(": {}", drift.detail) };
        line(format!("{}: {}{detail}", drift.kind, harmless(&drift.step)));
    }
    match &status.failed_jobs.newest {
        None => line("failed system jobs: none"),
        Some(newest) => {
            let (number, time) = (status.failed_jobs.count, newest.time);
            line(format!("failed system jobs: {number}; the newest, of {time}: {}", newest.message));
            line("`actlog dataverse recover` resumes them");
        }
    }
    match &status.auditing {
        None => line("auditing: the organisation's row can't be read"),
        Some(auditing) => line(auditing.text()),
    }
}

impl FailedJobs {
    fn of(jobs: &[Job]) -> Self {
        let newest = jobs.iter().max_by_key(|job| job.createdon);
        let newest = newest.map(|job| Newest { id: job.id, time: job.createdon, message: job.reason() });
        Self { count: jobs.len(), newest }
    }
}

impl Auditing {
    fn of(row: &OrganizationRow) -> Self {
        Self {
            enabled: row.isauditenabled,
            reading: row.isreadauditenabled,
            user_access: row.isuseraccessauditenabled,
            user_access_interval_hours: row.useraccessauditinginterval,
            retention_days: row.auditretentionperiodv2,
        }
    }

    fn text(&self) -> String {
        let switch = |value: Option<bool>| match value {
            Some(true) => "on",
            Some(false) => "off",
            None => "unknown",
        };
        let retention = match self.retention_days {
            Some(-1) => "for ever".to_owned(),
            Some(days) => format!("for {}", count(usize::try_from(days).unwrap_or(0), "day")),
            None => "for an unknown time".to_owned(),
        };
        let every = self.user_access_interval_hours.map(|hours| format!(" every {hours} h")).unwrap_or_default();
        format!(
            "auditing in the environment: {}, reading {}, user access {}{every}; kept {retention}",
            switch(self.enabled),
            switch(self.reading),
            switch(self.user_access),
        )
    }
}
