//! `actlog plugins`.

use std::process::ExitCode;

use actlog_core::{Registry, config_keys};
use schemars::Schema;
use serde_json::json;

use super::{Failure, Outcome, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Shows a plugin's configuration: keys, types, defaults, an example
    Show {
        /// Its kind, as in `type = "…"`
        kind: String,
    },
}

pub(crate) fn carry_out(arguments: &Arguments, registry: &Registry) -> Outcome {
    match &arguments.command {
        None if arguments.json => output::json(&registry.list())?,
        None => {
            let rows: Vec<_> = registry
                .list()
                .into_iter()
                .map(|plugin| {
                    [plugin.kind, plugin.role, plugin.crate_name, plugin.version, plugin.summary]
                        .map(str::to_owned)
                        .to_vec()
                })
                .collect();
            output::table(&["KIND", "ROLE", "CRATE", "VERSION", "SUMMARY"], &rows);
        }
        Some(Command::Show { kind }) => show(kind, arguments.json, registry)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(kind: &str, as_json: bool, registry: &Registry) -> Result<(), Failure> {
    let source = registry.sources().find(|source| source.kind == kind);
    let sink = registry.sinks().find(|sink| sink.kind == kind);
    let enrichment = registry.enrichments().find(|enrichment| enrichment.kind == kind);
    if source.is_none() && sink.is_none() && enrichment.is_none() {
        // Both errors say what there is; the source's comes with the feature that would bring it, if one does.
        registry.source(kind, crate::plugins::KNOWN.sources)?;
        registry.sink(kind, crate::plugins::KNOWN.sinks)?;
        registry.enrichment(kind, crate::plugins::KNOWN.enrichments)?;
    }
    // A source, a sink and an enrichment may have the same kind.
    let shown = source
        .map(|source| ("source", source.summary, (source.schema)(), source.example))
        .into_iter()
        .chain(sink.map(|sink| ("sink", sink.summary, (sink.schema)(), sink.example)))
        .chain(enrichment.map(|plugin| ("enrichment", plugin.summary, (plugin.schema)(), plugin.example)));
    if as_json {
        let shown: Vec<_> = shown
            .map(|(role, summary, schema, example)| {
                json!({ "role": role, "kind": kind, "summary": summary, "schema": schema, "example": example })
            })
            .collect();
        return output::json(&shown);
    }
    for (role, summary, schema, example) in shown {
        print(role, kind, summary, &schema, example);
    }
    Ok(())
}

fn print(role: &str, kind: &str, summary: &str, schema: &Schema, example: &str) {
    output::line(format!("{role} {kind}: {summary}\n"));
    for key in config_keys(schema.as_value()) {
        let default = key.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
        let required = if key.required { " [required]" } else { "" };
        output::line(format!("{} = {}{required}{default}", key.path, key.value_type));
        for line in key.description.lines() {
            output::line(format!("    {line}"));
        }
    }
    output::line(format!("\nExample:\n\n[{role}s.NAME]\ntype = {kind:?}\n{}", example.trim_end()));
}
