//! `actlog sinks`.

use std::process::ExitCode;

use actlog_runtime::Request;

use super::{Outcome, change, output};
use crate::config_file::Loaded;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Lists the cursors: how far each sink has come
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Moves a sink to the end of the journal; what it misses is stated there
    Skip {
        /// The sink
        name: String,
    },
    /// Forgets the cursor of a sink that is no longer configured, so that the journal keeps nothing for it
    Forget {
        /// The sink
        name: String,
    },
}

pub(crate) fn carry_out(command: &Command, loaded: &Loaded) -> Outcome {
    match command {
        Command::List { json } => {
            let status = change(loaded, Request::Status)?;
            if *json {
                output::json(&status["cursors"])?;
                return Ok(ExitCode::SUCCESS);
            }
            let cursors = status["cursors"].as_object().into_iter().flatten();
            let rows: Vec<_> = cursors
                .map(|(name, cursor)| {
                    let configured = if loaded.config.sinks.contains_key(name) { "yes" } else { "no" };
                    vec![
                        name.clone(),
                        configured.to_owned(),
                        cursor["next_index"].to_string(),
                        cursor["waiting"].to_string(),
                    ]
                })
                .collect();
            output::table(&["NAME", "CONFIGURED", "NEXT ENTRY", "WAITING"], &rows);
        }
        Command::Skip { name } => {
            let answer = change(loaded, Request::SkipSink { sink: name.clone() })?;
            output::line(format!("{name} goes on with entry {}", answer["next_index"]));
        }
        Command::Forget { name } => {
            change(loaded, Request::ForgetSink { sink: name.clone() })?;
            output::line(format!("{name} is forgotten"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
