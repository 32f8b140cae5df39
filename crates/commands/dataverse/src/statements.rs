//! What commands state in the journal.

use actlog_core::{CommandContext, Gap};

use crate::Failure;

/// Refusals that a statement names; it counts the others.
const NAMED: usize = 5;

/// States what will be done. When that fails, it must not be done.
pub(crate) fn before(cx: &CommandContext, action: &str) -> Result<(), Failure> {
    let refuse = |error| Failure(format!("nothing was changed, because it can't be stated in the journal: {error}"));
    cx.log.state(action, &[]).map_err(refuse)
}

/// States what came of it.
pub(crate) fn after(cx: &CommandContext, outcome: &str, gaps: &[Gap]) -> Result<(), Failure> {
    let failed = |error| Failure(format!("{outcome}; this could not be stated in the journal: {error}"));
    cx.log.state(outcome, gaps).map_err(failed)
}

/// What the environment refused, in one text of bounded length.
pub(crate) fn refusals(refused: &[String]) -> String {
    let named = refused.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match refused.len().saturating_sub(NAMED) {
        0 => named,
        others => format!("{named}; and {others} more"),
    }
}
