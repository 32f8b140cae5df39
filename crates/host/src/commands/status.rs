//! `actlog status`.

use std::process::ExitCode;

use actlog_runtime::{ControlError, Request, ask};
use serde_json::Value;

use super::{Outcome, output};
use crate::config_file::Loaded;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Ends with 0 when a process runs and nothing has failed, with 1 otherwise.
pub(crate) fn carry_out(arguments: &Arguments, loaded: &Loaded) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = match runtime.block_on(ask(&loaded.config.data_dir, &Request::Status)) {
        Ok(status) => status,
        Err(error @ ControlError::NotRunning(_)) => {
            if arguments.json {
                output::json(&serde_json::json!({ "running": false, "data_dir": loaded.config.data_dir }))?;
            } else {
                output::line(format!("{error}"));
            }
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    if arguments.json {
        output::json(&status)?;
    } else {
        print(&status);
    }
    let failed = ["sources", "sinks", "enrichments"].iter().any(|role| {
        let components = status[role].as_object().into_iter().flatten();
        components.into_iter().any(|(_, component)| component["status"] == "failed")
    });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(status: &Value) {
    let journal = &status["journal"];
    output::line(format!(
        "actlog {} on {}, policy version {}",
        text(&status["version"]),
        text(&status["data_dir"]),
        status["policy_version"]
    ));
    output::line(format!(
        "journal: entries {} to {}, {} of {} bytes in {} segments{}",
        journal["first_index"],
        journal["next_index"],
        journal["bytes"],
        journal["budget"],
        journal["segments"],
        journal["pressure"].as_str().map(|pressure| format!("; {pressure}")).unwrap_or_default()
    ));
    let mut rows = Vec::new();
    for role in ["sources", "sinks", "enrichments"] {
        for (name, component) in status[role].as_object().into_iter().flatten() {
            let waiting = &status["cursors"][name]["waiting"];
            rows.push(vec![
                role.trim_end_matches('s').to_owned(),
                name.clone(),
                text(&component["type"]),
                text(&component["status"]),
                if role == "sinks" { waiting.to_string() } else { String::new() },
                status["dead_letters"][name].as_u64().unwrap_or(0).to_string(),
                output::harmless(component["reason"].as_str().unwrap_or("")),
            ]);
        }
    }
    output::table(&["ROLE", "NAME", "TYPE", "STATUS", "WAITING", "DEAD LETTERS", "REASON"], &rows);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
