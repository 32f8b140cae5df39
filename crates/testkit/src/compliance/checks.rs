//! What holds for sources and sinks alike: configuration and metrics.

use std::collections::BTreeSet;

use actlog_core::ConfigError;
use serde_json::Value;

use super::{Outcome, Violation, violation};

/// A configuration in TOML as the tree that a descriptor's `load` takes.
pub(crate) fn table(text: &str) -> Result<Value, Violation> {
    toml::from_str(text).or_else(|error| violation("CFG-1", format!("the configuration is not TOML: {error}\n{text}")))
}

/// CFG-1 to CFG-3. `load` is the descriptor's, with its result dropped.
pub(crate) fn configuration(
    example: &str,
    schema: &Value,
    load: impl Fn(Value) -> Result<(), ConfigError>,
) -> Vec<Violation> {
    const UNKNOWN: &str = "a_key_that_no_plugin_has";
    let example_works = || {
        let example = table(example)?;
        match load(example) {
            Ok(()) => Ok(()),
            Err(error) => violation("CFG-1", format!("the plugin's EXAMPLE is refused: {error}")),
        }
    };
    let unknown_key_is_named = || {
        let mut example = table(example)?;
        if let Some(table) = example.as_object_mut() {
            table.insert(UNKNOWN.to_owned(), Value::from(1));
        }
        match load(example) {
            Ok(()) => violation("CFG-2", "an unknown key is accepted; deny unknown fields"),
            Err(error) if error.to_string().contains(UNKNOWN) => Ok(()),
            Err(error) => violation("CFG-2", format!("the error for an unknown key does not name it: {error}")),
        }
    };
    let keys_are_described = || {
        let properties = schema.get("properties").and_then(Value::as_object);
        let bare: Vec<&String> = properties
            .into_iter()
            .flatten()
            .filter(|(_, property)| property.get("description").is_none())
            .map(|(name, _)| name)
            .collect();
        if bare.is_empty() {
            return Ok(());
        }
        violation("CFG-3", format!("keys without a description in the schema: {bare:?}; write doc comments"))
    };
    [example_works(), unknown_key_is_named(), keys_are_described()].into_iter().filter_map(Result::err).collect()
}

/// MET-2: names begin with `actlog_`.
pub(crate) fn metric_names(text: &str) -> Outcome {
    let foreign: BTreeSet<&str> = names(text).filter(|name| !name.starts_with("actlog_")).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    violation("MET-2", format!("metrics whose names don't begin with actlog_: {foreign:?}"))
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
}

/// The series of an OpenMetrics text: names with their labels.
pub(crate) fn series(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series.to_owned())
        .collect()
}

/// MET-1: some counter has counted.
pub(crate) fn something_was_counted(text: &str) -> Outcome {
    let mut values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        series.split('{').next()?.ends_with("_total").then(|| value.parse::<f64>().ok()).flatten()
    });
    if values.any(|value| value > 0.0) {
        return Ok(());
    }
    violation("MET-1", "no counter of the component's own has counted anything that passed its outer side")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_text() {
        let text = "# HELP actlog_a A.\n# TYPE actlog_a counter\nactlog_a_total{x=\"1\"} 2\nactlog_a_total{x=\"2 3\"} 5\n# EOF\n";
        assert_eq!(something_was_counted(text), Ok(()));
        let idle = text.replace(" 2\n", " 0\n").replace(" 5\n", " 0\n");
        assert_eq!(something_was_counted(&idle).unwrap_err().clause, "MET-1");
        assert_eq!(series(text).len(), 2);
        assert_eq!(metric_names(text), Ok(()));
        assert_eq!(metric_names(&text.replace("actlog_", "my_")).unwrap_err().clause, "MET-2");
    }

    #[test]
    fn a_configuration_that_breaks_a_clause_is_found() {
        let refuses_unknown =
            |table: Value| match table.as_object().and_then(|table| table.keys().find(|key| *key != "path")) {
                Some(key) => Err(ConfigError::new(key, "unknown")),
                None => Ok(()),
            };
        let clauses = |example, schema: &Value, load: &dyn Fn(Value) -> Result<(), ConfigError>| {
            configuration(example, schema, load).into_iter().map(|violation| violation.clause).collect::<Vec<_>>()
        };
        let described = serde_json::json!({ "properties": { "path": { "description": "Where." } } });
        let bare = serde_json::json!({ "properties": { "path": {} } });
        assert_eq!(clauses("path = 1", &described, &refuses_unknown), [""; 0]);
        assert_eq!(clauses("colour = 1", &described, &refuses_unknown)[0], "CFG-1");
        assert_eq!(clauses("path = 1", &described, &|_| Ok(())), ["CFG-2"]);
        assert_eq!(clauses("path = 1", &bare, &refuses_unknown), ["CFG-3"]);
    }
}
