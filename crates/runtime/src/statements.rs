//! What the runtime states in the journal: when capture ran, and what may be missing.

use actlog_core::{Clock, EntryKind, Statement, Timestamp};
use actlog_journal::{Batch, Journal, Recovery};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Key of [`Alive`] among the journal's states.
pub(crate) const ALIVE_KEY: &str = "runtime/alive";

/// Whether capture was running, and when that was last known; stored with each start, heartbeat and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alive {
    pub(crate) time: Timestamp,
    pub(crate) stopped: bool,
}

/// A batch with the statement alone.
pub(crate) fn batch(statement: &Statement) -> Result<Batch, String> {
    let mut batch = Batch::new().control();
    add(&mut batch, statement)?;
    Ok(batch)
}

/// Adds a statement to a batch.
pub(crate) fn add(batch: &mut Batch, statement: &Statement) -> Result<(), String> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    batch
        .push(EntryKind::Statement, Uuid::new_v4(), statement.time(), &salt, |out| {
            serde_json::to_writer(out, statement)
        })
        .map_err(|error| error.to_string())
}

/// Writes a batch and waits until it is durable.
pub(crate) async fn write(journal: &Journal, batch: Batch) -> Result<(), String> {
    let ticket = journal.submit(batch).await.map_err(|error| error.to_string())?;
    ticket.await.map(drop).map_err(|error| error.to_string())
}

/// States that capture begins, and since when it did not run.
pub(crate) async fn start(journal: &Journal, clock: &dyn Clock, recovery: &Recovery) -> Result<(), String> {
    let time = clock.now();
    let mut batch = Batch::new().control();
    let before: Option<Alive> = journal.state(ALIVE_KEY).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(before) = before {
        let (reason, since) = match before.stopped {
            true => ("stopped", before.time),
            // It ran at the last heartbeat, and when the last frame was written.
            false => ("crash", recovery.last_written.map_or(before.time, |written| written.max(before.time))),
        };
        add(&mut batch, &gap(time, since, Some(time), reason, None))?;
    }
    for damage in recovery.damaged.iter().filter(|damage| !damage.lost.is_empty()) {
        let detail = format!("entries {} to {} are damaged", damage.lost.start, damage.lost.end - 1);
        let from = before.map_or(time, |before| before.time);
        add(&mut batch, &gap(time, from, Some(time), "journal-damage", Some(detail)))?;
    }
    add(&mut batch, &Statement::Start { time, version: env!("CARGO_PKG_VERSION").to_owned() })?;
    set_alive(&mut batch, Alive { time, stopped: false })?;
    write(journal, batch).await
}

/// States that capture still runs.
pub(crate) async fn heartbeat(journal: &Journal, clock: &dyn Clock) -> Result<(), String> {
    let time = clock.now();
    let mut batch = batch(&Statement::Heartbeat { time })?;
    set_alive(&mut batch, Alive { time, stopped: false })?;
    write(journal, batch).await
}

/// States that capture ends in good order.
pub(crate) async fn stop(journal: &Journal, clock: &dyn Clock) -> Result<(), String> {
    let time = clock.now();
    let mut batch = batch(&Statement::Stop { time })?;
    set_alive(&mut batch, Alive { time, stopped: true })?;
    write(journal, batch).await
}

fn set_alive(batch: &mut Batch, alive: Alive) -> Result<(), String> {
    batch.set_state(ALIVE_KEY, serde_json::to_vec(&alive).map_err(|error| error.to_string())?);
    Ok(())
}

/// Something may be missing from the log.
pub(crate) fn gap(
    time: Timestamp,
    from: Timestamp,
    to: Option<Timestamp>,
    reason: &str,
    detail: Option<String>,
) -> Statement {
    Statement::Gap { time, component: None, from, to, reason: reason.to_owned(), detail }
}
