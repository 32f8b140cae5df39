//! Events of the Power Platform admin centre (record type 256): names, and the specification's row that each belongs
//! to.
//!
//! Microsoft documents the events of an environment's life cycle by friendly name only ("Backed up environment"), the
//! others by the exact name that records carry. Names are compared by their letters and digits alone, in any case.

/// The specification's rows of administrative and support events that the admin centre is the origin of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdminEvent {
    /// Who was added, who was removed, which rights somebody had.
    TeamAndUserManagement,
    /// Settings of an environment, and rules over environments.
    ConfigureInstance,
    /// Backups taken, backups restored.
    BackupAndRestore,
    /// Environments and apps added, deleted, moved, converted; licences and contracts of them.
    ManageApplications,
    /// Access of Microsoft's support engineers.
    SupportAccess,
}

impl AdminEvent {
    /// The name in `Extra.AdminEvent`: the specification's text of the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TeamAndUserManagement => "Team, user management",
            Self::ConfigureInstance => "Configure instance",
            Self::BackupAndRestore => "Backup and restore",
            Self::ManageApplications => "Manage applications",
            Self::SupportAccess => "All support CRUD activities",
        }
    }
}

use AdminEvent::{BackupAndRestore, ConfigureInstance, ManageApplications, SupportAccess, TeamAndUserManagement};

/// Every event that is known by name. The friendly names come first.
pub const ADMIN_EVENTS: [(&str, AdminEvent); 46] = [
    ("Provisioned environment", ManageApplications),
    ("Deleted environment", ManageApplications),
    ("Recovered environment", ManageApplications),
    ("Hard-deleted environment", ManageApplications),
    ("Moved environment", ManageApplications),
    ("Copied environment", ManageApplications),
    ("Backed up environment", BackupAndRestore),
    ("Restored environment", BackupAndRestore),
    ("Converted environment type", ManageApplications),
    ("Reset environment", ManageApplications),
    ("Upgraded environment", ManageApplications),
    ("CMK-Renewed environment", ConfigureInstance),
    ("CMK-Reverted environment", ConfigureInstance),
    ("Changed property on environment", ConfigureInstance),
    ("NewEnvironmentGroup", ConfigureInstance),
    ("DeleteEnvironmentGroup", ConfigureInstance),
    ("UpdateEnvironmentGroup", ConfigureInstance),
    ("EnvironmentAddedToEnvironmentGroup", ConfigureInstance),
    ("EnvironmentRemovedFromEnvironmentGroup", ConfigureInstance),
    ("CreateRuleSetOperation", ConfigureInstance),
    ("UpdateRuleSetOperation", ConfigureInstance),
    ("DeleteRuleSetOperation", ConfigureInstance),
    ("CreateRuleBasedPolicyOperation", ConfigureInstance),
    ("CreateRuleBasedPolicyAssignmentOperation", ConfigureInstance),
    ("UpdateRuleBasedPolicyOperation", ConfigureInstance),
    ("DeleteRuleBasedPolicyOperation", ConfigureInstance),
    ("DeleteRuleBasedPolicyAssignmentOperation", ConfigureInstance),
    ("GovernanceApiPolicyOperation", ConfigureInstance),
    ("BillingPolicyCreate", ManageApplications),
    ("BillingPolicyDelete", ManageApplications),
    ("BillingPolicyUpdate", ManageApplications),
    ("IsvContractConsent", ManageApplications),
    ("CurrencyEnvironmentAllocate", ManageApplications),
    ("EnvironmentDisabledByMiser", ManageApplications),
    ("TrialConvertToProduction", ManageApplications),
    ("TrialEnforce", ManageApplications),
    ("TrialProvision", ManageApplications),
    ("TrialSignUpEligibilityCheck", ManageApplications),
    ("TrialViralConsent", ManageApplications),
    ("AdminDeleteApp", ManageApplications),
    ("ApplyAdminRole", TeamAndUserManagement),
    ("AssignLicenseAutoClaim", TeamAndUserManagement),
    ("AssignLicenseAutoClaimPolicyCreate", TeamAndUserManagement),
    ("AssignLicenseToUser", TeamAndUserManagement),
    ("LockboxRequestOperation", SupportAccess),
    ("TenantLockboxOperation", SupportAccess),
];

/// The row of an operation of the admin centre; none for one that is not known by name.
pub fn admin_event(operation: &str) -> Option<AdminEvent> {
    let same = |known: &str| letters(known).eq(letters(operation));
    ADMIN_EVENTS.iter().find(|(known, _)| same(known)).map(|(_, event)| *event)
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_spelt() {
        for name in ["Backed up environment", "BackedUpEnvironment", "backed-up environment"] {
            assert_eq!(admin_event(name), Some(BackupAndRestore), "{name}");
        }
        assert_eq!(admin_event("LockboxRequestOperation"), Some(SupportAccess));
        assert_eq!(admin_event("Backed up environments"), None);
        assert_eq!(admin_event(""), None);
    }

    #[test]
    fn every_name_leads_to_its_own_row() {
        for (name, event) in ADMIN_EVENTS {
            assert_eq!(admin_event(name), Some(event), "{name}");
        }
    }
}
