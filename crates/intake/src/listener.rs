//! The listener: posts in, answers out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actlog_core::{AuditRecord, Clock, Counter, EmitError, Emitter, Health, Prepared, Receipt, Status};
use actlog_http::{Handler, Head, Request, Response, empty, error, json, unavailable};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Serialize;
use tokio::time::timeout;

use crate::divide::{Form, Rejected, divide};
use crate::doors::Doors;
use crate::mapping::{Mapped, map};
use crate::{Arrival, Format};

/// Bodies up to this size are mapped at once, in a fraction of a millisecond; larger ones on a blocking thread, so that
/// other clients of the same thread needn't wait.
const INLINE_BODY: usize = 256 << 10;
/// How long a post waits for room in the journal's queue before its client is put off.
const SUBMIT_TIME: Duration = Duration::from_secs(5);
/// How long a post waits to become durable. Dataverse gives up after 60 s; what becomes durable later is recognised by
/// its Id when it is posted again.
const DURABLE_TIME: Duration = Duration::from_secs(45);
/// Seconds after which a client is asked to try again when nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 5;
/// Rejected elements of a batch that are listed in the answer; the rest is only counted.
const LISTED: usize = 1000;
const FORBIDDEN_ORGANIZATION: &str = "these credentials are for other organisations; name one that they are for";

/// What answers posts.
pub(crate) struct Listener<F> {
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) doors: Option<Arc<Doors>>,
}

/// What mapping and emitting need, on whatever thread.
pub(crate) struct Shared<F> {
    pub(crate) format: Arc<F>,
    pub(crate) emitter: Emitter,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Health,
    pub(crate) is_degraded: AtomicBool,
    pub(crate) received: Counter,
    pub(crate) rejected: Counter,
}

/// Who posts: the credential that was presented, where one is asked for.
type Principal = Option<usize>;

impl<F: Format> Handler for Listener<F> {
    type Principal = Principal;

    fn authenticate(&self, head: &Head) -> Result<Principal, Box<Response>> {
        let principal = match &self.doors {
            None => None,
            Some(doors) => match doors.authenticator.check(head) {
                Some(credential) => Some(credential),
                None => {
                    let message = "the key, headers or query parameters are missing or wrong";
                    return Err(error(StatusCode::UNAUTHORIZED, "unauthorized", message).into());
                }
            },
        };
        if head.method() != Method::POST {
            let message = "events are sent by POST";
            let mut refusal = error(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Err(refusal.into());
        }
        // Said before the body is read: it would be for nothing.
        match self.shared.emitter.pressure() {
            Some(pressure) => Err(self.shared.put_off(&pressure).into()),
            None => Ok(principal),
        }
    }

    async fn handle(&self, request: Request<Principal>) -> Response {
        let work = Work { shared: Arc::clone(&self.shared), doors: self.doors.clone(), request };
        let mapped = if work.request.body.len() <= INLINE_BODY {
            work.map()
        } else {
            match tokio::task::spawn_blocking(move || work.map()).await {
                Ok(mapped) => mapped,
                // The mapping panicked, or the runtime is going down: nothing was taken in.
                Err(_) => return empty(StatusCode::INTERNAL_SERVER_ERROR),
            }
        };
        match mapped {
            Err(refusal) => *refusal,
            Ok(Outcome { mapped, is_batch }) => match self.shared.make_durable(mapped.prepared).await {
                Ok(()) => accepted(mapped.accepted, is_batch, &mapped.rejected),
                Err(failure) => self.shared.put_off(&failure),
            },
        }
    }
}

/// A request, on its way to a thread that maps it.
struct Work<F> {
    shared: Arc<Shared<F>>,
    doors: Option<Arc<Doors>>,
    request: Request<Principal>,
}

/// What is to be made durable, and how to answer then.
struct Outcome {
    mapped: Mapped,
    is_batch: bool,
}

impl<F: Format> Work<F> {
    fn map(&self) -> Result<Outcome, Box<Response>> {
        let Request { head, principal, body } = &self.request;
        let shared = &*self.shared;
        let bad = |code, message: &str| Box::new(error(StatusCode::BAD_REQUEST, code, message));
        if body.trim_ascii().is_empty() {
            return Err(bad("empty", &format!("the body is empty; {} is expected", F::ELEMENT)));
        }
        let form = Form::of(head.content_type(), F::TAKES_CSV);
        let elements = divide(body, form).map_err(|message| bad(F::REFUSAL, &message))?;
        shared.received.inc_by((elements.list.len() + elements.refused.len()) as u64);
        let is_batch = elements.is_batch;
        if elements.list.is_empty() && elements.refused.is_empty() {
            return Err(bad("empty", &format!("the batch is empty; {} is expected", F::ELEMENT)));
        }
        let envelope = shared.format.envelope(Arrival { received: shared.clock.now(), head: Some(head), is_batch });
        let is_own = |record: &AuditRecord<'_>| {
            let name = record.crm_organization_unique_name.as_deref();
            match (&self.doors, principal) {
                (Some(doors), Some(credential)) if !doors.allows(*credential, record.organization_id, name) => {
                    Err(FORBIDDEN_ORGANIZATION.to_owned())
                }
                _ => Ok(()),
            }
        };
        let mapped = map(&*shared.format, &elements, &envelope, &shared.emitter, None, is_own)
            .map_err(|failure| shared.put_off(&failure))?;
        shared.rejected.inc_by(mapped.rejected.len() as u64);
        if mapped.accepted == 0 {
            return Err(all_rejected(F::REFUSAL, is_batch, &mapped.rejected).into());
        }
        Ok(Outcome { mapped, is_batch })
    }
}

impl<F: Format> Shared<F> {
    /// Returns when the records are on disk, and not before.
    async fn make_durable(&self, prepared: Prepared) -> Result<(), EmitError> {
        let late = |what: &str, retry_after| EmitError::Full { reason: what.to_owned(), retry_after };
        let submitted = timeout(SUBMIT_TIME, self.emitter.submit(prepared)).await;
        let receipt: Receipt = submitted.map_err(|_| late("the journal's queue is full", SUBMIT_TIME))??;
        let durable = timeout(DURABLE_TIME, receipt).await;
        durable.map_err(|_| late("the disk is slow", SUBMIT_TIME))??;
        if self.is_degraded.swap(false, Ordering::Relaxed) {
            self.health.set(Status::Ok);
        }
        Ok(())
    }

    /// The answer when records could not be made durable. Particulars of this machine are for its operator only.
    fn put_off(&self, failure: &EmitError) -> Response {
        if let EmitError::TooLarge { bytes, limit } = failure {
            let message = format!("the batch makes {bytes} bytes of records, and {limit} are taken at once; send less");
            return error(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &message);
        }
        if *failure != EmitError::Closed && !self.is_degraded.swap(true, Ordering::Relaxed) {
            tracing::warn!(%failure, "posts are put off");
            self.health.set(Status::Degraded { reason: failure.to_string() });
        }
        let seconds = match failure {
            EmitError::Full { retry_after, .. } => retry_after.as_secs().max(1),
            _ => RETRY_AFTER_SECONDS,
        };
        unavailable(seconds, "nothing can be taken in at present; try again later")
    }
}

/// The answer to a batch, or the part of it that names what was rejected.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
    accepted: usize,
    rejected: &'a [Rejected],
    /// Rejected elements that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    more_rejected: usize,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: &'static str,
    message: &'a str,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn accepted(accepted: usize, is_batch: bool, rejected: &[Rejected]) -> Response {
    match is_batch {
        true => summary(StatusCode::OK, None, accepted, rejected),
        // Who sends a single event, as Dataverse does, looks at the status only.
        false => empty(StatusCode::OK),
    }
}

fn all_rejected(refusal: &'static str, is_batch: bool, rejected: &[Rejected]) -> Response {
    let is_foreign = rejected.iter().all(|one| one.reason == FORBIDDEN_ORGANIZATION);
    let (status, code) = match is_foreign {
        true => (StatusCode::FORBIDDEN, "forbidden-organization"),
        false => (StatusCode::BAD_REQUEST, refusal),
    };
    match rejected {
        [only] if !is_batch => error(status, code, &only.reason),
        _ => summary(status, Some(Problem { code, message: "no element of the batch could be taken" }), 0, rejected),
    }
}

fn summary(status: StatusCode, error: Option<Problem<'_>>, accepted: usize, rejected: &[Rejected]) -> Response {
    let listed = &rejected[..rejected.len().min(LISTED)];
    json(status, &Summary { error, accepted, rejected: listed, more_rejected: rejected.len() - listed.len() })
}
