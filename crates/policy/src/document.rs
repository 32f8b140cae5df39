//! The policy as a person writes it.

use std::collections::BTreeMap;

use actlog_core::Organization;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::compile::PolicyError;

/// The policy, as TOML. Every key may be left out: at the top its default holds then, under `[organizations.NAME]` what
/// the top says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Start Auditing: whether anything is audited at all. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_auditing: Option<bool>,
    /// Audit user access: whether signing in and out is audited. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_user_access: Option<bool>,
    /// Start Read Auditing: whether reading is audited (Category Read and ReadMultiple). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_read_auditing: Option<bool>,
    /// How activities are assigned. Default: `by-content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activities: Option<ActivityMode>,
    /// Publisher prefixes whose entities count as out-of-box, not as custom. Default: those of Microsoft's own
    /// solutions, such as `msdyn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_party_prefixes: Option<Vec<String>>,
    /// Switches over groups of entities.
    #[serde(default, skip_serializing_if = "AreaSwitches::is_default")]
    pub areas: AreaSwitches,
    /// What holds for every entity that says nothing else.
    #[serde(default, skip_serializing_if = "EntitySettings::is_default")]
    pub all_entities: EntitySettings,
    /// What holds for one entity, by its logical name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entities: BTreeMap<String, EntitySettings>,
    /// Changes to the list of messages that are not logged.
    #[serde(default, skip_serializing_if = "MessageList::is_default")]
    pub messages: MessageList,
    /// Rules that recognise support users and internal tools, or leave records out. Every rule that matches takes
    /// effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What one organisation does otherwise, by its id (a GUID) or its unique name; its own `organizations` must be
    /// empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub organizations: BTreeMap<String, PolicyDocument>,
}

/// How activities are assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActivityMode {
    /// By message, entity and user.
    #[default]
    ByContent,
    /// Always "Accessed other entity type", as Microsoft's own logs had it in 2018.
    OtherEntityType,
}

/// Switches over groups of entities: whether these are audited. An entity's own `auditing` comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AreaSwitches {
    /// Common Entities: account, contact, lead, goal, product, systemuser …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common: Option<bool>,
    /// Sales Entities: competitor, opportunity, invoice, salesorder, quote …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sales: Option<bool>,
    /// Marketing Entities: campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marketing: Option<bool>,
    /// Customer Service Entities: incident, contract, queueitem, service …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_service: Option<bool>,
    /// Security Entities: team, businessunit, solution, organization …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<bool>,
}

impl AreaSwitches {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is audited of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySettings {
    /// Auditing: whether anything about the entity is audited. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditing: Option<bool>,
    /// Single record auditing: whether opening a row is audited (Category Read). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_record: Option<bool>,
    /// Multiple record auditing: whether lists, searches and exports are audited (Category ReadMultiple). Default:
    /// true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple_record: Option<bool>,
    /// Columns that are not audited: they don't appear under Fields. Those of `all_entities` count for every entity.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaudited_columns: Option<Vec<String>>,
    /// What happens to the entity's field values. Default: `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    /// What happens to the values of single columns, by logical name; comes before `values`. Those of `all_entities`
    /// count for every entity that has none of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Values>,
}

impl EntitySettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to field values. The later ones are stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// They are stored.
    #[default]
    Keep,
    /// A keyed hash is stored instead: equal values of a column can be recognised, but not read.
    Hash,
    /// Nothing of them is stored.
    Omit,
}

/// Changes to the list of messages that are not logged, which begins as the specification's 25.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageList {
    /// Messages that are not logged either, by SDK request name or pipeline name. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Messages of the list that are logged all the same. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl MessageList {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A rule recognises users or tools. It matches when every criterion that it names does, and a criterion when any of
/// its entries does. Patterns know `*`, `?`, `[abc]` and `{a,b}`, and don't regard case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, in metrics and in changes: up to 64 of `a-z`, `0-9` and `-`. An organisation's rule replaces the
    /// default's of the same name.
    pub name: String,
    /// What it does.
    pub action: RuleAction,
    /// System users, by id; they match as SystemUserId and as InitiatingUserId. Default: not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system_user_ids: Vec<Uuid>,
    /// Patterns of user principal names. Default: not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_upns: Vec<String>,
    /// Patterns of user agents. Default: not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_agents: Vec<String>,
    /// Patterns of the calling model-driven app's name. Default: not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_names: Vec<String>,
    /// Patterns of the generating service's name. Default: not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_names: Vec<String>,
}

/// What a rule does with the records that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// UserType becomes 3, Microsoft support.
    SupportUser,
    /// Activity becomes "Accessed internal management tool".
    InternalTool,
    /// Activity becomes "Accessed Dynamics 365 admin center".
    AdminCenter,
    /// The record is left out and counted as `rule:NAME`.
    Exclude,
}

impl PolicyDocument {
    /// Bytes of TOML that are read at most.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// The policy that a fresh installation begins with, with a comment on each key: everything is audited but the
    /// specification's 25 messages.
    pub const DEFAULT_TEXT: &str = include_str!("default.toml");

    /// Reads a policy. Names are checked by [`Policy::compile`](crate::Policy::compile).
    ///
    /// # Errors
    /// When it is too large, no TOML, or has unknown keys or values of a wrong type; the error names the key and the
    /// line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: text.len(), limit: Self::MAX_BYTES });
        }
        let with_text = |key: String, mut error: toml::de::Error| {
            error.set_input(Some(text));
            PolicyError::Document { key, error: Box::new(error) }
        };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| with_text(".".to_owned(), error))?;
        serde_path_to_error::deserialize(deserializer)
            .map_err(|error| with_text(error.path().to_string(), error.into_inner()))
    }

    /// The policy as TOML, without the comments that its author wrote.
    #[expect(
        clippy::expect_used,
        reason = "keys are strings; booleans, strings, lists and tables all have a TOML form"
    )]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a policy is TOML")
    }

    /// The key of an organisation among `organizations`, as [`Policy::apply`](crate::Policy::apply) finds it: by its id,
    /// else by its unique name; `name` is what the host's configuration calls it. None where the policy has nothing of
    /// its own for it.
    pub fn organization_key(&self, name: &str, organization: &Organization) -> Option<&str> {
        let named = organization.unique_name.as_deref().unwrap_or(name);
        let by_id =
            self.organizations.keys().find(|key| Uuid::try_parse(key).is_ok_and(|id| organization.id == Some(id)));
        let by_name = || self.organizations.keys().find(|key| key.eq_ignore_ascii_case(named));
        by_id.or_else(by_name).map(String::as_str)
    }

    /// This document with an organisation's settings over it.
    pub(crate) fn overridden_by(&self, over: &Self) -> Self {
        let mut entities = self.entities.clone();
        for (name, settings) in &over.entities {
            let base = entities.entry(name.clone()).or_default();
            *base = base.overridden_by(settings);
        }
        let without = |list: &[String], other: &[String]| {
            let keep = |name: &&String| !other.iter().any(|other| other.eq_ignore_ascii_case(name));
            list.iter().filter(keep).cloned().collect::<Vec<_>>()
        };
        let messages = MessageList {
            add: [without(&self.messages.add, &over.messages.remove), over.messages.add.clone()].concat(),
            remove: [without(&self.messages.remove, &over.messages.add), over.messages.remove.clone()].concat(),
        };
        let inherited = self.rules.iter().filter(|rule| over.rules.iter().all(|own| own.name != rule.name));
        Self {
            start_auditing: over.start_auditing.or(self.start_auditing),
            audit_user_access: over.audit_user_access.or(self.audit_user_access),
            start_read_auditing: over.start_read_auditing.or(self.start_read_auditing),
            activities: over.activities.or(self.activities),
            first_party_prefixes: over.first_party_prefixes.clone().or_else(|| self.first_party_prefixes.clone()),
            areas: AreaSwitches {
                common: over.areas.common.or(self.areas.common),
                sales: over.areas.sales.or(self.areas.sales),
                marketing: over.areas.marketing.or(self.areas.marketing),
                customer_service: over.areas.customer_service.or(self.areas.customer_service),
                security: over.areas.security.or(self.areas.security),
            },
            all_entities: self.all_entities.overridden_by(&over.all_entities),
            entities,
            messages,
            rules: over.rules.iter().chain(inherited).cloned().collect(),
            organizations: BTreeMap::new(),
        }
    }

    /// Whether anything is audited by default.
    pub(crate) fn audits(&self) -> bool {
        self.start_auditing.unwrap_or(true)
    }
}

impl EntitySettings {
    fn overridden_by(&self, over: &Self) -> Self {
        let mut columns = self.columns.clone();
        columns.extend(over.columns.iter().map(|(name, values)| (name.clone(), *values)));
        Self {
            auditing: over.auditing.or(self.auditing),
            single_record: over.single_record.or(self.single_record),
            multiple_record: over.multiple_record.or(self.multiple_record),
            unaudited_columns: over.unaudited_columns.clone().or_else(|| self.unaudited_columns.clone()),
            values: over.values.or(self.values),
            columns,
        }
    }
}
