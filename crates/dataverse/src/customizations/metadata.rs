//! Audit flags as the Web API answers them.

use serde::{Deserialize, Deserializer};

use super::{AuditFlags, EntityFlags, ManagedFlag, OrganizationFlags};

/// An element of `EntityDefinitions`. Ask for it with [`EntityDefinition::SELECT`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntityDefinition {
    /// Logical name of the entity.
    pub logical_name: String,
    /// What its metadata are addressed by.
    pub metadata_id: Option<uuid::Uuid>,
    /// Auditing.
    #[serde(default)]
    pub is_audit_enabled: ManagedFlag,
    /// Single record auditing. Versions before 9 have no such column.
    #[serde(default)]
    pub is_retrieve_audit_enabled: ManagedFlag,
    /// Multiple record auditing. Versions before 9 have no such column.
    #[serde(default)]
    pub is_retrieve_multiple_audit_enabled: ManagedFlag,
    /// Its columns, where they were asked for.
    #[serde(default)]
    pub attributes: Vec<AttributeDefinition>,
}

/// An element of an entity's `Attributes`. Ask for it with [`AttributeDefinition::SELECT`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttributeDefinition {
    /// Logical name of the column.
    pub logical_name: String,
    /// Whether its values are audited.
    #[serde(default)]
    pub is_audit_enabled: ManagedFlag,
}

/// The row of `organizations`. Ask for it with [`OrganizationRow::SELECT`].
#[derive(Clone, Debug, Deserialize)]
pub struct OrganizationRow {
    /// What it is addressed by.
    pub organizationid: Option<uuid::Uuid>,
    /// Start Auditing.
    pub isauditenabled: Option<bool>,
    /// Audit user access.
    pub isuseraccessauditenabled: Option<bool>,
    /// Start Read Auditing.
    pub isreadauditenabled: Option<bool>,
}

impl EntityDefinition {
    /// The columns to ask for.
    pub const SELECT: &str =
        "LogicalName,MetadataId,IsAuditEnabled,IsRetrieveAuditEnabled,IsRetrieveMultipleAuditEnabled";
}

impl AttributeDefinition {
    /// The columns to ask for.
    pub const SELECT: &str = "LogicalName,IsAuditEnabled";
}

impl OrganizationRow {
    /// The columns to ask for.
    pub const SELECT: &str = "organizationid,isauditenabled,isuseraccessauditenabled,isreadauditenabled";
}

impl AuditFlags {
    /// Adds what the Web API says of an entity; replaces what was known of it.
    pub fn add_entity(&mut self, entity: EntityDefinition) {
        let EntityDefinition {
            logical_name,
            is_audit_enabled,
            is_retrieve_audit_enabled,
            is_retrieve_multiple_audit_enabled,
            attributes,
            ..
        } = entity;
        let attributes = attributes.into_iter().map(|column| (column.logical_name, column.is_audit_enabled));
        self.entities.insert(
            logical_name,
            EntityFlags {
                audit: is_audit_enabled,
                retrieve: is_retrieve_audit_enabled.value,
                retrieve_multiple: is_retrieve_multiple_audit_enabled.value,
                attributes: attributes.collect(),
            },
        );
    }

    /// Sets what the Web API says of the organisation.
    pub fn set_organization(&mut self, row: &OrganizationRow) {
        self.organization = OrganizationFlags {
            auditing: row.isauditenabled,
            user_access: row.isuseraccessauditenabled,
            read: row.isreadauditenabled,
        };
    }
}

/// A plain boolean, or `{"Value":true,"CanBeChanged":true,…}`.
impl<'de> Deserialize<'de> for ManagedFlag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Plain(bool),
            Managed {
                #[serde(rename = "Value")]
                value: Option<bool>,
                #[serde(rename = "CanBeChanged")]
                can_be_changed: Option<bool>,
            },
        }
        Ok(match Option::deserialize(deserializer)? {
            None => Self::default(),
            Some(Form::Plain(value)) => Self { value: Some(value), can_be_changed: None },
            Some(Form::Managed { value, can_be_changed }) => Self { value, can_be_changed },
        })
    }
}
