//! Between the policy and the audit flags of Dataverse.
//!
//! The flags say less than the policy: they know no rules, messages or values, and an area is a shortcut of the settings
//! page that sets the flags of its entities. So flags are taken over into a policy; and the flags that a policy asks for
//! are worked out for the entities that somebody names.

use std::collections::{BTreeMap, BTreeSet};

use actlog_dataverse::customizations::{AuditFlags, EntityFlags, ManagedFlag, OrganizationFlags};

use crate::compile::entity_policy_of;
use crate::document::{EntitySettings, PolicyDocument};

/// How many names a note lists; it counts the others.
const NAMED: usize = 10;

/// A policy that flags were taken over into.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The policy.
    pub document: PolicyDocument,
    /// What the flags did not say or could not change, and what holds therefore; a sentence each.
    pub notes: Vec<String>,
}

impl PolicyDocument {
    /// This policy with what Dataverse is told to audit: the switches, and each entity's settings and unaudited columns.
    /// They are set below `organizations` where `organization` names a key there, else for all.
    ///
    /// Where a flag is unknown, what the policy says of that very entity stands; where it says nothing, the entity is
    /// audited. An entity of which nothing at all is known is left alone.
    pub fn with_flags(&self, flags: &AuditFlags, organization: Option<&str>) -> Imported {
        let key = organization.map(|name| self.spelled_key(name));
        let mut scope = match &key {
            None => self.clone(),
            Some(key) => self.organizations.get(key).cloned().unwrap_or_default(),
        };
        let OrganizationFlags { auditing, user_access, read } = flags.organization;
        scope.start_auditing = auditing.or(scope.start_auditing);
        scope.audit_user_access = user_access.or(scope.audit_user_access);
        scope.start_read_auditing = read.or(scope.start_read_auditing);
        let before = self.scoped(organization);
        let mut notes = Notes::default();
        for (name, flags) in &flags.entities {
            if *flags == EntityFlags::default() {
                notes.nothing_known.insert(name.clone());
                continue;
            }
            let stated = before.entities.get(name).cloned().unwrap_or_default();
            let default = entity_policy_of(&before, name);
            let settle = |flag: Option<bool>,
                          own: Option<bool>,
                          stated: Option<bool>,
                          default: bool,
                          unknown: &mut BTreeSet<String>| {
                if flag.is_none() {
                    unknown.insert(name.clone());
                }
                // An explicit `true` only where something else would switch it off.
                flag.or(own).or_else(|| (stated.is_none() && !default).then_some(true))
            };
            let own = scope.entities.entry(name.clone()).or_default();
            own.auditing =
                settle(flags.audit.value, own.auditing, stated.auditing, default.auditing, &mut notes.auditing);
            own.single_record = settle(
                flags.retrieve,
                own.single_record,
                stated.single_record,
                default.single_record,
                &mut notes.single_record,
            );
            own.multiple_record = settle(
                flags.retrieve_multiple,
                own.multiple_record,
                stated.multiple_record,
                default.multiple_record,
                &mut notes.multiple_record,
            );
            let stated: BTreeSet<_> = stated.unaudited_columns.into_iter().flatten().collect();
            let mut unaudited = stated.clone();
            for (column, flag) in &flags.attributes {
                match flag.value {
                    Some(true) => unaudited.remove(column),
                    Some(false) => unaudited.insert(column.clone()),
                    None => notes.columns.insert(format!("{name}.{column}")),
                };
                let everywhere = before.all_entities.unaudited_columns.iter().flatten().any(|listed| listed == column);
                if flag.value == Some(true) && everywhere {
                    notes.left_out_everywhere.insert(format!("{name}.{column}"));
                }
            }
            if unaudited != stated {
                own.unaudited_columns = Some(unaudited.into_iter().collect());
            }
            if *own == EntitySettings::default() {
                scope.entities.remove(name);
            }
        }
        let document = match key {
            None => scope,
            Some(key) => {
                let mut document = self.clone();
                document.organizations.insert(key, scope);
                document
            }
        };
        Imported { document, notes: notes.sentences() }
    }

    /// The flags that Dataverse would have if it audited what this policy does: those of the organisation, and of every
    /// entity and column that `known` names. `organization` is the key below `organizations` that holds for it.
    pub fn audit_flags(&self, known: &AuditFlags, organization: Option<&str>) -> AuditFlags {
        let document = self.scoped(organization);
        let entities = known.entities.iter().map(|(name, entity)| {
            let policy = entity_policy_of(&document, name);
            let columns = entity.attributes.iter().map(|(column, flag)| {
                let value = Some(!policy.unaudited_columns.contains(column));
                (column.clone(), ManagedFlag { value, ..*flag })
            });
            let flags = EntityFlags {
                audit: ManagedFlag { value: Some(policy.auditing), ..entity.audit },
                retrieve: Some(policy.single_record),
                retrieve_multiple: Some(policy.multiple_record),
                attributes: columns.collect(),
            };
            (name.clone(), flags)
        });
        AuditFlags {
            source: "the policy".to_owned(),
            entities: entities.collect::<BTreeMap<_, _>>(),
            organization: OrganizationFlags {
                auditing: Some(document.audits()),
                user_access: Some(document.audit_user_access.unwrap_or(true)),
                read: Some(document.start_read_auditing.unwrap_or(true)),
            },
            warnings: Vec::new(),
        }
    }

    /// What holds for an organisation; the top of the policy where none is named, or it says nothing of its own.
    fn scoped(&self, organization: Option<&str>) -> Self {
        let over = organization.and_then(|name| self.organizations.get(&self.spelled_key(name)));
        over.map_or_else(|| self.clone(), |over| self.overridden_by(over))
    }

    /// The key that an organisation has here, in the case that the author wrote it in.
    fn spelled_key(&self, name: &str) -> String {
        let known = self.organizations.keys().find(|key| key.eq_ignore_ascii_case(name));
        known.map_or(name, String::as_str).to_owned()
    }
}

/// Entities and columns of which something has to be said.
#[derive(Default)]
struct Notes {
    auditing: BTreeSet<String>,
    single_record: BTreeSet<String>,
    multiple_record: BTreeSet<String>,
    columns: BTreeSet<String>,
    nothing_known: BTreeSet<String>,
    left_out_everywhere: BTreeSet<String>,
}

impl Notes {
    fn sentences(self) -> Vec<String> {
        const AUDITED: &str = "is unknown, so it is audited unless the policy itself says otherwise:";
        let sentences = [
            (format!("auditing {AUDITED}"), self.auditing),
            (format!("single record auditing {AUDITED}"), self.single_record),
            (format!("multiple record auditing {AUDITED}"), self.multiple_record),
            (format!("auditing of a column {AUDITED}"), self.columns),
            ("no flags are known, so the policy is not changed:".to_owned(), self.nothing_known),
            (
                "audited in Dataverse, but left out here by all_entities.unaudited_columns:".to_owned(),
                self.left_out_everywhere,
            ),
        ];
        let said = sentences.into_iter().filter(|(_, names)| !names.is_empty());
        said.map(|(what, names)| {
            let others = names.len().saturating_sub(NAMED);
            let named: Vec<_> = names.into_iter().take(NAMED).collect();
            let others = if others == 0 { String::new() } else { format!(" and {others} more") };
            format!("{what} {}{others}", named.join(", "))
        })
        .collect()
    }
}
