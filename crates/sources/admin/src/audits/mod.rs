//! Reads the audit table of Dataverse through the Web API, page by page, in the order of `createdon`.
//!
//! Each look begins an overlap before the newest row so far, because rows can appear late and clocks differ; rows that
//! were taken are known by the position. A look that fails ends the run: the runtime starts a fresh one, with growing
//! pauses, from the last durable position. Nothing is kept that a fresh start would not have.

mod actions;
mod details;
mod position;
mod row;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actlog_core::config::pick_organization;
use actlog_core::{
    AuditRecord, BuildContext, BuildError, Clock, ConfigError, Counter, EmitError, Gap, RejectedInput, Source,
    SourceContext, SourceError, Span, Status, Timestamp,
};
use actlog_dataverse::webapi::{WebApi, WebApiError};
use actlog_http::client::Client;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::{Uuid, uuid};

use crate::config::AdminKeys;
use details::Details;
use position::Position;
use row::{Environment, Row};

/// How many requests for details are under way at once. The platform allows an application 52 at once.
const DETAILS_AT_ONCE: usize = 8;
/// Bytes of details after which a batch is made durable, in the middle of a page.
const BATCH_BYTES: usize = 1 << 20;
/// How often the environment is asked what it audits, and how often a position is stored that only says until when
/// nothing happened.
const CHECK_EVERY: i64 = 3_600_000;
const DAY: i64 = 24 * 3_600_000;
/// Namespace of the ids that stand for rows which can't be read.
const UNREADABLE: Uuid = uuid!("71d5a3b8-4c2e-5f60-98a7-e1b3d40c6f29");

/// The reader of one organisation's audit table.
pub(crate) struct Audits {
    api: WebApi,
    organization: String,
    /// As configured; the environment knows it too.
    organization_id: Option<Uuid>,
    unique_name: String,
    tables: Vec<String>,
    poll: Duration,
    overlap: i64,
    since: i64,
    page_size: u32,
    clock: Arc<dyn Clock>,
}

/// What the environment says of its auditing.
#[derive(Debug, Deserialize)]
struct OrganizationRow {
    organizationid: Uuid,
    isauditenabled: Option<bool>,
    /// Days; -1 for ever.
    auditretentionperiodv2: Option<i64>,
}

#[derive(Deserialize)]
struct Listed<T> {
    value: Vec<T>,
}

/// The only column that a row which can't be read is looked at for.
#[derive(Deserialize)]
struct When {
    createdon: Timestamp,
}

/// What one run knows.
struct Run<'a> {
    audits: &'a Audits,
    cx: &'a SourceContext,
    environment: Environment,
    position: Position,
    /// The position in the journal says that the table was read until then.
    stored: Timestamp,
    /// When the environment was last asked what it audits.
    checked: Timestamp,
    /// Whether the environment audits nothing.
    is_off: bool,
    are_details_refused: bool,
    received: Counter,
    rejected: Counter,
}

impl Audits {
    pub(crate) fn build(keys: &AdminKeys, cx: &BuildContext) -> Result<Self, BuildError> {
        let (name, organization) = pick_organization(&cx.organizations, keys.organization.as_deref())?;
        let client = Client::new(&keys.client, &cx.config_dir).map_err(|error| error.within("client"))?;
        let api = WebApi::connect(organization, client, &cx.config_dir)
            .map_err(|error| ConfigError::new("organization", format!("[organizations.{name}] {error}")))?;
        Ok(Self {
            api,
            organization: name.to_owned(),
            organization_id: organization.id,
            unique_name: organization.unique_name.clone().unwrap_or_else(|| name.to_owned()),
            tables: keys.tables.clone(),
            poll: keys.poll.0,
            overlap: milliseconds(keys.overlap),
            since: milliseconds(keys.since),
            page_size: keys.page_size,
            clock: Arc::clone(&cx.clock),
        })
    }

    /// Rows from `createdon` on, in its order. Validation has let nothing but names into the tables.
    fn query(&self, from: Timestamp) -> String {
        let mut wanted = format!("({}", actions::READ);
        if !self.tables.is_empty() {
            let tables: Vec<String> = self.tables.iter().map(|table| format!("objecttypecode eq '{table}'")).collect();
            wanted.push_str(&format!(" or (operation le 3 and ({}))", tables.join(" or ")));
        }
        format!("audits?$select={}&$filter=createdon ge {from} and {wanted})&$orderby=createdon asc", Row::SELECT)
    }

    async fn organization_row(&self) -> Result<OrganizationRow, SourceError> {
        let path = "organizations?$select=organizationid,isauditenabled,auditretentionperiodv2";
        let rows: Listed<OrganizationRow> = self.api.get(path).await.map_err(failed)?;
        let row = rows.value.into_iter().next().ok_or_else(|| {
            let message =
                "the environment's own row can't be read; give the application user a role that reads Organization";
            SourceError::Other(message.to_owned())
        })?;
        match self.organization_id {
            Some(id) if id != row.organizationid => Err(SourceError::Other(format!(
                "[organizations.{}] has id {id}, and the environment at {} says {}; correct one of id and url",
                self.organization,
                self.api.url(),
                row.organizationid
            ))),
            _ => Ok(row),
        }
    }

    async fn run(&self, cx: &SourceContext) -> Result<(), SourceError> {
        let now = self.clock.now();
        let position = match &cx.position {
            None => Position::new(now.plus_milliseconds(-self.since)),
            Some(bytes) => Position::decode(bytes).ok_or_else(|| {
                let message = "the stored position is none of an audit table; give this source another name";
                SourceError::Other(message.to_owned())
            })?,
        };
        let Some(row) = cx.shutdown.run_until_cancelled(self.organization_row()).await else { return Ok(()) };
        let row = row?;
        let mut run = Run {
            audits: self,
            cx,
            environment: Environment {
                organization_id: row.organizationid,
                unique_name: self.unique_name.clone(),
                url: self.api.url().to_owned(),
            },
            stored: position.polled,
            position,
            checked: now,
            is_off: row.isauditenabled == Some(false),
            are_details_refused: false,
            received: cx.metrics.counter("actlog_source_received", "Events that came in", &[]),
            rejected: cx.metrics.counter("actlog_source_rejected", "Input that is no event", &[]),
        };
        // Before the first start nothing was missed.
        if cx.position.is_some() {
            run.state_what_expired(&row, now).await?;
        }
        while !cx.shutdown.is_cancelled() {
            run.look().await?;
            cx.shutdown.run_until_cancelled(tokio::time::sleep(self.poll)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Audits {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        match Audits::run(&self, &cx).await {
            Err(SourceError::Emit(EmitError::Closed)) if cx.shutdown.is_cancelled() => Ok(()),
            outcome => outcome,
        }
    }
}

impl Run<'_> {
    /// States a gap where the environment has deleted rows, by its retention, that were never read.
    async fn state_what_expired(&mut self, row: &OrganizationRow, now: Timestamp) -> Result<(), SourceError> {
        let Some(days) = row.auditretentionperiodv2.filter(|days| *days > 0) else { return Ok(()) };
        let kept_from = now.plus_milliseconds(-days.saturating_mul(DAY));
        if self.position.polled >= kept_from {
            return Ok(());
        }
        let gap = Gap {
            from: self.position.polled,
            to: Some(kept_from),
            reason: "expired".to_owned(),
            detail: Some(format!("the environment keeps rows of the audit table for {days} days")),
        };
        self.position.polled = kept_from;
        self.cx.emitter.state_gap(gap, Some(self.position.encode())).await?.await?;
        self.stored = kept_from;
        Ok(())
    }

    /// Reads the table to its end.
    async fn look(&mut self) -> Result<(), SourceError> {
        let (audits, cx) = (self.audits, self.cx);
        let began = audits.clock.now();
        if since(self.checked, began) >= CHECK_EVERY {
            let Some(row) = cx.shutdown.run_until_cancelled(audits.organization_row()).await else { return Ok(()) };
            let row = row?;
            self.is_off = row.isauditenabled == Some(false);
            self.checked = began;
            self.state_what_expired(&row, began).await?;
        }
        self.are_details_refused = false;
        let query = audits.query(self.position.read_from(audits.overlap));
        let mut pages = audits.api.pages::<Box<RawValue>>(&query, audits.page_size).with_annotations();
        loop {
            let Some(page) = cx.shutdown.run_until_cancelled(pages.next()).await else { return Ok(()) };
            let Some(page) = page.map_err(failed)? else { break };
            self.take(page).await?;
        }
        if cx.shutdown.is_cancelled() {
            return Ok(());
        }
        self.position.polled = began;
        if since(self.stored, began) >= CHECK_EVERY {
            self.emit(Vec::new()).await?;
        }
        self.tell_health();
        Ok(())
    }

    /// Takes the rows of a page that are new, and makes them durable.
    async fn take(&mut self, page: Vec<Box<RawValue>>) -> Result<(), SourceError> {
        let (audits, cx) = (self.audits, self.cx);
        let received = audits.clock.now();
        let mut rows = Vec::with_capacity(page.len());
        let mut is_changed = false;
        for raw in page {
            match serde_json::from_str::<Row>(raw.get()) {
                Ok(row) if self.position.has(row.created_on, row.id) => {}
                Ok(row) => rows.push(row),
                Err(error) => is_changed |= self.reject(&raw, &error).await?,
            }
        }
        self.received.inc_by(rows.len() as u64);
        let refused = AtomicBool::new(false);
        let mut detailed =
            stream::iter(rows).map(|row| with_details(&audits.api, row, &refused)).buffered(DETAILS_AT_ONCE);
        let (mut records, mut bytes) = (Vec::<AuditRecord<'static>>::new(), 0);
        while let Some(Some(one)) = cx.shutdown.run_until_cancelled(detailed.next()).await {
            let (row, details, size) = one.map_err(failed)?;
            self.position.take(row.created_on, row.id, audits.overlap, received);
            records.push(row::record(row, details, &self.environment, received));
            bytes += size;
            if bytes >= BATCH_BYTES {
                self.emit(std::mem::take(&mut records)).await?;
                bytes = 0;
            }
        }
        drop(detailed);
        self.are_details_refused |= refused.into_inner();
        if is_changed || !records.is_empty() {
            self.emit(records).await?;
        }
        Ok(())
    }

    /// Puts a row that can't be read to the dead letters; false where it is there already.
    async fn reject(&mut self, raw: &RawValue, error: &serde_json::Error) -> Result<bool, SourceError> {
        let id = Uuid::new_v5(&UNREADABLE, raw.get().as_bytes());
        if self.position.knows(id) {
            return Ok(false);
        }
        self.received.inc();
        self.rejected.inc();
        let input = RejectedInput {
            place: format!("audit table of {}", self.audits.organization),
            reason: error.to_string(),
            organization: Some(self.environment.organization_id),
            bytes: raw.get().as_bytes(),
        };
        self.cx.emitter.reject(input).await?;
        // Known for as long as it is read again.
        let created_on = serde_json::from_str::<When>(raw.get()).map_or(self.position.newest, |when| when.createdon);
        self.position.take(created_on, id, self.audits.overlap, self.audits.clock.now());
        Ok(true)
    }

    /// Makes records durable, together with how far the table has been read.
    async fn emit(&mut self, records: Vec<AuditRecord<'static>>) -> Result<(), SourceError> {
        self.cx.emitter.emit(records, Some(self.position.encode())).await?.await?;
        self.stored = self.position.polled;
        Ok(())
    }

    fn tell_health(&self) {
        let complaints = [
            (self.is_off, "auditing is switched off in the environment, so nothing is written to its audit table"),
            (
                self.are_details_refused,
                "details of audit rows are refused, so old and new values, members and privileges are missing; give \
                 the application user a role with View Audit History and View Audit Summary",
            ),
        ];
        let reasons: Vec<&str> = complaints.iter().filter(|(holds, _)| *holds).map(|(_, text)| *text).collect();
        let status = if reasons.is_empty() { Status::Ok } else { Status::Degraded { reason: reasons.join("; ") } };
        if self.cx.health.get() != status {
            if let Status::Degraded { reason } = &status {
                tracing::warn!(source = %self.cx.name, reason, "the audit table can't be read as it should");
            }
            self.cx.health.set(status);
        }
    }
}

/// A row with its details, and their size in bytes. After one refusal for want of a privilege, `refused` spares the
/// others the question.
async fn with_details(api: &WebApi, row: Row, refused: &AtomicBool) -> Result<(Row, Details, usize), WebApiError> {
    if !row.has_details() {
        return Ok((row, Details::None, 0));
    }
    if refused.load(Ordering::Relaxed) {
        return Ok((row, Details::Missing("refused"), 0));
    }
    let path = format!("audits({})/Microsoft.Dynamics.CRM.RetrieveAuditDetails", row.id);
    match api.get::<Box<RawValue>>(&path).await {
        Ok(answer) => Ok((row, Details::read(answer.get()), answer.get().len())),
        Err(error) => match error.status() {
            Some(404) => Ok((row, Details::None, 0)),
            Some(status @ (400 | 403)) => {
                refused.fetch_or(status == 403, Ordering::Relaxed);
                Ok((row, Details::Missing("refused"), 0))
            }
            _ => Err(error),
        },
    }
}

fn failed(error: WebApiError) -> SourceError {
    SourceError::Other(error.to_string())
}

fn milliseconds(span: Span) -> i64 {
    i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX)
}

fn since(earlier: Timestamp, later: Timestamp) -> i64 {
    later.unix_milliseconds() - earlier.unix_milliseconds()
}
