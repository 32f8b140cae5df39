//! Rules that recognise users and tools.

use std::collections::HashSet;

use actlog_core::AuditRecord;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use uuid::Uuid;

use crate::compile::PolicyError;
use crate::document::{Rule, RuleAction};

/// `UserType` of Microsoft's support in the Office 365 Management Activity API ("DcAdmin").
pub(crate) const USER_TYPE_SUPPORT: i32 = 3;

/// A rule, ready for use. A criterion that is not asked for is `None` or empty.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    pub(crate) action: RuleAction,
    /// `rule:NAME`
    pub(crate) label: String,
    system_user_ids: HashSet<Uuid>,
    user_upns: Option<GlobSet>,
    user_agents: Option<GlobSet>,
    app_names: Option<GlobSet>,
    service_names: Option<GlobSet>,
}

impl CompiledRule {
    /// `path` is the rule's key path, for errors.
    pub(crate) fn new(rule: &Rule, path: &str) -> Result<Self, PolicyError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if rule.name.is_empty() || rule.name.len() > 64 || !rule.name.bytes().all(fits) {
            let reason = format!("{:?} is no name of a rule: 1 to 64 of a-z, 0-9 and '-'", rule.name);
            return Err(PolicyError::invalid(format!("{path}.name"), reason));
        }
        let patterns = [&rule.user_upns, &rule.user_agents, &rule.app_names, &rule.service_names];
        if rule.system_user_ids.is_empty() && patterns.iter().all(|list| list.is_empty()) {
            let reason = "the rule would match every record; name at least one of system_user_ids, user_upns, \
                          user_agents, app_names, service_names";
            return Err(PolicyError::invalid(path.to_owned(), reason.to_owned()));
        }
        let glob_set = |key: &str, patterns: &[String]| match patterns {
            [] => Ok(None),
            _ => glob_set(patterns)
                .map(Some)
                .map_err(|error| PolicyError::invalid(format!("{path}.{key}"), error.to_string())),
        };
        Ok(Self {
            action: rule.action,
            label: format!("rule:{}", rule.name),
            system_user_ids: rule.system_user_ids.iter().copied().collect(),
            user_upns: glob_set("user_upns", &rule.user_upns)?,
            user_agents: glob_set("user_agents", &rule.user_agents)?,
            app_names: glob_set("app_names", &rule.app_names)?,
            service_names: glob_set("service_names", &rule.service_names)?,
        })
    }

    pub(crate) fn matches(&self, record: &AuditRecord<'_>) -> bool {
        let by_id = || {
            let ids = [record.system_user_id, record.initiating_user_id];
            ids.into_iter().flatten().any(|id| self.system_user_ids.contains(&id))
        };
        let by_pattern = |patterns: &Option<GlobSet>, texts: &[Option<&str>]| match patterns {
            None => true,
            Some(patterns) => texts.iter().flatten().any(|text| patterns.is_match(text)),
        };
        (self.system_user_ids.is_empty() || by_id())
            && by_pattern(&self.user_upns, &[record.user_upn.as_deref(), record.user_id.as_deref()])
            && by_pattern(&self.user_agents, &[record.user_agent.as_deref()])
            && by_pattern(&self.app_names, &[record.app_name.as_deref()])
            && by_pattern(&self.service_names, &[record.service_name.as_deref()])
    }
}

fn glob_set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(
            GlobBuilder::new(pattern).case_insensitive(true).literal_separator(false).backslash_escape(true).build()?,
        );
    }
    set.build()
}
