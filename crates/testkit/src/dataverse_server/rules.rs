//! Writing: what the platform takes of service endpoints, steps, jobs and the organisation's row, and what it refuses.

use hyper::header::HeaderValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::odata::{Options, Row};
use super::requests::{Call, Refusal, bad, not_found, refuse, unknown_segment, written};
use super::schema::{ATTRIBUTES, DEFINITIONS, Kind, Table, table};
use super::{State, definitions, id_in, jobs};
use crate::server::{Bytes, Response, StatusCode, empty, json as json_answer};

pub(super) fn write(state: &mut State, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
    match (call.method, &call.segments[..]) {
        ("POST", [action]) if action.name == "PublishXml" || action.name == "PublishAllXml" => {
            definitions::publish(state, call)
        }
        ("PUT", [definition]) if definition.name == DEFINITIONS => {
            let (table, id) = state.find(definition)?;
            definitions::replace(state, call, table, id)
        }
        ("PUT", [definition, attribute]) if definition.name == DEFINITIONS && attribute.name == ATTRIBUTES => {
            let (table, id) = state.attribute(definition, attribute)?;
            definitions::replace(state, call, table, id)
        }
        (_, [set, ..]) if set.name == DEFINITIONS => {
            refuse(405, "0x80060888", "Definitions are changed with PUT of the whole definition.")
        }
        ("POST", [set]) if set.key.is_none() => create(state, call, &set.name),
        ("PATCH", [set]) => {
            let (table, id) = state.find(set)?;
            update(state, call, table, id)
        }
        ("DELETE", [set]) => {
            let (table, id) = state.find(set)?;
            delete(state, table, id)
        }
        (_, segments) => Err(unknown_segment(&segments.last().map(|segment| segment.name.clone()).unwrap_or_default())),
    }
}

fn create(state: &mut State, call: &Call<'_>, set: &str) -> Result<Response<Bytes>, Refusal> {
    let table = state.table(set)?;
    if !table.writable || matches!(table.set, "organizations" | "asyncoperations") {
        return refuse(405, "0x80040800", format!("The Create method does not support entities of type '{set}'."));
    }
    let body = call.body.as_ref().ok_or_else(|| bad("The request has no body."))?;
    let mut row = taken(state, table, body)?;
    check(state, table, &row, None)?;
    if table.set == "sdkmessageprocessingsteps" {
        row.insert("statecode".to_owned(), json!(0));
        row.insert("statuscode".to_owned(), json!(1));
        row.entry("rank").or_insert(json!(1));
    }
    let id = id_in(&row, table.id).unwrap_or_else(Uuid::new_v4);
    if state.row(table.set, id).is_some() {
        return refuse(412, "0x80040237", "A record with matching key values already exists.");
    }
    state.put(table, id, row);
    let mut response = written(&state.url, table.set, id);
    if call.wants_representation() {
        let row = state.row(table.set, id).cloned().unwrap_or_default();
        let shown = state.shown(table, &row, &Options::default(), true)?;
        let location = response.headers_mut().remove("odata-entityid");
        response = json_answer(StatusCode::CREATED, &Value::Object(shown));
        if let Some(location) = location {
            response.headers_mut().insert("odata-entityid", location);
        }
        response.headers_mut().insert("preference-applied", HeaderValue::from_static("return=representation"));
    }
    Ok(response)
}

fn update(state: &mut State, call: &Call<'_>, table: &'static Table, id: Uuid) -> Result<Response<Bytes>, Refusal> {
    if !table.writable {
        return refuse(405, "0x80040800", "The Update method does not support entities of this type.");
    }
    let body = call.body.as_ref().ok_or_else(|| bad("The request has no body."))?;
    let changes = taken(state, table, body)?;
    if table.set == "asyncoperations" {
        return jobs::update(state, id, &changes);
    }
    let mut row = state.row(table.set, id).cloned().ok_or_else(|| not_found(table.logical_name, id))?;
    row.extend(changes);
    check(state, table, &row, Some(id))?;
    state.put(table, id, row);
    Ok(written(&state.url, table.set, id))
}

fn delete(state: &mut State, table: &'static Table, id: Uuid) -> Result<Response<Bytes>, Refusal> {
    if !matches!(table.set, "serviceendpoints" | "sdkmessageprocessingsteps" | "asyncoperations") {
        return refuse(405, "0x80040800", "The Delete method does not support entities of this type.");
    }
    let row = state.row(table.set, id).cloned().unwrap_or_default();
    let steps = state.related(table, "serviceendpoint_sdkmessageprocessingstep", &row).len();
    if steps > 0 {
        let message =
            format!("The ServiceEndpoint({id}) component cannot be deleted: {steps} other components need it.");
        return refuse(400, "0x8004f01f", message);
    }
    if let Some(rows) = state.rows.get_mut(table.set) {
        rows.remove(&id);
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The columns that a body gives, with `…@odata.bind` as the ids of what is bound.
fn taken(state: &State, of: &Table, body: &Row) -> Result<Row, Refusal> {
    let unknown = |name: &str| {
        let message = format!(
            "Error identified in Payload provided by the user for Entity :'{}': An undeclared property '{name}' which \
             only has property annotations in the payload but no property value was found in the payload.",
            of.set
        );
        (400, "0x80048d19", message)
    };
    let mut row = Row::new();
    for (name, value) in body {
        if let Some(lookup) = name.strip_suffix("@odata.bind") {
            let found = of.lookups.iter().find(|(known, ..)| *known == lookup);
            let (_, set, column) = found.ok_or_else(|| unknown(lookup))?;
            let bound = value.as_str().and_then(|reference| {
                let key = reference.trim_start_matches('/').strip_prefix(set)?.strip_prefix('(')?.strip_suffix(')')?;
                Uuid::try_parse(key).ok()
            });
            let bound = bound.ok_or_else(|| bad(format!("{value} is no reference to {set}.")))?;
            if state.row(set, bound).is_none() {
                return Err(not_found(set, bound));
            }
            row.insert((*column).to_owned(), json!(bound));
            continue;
        }
        // Ids of what is looked up are read only; they are set by binding.
        let kind = of.column(name).filter(|_| !name.starts_with('_')).ok_or_else(|| unknown(name))?;
        let fits = match value {
            Value::Null => true,
            Value::Bool(_) => kind == Kind::Boolean,
            Value::Number(number) => kind == Kind::Integer && number.is_i64(),
            Value::String(text) => match kind {
                Kind::Text | Kind::Secret | Kind::Time => true,
                Kind::Id => Uuid::try_parse(text).is_ok(),
                _ => false,
            },
            _ => false,
        };
        if !fits {
            return Err(bad(format!("Cannot convert the value of '{name}' to {kind:?}.")));
        }
        row.insert(name.clone(), value.clone());
    }
    Ok(row)
}

/// The rules over a whole row; `own` is its id where it is there already.
fn check(state: &State, of: &Table, row: &Row, own: Option<Uuid>) -> Result<(), Refusal> {
    match of.set {
        "serviceendpoints" => check_endpoint(row),
        "sdkmessageprocessingsteps" => check_step(state, row, own),
        _ => Ok(()),
    }
}

fn check_endpoint(row: &Row) -> Result<(), Refusal> {
    let number = |name: &str| row.get(name).and_then(Value::as_i64);
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("name").is_empty() || text("url").is_empty() {
        return Err(bad("A webhook needs a name and a url."));
    }
    if number("contract") != Some(8) {
        return Err(bad("The stand-in has webhooks only: contract 8."));
    }
    match number("authtype") {
        Some(4) if !text("authvalue").is_empty() => Ok(()),
        Some(5 | 6) if jobs::settings(text("authvalue")).is_some_and(|settings| !settings.is_empty()) => Ok(()),
        Some(4..=6) => refuse(400, "0x80040203", "The authvalue does not fit the authtype."),
        other => Err(bad(format!("A webhook's authtype is 4, 5 or 6, not {other:?}."))),
    }
}

fn check_step(state: &State, row: &Row, own: Option<Uuid>) -> Result<(), Refusal> {
    let number = |name: &str| row.get(name).and_then(Value::as_i64);
    let missing = |name: &str| bad(format!("A step needs {name}."));
    let stage = number("stage").ok_or_else(|| missing("stage"))?;
    let mode = number("mode").ok_or_else(|| missing("mode"))?;
    if !matches!(stage, 10 | 20 | 40) || !matches!(mode, 0 | 1) {
        return Err(bad(format!("There is no stage {stage} with mode {mode}.")));
    }
    if mode == 1 && stage != 40 {
        let message = "Invalid plug-in registration: asynchronous steps run in the post-operation stage only.";
        return refuse(400, "0x80044180", message);
    }
    if number("supporteddeployment") != Some(0) {
        return Err(missing("supporteddeployment"));
    }
    id_in(row, "_eventhandler_value").ok_or_else(|| missing("eventhandler_serviceendpoint"))?;
    let message = id_in(row, "_sdkmessageid_value").ok_or_else(|| missing("sdkmessageid"))?;
    let name = state.row("sdkmessages", message).and_then(|message| message["name"].as_str()).unwrap_or_default();
    let filters = state.rows.get("sdkmessagefilters").into_iter().flatten();
    let mut allowed = filters.filter(|(_, filter)| {
        id_in(filter, "_sdkmessageid_value") == Some(message) && filter["iscustomprocessingstepallowed"] == true
    });
    let fits = match id_in(row, "_sdkmessagefilterid_value") {
        Some(filter) => allowed.any(|(id, _)| *id == filter),
        None => allowed.next().is_some(),
    };
    if !fits || matches!(name, "Execute" | "SetStateDynamicEntity" | "RemoveRelated" | "SetRelated") {
        let message = format!("Custom SdkMessageProcessingStep is not allowed on the specified message {name}.");
        return refuse(400, "0x80044184", message);
    }
    if name != "Update" && row.get("filteringattributes").is_some_and(|attributes| !attributes.is_null()) {
        return Err(bad("filteringattributes are for Update only."));
    }
    // Not documented as an error; but a second step for the same doubles every record.
    let same = |other: &Row| {
        ["_eventhandler_value", "_sdkmessageid_value", "_sdkmessagefilterid_value"]
            .iter()
            .all(|column| other.get(*column).unwrap_or(&Value::Null) == row.get(*column).unwrap_or(&Value::Null))
    };
    let steps = table("sdkmessageprocessingsteps").and_then(|table| state.rows.get(table.set));
    if steps.into_iter().flatten().any(|(id, other)| Some(*id) != own && same(other)) {
        return refuse(400, "0x80040237", format!("There is a step for {name} already."));
    }
    Ok(())
}
