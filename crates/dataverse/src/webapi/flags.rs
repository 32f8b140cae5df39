//! The audit flags of a live environment.

use super::{WebApi, WebApiError};
use crate::customizations::{AttributeDefinition, AuditFlags, EntityDefinition, OrganizationRow};

/// More tables than any environment has.
const MOST_TABLES: usize = crate::customizations::MAX_ENTITIES;

impl WebApi {
    /// What the environment is told to audit: the organisation's switches, and those of every table and column.
    ///
    /// # Errors
    /// [`WebApiError`].
    pub async fn audit_flags(&self) -> Result<AuditFlags, WebApiError> {
        let mut flags = AuditFlags { source: self.url().to_owned(), ..AuditFlags::default() };
        let rows = self.pages::<OrganizationRow>(&format!("organizations?$select={}", OrganizationRow::SELECT), 1);
        match &rows.all(1).await?[..] {
            [organization] => flags.set_organization(organization),
            _ => flags.warnings.push("the organisation's own row can't be read; its switches are unknown".to_owned()),
        }
        // Columns are asked for table by table in one request; EntityDefinitions has no pages.
        let path = format!(
            "EntityDefinitions?$select={}&$expand=Attributes($select={})",
            EntityDefinition::SELECT,
            AttributeDefinition::SELECT
        );
        for entity in self.pages(&path, 5000).all(MOST_TABLES).await? {
            flags.add_entity(entity);
        }
        Ok(flags)
    }
}
