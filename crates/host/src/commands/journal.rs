//! `actlog journal`.

use std::process::ExitCode;

use actlog_journal::{Problem, ProblemKind};
use actlog_runtime::{DataLock, DiskStorage, journal_folder};

use super::{Outcome, output};
use crate::config_file::Loaded;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Shows the segments and what they hold
    Inspect {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints what the journal states about itself: when capture ran, gaps, policies, who did what; a JSON object a line
    Statements,
    /// Reads everything and checks it; ends with 1 when something durable is damaged
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Writes damaged segments anew with what is intact; originals are kept beside them. Only while nothing runs
    Repair,
}

pub(crate) fn carry_out(command: &Command, loaded: &Loaded) -> Outcome {
    let folder = journal_folder(&loaded.config.data_dir);
    match command {
        Command::Inspect { json } => {
            let inspection = actlog_journal::inspect(&DiskStorage, &folder)?;
            if *json {
                output::json(&inspection)?;
                return Ok(ExitCode::SUCCESS);
            }
            let time = |time: Option<actlog_core::Timestamp>| time.map_or_else(String::new, |time| time.to_string());
            let rows: Vec<_> = inspection
                .segments
                .iter()
                .map(|segment| {
                    vec![
                        segment.first.to_string(),
                        segment.end.to_string(),
                        segment.records.to_string(),
                        segment.statements.to_string(),
                        segment.bytes.to_string(),
                        time(segment.first_written),
                        time(segment.last_written),
                    ]
                })
                .collect();
            output::table(&["FIRST", "END", "RECORDS", "STATEMENTS", "BYTES", "FIRST WRITTEN", "LAST WRITTEN"], &rows);
            for (key, value) in &inspection.states {
                output::line(format!("state {}: {} bytes", output::harmless(key), value.len()));
            }
        }
        Command::Statements => actlog_journal::statements(&DiskStorage, &folder, |statement| {
            output::line(output::harmless_json(&String::from_utf8_lossy(&statement.bytes)));
        })?,
        Command::Verify { json } => {
            let problems = actlog_journal::verify(&DiskStorage, &folder)?;
            if *json {
                output::json(&problems)?;
            } else {
                for problem in &problems {
                    let Problem { kind, segment, bytes, lost } = problem;
                    let what = match kind {
                        ProblemKind::Damaged => "damaged; `actlog journal repair` sets it in order",
                        ProblemKind::Lost => "entries are lost, as an earlier repair noted",
                        ProblemKind::Unfinished => {
                            "an unfinished last frame, never acknowledged; nothing is to be done"
                        }
                        ProblemKind::Header => "the header is damaged; `actlog journal repair` writes it again",
                    };
                    let lost = if lost.is_empty() { String::new() } else { format!("; entries lost: {lost:?}") };
                    output::line(format!("{}: bytes {bytes:?}: {what}{lost}", segment.display()));
                }
                if problems.is_empty() {
                    output::line("the journal is intact");
                }
            }
            // What was never acknowledged was never promised, and what a repair has noted is known.
            let damaged = |problem: &Problem| matches!(problem.kind, ProblemKind::Damaged | ProblemKind::Header);
            let damaged = problems.iter().any(damaged);
            return Ok(if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        Command::Repair => {
            let _lock = DataLock::acquire(&loaded.config.data_dir)?;
            let repairs = actlog_journal::repair(&DiskStorage, &folder)?;
            for repair in &repairs {
                output::line(format!(
                    "{}: written anew with {} frames; entries lost: {:?}; the original is {}",
                    repair.segment.display(),
                    repair.frames,
                    repair.lost,
                    repair.original.display()
                ));
            }
            if repairs.is_empty() {
                output::line("nothing to repair");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
