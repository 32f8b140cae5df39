//! `actlog policy diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use actlog_dataverse::customizations::{AuditFlags, Flag};
use actlog_policy::{PolicyDocument, PolicyStore, changes};
use serde_json::{Map, Value, json};

use super::{import, live, no_draft, published};
use crate::commands::{Failure, Outcome, output};
use crate::config_file::Loaded;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Compare with the audit flags of a solution file, a customizations.xml or an unpacked Entity.xml
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    live: live::Environment,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn carry_out(arguments: &Arguments, store: &PolicyStore, loaded: &Loaded) -> Outcome {
    let published = PolicyDocument::parse(&published(store)?)?;
    let draft = store.draft()?.map(|text| PolicyDocument::parse(&text)).transpose()?;
    let file = arguments.file.as_deref().map(import::read).transpose()?;
    let live = arguments.live.read(loaded)?;
    if file.is_none() && live.is_none() {
        let changes = changes(&published, &draft.ok_or_else(no_draft)?);
        match arguments.format {
            Format::Text => changes.iter().for_each(|change| output::line(output::harmless(change))),
            Format::Json => output::json(&changes)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let known = union(file.iter().chain(live.iter().map(|live| &live.flags)));
    let of_policy = |document: PolicyDocument| {
        let organization = live.as_ref().and_then(|live| document.organization_key(live.name, live.organization));
        document.audit_flags(&known, organization)
    };
    let [published, draft] = [Some(published), draft].map(|document| document.map(of_policy));
    let live = live.map(|live| live.flags);
    let sides = [("published", published), ("draft", draft), ("file", file), ("live", live)];
    let sides: Vec<_> = sides.into_iter().filter_map(|(name, flags)| Some((name, flags?))).collect();
    for warning in sides.iter().flat_map(|(_, flags)| &flags.warnings) {
        output::warning(warning);
    }
    let sides: Vec<_> = sides.iter().map(|(name, flags)| (*name, flags.stated())).collect();
    compare(&sides, arguments.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the flags on which two sides disagree. What a side does not know is no disagreement.
fn compare(sides: &[(&'static str, BTreeMap<Flag, bool>)], format: Format) -> Result<(), Failure> {
    let outside = |name: &str| matches!(name, "file" | "live");
    // The policy has an answer for every entity: what counts are the flags that Dataverse has.
    let all = sides.iter().filter(|(name, _)| outside(name)).flat_map(|(_, stated)| stated.keys());
    let all: BTreeSet<_> = all.collect();
    let differing: Vec<_> = all
        .iter()
        .map(|flag| (*flag, sides.iter().map(|(_, stated)| stated.get(*flag).copied()).collect::<Vec<_>>()))
        .filter(|(_, values)| values.contains(&Some(true)) && values.contains(&Some(false)))
        .collect();
    match format {
        Format::Json => {
            let rows = differing.iter().map(|(flag, values)| {
                let mut row = Map::from_iter([("Flag".to_owned(), json!(flag.to_string()))]);
                row.extend(sides.iter().zip(values).map(|((name, _), value)| (title(name), json!(value))));
                Value::Object(row)
            });
            output::json(&json!({ "Compared": all.len(), "Differing": rows.collect::<Vec<_>>() }))
        }
        Format::Text => {
            if !differing.is_empty() {
                let shown = |value: &Option<bool>| match value {
                    Some(true) => "on",
                    Some(false) => "off",
                    None => "unknown",
                };
                let rows: Vec<_> = differing
                    .iter()
                    .map(|(flag, values)| {
                        let values = values.iter().map(|value| shown(value).to_owned());
                        [output::harmless(&flag.to_string())].into_iter().chain(values).collect()
                    })
                    .collect();
                let head: Vec<_> = ["flag"].into_iter().chain(sides.iter().map(|(name, _)| *name)).collect();
                output::table(&head, &rows);
            }
            output::line(format!("{} of {} flags differ", differing.len(), all.len()));
            Ok(())
        }
    }
}

fn title(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

/// Every entity and column that one of them names.
fn union<'a>(all: impl Iterator<Item = &'a AuditFlags>) -> AuditFlags {
    let mut union = AuditFlags::default();
    for (name, entity) in all.flat_map(|flags| &flags.entities) {
        let columns = entity.attributes.iter().map(|(column, flag)| (column.clone(), *flag));
        union.entities.entry(name.clone()).or_default().attributes.extend(columns);
    }
    union
}
