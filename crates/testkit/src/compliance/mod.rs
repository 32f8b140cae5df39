//! The compliance kit: what every source, every sink and every enrichment must pass.
//!
//! The written contract is `docs/component-spec.md`; each check here names the clause that it looks at (`SRC-4`), and
//! each clause there names its check. A plugin's test gives the kit an adapter, which knows how to configure the plugin
//! and how to play its other end, and calls [`source`], [`sink`] or [`enrichment`]:
//!
//! ```no_run
//! # use actlog_testkit::compliance::SourceUnderTest;
//! # async fn compiles<MySourceUnderTest: SourceUnderTest>(new: fn() -> MySourceUnderTest) {
//! // #[tokio::test(flavor = "multi_thread")]
//! actlog_testkit::compliance::source(|| new()).await;
//! # }
//! ```
//!
//! The kit makes a fresh adapter for each check, and runs the checks side by side. Its harnesses, [`SourceHarness`] and [`SinkHarness`], stand where the
//! runtime and the journal stand in production, and can be used for tests of a plugin's own.
//!
//! Whatever must happen is waited for, with [`DEADLINE`]. Whatever must not happen is given [`SETTLE`] to happen: a slow
//! machine can hide a fault there, but never invent one.

mod checks;
mod enrichment;
mod intake;
mod sink;
mod sink_harness;
mod source;
mod source_harness;
mod source_world;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

pub use enrichment::EnrichmentUnderTest;
pub use intake::{Elements, intake};
pub use sink::{Guarantee, Outage, SinkUnderTest};
pub use sink_harness::{Crash, SinkHarness, SinkRun};
pub use source::{Answer, SourceUnderTest, Upstream};
pub use source_harness::{DeadLetter, SourceHarness, SourceRun, Stored};

/// How long the kit waits for what must happen; also the time that a component has for shutting down.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long the kit waits for what must not happen.
pub const SETTLE: Duration = Duration::from_millis(250);

/// A clause of `docs/component-spec.md` that a plugin does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Id of the clause: `SRC-1`.
    pub clause: &'static str,
    /// What was seen, and what was expected.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.message)
    }
}

/// What a check comes to.
pub(crate) type Outcome = Result<(), Violation>;

/// A check in its own world; all of them run side by side, for most of their time is waiting.
pub(crate) type Check = Pin<Box<dyn Future<Output = Outcome>>>;

/// A violation as an error, to be returned by a check.
pub(crate) fn violation<T>(clause: &'static str, message: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { clause, message: message.into() })
}

/// Puts a source through all checks.
///
/// # Panics
/// When it violates a clause; the message lists all violations.
pub async fn source<S: SourceUnderTest>(adapter: impl Fn() -> S) {
    report("source", &source_violations(adapter).await);
}

/// Puts a sink through all checks.
///
/// # Panics
/// When it violates a clause; the message lists all violations.
pub async fn sink<S: SinkUnderTest>(adapter: impl Fn() -> S) {
    report("sink", &sink_violations(adapter).await);
}

/// Puts an enrichment through all checks.
///
/// # Panics
/// When it violates a clause; the message lists all violations.
pub async fn enrichment<E: EnrichmentUnderTest>(adapter: impl Fn() -> E) {
    report("enrichment", &enrichment::check(adapter).await);
}

/// The clauses that a source does not keep, one for each check that fails.
pub async fn source_violations<S: SourceUnderTest>(adapter: impl Fn() -> S) -> Vec<Violation> {
    source::check(adapter).await
}

/// The clauses that a sink does not keep, one for each check that fails.
pub async fn sink_violations<S: SinkUnderTest>(adapter: impl Fn() -> S) -> Vec<Violation> {
    sink::check(adapter).await
}

fn report(role: &str, violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(|violation| format!("  {violation}")).collect();
    assert!(lines.is_empty(), "the {role} does not keep docs/component-spec.md:\n{}", lines.join("\n"));
}
