//! `actlog deadletters`.

use std::process::ExitCode;
use std::sync::Arc;

use actlog_runtime::{DeadLetter, DeadLetters, DiskStorage, Request};

use super::{Failure, Outcome, change, output};
use crate::config_file::Loaded;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Lists what was refused for good, and why
    List {
        /// Of this component only
        component: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows a letter whole
    Show {
        /// The component that refused it
        component: String,
        /// Its number
        number: u64,
    },
    /// Gives letters to the sink that refused them once more
    Replay {
        /// The sink
        component: String,
        /// The letters; all of them when left out
        numbers: Vec<u64>,
    },
}

pub(crate) fn carry_out(command: &Command, loaded: &Loaded) -> Outcome {
    match command {
        Command::List { component, json } => {
            let letters = read(loaded, component.as_deref())?;
            if *json {
                output::json(&letters)?;
                return Ok(ExitCode::SUCCESS);
            }
            let rows: Vec<_> = letters
                .iter()
                .map(|letter| {
                    let what = match (&letter.place, letter.id) {
                        (Some(place), _) => output::harmless(place),
                        (None, Some(id)) => format!("record {id}"),
                        (None, None) => String::new(),
                    };
                    let reason = output::harmless(&letter.reason);
                    vec![letter.component.clone(), letter.number.to_string(), letter.time.to_string(), what, reason]
                })
                .collect();
            output::table(&["COMPONENT", "NUMBER", "TIME", "WHAT", "REASON"], &rows);
        }
        Command::Show { component, number } => {
            let letters = read(loaded, Some(component))?;
            let letter = letters.into_iter().find(|letter| letter.number == *number);
            let letter =
                letter.ok_or_else(|| Failure(format!("{component} has no dead letter {number} that waits")))?;
            output::json(&letter)?;
        }
        Command::Replay { component, numbers } => {
            let request = Request::ReplayDeadLetters { component: component.clone(), numbers: numbers.clone() };
            let answer = change(loaded, request)?;
            output::line(format!("{} letters are given to {component} again", answer["replaying"]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(loaded: &Loaded, component: Option<&str>) -> Result<Vec<DeadLetter>, Failure> {
    let letters = DeadLetters::new(Arc::new(DiskStorage), &loaded.config.data_dir).list()?;
    Ok(letters.into_iter().filter(|letter| component.is_none_or(|wanted| letter.component == wanted)).collect())
}
