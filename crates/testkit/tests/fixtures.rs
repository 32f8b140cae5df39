//! What the generator writes has the shapes that real captures have.

use std::collections::{BTreeMap, BTreeSet};

use actlog_testkit::generator::Generator;
use actlog_testkit::{fixtures, skip};
use serde_json::Value;

/// For each type, the sets of members that its objects have.
type Shapes = BTreeMap<String, BTreeSet<Vec<String>>>;

fn shapes(value: &Value, shapes_of: &mut Shapes) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| shapes(element, shapes_of)),
        Value::Object(members) => {
            let kind = members.get("__type").and_then(Value::as_str).unwrap_or("no type");
            shapes_of.entry(kind.to_owned()).or_default().insert(members.keys().cloned().collect());
            members.values().for_each(|member| shapes(member, shapes_of));
        }
        _ => {}
    }
}

#[test]
fn generated_contexts_have_no_shape_that_captures_do_not_have() {
    let Some(captures) = fixtures::webhook_captures() else {
        skip!("there are no captures to compare generated contexts with");
    };
    let (mut captured, mut generated) = (Shapes::new(), Shapes::new());
    for capture in captures.iter().filter(|capture| !capture.name.contains("dialects")) {
        shapes(&serde_json::from_slice(&capture.bytes).unwrap(), &mut captured);
    }
    for (body, _) in Generator::new(1).take(2000) {
        shapes(&serde_json::from_slice(&body).unwrap(), &mut generated);
    }
    for (kind, shapes) in &generated {
        // No capture has one; its members are those of the SDK's data contract.
        if kind.starts_with("PrincipalAccess:") {
            continue;
        }
        let known = captured.get(kind).unwrap_or_else(|| panic!("no capture has the type {kind}"));
        let new: Vec<_> = shapes.difference(known).collect();
        assert!(new.is_empty(), "{kind}: {new:?}");
    }
}
