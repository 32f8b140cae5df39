//! Posts to registered endpoints: steps fire, jobs run, fail, and are resumed.

use std::net::SocketAddr;
use std::sync::Arc;

use actlog_core::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

use super::odata::Row;
use super::requests::{Refusal, refuse, written};
use super::schema::table;
use super::{DataverseServer, Inner, State, id_in};
use crate::generator::Expected;
use crate::http::Connection;
use crate::server::{Bytes, Response};

/// A job's work: what is posted where.
#[derive(Clone, Debug)]
pub(super) struct Job {
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    endpoint: Uuid,
    deletes_itself: bool,
    /// Whether it was resumed and waits for [`run`].
    resumed: bool,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// No step is registered for it, or every one is disabled.
    NoStep,
    /// So many posts were answered with success.
    Taken(usize),
    /// So many jobs failed; they are in `asyncoperations`.
    Failed(usize),
    /// A synchronous post was refused: the user's operation fails.
    RolledBack,
}

impl DataverseServer {
    /// An event happens in the environment: every enabled step for its message and table posts the context to its
    /// endpoint, with what the endpoint was registered to authenticate by. Like the platform it tries once more after
    /// 502, 503 and 504; a job that fails stays in `asyncoperations`.
    pub async fn post(&self, body: &[u8], headers: &[(&'static str, String)], event: &Expected) -> Posted {
        let due = self.state().due(body, headers, event);
        if due.is_empty() {
            return Posted::NoStep;
        }
        let (mut taken, mut failed) = (0, 0);
        for (mode, job, row) in due {
            let (destination, secrets) = match self.state().destination(job.endpoint) {
                Some(found) => found,
                None => return Posted::NoStep,
            };
            if mode == 0 {
                match send(&destination, &secrets, &job).await {
                    Ok(()) => taken += 1,
                    Err(_) => return Posted::RolledBack,
                }
                continue;
            }
            let id = Uuid::new_v4();
            {
                let mut state = self.state();
                state.jobs.insert(id, job);
                if let Some(table) = table("asyncoperations") {
                    state.put(table, id, row);
                }
            }
            run(Arc::clone(&self.inner), vec![id]).await;
            let state = self.state();
            let is_failed = state.row("asyncoperations", id).is_some_and(|row| row["statuscode"] == 31);
            if is_failed { failed += 1 } else { taken += 1 }
        }
        if failed > 0 { Posted::Failed(failed) } else { Posted::Taken(taken) }
    }

    /// Adds a failed job that the platform does not resume, whatever it is told.
    pub fn insert_stuck_job(&self, job: Value) -> Uuid {
        let id = self.insert("asyncoperations", job);
        self.change("asyncoperations", id, json!({ "statecode": 3, "statuscode": 31 }));
        self.state().stuck.push(id);
        id
    }
}

impl State {
    /// Mode, job and row of `asyncoperations` for each step that an event fires.
    fn due(&self, body: &[u8], headers: &[(&'static str, String)], event: &Expected) -> Vec<(i64, Job, Row)> {
        let body = Arc::new(body.to_vec());
        let steps = self.rows.get("sdkmessageprocessingsteps").into_iter().flatten();
        let mut due = Vec::new();
        for (id, step) in steps.filter(|(_, step)| step["statecode"] == 0) {
            let message = id_in(step, "_sdkmessageid_value").and_then(|id| self.row("sdkmessages", id));
            let filter = id_in(step, "_sdkmessagefilterid_value").and_then(|id| self.row("sdkmessagefilters", id));
            let fits = message.is_some_and(|message| message["name"] == event.message)
                && filter.is_none_or(|filter| filter["primaryobjecttypecode"] == event.primary_entity);
            let (true, Some(endpoint)) = (fits, id_in(step, "_eventhandler_value")) else { continue };
            let job = Job {
                headers: headers.to_vec(),
                body: Arc::clone(&body),
                endpoint,
                deletes_itself: step["asyncautodelete"] == true,
                resumed: false,
            };
            let row = json!({
                "name": step["name"], "messagename": event.message, "primaryentitytype": event.primary_entity,
                "operationtype": 1, "statecode": 0, "statuscode": 0, "retrycount": 0, "_owningextensionid_value": id,
            });
            let Value::Object(row) = row else { continue };
            due.push((step["mode"].as_i64().unwrap_or_default(), job, row));
        }
        due
    }

    /// Where an endpoint leads: the URL, and the headers that authenticate.
    fn destination(&self, endpoint: Uuid) -> Option<(String, Vec<(String, String)>)> {
        let row = self.row("serviceendpoints", endpoint)?;
        let (url, value) = (row["url"].as_str()?, row["authvalue"].as_str()?);
        let settings = settings(value).unwrap_or_default();
        let with = |pairs: &[(String, String)]| {
            let mark = if url.contains('?') { '&' } else { '?' };
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{url}{mark}{}", pairs.join("&"))
        };
        Some(match row["authtype"].as_i64()? {
            4 => (with(&[("code".to_owned(), value.to_owned())]), Vec::new()),
            6 => (with(&settings), Vec::new()),
            _ => (url.to_owned(), settings),
        })
    }

    /// The jobs that were resumed since the last call.
    pub(super) fn take_resumed(&mut self) -> Vec<Uuid> {
        self.jobs.iter_mut().filter_map(|(id, job)| std::mem::take(&mut job.resumed).then_some(*id)).collect()
    }
}

/// `PATCH` of a job: resuming is the only thing that it is good for. That a failed job goes on when its state becomes
/// Ready is not documented; a suspended one does.
pub(super) fn update(state: &mut State, id: Uuid, changes: &Row) -> Result<Response<Bytes>, Refusal> {
    if changes.get("statecode") != Some(&json!(0)) || changes.get("statuscode") != Some(&json!(0)) || changes.len() != 2
    {
        return refuse(400, "0x80040203", "The stand-in takes statecode 0 with statuscode 0 only.");
    }
    let stuck = state.stuck.contains(&id);
    let row = state.rows.get_mut("asyncoperations").and_then(|rows| rows.get_mut(&id));
    match (row, state.jobs.get_mut(&id)) {
        (Some(row), Some(job)) if !stuck && row["statuscode"] == 31 => {
            row.extend(changes.clone());
            job.resumed = true;
            Ok(written(&state.url, "asyncoperations", id))
        }
        _ => refuse(400, "0x80040203", "The state of the system job can't be changed from Completed."),
    }
}

/// Runs jobs, one after the other.
pub(super) async fn run(inner: Arc<Inner>, ids: Vec<Uuid>) {
    for id in ids {
        let Some((job, destination)) = ({
            let state = inner.state();
            let job = state.jobs.get(&id).cloned();
            job.and_then(|job| state.destination(job.endpoint).map(|destination| (job, destination)))
        }) else {
            continue;
        };
        let outcome = send(&destination.0, &destination.1, &job).await;
        let mut state = inner.state();
        if outcome.is_ok() {
            state.jobs.remove(&id);
        }
        let Some(rows) = state.rows.get_mut("asyncoperations") else { continue };
        if outcome.is_ok() && job.deletes_itself {
            rows.remove(&id);
            continue;
        }
        let Some(row) = rows.get_mut(&id) else { continue };
        let (status, message) = match outcome {
            Ok(()) => (30, Value::Null),
            Err(status) => (31, json!(format!("Web hook call failed. Http status code {status}."))),
        };
        row.insert("statecode".to_owned(), json!(3));
        row.insert("statuscode".to_owned(), json!(status));
        row.insert("message".to_owned(), message.clone());
        row.insert("friendlymessage".to_owned(), message);
        row.insert("completedon".to_owned(), json!(SystemClock.now()));
    }
}

/// Posts, and once more where the platform does; the status where it is refused, 0 where nobody answers.
async fn send(url: &str, secrets: &[(String, String)], job: &Job) -> Result<(), u16> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = address.parse().map_err(|_| 0_u16)?;
    let mut headers: Vec<(&str, &str)> = job.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.extend(secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    headers.push(("Connection", "close"));
    let mut last = 0;
    for _ in 0..2 {
        let Ok(mut connection) = Connection::open(address).await else { return Err(0) };
        match connection.request("POST", &format!("/{path}"), &headers, &job.body).await {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(answer) => last = answer.status,
            Err(_) => return Err(0),
        }
        if !matches!(last, 502..=504) {
            break;
        }
    }
    Err(last)
}

/// Reads `<settings><setting name="k" value="v"/>…</settings>`; none where it is not well formed.
pub(super) fn settings(xml: &str) -> Option<Vec<(String, String)>> {
    let mut rest = xml.trim().strip_prefix("<settings>")?.strip_suffix("</settings>")?.trim();
    let mut settings = Vec::new();
    while !rest.is_empty() {
        let (name, more) = rest.strip_prefix("<setting name=\"")?.split_once('"')?;
        let (value, more) = more.trim_start().strip_prefix("value=\"")?.split_once('"')?;
        settings.push((unescaped(name)?, unescaped(value)?));
        rest = more.trim_start().strip_prefix("/>")?.trim_start();
    }
    Some(settings)
}

fn unescaped(text: &str) -> Option<String> {
    if text.contains(['<', '>']) {
        return None;
    }
    let mut parts = text.split('&');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';')?;
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}
