//! The tables that the stand-in has, with those of their columns that matter here.
//!
//! Names and types as Microsoft's table reference has them.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Text,
    Integer,
    Boolean,
    Time,
    /// `{Value, CanBeChanged, ManagedPropertyLogicalName}` of table definitions.
    Managed,
    /// A text that is taken and never given back.
    Secret,
}

/// A table: entity set, logical name, id column.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) set: &'static str,
    pub(super) logical_name: &'static str,
    pub(super) id: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// N:1: name to bind and expand by, the set it leads to, the column that holds the id.
    pub(super) lookups: &'static [(&'static str, &'static str, &'static str)],
    /// 1:N: name, the set of the rows, their column that holds this row's id.
    pub(super) collections: &'static [(&'static str, &'static str, &'static str)],
    /// N:N: name, the set of the rows, the set of the pairs.
    pub(super) associations: &'static [(&'static str, &'static str, &'static str)],
    /// Whether rows can be created, changed and deleted through the Web API.
    pub(super) writable: bool,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<Kind> {
        self.columns.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

pub(super) fn table(set: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.set == set)
}

const EMPTY: Table = Table {
    set: "",
    logical_name: "",
    id: "",
    columns: &[],
    lookups: &[],
    collections: &[],
    associations: &[],
    writable: false,
};

/// The set of the table definitions, which have rules of their own.
pub(super) const DEFINITIONS: &str = "EntityDefinitions";
/// The set of the column definitions; reached through a table's.
pub(super) const ATTRIBUTES: &str = "Attributes";
/// The column of [`ATTRIBUTES`] that holds the table's `MetadataId`.
pub(super) const ATTRIBUTE_OF: &str = "_entity";

pub(super) static TABLES: [Table; 13] = [
    Table {
        set: "organizations",
        logical_name: "organization",
        id: "organizationid",
        columns: &[
            ("organizationid", Kind::Id),
            ("name", Kind::Text),
            ("isauditenabled", Kind::Boolean),
            ("isreadauditenabled", Kind::Boolean),
            ("isuseraccessauditenabled", Kind::Boolean),
            ("useraccessauditinginterval", Kind::Integer),
            ("auditretentionperiodv2", Kind::Integer),
            ("auditsettings", Kind::Text),
        ],
        writable: true,
        ..EMPTY
    },
    Table {
        set: "serviceendpoints",
        logical_name: "serviceendpoint",
        id: "serviceendpointid",
        columns: &[
            ("serviceendpointid", Kind::Id),
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("url", Kind::Text),
            ("contract", Kind::Integer),
            ("authtype", Kind::Integer),
            ("authvalue", Kind::Secret),
            ("connectionmode", Kind::Integer),
            ("messageformat", Kind::Integer),
            ("messagecharset", Kind::Integer),
            ("userclaim", Kind::Integer),
            ("createdon", Kind::Time),
        ],
        collections: &[(
            "serviceendpoint_sdkmessageprocessingstep",
            "sdkmessageprocessingsteps",
            "_eventhandler_value",
        )],
        writable: true,
        ..EMPTY
    },
    Table {
        set: "sdkmessages",
        logical_name: "sdkmessage",
        id: "sdkmessageid",
        columns: &[("sdkmessageid", Kind::Id), ("name", Kind::Text), ("isprivate", Kind::Boolean)],
        collections: &[("sdkmessageid_sdkmessagefilter", "sdkmessagefilters", "_sdkmessageid_value")],
        ..EMPTY
    },
    Table {
        set: "sdkmessagefilters",
        logical_name: "sdkmessagefilter",
        id: "sdkmessagefilterid",
        columns: &[
            ("sdkmessagefilterid", Kind::Id),
            ("primaryobjecttypecode", Kind::Text),
            ("iscustomprocessingstepallowed", Kind::Boolean),
            ("isvisible", Kind::Boolean),
            ("_sdkmessageid_value", Kind::Id),
        ],
        lookups: &[("sdkmessageid", "sdkmessages", "_sdkmessageid_value")],
        ..EMPTY
    },
    Table {
        set: "sdkmessageprocessingsteps",
        logical_name: "sdkmessageprocessingstep",
        id: "sdkmessageprocessingstepid",
        columns: &[
            ("sdkmessageprocessingstepid", Kind::Id),
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("stage", Kind::Integer),
            ("mode", Kind::Integer),
            ("rank", Kind::Integer),
            ("supporteddeployment", Kind::Integer),
            ("asyncautodelete", Kind::Boolean),
            ("filteringattributes", Kind::Text),
            ("statecode", Kind::Integer),
            ("statuscode", Kind::Integer),
            ("createdon", Kind::Time),
            ("_eventhandler_value", Kind::Id),
            ("_sdkmessageid_value", Kind::Id),
            ("_sdkmessagefilterid_value", Kind::Id),
        ],
        lookups: &[
            ("eventhandler_serviceendpoint", "serviceendpoints", "_eventhandler_value"),
            ("sdkmessageid", "sdkmessages", "_sdkmessageid_value"),
            ("sdkmessagefilterid", "sdkmessagefilters", "_sdkmessagefilterid_value"),
        ],
        writable: true,
        ..EMPTY
    },
    Table {
        set: "asyncoperations",
        logical_name: "asyncoperation",
        id: "asyncoperationid",
        columns: &[
            ("asyncoperationid", Kind::Id),
            ("name", Kind::Text),
            ("messagename", Kind::Text),
            ("primaryentitytype", Kind::Text),
            ("operationtype", Kind::Integer),
            ("statecode", Kind::Integer),
            ("statuscode", Kind::Integer),
            ("errorcode", Kind::Integer),
            ("message", Kind::Text),
            ("friendlymessage", Kind::Text),
            ("retrycount", Kind::Integer),
            ("createdon", Kind::Time),
            ("startedon", Kind::Time),
            ("completedon", Kind::Time),
            ("_owningextensionid_value", Kind::Id),
        ],
        writable: true,
        ..EMPTY
    },
    Table {
        set: "audits",
        logical_name: "audit",
        id: "auditid",
        columns: &[
            ("auditid", Kind::Id),
            ("createdon", Kind::Time),
            ("action", Kind::Integer),
            ("operation", Kind::Integer),
            ("objecttypecode", Kind::Text),
            ("_objectid_value", Kind::Id),
            ("_userid_value", Kind::Id),
            ("_callinguserid_value", Kind::Id),
            ("_regardingobjectid_value", Kind::Id),
            ("transactionid", Kind::Id),
            ("attributemask", Kind::Text),
            ("changedata", Kind::Text),
            ("useradditionalinfo", Kind::Text),
        ],
        ..EMPTY
    },
    Table {
        set: "systemusers",
        logical_name: "systemuser",
        id: "systemuserid",
        columns: &[
            ("systemuserid", Kind::Id),
            ("fullname", Kind::Text),
            ("domainname", Kind::Text),
            ("internalemailaddress", Kind::Text),
            ("azureactivedirectoryobjectid", Kind::Id),
            ("applicationid", Kind::Id),
            ("accessmode", Kind::Integer),
            ("islicensed", Kind::Boolean),
            ("isdisabled", Kind::Boolean),
            ("createdon", Kind::Time),
            ("modifiedon", Kind::Time),
        ],
        associations: &[("systemuserroles_association", "roles", "systemuserrolescollection")],
        ..EMPTY
    },
    Table {
        set: "roles",
        logical_name: "role",
        id: "roleid",
        columns: &[("roleid", Kind::Id), ("name", Kind::Text), ("_roletemplateid_value", Kind::Id)],
        associations: &[("systemuserroles_association", "systemusers", "systemuserrolescollection")],
        ..EMPTY
    },
    Table {
        set: "systemuserrolescollection",
        logical_name: "systemuserroles",
        id: "systemuserroleid",
        columns: &[("systemuserroleid", Kind::Id), ("systemuserid", Kind::Id), ("roleid", Kind::Id)],
        ..EMPTY
    },
    Table {
        set: "teams",
        logical_name: "team",
        id: "teamid",
        columns: &[("teamid", Kind::Id), ("name", Kind::Text)],
        ..EMPTY
    },
    Table {
        set: DEFINITIONS,
        logical_name: "EntityMetadata",
        id: "MetadataId",
        columns: &[
            ("MetadataId", Kind::Id),
            ("LogicalName", Kind::Text),
            ("SchemaName", Kind::Text),
            ("EntitySetName", Kind::Text),
            ("ObjectTypeCode", Kind::Integer),
            ("IsCustomEntity", Kind::Boolean),
            ("IsAuditEnabled", Kind::Managed),
            ("IsRetrieveAuditEnabled", Kind::Boolean),
            ("IsRetrieveMultipleAuditEnabled", Kind::Boolean),
        ],
        collections: &[(ATTRIBUTES, ATTRIBUTES, ATTRIBUTE_OF)],
        ..EMPTY
    },
    Table {
        set: ATTRIBUTES,
        logical_name: "AttributeMetadata",
        id: "MetadataId",
        columns: &[
            ("MetadataId", Kind::Id),
            ("LogicalName", Kind::Text),
            ("SchemaName", Kind::Text),
            ("AttributeType", Kind::Text),
            (ATTRIBUTE_OF, Kind::Id),
            ("IsAuditEnabled", Kind::Managed),
        ],
        ..EMPTY
    },
];
