//! The policy at work.

use std::collections::{HashMap, HashSet};

use actlog_core::{AuditRecord, WORKLOAD_ACTLOG, WORKLOAD_CRM};
use uuid::Uuid;

use crate::activity::{Activity, RECORD_TYPE_ADMIN_CENTER};
use crate::admin_event;
use crate::category::Category;
use crate::document::{ActivityMode, RuleAction, Values};
use crate::redact::{ColumnValues, Redaction, ValueHasher};
use crate::rules::{CompiledRule, USER_TYPE_SUPPORT};

/// A policy ready for use; made by [`Policy::compile`].
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) version: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) default: Settings,
    pub(crate) organizations: Vec<Settings>,
    /// Places in `organizations`.
    pub(crate) organizations_by_id: HashMap<Uuid, usize>,
    /// By unique name in lower case.
    pub(crate) organizations_by_name: HashMap<String, usize>,
    pub(crate) hasher: Option<ValueHasher>,
}

/// Whether a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// It is.
    Keep,
    /// It is left out, by this rule: `start-auditing`, `user-access`, `read-auditing`, `entity`, `single-record`,
    /// `multiple-record`, `message:NAME` or `rule:NAME`. There are only as many as the policy names, so that the text
    /// can label a metric.
    Exclude(&'p str),
}

/// What holds for one organisation, with everything resolved that can be.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) start_auditing: bool,
    pub(crate) audit_user_access: bool,
    pub(crate) start_read_auditing: bool,
    pub(crate) activities: ActivityMode,
    pub(crate) first_party_prefixes: Vec<String>,
    pub(crate) all_entities: EntityPolicy,
    /// Entities that have settings of their own, by logical name.
    pub(crate) entities: HashMap<String, EntityPolicy>,
    /// Messages that are not logged: name in lower case → `message:NAME`.
    pub(crate) not_logged: HashMap<String, String>,
    pub(crate) rules: Vec<CompiledRule>,
    /// For values of which the entity is not known: the strictest of all.
    pub(crate) anywhere: ColumnValues,
    /// Whether any record may have to be changed: a column is not audited, or a value not kept.
    pub(crate) changes_records: bool,
}

/// What holds for one entity.
#[derive(Clone, Debug)]
pub(crate) struct EntityPolicy {
    pub(crate) auditing: bool,
    pub(crate) single_record: bool,
    pub(crate) multiple_record: bool,
    pub(crate) unaudited_columns: HashSet<String>,
    pub(crate) values: ColumnValues,
}

impl Policy {
    /// The version that records carry as PolicyVersion.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is legal but looks like a mistake, a sentence each: unknown names of messages and entities.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Decides about a record. A record that is kept gets PolicyVersion, and Category and Activity where its product
    /// has them; unaudited columns are removed from its Fields, and values are hashed or left out. A record that is
    /// left out may have been changed and is to be dropped.
    pub fn apply(&self, record: &mut AuditRecord<'_>) -> Decision<'_> {
        if record.workload == WORKLOAD_ACTLOG {
            record.policy_version = Some(self.version);
            return Decision::Keep;
        }
        let organization = record.crm_organization_unique_name.as_deref();
        let settings = self.settings(record.organization_id, organization);
        if let Some(rule) = settings.exclude_and_classify(record) {
            return Decision::Exclude(rule);
        }
        record.policy_version = Some(self.version);
        if settings.changes_records {
            settings.redact(record, self.hasher.as_ref());
        }
        Decision::Keep
    }

    /// Whether raw input may be stored that could not be read and so can't be redacted, as a dead letter is: only where
    /// no value of any entity is hashed or left out, since an input may hold rows of several entities.
    /// `organization` is the id or unique name; none where it is not known, when every organisation's settings count.
    pub fn may_keep_raw(&self, organization: Option<&str>) -> bool {
        let keeps = |settings: &Settings| settings.anywhere.strictest() == Values::Keep;
        match organization {
            Some(name) => keeps(self.settings(Uuid::try_parse(name).ok(), Some(name))),
            None => keeps(&self.default) && self.organizations.iter().all(keeps),
        }
    }

    fn settings(&self, id: Option<Uuid>, unique_name: Option<&str>) -> &Settings {
        if self.organizations.is_empty() {
            return &self.default;
        }
        let by_id = id.and_then(|id| self.organizations_by_id.get(&id));
        let by_name = || {
            let mut buffer = NameBuffer::default();
            self.organizations_by_name.get(buffer.lowercase(unique_name?)?)
        };
        by_id.or_else(by_name).and_then(|&place| self.organizations.get(place)).unwrap_or(&self.default)
    }
}

impl Settings {
    /// The rule that leaves the record out; none for a record that is kept, which then has Category, Activity and
    /// UserType.
    fn exclude_and_classify(&self, record: &mut AuditRecord<'_>) -> Option<&str> {
        if !self.start_auditing {
            return Some("start-auditing");
        }
        // Records that come from the Office 365 feed name the message here and a constant there.
        let request = match (&*record.operation, &record.message) {
            ("CrmDefaultActivity", Some(message)) => message.as_ref(),
            (operation, _) => operation,
        };
        let message = record.message.as_deref();
        if let Some(label) = self.not_logged(request, message) {
            return Some(label);
        }
        let mut buffer = NameBuffer::default();
        let entity =
            record.entity_name.as_deref().and_then(|name| buffer.lowercase(name)).filter(|name| is_entity(name));
        let is_crm = record.workload == WORKLOAD_CRM;
        let category = if is_sign_in(record.record_type, entity) {
            Some(Category::SignIn)
        } else if is_crm {
            Some(match Category::of(request, message) {
                Category::Other => admin_event::category(record).unwrap_or(Category::Other),
                Category::Relationship if admin_event::changes_rights(record) => Category::AdminSecurity,
                category => category,
            })
        } else if record.record_type == RECORD_TYPE_ADMIN_CENTER {
            Some(admin_event::category(record).unwrap_or(Category::AdminOrganization))
        } else {
            None
        };
        if category == Some(Category::SignIn) && !self.audit_user_access {
            return Some("user-access");
        }
        if let (true, Some(category)) = (is_crm, category)
            && let Some(rule) = self.switched_off(category, entity)
        {
            return Some(rule);
        }
        let activity = match self.activities {
            ActivityMode::OtherEntityType => is_crm.then_some(Activity::OtherEntityType),
            ActivityMode::ByContent => Activity::by_origin(record, category).or_else(|| {
                let category = category.filter(|_| is_crm)?;
                Some(Activity::by_content(record, request, category, entity, &self.first_party_prefixes))
            }),
        };
        if let Some(category) = category {
            record.category = Some(category.as_str().into());
        }
        if let Some(activity) = activity {
            record.activity = Some(activity.as_str().into());
        }
        self.follow_rules(record)
    }

    /// The label of the list's entry that the record falls under.
    fn not_logged(&self, request: &str, message: Option<&str>) -> Option<&str> {
        let find = |name: &str| {
            let mut buffer = NameBuffer::default();
            self.not_logged.get(buffer.lowercase(name)?)
        };
        // The RetrieveMultiple that an export runs is logged as that export, so it is no RetrieveMultiple to the list.
        let in_export = || starts_with_export(request) && message.is_some_and(|message| !starts_with_export(message));
        let by_message = || message.filter(|_| !in_export()).filter(|&message| message != request).and_then(find);
        find(request).or_else(by_message).map(String::as_str)
    }

    /// The switch over reading or over the entity that leaves the record out. What names no entity is subject to Start
    /// Read Auditing only.
    fn switched_off(&self, category: Category, entity: Option<&str>) -> Option<&'static str> {
        if matches!(category, Category::Read | Category::ReadMultiple) && !self.start_read_auditing {
            return Some("read-auditing");
        }
        let entity = self.entity_policy(entity?);
        match category {
            Category::SignIn => None,
            _ if !entity.auditing => Some("entity"),
            Category::Read if !entity.single_record => Some("single-record"),
            Category::ReadMultiple if !entity.multiple_record => Some("multiple-record"),
            _ => None,
        }
    }

    /// Lets every rule that matches take effect; the label of the one that leaves the record out.
    fn follow_rules(&self, record: &mut AuditRecord<'_>) -> Option<&str> {
        for rule in &self.rules {
            if !rule.matches(record) {
                continue;
            }
            let activity = match rule.action {
                RuleAction::Exclude => return Some(&rule.label),
                RuleAction::SupportUser => {
                    record.user_type = Some(USER_TYPE_SUPPORT);
                    continue;
                }
                RuleAction::InternalTool => Activity::InternalManagementTool,
                RuleAction::AdminCenter => Activity::AdminCenter,
            };
            if self.activities == ActivityMode::ByContent {
                record.activity = Some(activity.as_str().into());
            }
        }
        None
    }

    fn redact(&self, record: &mut AuditRecord<'_>, hasher: Option<&ValueHasher>) {
        let mut buffer = NameBuffer::default();
        let entity =
            record.entity_name.as_deref().and_then(|name| buffer.lowercase(name)).filter(|name| is_entity(name));
        // What is no Dynamics 365 record has no Dynamics 365 columns: what holds for all entities holds for it.
        let of_all = &self.all_entities;
        let (columns, own, unknown) = match (record.workload == WORKLOAD_CRM, entity) {
            (true, Some(name)) => {
                let entity = self.entity_policy(name);
                (&entity.unaudited_columns, &entity.values, &self.anywhere)
            }
            (true, None) => (&of_all.unaudited_columns, &self.anywhere, &self.anywhere),
            (false, _) => (&of_all.unaudited_columns, &of_all.values, &of_all.values),
        };
        if !columns.is_empty() {
            record.fields.retain(|field| {
                let mut buffer = NameBuffer::default();
                !buffer.lowercase(&field.name).is_some_and(|name| columns.contains(name))
            });
        }
        Redaction { hasher, settings: self, own, unknown }.apply(record);
    }

    fn entity_policy(&self, logical_name: &str) -> &EntityPolicy {
        self.entities.get(logical_name).unwrap_or(&self.all_entities)
    }

    /// What happens to the values of an entity, by its logical name in any case.
    pub(crate) fn entity_values(&self, name: &str) -> &ColumnValues {
        let mut buffer = NameBuffer::default();
        buffer.lowercase(name).map_or(&self.anywhere, |name| &self.entity_policy(name).values)
    }
}

/// Whether a record names an entity, and not that there is none.
fn is_entity(lowercase_name: &str) -> bool {
    !matches!(lowercase_name, "" | "none" | "unknown")
}

/// Whether a record is about signing in or out: the Office 365 record types AzureActiveDirectoryAccountLogon (9) and
/// AzureActiveDirectoryStsLogon (15), and the entity under which Dynamics 365 logs it.
fn is_sign_in(record_type: i32, entity: Option<&str>) -> bool {
    matches!(record_type, 9 | 15) || entity == Some("authentication")
}

fn starts_with_export(message: &str) -> bool {
    message.as_bytes().get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"Export"))
}

/// Room for a name in lower case, so that looking one up allocates nothing.
pub(crate) struct NameBuffer([u8; Self::LENGTH]);

impl NameBuffer {
    /// Bytes of the longest name that a policy may name; the platform's own names have up to 128.
    pub(crate) const LENGTH: usize = 128;

    /// The name in lower case (ASCII). None where it is too long to be one that a policy names, unless it is in lower
    /// case already.
    pub(crate) fn lowercase<'a>(&'a mut self, name: &'a str) -> Option<&'a str> {
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some(name);
        }
        let lower = self.0.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower).ok()
    }
}

impl Default for NameBuffer {
    fn default() -> Self {
        Self([0; Self::LENGTH])
    }
}
