//! What changes from one policy to another.

use std::collections::BTreeMap;

use toml::Value;

use crate::document::PolicyDocument;

/// The changes from one policy to another, a line each, such as `entities.account.auditing: true -> false`; a key that
/// is not in a document shows as `(not set)`.
pub fn changes(from: &PolicyDocument, to: &PolicyDocument) -> Vec<String> {
    let (from, to) = (leaves(from), leaves(to));
    let keys: std::collections::BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "(not set)".to_owned());
    let changed = keys.into_iter().filter(|key| from.get(*key) != to.get(*key));
    changed.map(|key| format!("{key}: {} -> {}", shown(from.get(key)), shown(to.get(key)))).collect()
}

/// For whom nothing is audited: `default`, and organisations by the name that they have in the policy.
pub fn auditing_off(document: &PolicyDocument) -> Vec<String> {
    let organizations = document.organizations.iter().filter(|(_, over)| !document.overridden_by(over).audits());
    let default = (!document.audits()).then(|| "default".to_owned());
    default.into_iter().chain(organizations.map(|(name, _)| name.clone())).collect()
}

/// For whom Start Auditing is switched off by going from one policy to the other; as [`auditing_off`] names them.
pub fn auditing_switched_off(from: &PolicyDocument, to: &PolicyDocument) -> Vec<String> {
    let audited = |name: &String| match from.organizations.get(name) {
        Some(over) => from.overridden_by(over).audits(),
        None => from.audits(),
    };
    let mut off = auditing_off(to);
    off.retain(|name| if name == "default" { from.audits() } else { audited(name) });
    off
}

/// Every key that is set, by its path, with its value as TOML. Rules go by their names.
fn leaves(document: &PolicyDocument) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    // A document has string keys, booleans, strings and lists only; all of them have a TOML form.
    if let Ok(value) = Value::try_from(document) {
        collect(String::new(), &value, &mut leaves);
    }
    leaves
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let name_of = |element: &Value| element.get("name").and_then(Value::as_str).map(str::to_owned);
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| collect(below(key), value, leaves)),
        Value::Array(elements) if !elements.is_empty() && elements.iter().all(|element| name_of(element).is_some()) => {
            for element in elements {
                collect(below(&name_of(element).unwrap_or_default()), element, leaves);
            }
        }
        value => {
            leaves.insert(path, value.to_string());
        }
    }
}
