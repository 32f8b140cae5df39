//! `actlog plugins`.

use std::process::ExitCode;

use actlog_core::Registry;
use schemars::Schema;
use serde_json::Value;

use super::{Failure, Outcome, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
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
        Some(Command::Show { kind }) => show(kind, registry)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(kind: &str, registry: &Registry) -> Result<(), Failure> {
    let source = registry.sources().find(|source| source.kind == kind);
    let sink = registry.sinks().find(|sink| sink.kind == kind);
    if source.is_none() && sink.is_none() {
        // Both errors say what there is; the source's comes with the feature that would bring it, if one does.
        registry.source(kind, crate::plugins::KNOWN.sources)?;
        registry.sink(kind, crate::plugins::KNOWN.sinks)?;
    }
    if let Some(source) = source {
        print("source", kind, source.summary, &(source.schema)(), source.example);
    }
    if let Some(sink) = sink {
        print("sink", kind, sink.summary, &(sink.schema)(), sink.example);
    }
    Ok(())
}

fn print(role: &str, kind: &str, summary: &str, schema: &Schema, example: &str) {
    output::line(format!("{role} {kind}: {summary}\n"));
    for key in keys(schema) {
        let default = key.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
        let required = if key.required { " [required]" } else { "" };
        output::line(format!("{} = {}{required}{default}", key.path, key.value_type));
        for line in key.description.lines() {
            output::line(format!("    {line}"));
        }
    }
    output::line(format!("\nExample:\n\n[{role}s.NAME]\ntype = {kind:?}\n{}", example.trim_end()));
}

/// A key of a configuration.
pub(crate) struct Key {
    pub(crate) path: String,
    pub(crate) value_type: String,
    pub(crate) description: String,
    pub(crate) default: Option<String>,
    pub(crate) required: bool,
}

/// The keys of a schema, nested ones with their path.
pub(crate) fn keys(schema: &Schema) -> Vec<Key> {
    let mut keys = Vec::new();
    let root = schema.as_value();
    collect(root, root, "", 0, &mut keys);
    keys
}

/// Schemas of configurations refer to themselves only where tables may nest; nobody writes deeper than this.
const DEEPEST: usize = 4;

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, keys: &mut Vec<Key>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (name, property) in properties {
        let resolved = resolve(root, property);
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let own = property["description"].as_str().or_else(|| resolved["description"].as_str());
        let default = match &property["default"] {
            Value::Null => None,
            Value::Object(_) => None,
            value => Some(value.to_string()),
        };
        keys.push(Key {
            value_type: value_type(root, property),
            description: own.unwrap_or_default().to_owned(),
            default,
            required: required.iter().any(|key| key == name),
            path: path.clone(),
        });
        if depth < DEEPEST {
            collect(root, resolved, &path, depth + 1, keys);
            if let items @ Value::Object(_) = &resolved["items"] {
                collect(root, resolve(root, items), &format!("{path}[]"), depth + 1, keys);
            }
            if let values @ Value::Object(_) = &resolved["additionalProperties"] {
                collect(root, resolve(root, values), &format!("{path}.NAME"), depth + 1, keys);
            }
        }
    }
}

/// Follows a reference, and looks through "this or null".
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return root.pointer(pointer).map_or(schema, |found| resolve(root, found));
    }
    let alternatives = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    match alternatives.iter().filter(|alternative| alternative["type"] != "null").collect::<Vec<_>>()[..] {
        [only] => resolve(root, only),
        _ => schema,
    }
}

fn value_type(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(alternatives) = alternatives {
        let mut types: Vec<String> = alternatives.iter().map(|alternative| value_type(root, alternative)).collect();
        types.dedup();
        return types.join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    let name = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("").to_owned()
        }
        _ => "any".to_owned(),
    };
    match name.as_str() {
        "array" => format!("array of {}", value_type(root, &schema["items"])),
        "object" if schema["properties"].is_object() => {
            let names: Vec<String> =
                schema["properties"].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
            format!("table {{ {} }}", names.join(", "))
        }
        "object" => "table".to_owned(),
        _ => name,
    }
}
