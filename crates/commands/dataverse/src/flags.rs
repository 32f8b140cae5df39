//! `apply-policy` and `import-policy`: audit switches between the policy and the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use actlog_core::CommandContext;
use actlog_dataverse::customizations::{AuditFlags, Flag, OrganizationRow, Switch};
use actlog_dataverse::webapi::literal;
use actlog_policy::{Policy, PolicyDocument};
use serde_json::{Map, Value, json};

use crate::environment::{Environment, policy_in_force, policy_store};
use crate::output::{count, harmless, line};
use crate::{Failure, Outcome, statements};

/// Changes that are listed one by one; more are counted by table.
const MOST_LISTED: usize = 200;

#[derive(clap::Args)]
pub(crate) struct ApplyArguments {
    /// Only these tables, by logical name; the organisation's switches stay as they are
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    tables: Vec<String>,
    /// Carry it out; without this it is only shown
    #[arg(long)]
    apply: bool,
}

#[derive(clap::Args)]
pub(crate) struct ImportArguments {
    /// Write the policy to this file; the draft stays as it is
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What differs between the environment and the policy.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// The flags to write, with the value that each is to have.
    changes: BTreeMap<Flag, bool>,
    /// What differs, and can't be changed.
    fixed: BTreeSet<Flag>,
}

impl Plan {
    fn new(live: &AuditFlags, wanted: &AuditFlags, tables: &[String]) -> Self {
        let (now, wanted) = (live.stated(), wanted.stated());
        let mut plan = Self::default();
        for (flag, value) in wanted {
            let is_asked_for = match &flag {
                Flag::Organization(_) => tables.is_empty(),
                Flag::Entity(table, _) | Flag::Column(table, _) => tables.is_empty() || tables.contains(table),
            };
            // What is not known can't be compared: it is not in this version of the platform.
            if !is_asked_for || now.get(&flag).is_none_or(|present| *present == value) {
                continue;
            }
            if is_fixed(live, &flag) {
                plan.fixed.insert(flag);
            } else {
                plan.changes.insert(flag, value);
            }
        }
        plan
    }

    /// The changes to each table: those of its own, and those of its columns.
    fn tables(&self) -> BTreeMap<&str, TableChanges<'_>> {
        let mut tables: BTreeMap<&str, TableChanges<'_>> = BTreeMap::new();
        for (flag, value) in &self.changes {
            match flag {
                Flag::Organization(_) => {}
                Flag::Entity(table, switch) => tables.entry(table).or_default().own.push((*switch, *value)),
                Flag::Column(table, column) => tables.entry(table).or_default().columns.push((column, *value)),
            }
        }
        tables
    }
}

/// What changes in one table.
#[derive(Default)]
struct TableChanges<'a> {
    own: Vec<(Switch, bool)>,
    columns: Vec<(&'a str, bool)>,
}

/// Whether the publisher of a table or column has fixed the flag.
fn is_fixed(live: &AuditFlags, flag: &Flag) -> bool {
    let can_be_changed = match flag {
        Flag::Organization(_) => None,
        Flag::Entity(table, _) => live.entities.get(table).and_then(|entity| entity.audit.can_be_changed),
        Flag::Column(table, column) => {
            live.entities.get(table).and_then(|entity| entity.attributes.get(column)?.can_be_changed)
        }
    };
    can_be_changed == Some(false)
}

pub(crate) fn apply(arguments: &ApplyArguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let in_force = policy_in_force(cx)?;
    let document = &in_force.document;
    let key = document.organization_key(&environment.name, &environment.organization);
    let live = environment.wait(environment.api.audit_flags())?;
    live.warnings.iter().for_each(|warning| line(format!("warning: {}", harmless(warning))));
    if let Some(unknown) = arguments.tables.iter().find(|table| !live.entities.contains_key(*table)) {
        return Err(Failure(format!("--tables: the environment has no table {unknown:?}")));
    }
    let plan = Plan::new(&live, &document.audit_flags(&live, key), &arguments.tables);
    line(format!("{}, {}: {}", environment.title(), in_force.title(), count(plan.changes.len(), "difference")));
    show(&plan);
    if plan.changes.is_empty() {
        line("nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.apply {
        line("nothing was changed: --apply carries this out, and publishes the tables");
        return Ok(ExitCode::SUCCESS);
    }
    let tables = plan.tables();
    let switches = plan.changes.iter().filter(|(flag, _)| matches!(flag, Flag::Organization(_)));
    let switches: String = switches.map(|(flag, value)| format!("{flag} {}, ", on(*value))).collect();
    let action = format!(
        "dataverse apply-policy {}: {switches}audit switches of {}",
        environment.title(),
        count(tables.len(), "table")
    );
    statements::before(cx, &action)?;
    let refused = environment.wait(write(environment, &plan, &tables))?;
    if refused.is_empty() {
        line("carried out, and published");
        return Ok(ExitCode::SUCCESS);
    }
    refused.iter().for_each(|text| line(format!("refused: {}", harmless(text))));
    let outcome = format!("the environment refused: {}", statements::refusals(&refused));
    statements::after(cx, &format!("dataverse apply-policy {}: {outcome}", environment.title()), &[])?;
    Ok(ExitCode::FAILURE)
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn show(plan: &Plan) {
    if plan.changes.len() <= MOST_LISTED {
        plan.changes.iter().for_each(|(flag, value)| line(format!("  {flag} becomes {}", on(*value))));
    } else {
        let switches = plan.changes.iter().filter(|(flag, _)| matches!(flag, Flag::Organization(_)));
        switches.for_each(|(flag, value)| line(format!("  {flag} becomes {}", on(*value))));
        for (table, changes) in plan.tables() {
            let own: Vec<_> = changes.own.iter().map(|(switch, value)| format!("{switch} {}", on(*value))).collect();
            let columns = (!changes.columns.is_empty()).then(|| count(changes.columns.len(), "column"));
            line(format!("  {table}: {}", own.into_iter().chain(columns).collect::<Vec<_>>().join(", ")));
        }
    }
    // The columns of a table are on one line: environments have thousands that are fixed.
    let mut fixed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for flag in &plan.fixed {
        match flag {
            Flag::Organization(_) => {}
            Flag::Entity(table, switch) => fixed.entry(table).or_default().push(switch.to_string()),
            Flag::Column(table, column) => fixed.entry(table).or_default().push(column.clone()),
        }
    }
    for (table, what) in fixed {
        line(format!("  {table}: can't be changed here: {}", what.join(", ")));
    }
}

/// Writes the changes; what the environment refuses is given back, and the rest is done all the same.
async fn write(
    environment: &Environment,
    plan: &Plan,
    tables: &BTreeMap<&str, TableChanges<'_>>,
) -> Result<Vec<String>, Failure> {
    let api = &environment.api;
    let mut switches = Map::new();
    for (flag, value) in &plan.changes {
        let column = match flag {
            Flag::Organization(Switch::Auditing) => "isauditenabled",
            Flag::Organization(Switch::UserAccess) => "isuseraccessauditenabled",
            Flag::Organization(Switch::Reading) => "isreadauditenabled",
            _ => continue,
        };
        switches.insert(column.to_owned(), json!(value));
    }
    let mut refused = Vec::new();
    let mut note = |what: &str, outcome: Result<(), actlog_dataverse::webapi::WebApiError>| match outcome {
        Err(error) if matches!(error.status(), Some(400 | 403 | 404)) => {
            refused.push(format!("{what}: {error}"));
            Ok(false)
        }
        outcome => outcome.map(|()| true),
    };
    if !switches.is_empty() {
        let rows: Vec<OrganizationRow> = api.pages("organizations?$select=organizationid", 1).all(1).await?;
        let id = rows.first().and_then(|row| row.organizationid);
        let id = id.ok_or_else(|| Failure("the organisation's own row can't be read".to_owned()))?;
        note("organization", api.update(&format!("organizations({id})"), &switches).await)?;
    }
    let mut changed = Vec::new();
    for (table, changes) in tables {
        let path = format!("EntityDefinitions(LogicalName={})", literal(table));
        let mut is_changed = false;
        if !changes.own.is_empty() {
            is_changed |= note(
                table,
                replace(environment, &path, |whole| {
                    for (switch, value) in &changes.own {
                        match switch {
                            Switch::Auditing => set_managed(whole, *value),
                            Switch::SingleRecord => {
                                drop(whole.insert("IsRetrieveAuditEnabled".to_owned(), json!(value)))
                            }
                            Switch::MultipleRecord => {
                                drop(whole.insert("IsRetrieveMultipleAuditEnabled".to_owned(), json!(value)));
                            }
                            Switch::UserAccess | Switch::Reading => {}
                        }
                    }
                })
                .await,
            )?;
        }
        for (column, value) in &changes.columns {
            let path = format!("{path}/Attributes(LogicalName={})", literal(column));
            let outcome = replace(environment, &path, |whole| set_managed(whole, *value)).await;
            is_changed |= note(&format!("{table}.{column}"), outcome)?;
        }
        if is_changed {
            changed.push(format!("<entity>{table}</entity>"));
        }
    }
    if !changed.is_empty() {
        let xml = format!("<importexportxml><entities>{}</entities></importexportxml>", changed.concat());
        api.action::<_, ()>("PublishXml", &json!({ "ParameterXml": xml })).await?;
    }
    Ok(refused)
}

fn set_managed(whole: &mut Map<String, Value>, value: bool) {
    if let Some(property) = whole.get_mut("IsAuditEnabled") {
        property["Value"] = json!(value);
    }
}

/// Reads a definition whole, changes it, and writes it back: the Web API has no other way.
async fn replace(
    environment: &Environment,
    path: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), actlog_dataverse::webapi::WebApiError> {
    let mut whole: Map<String, Value> = environment.api.get(path).await?;
    whole.remove("@odata.context");
    change(&mut whole);
    environment.api.replace_definition(path, &whole).await
}

pub(crate) fn import(arguments: &ImportArguments, cx: &CommandContext, environment: &Environment) -> Outcome {
    let store = policy_store(cx);
    let base = match store.draft()? {
        Some(text) => PolicyDocument::parse(&text)?,
        None => policy_in_force(cx)?.document,
    };
    let live = environment.wait(environment.api.audit_flags())?;
    live.warnings.iter().for_each(|warning| line(format!("warning: {}", harmless(warning))));
    // With several organisations, each has its own place in the policy.
    let named = environment.organization.unique_name.as_deref().unwrap_or(&environment.name);
    let own = (cx.organizations.len() > 1).then_some(named);
    let key = base.organization_key(&environment.name, &environment.organization).or(own);
    let imported = base.with_flags(&live, key);
    // The key that values are hashed with plays no part in whether the policy makes sense.
    Policy::compile(&imported.document, 0, Some(&[0; 32]))?;
    let changes = actlog_policy::changes(&base, &imported.document);
    line(format!("{}: the switches of {}", environment.title(), count(live.entities.len(), "table")));
    imported.notes.iter().for_each(|note| line(format!("  note: {}", harmless(note))));
    let text = imported.document.to_toml();
    let place = match &arguments.output {
        Some(file) => {
            std::fs::write(file, &text).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
            format!("written to {}", file.display())
        }
        None if changes.is_empty() => "the draft stays as it is".to_owned(),
        None => {
            cx.storage.create_directories(&cx.data_dir)?;
            store.save_draft(&text)?;
            "kept as the draft; `actlog policy publish` puts it into force".to_owned()
        }
    };
    changes.iter().take(MOST_LISTED).for_each(|change| line(format!("  {}", harmless(change))));
    if changes.len() > MOST_LISTED {
        line(format!("  and {} more", changes.len() - MOST_LISTED));
    }
    line(format!("{}; {place}", count(changes.len(), "change")));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actlog_dataverse::customizations::{EntityFlags, ManagedFlag};

    fn live() -> AuditFlags {
        let flag = |value, can_be_changed| ManagedFlag { value: Some(value), can_be_changed: Some(can_be_changed) };
        let entity = |value, changeable, columns: &[(&str, bool, bool)]| EntityFlags {
            audit: flag(value, changeable),
            retrieve: Some(false),
            retrieve_multiple: None,
            attributes: columns.iter().map(|(name, v, c)| ((*name).to_owned(), flag(*v, *c))).collect(),
        };
        let mut live = AuditFlags::default();
        live.organization.auditing = Some(false);
        live.entities.insert("account".to_owned(), entity(false, true, &[("fax", false, true), ("id", false, false)]));
        live.entities.insert("asyncoperation".to_owned(), entity(false, false, &[]));
        live
    }

    fn plan(policy: &str, tables: &[&str]) -> (Vec<String>, Vec<String>) {
        let document = PolicyDocument::parse(policy).unwrap();
        let live = live();
        let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
        let Plan { changes, fixed } = Plan::new(&live, &document.audit_flags(&live, None), &tables);
        let changes = changes.iter().map(|(flag, value)| format!("{flag} {}", on(*value))).collect();
        (changes, fixed.iter().map(Flag::to_string).collect())
    }

    #[test]
    fn only_differences_are_planned_and_what_is_fixed_is_named() {
        let (changes, fixed) = plan("", &[]);
        assert_eq!(
            changes,
            [
                "organization: auditing on",
                "account: auditing on",
                "account: single record on",
                "account.fax: auditing on"
            ]
        );
        assert_eq!(fixed, ["asyncoperation: auditing", "asyncoperation: single record", "account.id: auditing"]);
        let off = "start_auditing = false\nall_entities.auditing = false\nall_entities.single_record = false\n\
                   all_entities.unaudited_columns = [\"fax\", \"id\"]";
        assert_eq!(plan(off, &[]), (vec![], vec![]));
    }

    #[test]
    fn named_tables_leave_the_organisation_and_the_other_tables_alone() {
        let (changes, fixed) = plan("", &["account"]);
        assert_eq!(changes, ["account: auditing on", "account: single record on", "account.fax: auditing on"]);
        assert_eq!(fixed, ["account.id: auditing"]);
    }
}
