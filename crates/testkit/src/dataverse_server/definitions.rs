//! Definitions of tables and columns: replaced as a whole, and in force once they are published.

use serde_json::{Value, json};
use uuid::Uuid;

use super::requests::{Call, Refusal, bad, refuse};
use super::schema::{ATTRIBUTE_OF, ATTRIBUTES, DEFINITIONS, Kind, Table};
use super::{State, id_in};
use crate::server::{Bytes, Response, StatusCode, empty};

/// `PUT` of a definition. It must be whole: what is left out would be reset.
pub(super) fn replace(
    state: &mut State,
    call: &Call<'_>,
    table: &'static Table,
    id: Uuid,
) -> Result<Response<Bytes>, Refusal> {
    let body = call.body.as_ref().ok_or_else(|| bad("The request has no body."))?;
    if !call.merge_labels {
        state.violations.push(format!("PUT of {} without MSCRM.MergeLabels: labels get lost", table.set));
    }
    let current = state.row(table.set, id).cloned().unwrap_or_default();
    if let Some((missing, _)) =
        table.columns.iter().find(|(name, _)| *name != ATTRIBUTE_OF && !body.contains_key(*name))
    {
        return Err(bad(format!("The definition is not whole: {missing} is missing.")));
    }
    if table.set == ATTRIBUTES && !body.contains_key("@odata.type") {
        return Err(bad("The type of the column, @odata.type, is missing."));
    }
    let mut next = state.unpublished.get(&(table.set, id)).cloned().unwrap_or_else(|| current.clone());
    for (name, kind) in table.columns {
        let (Some(now), Some(wanted)) = (current.get(*name), body.get(*name)) else { continue };
        let changeable = name.starts_with("Is") && *name != "IsCustomEntity";
        let valid = match kind {
            Kind::Managed => wanted["Value"].is_boolean(),
            Kind::Boolean => wanted.is_boolean(),
            _ => true,
        };
        if !valid || (!changeable && wanted != now) {
            return Err(bad(format!("{name} can't become {wanted}.")));
        }
        if *kind == Kind::Managed && wanted["Value"] != now["Value"] && now["CanBeChanged"] != true {
            return refuse(403, "0x80047013", format!("The managed property {name} can't be changed."));
        }
        let value = if *kind == Kind::Managed {
            json!({
                "Value": wanted["Value"], "CanBeChanged": now["CanBeChanged"],
                "ManagedPropertyLogicalName": now["ManagedPropertyLogicalName"],
            })
        } else {
            wanted.clone()
        };
        next.insert((*name).to_owned(), value);
    }
    state.unpublished.insert((table.set, id), next);
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `PublishXml` of the tables that its parameter names, or `PublishAllXml`.
pub(super) fn publish(state: &mut State, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
    let all = call.segments.iter().any(|segment| segment.name == "PublishAllXml");
    let parameter = call.body.as_ref().and_then(|body| body.get("ParameterXml")).and_then(Value::as_str);
    let names: Vec<String> = match (all, parameter) {
        (true, _) => Vec::new(),
        (false, Some(xml)) => entities(xml).ok_or_else(|| bad("ParameterXml is not as PublishXml wants it."))?,
        (false, None) => return Err(bad("The parameter ParameterXml is missing.")),
    };
    let is_named = |definition: Option<Uuid>| {
        let row = definition.and_then(|id| state.row(DEFINITIONS, id));
        row.is_some_and(|row| names.iter().any(|name| row["LogicalName"] == name.as_str()))
    };
    let waiting = state.unpublished.iter().filter(|((set, id), row)| {
        let definition = if *set == DEFINITIONS { Some(*id) } else { id_in(row, ATTRIBUTE_OF) };
        all || is_named(definition)
    });
    let waiting: Vec<_> = waiting.map(|(key, _)| *key).collect();
    for (set, id) in waiting {
        if let Some(row) = state.unpublished.remove(&(set, id)) {
            state.rows.entry(set).or_default().insert(id, row);
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The names in `<importexportxml><entities><entity>…</entity>…</entities></importexportxml>`.
fn entities(xml: &str) -> Option<Vec<String>> {
    let inner = xml.trim().strip_prefix("<importexportxml>")?.strip_suffix("</importexportxml>")?;
    let list = inner.strip_prefix("<entities>")?.strip_suffix("</entities>")?;
    let mut names = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (name, more) = rest.strip_prefix("<entity>")?.split_once("</entity>")?;
        names.push(name.to_owned());
        rest = more;
    }
    (!names.is_empty()).then_some(names)
}
