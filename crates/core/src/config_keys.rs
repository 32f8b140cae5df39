//! What a person must know of a configuration: its keys, read from the JSON Schema of its type.

use serde_json::Value;

/// A key of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its path, such as `rotate.size`; `NAME` stands for what the user chooses, `[]` for each element of a list.
    pub path: String,
    /// What may be written there: `string`, `"gzip" | "zstd"`, `array of string`.
    pub value_type: String,
    /// Its meaning: the doc comment of the field.
    pub description: String,
    /// What holds when it is left out, as JSON.
    pub default: Option<String>,
    /// Whether it must be there.
    pub required: bool,
}

/// The keys of the configuration that the JSON Schema describes; those of tables inside of it follow their table.
pub fn config_keys(schema: &Value) -> Vec<ConfigKey> {
    let mut keys = Vec::new();
    collect(schema, schema, "", 0, &mut keys);
    keys
}

/// Schemas refer to themselves only where tables may nest; nobody writes deeper than this.
const DEEPEST: usize = 4;

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, keys: &mut Vec<ConfigKey>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (name, property) in properties {
        let resolved = resolve(root, property);
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let own = property["description"].as_str().or_else(|| resolved["description"].as_str());
        // The defaults of a table's keys stand with the keys.
        let default = Some(&property["default"]).filter(|value| !value.is_null() && !value.is_object());
        keys.push(ConfigKey {
            value_type: value_type(root, property),
            description: own.unwrap_or_default().to_owned(),
            default: default.map(Value::to_string),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Example {
        /// Where to.
        path: String,
        /// When to begin anew.
        #[serde(default)]
        rotate: Option<Rotate>,
        /// By name.
        #[serde(default)]
        users: std::collections::BTreeMap<String, Rotate>,
        #[serde(default)]
        format: Format,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Rotate {
        /// Bytes.
        size: Size,
    }

    /// How it looks.
    #[derive(Default, JsonSchema, serde::Serialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Format {
        #[default]
        Plain,
        Packed,
    }

    #[test]
    fn every_key_has_path_type_default_and_meaning() {
        let keys = config_keys(schemars::schema_for!(Example).as_value());
        let paths: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
        assert_eq!(paths, ["format", "path", "rotate", "rotate.size", "users", "users.NAME.size"]);
        let of = |path: &str| keys.iter().find(|key| key.path == path).unwrap();
        assert_eq!(of("path").value_type, "string");
        assert!(of("path").required && of("path").description == "Where to." && of("path").default.is_none());
        assert_eq!(of("format").value_type, "\"plain\" | \"packed\"");
        assert_eq!(of("format").default.as_deref(), Some("\"plain\""));
        assert_eq!(of("format").description, "How it looks.");
        assert!(of("rotate.size").required && !of("rotate").required);
    }
}
