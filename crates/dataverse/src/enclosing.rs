//! The operation that an event is part of.
//!
//! `ParentContext` is no second event. Its nearest level is the main stage of the operation itself; above that stands
//! what caused it, such as the QualifyLead that creates a contact. In asynchronous posts the parents' MessageName, Depth
//! and OperationId are overwritten with the child's, while their parameters stay: there the parameters tell.

use std::borrow::Cow;

use uuid::Uuid;

use crate::context::Context;
use crate::json;
use crate::tables;

/// What caused an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Enclosing<'a> {
    /// The SDK request.
    pub(crate) message: Cow<'a, str>,
    /// The entity that it was about, if any.
    pub(crate) entity: Option<Cow<'a, str>>,
    /// The row that it was about, if any.
    pub(crate) id: Option<Uuid>,
}

/// Requests that can be told by the keys of their parameters, most telling first.
const TOLD_BY_PARAMETERS: [(&str, &[&str]); 9] = [
    ("QualifyLead", &["LeadId", "CreateContact"]),
    ("SetState", &["EntityMoniker", "State", "Status"]),
    ("ExportDynamicToExcel", &["FetchXml", "LayoutXml", "ExportType"]),
    ("ExportTemplateToExcel", &["FetchXml", "LayoutXml", "EntityLocalizedDisplayName"]),
    ("ExportToExcel", &["FetchXml", "LayoutXml", "View"]),
    ("ExportWordDocument", &["SelectedTemplate", "SelectedRecords"]),
    ("Assign", &["Target", "Assignee"]),
    ("Merge", &["Target", "SubordinateId"]),
    ("RetrieveMultiple", &["Query"]),
];

/// The nearest operation around this one.
pub(crate) fn enclosing<'a>(context: &Context<'a>) -> Option<Enclosing<'a>> {
    let own = context.message()?;
    let synchronous = context.mode.and_then(json::integer) == Some(0);
    let depth = |context: &Context<'_>| context.depth.and_then(json::integer);
    context.ancestors().find_map(|ancestor| {
        let entity = ancestor.primary_entity();
        let name = ancestor.message().filter(|name| *name != own);
        let message = match name {
            Some(name) => request(name, entity.as_deref()),
            // In synchronous posts the name is its own: the same message at a lower depth contains this one.
            None if synchronous && depth(ancestor) < depth(context) && ancestor.message_name.is_some() => {
                request(own.clone(), entity.as_deref())
            }
            None if synchronous => return None,
            // The main stage of the operation itself has the parameters of the operation itself.
            None => Cow::Borrowed(
                told_by_parameters(ancestor)
                    .filter(|&told| told != own && told_by_parameters(context) != Some(told))?,
            ),
        };
        Some(Enclosing { message, entity, id: ancestor.primary_id() })
    })
}

fn told_by_parameters(context: &Context<'_>) -> Option<&'static str> {
    let matching = TOLD_BY_PARAMETERS.iter().find(|(_, keys)| keys.iter().all(|key| context.has_input(key)));
    matching.map(|(request, _)| *request)
}

fn request<'a>(message: Cow<'a, str>, entity: Option<&str>) -> Cow<'a, str> {
    tables::request_name(&message, entity.unwrap_or("none")).map_or(message, Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<(String, Option<String>)> {
        let context = Context::parse(body).unwrap();
        enclosing(&context).map(|found| (found.message.into_owned(), found.entity.map(Cow::into_owned)))
    }

    fn parameters(keys: &[&str]) -> String {
        keys.iter().map(|key| format!(r#"{{"key":"{key}","value":1}}"#)).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn synchronous_parents_are_taken_at_their_word() {
        let body = |message: &str, depth: u8| {
            format!(
                r#"{{"MessageName":"Update","Mode":0,"Depth":2,"ParentContext":{{"MessageName":"Update","Depth":2,"Stage":30,
                "ParentContext":{{"MessageName":"{message}","Depth":{depth},"PrimaryEntityName":"opportunity"}}}}}}"#
            )
        };
        assert_eq!(of(&body("Win", 1)), Some(("WinOpportunity".into(), Some("opportunity".into()))));
        assert_eq!(of(&body("Update", 1)), Some(("Update".into(), Some("opportunity".into()))));
        assert_eq!(of(&body("Update", 2)), None);
    }

    #[test]
    fn overwritten_parents_are_told_by_their_parameters() {
        let body = |message: &str, own: &[&str], parent: &[&str]| {
            let (own, parent) = (parameters(own), parameters(parent));
            format!(
                r#"{{"MessageName":"{message}","Mode":1,"InputParameters":[{own}],"ParentContext":{{"MessageName":"{message}","InputParameters":[{parent}]}}}}"#
            )
        };
        let told = |message, own: &[&str], parent: &[&str]| of(&body(message, own, parent)).map(|(name, _)| name);
        assert_eq!(
            told("Assign", &["Target", "Assignee"], &["LeadId", "CreateContact", "Status"]).unwrap(),
            "QualifyLead"
        );
        assert_eq!(told("Update", &["Target"], &["EntityMoniker", "State", "Status"]).unwrap(), "SetState");
        assert_eq!(told("Create", &["Target"], &["Query"]).unwrap(), "RetrieveMultiple");
        assert_eq!(told("RetrieveMultiple", &["Query"], &["View", "FetchXml", "LayoutXml"]).unwrap(), "ExportToExcel");
        assert_eq!(told("Update", &["Target"], &["Target"]), None);
        assert_eq!(
            told("SetStateDynamicEntity", &["EntityMoniker", "State", "Status"], &["EntityMoniker", "State", "Status"]),
            None
        );
    }
}
