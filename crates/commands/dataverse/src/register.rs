//! `register` and `unregister`.

use std::process::ExitCode;

use actlog_core::CommandContext;
use actlog_dataverse::webapi::{WebApiError, literal};
use uuid::Uuid;

use crate::environment::{Environment, policy_in_force};
use crate::output::{count, harmless, line};
use crate::plan::{Audited, Change, Difference, ENDPOINT, Wish, compare, compiled};
use crate::rows::{Endpoint, Message, OrganizationRow, Step};
use crate::webhook::{EndpointChange, Webhook, WebhookArguments};
use crate::{Failure, Outcome, forecast, statements};

/// More rows of these kinds than any environment has.
const MOST_MESSAGES: usize = 20_000;
const MOST_FILTERS: usize = 100_000;
const MOST_STEPS: usize = 100_000;
/// Rows of a page.
const PAGE: u32 = 500;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    webhook: WebhookArguments,
    /// Messages whose steps run inside of the user's operation: it waits for actlog, and fails when actlog does not answer
    #[arg(long, value_name = "MESSAGE", num_args = 1.., value_delimiter = ',')]
    synchronous: Vec<String>,
    /// Carry it out; without this it is only shown
    #[arg(long)]
    apply: bool,
}

#[derive(clap::Args)]
pub(crate) struct RemoveArguments {
    /// Carry it out; without this it is only shown
    #[arg(long)]
    apply: bool,
}

/// What is there already.
pub(crate) struct Registered {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) steps: Vec<Step>,
}

/// Our endpoint and the steps that post to it.
pub(crate) async fn registered(environment: &Environment) -> Result<Registered, Failure> {
    let query = format!(
        "serviceendpoints?$select={}&$filter=name eq {} and contract eq 8",
        Endpoint::SELECT,
        literal(ENDPOINT)
    );
    let mut endpoints = environment.api.pages::<Endpoint>(&query, PAGE).all(MOST_STEPS).await?;
    let endpoint = endpoints.pop();
    if !endpoints.is_empty() {
        return Err(Failure(format!(
            "there are several webhooks named {ENDPOINT:?}; remove all but one, with their steps"
        )));
    }
    let steps = match &endpoint {
        None => Vec::new(),
        Some(Endpoint { id, .. }) => {
            let query = format!(
                "serviceendpoints({id})/serviceendpoint_sdkmessageprocessingstep?$select={}&$orderby=name",
                Step::SELECT
            );
            environment.api.pages(&query, PAGE).all(MOST_STEPS).await?
        }
    };
    Ok(Registered { endpoint, steps })
}

/// The messages of the environment that steps can be registered for, each with all of its tables.
pub(crate) async fn messages(environment: &Environment) -> Result<Vec<Message>, Failure> {
    let mut messages = environment.api.pages::<Message>(Message::QUERY, PAGE).all(MOST_MESSAGES).await?;
    for message in messages.iter_mut().filter(|message| message.more.is_some()) {
        message.filters = environment.api.pages(&message.filters_query(), PAGE).all(MOST_FILTERS).await?;
    }
    Ok(messages)
}

/// The organisation's row; none where it can't be read.
pub(crate) async fn organization(environment: &Environment) -> Option<OrganizationRow> {
    let query = format!("organizations?$select={}", OrganizationRow::SELECT);
    environment.api.pages(&query, 1).next().await.ok().flatten().and_then(|rows| rows.into_iter().next())
}

pub(crate) fn register(arguments: &Arguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let webhook = arguments.webhook.webhook(environment.allow_private)?;
    let in_force = policy_in_force(cx)?;
    let policy = compiled(&in_force.document)?;
    let audited = Audited::new(&policy, &environment.name, &environment.organization);

    let (there, messages, row) = environment.wait(async {
        let there = registered(environment).await?;
        Ok::<_, Failure>((there, messages(environment).await?, organization(environment).await))
    })?;
    let Wish { steps, notes } = audited.steps(&messages, &arguments.synchronous)?;
    let Difference { changes, foreign } = compare(&steps, &there.steps, true);
    let endpoint = webhook.difference(there.endpoint.as_ref())?;

    line(format!(
        "{}, {}: {} for {}",
        environment.title(),
        in_force.title(),
        count(steps.len(), "step"),
        count(messages.len(), "message")
    ));
    notes.iter().for_each(|note| line(format!("  note: {note}")));
    show(endpoint.as_ref(), there.endpoint.is_some(), &changes);
    foreign.iter().for_each(|name| line(format!("  left alone: {:?} is not named as ours", name)));
    if there.endpoint.is_some() && !webhook.has_key() {
        line("  note: no key was given, so it stays as it is");
    }
    if !arguments.synchronous.is_empty() {
        line(format!(
            "  warning: {} synchronous: users wait for actlog, and their operations fail when it does not answer within 60 s",
            arguments.synchronous.join(", ")
        ));
    }
    environment
        .wait(forecast::lines(environment, &steps, row.as_ref()))
        .iter()
        .for_each(|text| line(format!("  {text}")));
    let work = changes.len() + usize::from(endpoint.is_some());
    if work == 0 {
        line("nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.apply {
        line(format!("{}; nothing was changed: --apply carries this out", count(work, "change")));
        return Ok(ExitCode::SUCCESS);
    }
    let action = format!(
        "dataverse register {}: {}{}",
        environment.title(),
        endpoint.as_ref().map(|change| format!("the webhook: {}; ", change.what)).unwrap_or_default(),
        summary(&changes)
    );
    statements::before(cx, &action)?;
    let present = there.endpoint.map(|there| there.id);
    let refused = environment.wait(async {
        let id = apply_endpoint(environment, &webhook, present, endpoint).await?;
        apply_steps(environment, id, &changes).await
    })?;
    if refused.is_empty() {
        line(format!("{} carried out", count(work, "change")));
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = format!("the environment refused: {}", statements::refusals(&refused));
    statements::after(cx, &format!("dataverse register {}: {outcome}", environment.title()), &[])?;
    refused.iter().for_each(|text| line(format!("refused: {}", harmless(text))));
    line("what is refused asynchronously may be taken with --synchronous MESSAGE; then users wait for actlog");
    Ok(ExitCode::FAILURE)
}

/// Prints what is to be done.
fn show(endpoint: Option<&EndpointChange>, is_there: bool, changes: &[Change]) {
    if let Some(change) = endpoint {
        line(format!("  {} webhook {ENDPOINT:?}: {}", if is_there { "~" } else { "+" }, change.what));
    }
    for change in changes {
        match change {
            Change::Create(step) => {
                line(format!("  + {}{}", harmless(&step.name()), if step.synchronous { ", synchronous" } else { "" }));
            }
            Change::Update { name, why, .. } => line(format!("  ~ {}: {why}", harmless(name))),
            Change::Delete { name, .. } => line(format!("  - {}", harmless(name))),
        }
    }
}

/// What is to be done, in a line of the journal.
fn summary(changes: &[Change]) -> String {
    let of = |wanted: fn(&Change) -> bool| changes.iter().filter(|change| wanted(change)).count();
    let created = of(|change| matches!(change, Change::Create(_)));
    let updated = of(|change| matches!(change, Change::Update { .. }));
    let deleted = of(|change| matches!(change, Change::Delete { .. }));
    format!("create {}, change {updated}, delete {deleted}", count(created, "step"))
}

/// Creates the webhook or changes it; gives its id.
async fn apply_endpoint(
    environment: &Environment,
    webhook: &Webhook,
    present: Option<Uuid>,
    change: Option<EndpointChange>,
) -> Result<Uuid, Failure> {
    let api = &environment.api;
    // Whatever the environment says of what it was sent: the key does not show.
    let hidden = |error: WebApiError| Failure(webhook.without_key(&error.to_string()));
    match (present, change) {
        (Some(id), None) => Ok(id),
        (Some(id), Some(change)) => {
            api.update(&format!("serviceendpoints({id})"), &change.columns).await.map_err(hidden)?;
            Ok(id)
        }
        (None, Some(change)) => api.create("serviceendpoints", &change.columns).await.map_err(hidden),
        (None, None) => Err(Failure("there is no webhook, and none was to be made".to_owned())),
    }
}

/// Carries the changes of steps out. What the environment refuses is given back, and the rest is done all the same: each
/// step captures by itself.
async fn apply_steps(environment: &Environment, id: Uuid, changes: &[Change]) -> Result<Vec<String>, Failure> {
    let api = &environment.api;
    let mut refused = Vec::new();
    for change in changes {
        let (name, outcome) = match change {
            Change::Create(step) => {
                (step.name(), api.create("sdkmessageprocessingsteps", &step.row(id)).await.map(drop))
            }
            Change::Update { id, name, columns, .. } => {
                (name.clone(), api.update(&format!("sdkmessageprocessingsteps({id})"), columns).await)
            }
            Change::Delete { id, name } => (name.clone(), delete(environment, *id).await),
        };
        match outcome {
            Err(error) if error.status() == Some(400) => refused.push(format!("{name}: {error}")),
            outcome => outcome?,
        }
    }
    Ok(refused)
}

/// Deletes a step; one that is gone already is as good.
async fn delete(environment: &Environment, step: Uuid) -> Result<(), WebApiError> {
    match environment.api.delete(&format!("sdkmessageprocessingsteps({step})")).await {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

pub(crate) fn unregister(arguments: &RemoveArguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let Registered { endpoint, steps } = environment.wait(registered(environment))?;
    let Some(endpoint) = endpoint else {
        line(format!("{}: there is no webhook named {ENDPOINT:?}; nothing to do", environment.title()));
        return Ok(ExitCode::SUCCESS);
    };
    let Difference { changes, foreign } = compare(&[], &steps, false);
    line(format!("{}:", environment.title()));
    show(None, true, &changes);
    if foreign.is_empty() {
        line(format!("  - webhook {ENDPOINT:?}"));
    } else {
        foreign.iter().for_each(|name| line(format!("  left alone: {:?} is not named as ours", name)));
        line("  the webhook stays, because these steps use it");
    }
    let failed = environment.wait(crate::recover::failed_jobs(environment, &steps))?;
    if !failed.is_empty() {
        let jobs = count(failed.len(), "failed system job");
        line(format!("  warning: {jobs} can't be resumed afterwards; `actlog dataverse recover` comes first"));
    }
    if !arguments.apply {
        line("nothing was changed: --apply carries this out");
        return Ok(ExitCode::SUCCESS);
    }
    let webhook = if foreign.is_empty() { " and the webhook" } else { "" };
    let action =
        format!("dataverse unregister {}: delete {}{webhook}", environment.title(), count(changes.len(), "step"));
    statements::before(cx, &action)?;
    environment.wait(async {
        for change in &changes {
            if let Change::Delete { id, .. } = change {
                delete(environment, *id).await?;
            }
        }
        if foreign.is_empty() {
            environment.api.delete(&format!("serviceendpoints({})", endpoint.id)).await?;
        }
        Ok::<_, WebApiError>(())
    })?;
    line("carried out; nothing is captured from this environment any more");
    Ok(ExitCode::SUCCESS)
}
