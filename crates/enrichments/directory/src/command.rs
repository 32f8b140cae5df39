//! `actlog directory USER`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use actlog_core::{CommandContext, terminal};
use actlog_dataverse::directory::{self, UserEntry};
use clap::Parser;
use uuid::Uuid;

/// Shows what is known of a user, now and earlier
#[derive(Debug, Parser)]
#[command(name = "actlog directory")]
struct Arguments {
    /// A user principal name, or the id of a system user
    user: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A line of the answer.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    directory: &'a str,
    #[serde(flatten)]
    entry: &'a UserEntry,
}

pub(crate) fn run(cx: CommandContext, arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(std::iter::once("actlog directory".into()).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match show(&cx, &arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("no directory knows the user {:?}", arguments.user);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints every entry of every id that the user has; whether there are any.
fn show(cx: &CommandContext, arguments: &Arguments) -> Result<bool, String> {
    let mut found = false;
    for name in configured(&cx.config) {
        let entries = directory::read(&*cx.storage, &directory::file(&cx.data_dir, name)).map_err(|e| e.to_string())?;
        let ids = match arguments.user.parse::<Uuid>() {
            Ok(id) => BTreeSet::from([id]),
            Err(_) => directory::ids_of(&entries, &arguments.user),
        };
        for entry in entries.iter().filter(|entry| ids.contains(&entry.system_user_id)) {
            found = true;
            print(&Line { directory: name, entry }, arguments.json)?;
        }
    }
    Ok(found)
}

fn print(line: &Line<'_>, as_json: bool) -> Result<(), String> {
    if as_json {
        let json = serde_json::to_string(line).map_err(|error| error.to_string())?;
        terminal::line(terminal::harmless_json(&json));
        return Ok(());
    }
    let UserEntry { time, system_user_id, user } = line.entry;
    let text = |text: &Option<Box<str>>| text.as_deref().map_or_else(|| "-".to_owned(), terminal::harmless);
    let kind = user.user_type.map_or_else(|| "-".to_owned(), |kind| kind.to_string());
    let (upn, key) = (text(&user.user_upn), text(&user.user_key));
    terminal::line(format!("{time}  {system_user_id}  {upn}  UserKey {key}  UserType {kind}  ({})", line.directory));
    Ok(())
}

/// The names of the configured directories.
fn configured(config: &serde_json::Value) -> impl Iterator<Item = &str> {
    let enrichments = config["enrichments"].as_object().into_iter().flatten();
    enrichments.filter(|(_, table)| table["type"] == "directory").map(|(name, _)| name.as_str())
}
