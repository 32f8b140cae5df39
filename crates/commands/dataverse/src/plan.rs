//! Which steps the policy asks for, and how those that are there differ from them.

use std::collections::HashMap;

use actlog_core::{AuditRecord, Organization, RECORD_TYPE_CRM, WORKLOAD_CRM};
use actlog_dataverse::tables;
use actlog_policy::{Decision, Policy, PolicyDocument};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Failure;
use crate::output::count;
use crate::rows::{Message, Step};

/// Name of the service endpoint.
pub(crate) const ENDPOINT: &str = "activity-log";
/// What the names of steps begin with.
pub(crate) const PREFIX: &str = "activity-log: ";

/// The asynchronous mode of a step.
pub(crate) const ASYNCHRONOUS: i32 = 1;
/// The stage behind the operation, the only one that asynchronous steps can have.
const POST_OPERATION: i32 = 40;

/// Messages whose events are told to the steps of the second one too: the platform merges their pipelines, see
/// <https://learn.microsoft.com/power-apps/developer/data-platform/write-plugin-multiple-operation>. With steps for both,
/// each event would be posted twice.
const MERGED: [(&str, &str); 2] = [("CreateMultiple", "Create"), ("UpdateMultiple", "Update")];

/// More steps for single tables of one message than this are not registered: one for all tables takes their place.
const MOST_TABLE_STEPS: usize = 50;

/// A step that the policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) message: String,
    pub(crate) message_id: Uuid,
    /// Logical name and filter; none for all tables.
    pub(crate) table: Option<(String, Uuid)>,
    pub(crate) synchronous: bool,
}

/// What the policy asks for.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) steps: Vec<Wanted>,
    /// What a person should know about the choice, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// What has to be done to a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Create(Wanted),
    Update { id: Uuid, name: String, columns: Map<String, Value>, why: String },
    Delete { id: Uuid, name: String },
}

/// How the steps that are there differ from those that are wanted.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) changes: Vec<Change>,
    /// Names of steps on our endpoint that don't have our name.
    pub(crate) foreign: Vec<String>,
}

impl Wanted {
    pub(crate) fn name(&self) -> String {
        match &self.table {
            Some((table, _)) => format!("{PREFIX}{} of {table}", self.message),
            None => format!("{PREFIX}{} of any entity", self.message),
        }
    }

    fn mode(&self) -> i32 {
        if self.synchronous { 0 } else { ASYNCHRONOUS }
    }

    /// The row to create.
    pub(crate) fn row(&self, endpoint: Uuid) -> Value {
        let mut row = json!({
            "name": self.name(),
            "description": "activity log",
            "stage": POST_OPERATION,
            "mode": self.mode(),
            "rank": 1,
            "supporteddeployment": 0,
            "asyncautodelete": !self.synchronous,
            "eventhandler_serviceendpoint@odata.bind": format!("/serviceendpoints({endpoint})"),
            "sdkmessageid@odata.bind": format!("/sdkmessages({})", self.message_id),
        });
        if let Some((_, filter)) = &self.table {
            row["sdkmessagefilterid@odata.bind"] = json!(format!("/sdkmessagefilters({filter})"));
        }
        row
    }
}

/// What the policy says of the environment's messages and tables.
pub(crate) struct Audited<'p> {
    policy: &'p Policy,
    organization: &'p Organization,
    /// Its name in the configuration.
    name: &'p str,
}

/// No table has such a name, so the policy says of it what it says of tables that it does not name.
const ANY_OTHER: &str = "?";

/// A policy for questions about what is audited: no value passes it, so the key that values would be hashed with does
/// not matter.
pub(crate) fn compiled(document: &PolicyDocument) -> Result<Policy, Failure> {
    Ok(Policy::compile(document, 0, Some(&[0; 32]))?)
}

impl<'p> Audited<'p> {
    pub(crate) fn new(policy: &'p Policy, name: &'p str, organization: &'p Organization) -> Self {
        Self { policy, organization, name }
    }

    /// Whether the policy keeps a record of that message and table. It is asked with a record, so that there is no
    /// second reading of the policy that could differ.
    fn keeps(&self, message: &str, table: Option<&str>) -> bool {
        let request = tables::request_name(message, table.unwrap_or("none")).unwrap_or(message);
        let unique_name = self.organization.unique_name.as_deref().unwrap_or(self.name);
        let mut record = AuditRecord {
            record_type: RECORD_TYPE_CRM,
            version: 1,
            workload: WORKLOAD_CRM.into(),
            operation: request.into(),
            message: Some(message.into()),
            organization_id: self.organization.id,
            crm_organization_unique_name: Some(unique_name.into()),
            entity_name: table.map(Into::into),
            ..AuditRecord::default()
        };
        self.policy.apply(&mut record) == Decision::Keep
    }

    /// The steps that capture what is audited: for each message one step for all tables, or, where the policy audits
    /// tables that it names and no others, one for each of them. `synchronous` names the messages whose steps run inside
    /// of the user's operation.
    pub(crate) fn steps(&self, messages: &[Message], synchronous: &[String]) -> Result<Wish, Failure> {
        let mut wish = Wish::default();
        let is_synchronous = |message: &str| synchronous.iter().any(|name| name.eq_ignore_ascii_case(message));
        let is_there = |name: &str| messages.iter().any(|message| message.name == name);
        let is_merged = |name: &str| MERGED.iter().any(|(own, single)| name == *own && is_there(single));
        for message in messages.iter().filter(|message| !is_merged(&message.name)) {
            let mut add = |table: Option<(String, Uuid)>| {
                wish.steps.push(Wanted {
                    message: message.name.clone(),
                    message_id: message.id,
                    table,
                    synchronous: is_synchronous(&message.name),
                });
            };
            let tables: Vec<_> = message.filters.iter().filter(|filter| filter.table != "none").collect();
            let kept: Vec<_> = tables.iter().filter(|filter| self.keeps(&message.name, Some(&filter.table))).collect();
            let name = &message.name;
            if tables.is_empty() {
                if self.keeps(name, None) {
                    add(None);
                }
            } else if self.keeps(name, Some(ANY_OTHER)) {
                add(None);
                let left_out = tables.len() - kept.len();
                if left_out > 0 {
                    wish.notes.push(format!(
                        "{name}: one step for all tables, so that new tables are captured too; the policy drops what \
                         comes from {}",
                        count(left_out, "table")
                    ));
                }
            } else if kept.len() == tables.len() || kept.len() > MOST_TABLE_STEPS {
                add(None);
                wish.notes.push(format!(
                    "{name}: one step for all tables in place of {}; the policy drops what it does not audit",
                    count(kept.len(), "step")
                ));
            } else {
                kept.iter().for_each(|filter| add(Some((filter.table.clone(), filter.id))));
                if !kept.is_empty() {
                    let tables = count(tables.len(), "table");
                    let kept = count(kept.len(), "step");
                    wish.notes.push(format!("{name}: {kept}, because the policy audits only these of {tables}"));
                }
            }
        }
        let unknown = |name: &&String| !wish.steps.iter().any(|step| step.message.eq_ignore_ascii_case(name));
        if let Some(name) = synchronous.iter().find(unknown) {
            let message = format!("--synchronous {name}: there is no step for such a message");
            return Err(Failure(message));
        }
        Ok(wish)
    }
}

/// Compares the steps that are there with those that are wanted. Whether a step is synchronous is left to whoever
/// registered it unless `with_mode`.
pub(crate) fn compare(wanted: &[Wanted], present: &[Step], with_mode: bool) -> Difference {
    let mut difference = Difference::default();
    let mut found: HashMap<(Uuid, Option<Uuid>), &Step> = HashMap::new();
    let mut surplus = Vec::new();
    let is_wanted = |key: (Uuid, Option<Uuid>)| wanted.iter().any(|wanted| wanted.key() == key);
    for step in present {
        let name = step.name.clone().unwrap_or_default();
        let key = step.message.map(|message| (message, step.filter));
        if !name.starts_with(PREFIX) {
            difference.foreign.push(name);
        } else if let Some(key) = key.filter(|key| is_wanted(*key) && !found.contains_key(key)) {
            found.insert(key, step);
        } else {
            surplus.push(Change::Delete { id: step.id, name });
        }
    }
    for wanted in wanted {
        match found.get(&wanted.key()) {
            None => difference.changes.push(Change::Create(wanted.clone())),
            Some(step) => difference.changes.extend(update(wanted, step, with_mode)),
        }
    }
    difference.changes.extend(surplus);
    difference
}

impl Wanted {
    fn key(&self) -> (Uuid, Option<Uuid>) {
        (self.message_id, self.table.as_ref().map(|(_, filter)| *filter))
    }
}

fn update(wanted: &Wanted, step: &Step, with_mode: bool) -> Option<Change> {
    let mut columns = Map::new();
    let mut why = Vec::new();
    let mut differs = |why_text: &str, changes: &[(&str, Value)]| {
        why.push(why_text.to_owned());
        columns.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    };
    if step.statecode != Some(0) {
        differs("it is disabled", &[("statecode", json!(0)), ("statuscode", json!(1))]);
    }
    if step.filteringattributes.as_deref().is_some_and(|columns| !columns.is_empty()) {
        differs("it fires for some columns only", &[("filteringattributes", Value::Null)]);
    }
    let is_asynchronous = step.mode == Some(ASYNCHRONOUS);
    if with_mode && is_asynchronous == wanted.synchronous {
        let why = if wanted.synchronous { "it is asynchronous" } else { "it is synchronous" };
        differs(why, &[("mode", json!(wanted.mode())), ("asyncautodelete", json!(!wanted.synchronous))]);
    } else if is_asynchronous && step.asyncautodelete != Some(true) {
        differs("it keeps the system jobs that succeed", &[("asyncautodelete", json!(true))]);
    }
    if step.stage != Some(POST_OPERATION) {
        differs("it is not in the stage behind the operation", &[("stage", json!(POST_OPERATION))]);
    }
    let why = why.join(", ");
    (!columns.is_empty()).then(|| Change::Update { id: step.id, name: wanted.name(), columns, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Filter;

    fn message(name: &str, tables: &[&str]) -> Message {
        let filters = tables.iter().map(|table| Filter { id: Uuid::new_v4(), table: (*table).to_owned() }).collect();
        Message { id: Uuid::new_v4(), name: name.to_owned(), filters, more: None }
    }

    fn live() -> Vec<Message> {
        let many: Vec<String> = (0..60).map(|number| format!("new_table{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        vec![
            message("Create", &["account", "contact", "lead"]),
            message("Update", &many),
            message("Retrieve", &["account", "contact"]),
            message("Associate", &["none"]),
            message("PublishAll", &["none"]),
            message("WhoAmI", &["none"]),
            message("RetrieveEntityChanges", &["account"]),
            message("CreateMultiple", &["account", "contact", "lead"]),
        ]
    }

    /// Message and table of every step that a policy asks for.
    fn steps(policy: &str, messages: &[Message]) -> (Vec<(String, Option<String>)>, Vec<String>) {
        let policy = compiled(&PolicyDocument::parse(policy).unwrap()).unwrap();
        let organization = Organization { id: Some(Uuid::from_u128(1)), ..Organization::default() };
        let wish = Audited::new(&policy, "contoso", &organization).steps(messages, &[]).unwrap();
        let steps = wish.steps.into_iter().map(|step| (step.message, step.table.map(|(table, _)| table)));
        (steps.collect(), wish.notes)
    }

    fn all(message: &str) -> (String, Option<String>) {
        (message.to_owned(), None)
    }

    fn one(message: &str, table: &str) -> (String, Option<String>) {
        (message.to_owned(), Some(table.to_owned()))
    }

    #[test]
    fn one_step_for_each_audited_message_and_none_for_the_25() {
        let (steps, notes) = steps("", &live());
        let expected: Vec<_> = ["Create", "Update", "Retrieve", "Associate", "PublishAll"].map(all).into();
        assert_eq!((steps, notes), (expected, vec![]));
        // Without its single form there is nothing that a message could be merged with.
        assert!(self::steps("", &[message("CreateMultiple", &["account"])]).0.contains(&all("CreateMultiple")));
    }

    #[test]
    fn what_the_policy_leaves_out_has_no_step() {
        let (without_reads, _) = steps("start_read_auditing = false", &live());
        assert!(!without_reads.contains(&all("Retrieve")) && without_reads.contains(&all("Create")));
        let (added, _) = steps("messages.add = [\"PublishAllXml\", \"Associate\"]", &live());
        assert_eq!(added, ["Create", "Update", "Retrieve"].map(all));
        assert_eq!(steps("start_auditing = false", &live()).0, vec![]);
        let of_the_organization = "[organizations.contoso]\nstart_auditing = false\n";
        assert_eq!(steps(of_the_organization, &live()).0, vec![]);
        let of_another = "[organizations.fabrikam]\nstart_auditing = false\n";
        assert_eq!(steps(of_another, &live()).0.len(), 5);
    }

    #[test]
    fn tables_get_steps_of_their_own_where_the_policy_audits_only_those() {
        let some = "all_entities.auditing = false\nentities.account.auditing = true\nentities.lead.auditing = true";
        let (found, notes) = steps(some, &live());
        let expected = [
            one("Create", "account"),
            one("Create", "lead"),
            one("Retrieve", "account"),
            all("Associate"),
            all("PublishAll"),
        ];
        assert_eq!(found, expected);
        assert!(notes[0].contains("Create: 2 steps") && notes[0].contains("3 tables"), "{notes:?}");
    }

    #[test]
    fn one_step_for_all_tables_takes_the_place_of_very_many() {
        let mut policy = "all_entities.auditing = false\n".to_owned();
        (0..55).for_each(|number| policy.push_str(&format!("entities.new_table{number}.auditing = true\n")));
        let (found, notes) = steps(&policy, &live());
        assert!(found.contains(&all("Update")) && notes.iter().any(|note| note.contains("55 steps")), "{notes:?}");
        // A table that is left out is no reason for steps of their own: new tables must be captured.
        let (found, notes) = steps("entities.account.auditing = false", &live());
        assert!(found.contains(&all("Create")) && notes.iter().any(|note| note.contains("1 table")), "{notes:?}");
    }

    #[test]
    fn a_message_that_is_to_be_synchronous_must_be_there() {
        let policy = compiled(&PolicyDocument::default()).unwrap();
        let organization = Organization::default();
        let audited = Audited::new(&policy, "contoso", &organization);
        let wish = audited.steps(&live(), &["retrieve".to_owned()]).unwrap();
        assert!(wish.steps.iter().all(|step| step.synchronous == (step.message == "Retrieve")));
        assert!(audited.steps(&live(), &["Retreive".to_owned()]).unwrap_err().0.contains("Retreive"));
    }

    fn present(wanted: &Wanted) -> Step {
        Step {
            id: Uuid::new_v4(),
            name: Some(wanted.name()),
            mode: Some(1),
            stage: Some(40),
            statecode: Some(0),
            asyncautodelete: Some(true),
            filteringattributes: None,
            message: Some(wanted.message_id),
            filter: wanted.table.as_ref().map(|(_, filter)| *filter),
        }
    }

    #[test]
    fn only_the_difference_is_changed() {
        let wanted = |message: &str, table: Option<&str>| Wanted {
            message: message.to_owned(),
            message_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, message.as_bytes()),
            table: table.map(|table| (table.to_owned(), Uuid::new_v5(&Uuid::NAMESPACE_OID, table.as_bytes()))),
            synchronous: false,
        };
        let wish = [wanted("Create", None), wanted("Update", Some("account")), wanted("Delete", None)];
        let same: Vec<Step> = wish.iter().map(present).collect();
        assert_eq!(compare(&wish, &same, true).changes, vec![]);

        let disabled = Step { statecode: Some(1), ..same[0].clone() };
        let narrowed = Step { filteringattributes: Some("name".to_owned()), mode: Some(0), ..same[1].clone() };
        let twice = present(&wish[0]);
        let unwanted = present(&wanted("Merge", None));
        let foreign = Step { name: Some("somebody's own".to_owned()), ..present(&wanted("Send", None)) };
        let steps = [disabled.clone(), narrowed.clone(), twice.clone(), unwanted.clone(), foreign];
        let Difference { changes, foreign } = compare(&wish, &steps, true);
        assert_eq!(foreign, ["somebody's own"]);
        let [
            Change::Update { id, columns, .. },
            Change::Update { columns: narrow, why, .. },
            Change::Create(missing),
            rest @ ..,
        ] = &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!((*id, &columns["statecode"], columns.len()), (disabled.id, &json!(0), 2));
        assert_eq!((&narrow["filteringattributes"], &narrow["mode"]), (&Value::Null, &json!(1)));
        assert!(why.contains("columns") && why.contains("synchronous") && missing.message == "Delete");
        let deleted: Vec<Uuid> = rest
            .iter()
            .map(|change| match change {
                Change::Delete { id, .. } => *id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(deleted, [twice.id, unwanted.id]);
        // The status does not know which steps were meant to be synchronous.
        let synchronous = Step { mode: Some(0), asyncautodelete: Some(false), ..same[0].clone() };
        let others = [synchronous, same[1].clone(), same[2].clone()];
        assert_eq!(compare(&wish, &others, false).changes, vec![]);
        assert_eq!(compare(&wish, &others, true).changes.len(), 1);
    }
}
