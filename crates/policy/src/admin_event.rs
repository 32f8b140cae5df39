//! Events of administration, support and report servers that are no SDK messages: what the policy makes of them.

use actlog_core::AuditRecord;

use crate::category::Category;
use crate::rules::USER_TYPE_SUPPORT;

/// The member of Extra in which sources say which row of the specification's two tables of events a record is of.
pub(crate) const ADMIN_EVENT: &str = "AdminEvent";
/// The row of what Microsoft's support engineers do with tools of their own.
const BACKEND_COMMANDS: &str = "Backend commands";

/// The rows that no SDK message stands for, or that a message may not be known for.
const ROWS: [(&str, Category); 12] = [
    ("Publishing customizations", Category::AdminCustomization),
    ("Attribute deletes", Category::AdminMetadata),
    ("Team, user management", Category::AdminSecurity),
    ("Configure instance", Category::AdminOrganization),
    ("Backup and restore", Category::AdminOrganization),
    ("Manage applications", Category::AdminOrganization),
    ("All support CRUD activities", Category::AdminOrganization),
    ("Admin activities", Category::AdminOrganization),
    (BACKEND_COMMANDS, Category::AdminOrganization),
    ("Report Viewed", Category::Read),
    ("Report Viewer Export", Category::Export),
    ("Report Viewer Render Image", Category::Read),
];

/// The N:N relationships of Dynamics 365 that give rights, or take them: roles, teams, profiles of column security.
const RELATIONSHIPS: [&str; 6] = [
    "systemuserroles_association",
    "teamroles_association",
    "teammembership_association",
    "systemuserprofiles_association",
    "teamprofiles_association",
    "appmoduleroles_association",
];

/// The category of the row that a record is said to be of.
pub(crate) fn category(record: &AuditRecord<'_>) -> Option<Category> {
    category_of(record.extra.get(ADMIN_EVENT)?.get())
}

/// As [`category`], for the member's JSON text.
pub(crate) fn category_of(json: &str) -> Option<Category> {
    let row = json.strip_prefix('"')?.strip_suffix('"')?;
    ROWS.iter().find(|(known, _)| *known == row).map(|(_, category)| *category)
}

/// Whether it is what Microsoft's support engineers do with tools of their own.
pub(crate) fn is_backend_command(record: &AuditRecord<'_>) -> bool {
    // The type of user is asked first: nearly every record is of another.
    let row = || record.extra.get(ADMIN_EVENT).map(|json| json.get().trim_matches('"'));
    record.user_type == Some(USER_TYPE_SUPPORT) && row() == Some(BACKEND_COMMANDS)
}

/// Whether rows are linked or unlinked in a way that gives rights to somebody or takes them away.
pub(crate) fn changes_rights(record: &AuditRecord<'_>) -> bool {
    let relationship = record.fields.iter().find(|field| field.name.eq_ignore_ascii_case("relationship"));
    let name = relationship.and_then(|field| field.value.as_deref()).unwrap_or_default();
    RELATIONSHIPS.iter().any(|known| known.eq_ignore_ascii_case(name))
}
