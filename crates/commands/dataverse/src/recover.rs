//! `recover`: failed system jobs of our steps are resumed; what stays lost is stated.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use actlog_core::{CommandContext, Gap, Span, Timestamp};
use actlog_http::client::Backoff;
use serde_json::json;
use uuid::Uuid;

use crate::environment::Environment;
use crate::output::{count, line};
use crate::plan::PREFIX;
use crate::register::{Registered, registered};
use crate::rows::{Job, Step};
use crate::{Failure, Outcome, statements};

/// `statuscode` of system jobs.
const SUCCEEDED: i32 = 30;
const FAILED: i32 = 31;
const CANCELED: i32 = 32;
/// Jobs that one run looks at; a further run goes on.
const MOST_JOBS: usize = 100_000;
/// Ids in one query: URLs have an end.
const IDS_PER_QUERY: usize = 25;
/// Rows of a page.
const PAGE: u32 = 1000;
/// Why events are missing.
const REASON: &str = "failed-jobs";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to wait for the outcome of resumed jobs
    #[arg(long, value_name = "SPAN", default_value = "5 min")]
    wait: Span,
    /// Carry it out; without this it is only shown
    #[arg(long)]
    apply: bool,
}

/// What became of the jobs that had failed.
#[derive(Debug, Default)]
struct Results {
    delivered: usize,
    /// Still at work when the waiting ended.
    running: usize,
    lost: Vec<Job>,
}

/// The failed system jobs of our steps.
pub(crate) async fn failed_jobs(environment: &Environment, steps: &[Step]) -> Result<Vec<Job>, Failure> {
    let ours: Vec<Uuid> = steps
        .iter()
        .filter(|step| step.name.as_deref().is_some_and(|name| name.starts_with(PREFIX)))
        .map(|step| step.id)
        .collect();
    let mut failed = Vec::new();
    for some in ours.chunks(IDS_PER_QUERY) {
        let query = format!(
            "asyncoperations?$select={}&$filter=statuscode eq {FAILED} and ({})&$orderby=createdon asc",
            Job::SELECT,
            any_of("_owningextensionid_value", some)
        );
        let jobs = environment.api.pages::<Job>(&query, PAGE).all(MOST_JOBS - failed.len()).await?;
        failed.extend(jobs);
    }
    Ok(failed)
}

/// `column eq a or column eq b …`
fn any_of(column: &str, ids: &[Uuid]) -> String {
    ids.iter().map(|id| format!("{column} eq {id}")).collect::<Vec<_>>().join(" or ")
}

pub(crate) fn carry_out(arguments: &Arguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let (there, failed) = environment.wait(async {
        let there = registered(environment).await?;
        let failed = failed_jobs(environment, &there.steps).await?;
        Ok::<(Registered, Vec<Job>), Failure>((there, failed))
    })?;
    let Some((first, last)) = span(&failed) else {
        line(format!("{}: no failed system jobs of {}", environment.title(), count(there.steps.len(), "step")));
        return Ok(ExitCode::SUCCESS);
    };
    let jobs = count(failed.len(), "failed system job");
    line(format!("{}: {jobs}, from {first} to {last}", environment.title()));
    for (reason, number) in reasons(&failed) {
        line(format!("  {number} times: {reason}"));
    }
    if !arguments.apply {
        line("nothing was changed: --apply resumes them");
        return Ok(ExitCode::SUCCESS);
    }
    statements::before(
        cx,
        &format!("dataverse recover {}: resume {jobs}, from {first} to {last}", environment.title()),
    )?;
    let Results { delivered, running, lost } = environment.wait(resume(environment, failed, arguments.wait.0))?;
    let outcome = format!("{delivered} delivered, {} lost, {running} still running", lost.len());
    let gap = span(&lost).map(|(from, to)| Gap {
        from,
        to: Some(to),
        reason: REASON.to_owned(),
        detail: Some(format!(
            "{}: {} of {jobs} could not be resumed: {}",
            environment.title(),
            lost.len(),
            reasons(&lost).first().map_or("", |(reason, _)| reason)
        )),
    });
    let gaps: Vec<Gap> = gap.into_iter().collect();
    statements::after(cx, &format!("dataverse recover {}: {outcome}", environment.title()), &gaps)?;
    line(outcome);
    for (reason, number) in reasons(&lost) {
        line(format!("  lost {number}: {reason}"));
    }
    if running > 0 {
        line("run it again later for those that are still running");
    }
    Ok(if lost.is_empty() && running == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// When the first and the last of them began; none where there are none.
fn span(jobs: &[Job]) -> Option<(Timestamp, Timestamp)> {
    let times = || jobs.iter().map(|job| job.createdon);
    Some((times().min()?, times().max()?))
}

/// Why they failed, the most frequent first; five at most.
fn reasons(jobs: &[Job]) -> Vec<(String, usize)> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for job in jobs {
        *numbers.entry(job.reason()).or_default() += 1;
    }
    let mut reasons: Vec<_> = numbers.into_iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    reasons.truncate(5);
    reasons
}

/// Resumes the jobs and waits for what becomes of them, `patience` long.
async fn resume(environment: &Environment, jobs: Vec<Job>, patience: Duration) -> Result<Results, Failure> {
    let mut results = Results::default();
    let mut open: HashMap<Uuid, Job> = HashMap::new();
    for job in jobs {
        // Ready, waiting for resources: how a suspended job goes on. Whether a failed one does is the platform's choice.
        let ready = json!({ "statecode": 0, "statuscode": 0 });
        match environment.api.update(&format!("asyncoperations({})", job.id), &ready).await {
            Ok(()) => drop(open.insert(job.id, job)),
            // A job that has been deleted meanwhile can't be resumed either.
            Err(error) if matches!(error.status(), Some(400 | 403 | 404 | 405)) => {
                let said = Job { friendlymessage: Some(error.to_string()), ..job };
                results.lost.push(said);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let end = Instant::now() + patience;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
    loop {
        look(environment, &mut open, &mut results).await?;
        let now = Instant::now();
        if open.is_empty() || now >= end {
            results.running = open.len();
            return Ok(results);
        }
        tokio::time::sleep(backoff.next().min(end - now)).await;
    }
}

/// Moves the jobs that have ended from `open` to the results.
async fn look(environment: &Environment, open: &mut HashMap<Uuid, Job>, results: &mut Results) -> Result<(), Failure> {
    let ids: Vec<Uuid> = open.keys().copied().collect();
    for some in ids.chunks(IDS_PER_QUERY) {
        let query = format!("asyncoperations?$select={}&$filter={}", Job::SELECT, any_of("asyncoperationid", some));
        let rows = environment.api.pages::<Job>(&query, PAGE).all(IDS_PER_QUERY).await?;
        let now: HashMap<Uuid, Job> = rows.into_iter().map(|job| (job.id, job)).collect();
        for id in some {
            match now.get(id).map(|job| job.statuscode) {
                // Our steps' jobs are deleted when they succeed.
                None | Some(Some(SUCCEEDED)) => {
                    open.remove(id);
                    results.delivered += 1;
                }
                Some(Some(FAILED | CANCELED)) => {
                    let known = open.remove(id);
                    let again = now.get(id).or(known.as_ref()).cloned();
                    results.lost.extend(again);
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}
