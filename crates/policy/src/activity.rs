//! The nine activities of the specification's preconfigured reports.

use actlog_core::AuditRecord;
use actlog_dataverse::tables::EntityKind;

use crate::admin_event;
use crate::category::Category;

/// One of the nine activities of the specification's preconfigured reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// An entity that Dynamics 365 brings along.
    OutOfBoxEntity,
    /// A customer's own entity.
    CustomEntity,
    /// An entity or message of administration.
    AdminEntity,
    /// Imports, bulk deletion and other bulk operations.
    BulkActions,
    /// Anything else.
    OtherEntityType,
    /// The admin centre.
    AdminCenter,
    /// A tool of those who operate or support the system.
    InternalManagementTool,
    /// A user signed in or out.
    SignedInOrOut,
    /// A process was run or switched, or a plug-in step switched.
    ProcessOrPlugIn,
}

/// `RecordType` of "PowerPlatformAdministratorActivity" in the Office 365 Management Activity API: what is done in the
/// admin centre.
pub(crate) const RECORD_TYPE_ADMIN_CENTER: i32 = 256;

impl Activity {
    /// The specification's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfBoxEntity => "Accessed out-of-box entity",
            Self::CustomEntity => "Accessed custom entity",
            Self::AdminEntity => "Accessed admin entity",
            Self::BulkActions => "Performed bulk actions (such as delete and import)",
            Self::OtherEntityType => "Accessed other entity type",
            Self::AdminCenter => "Accessed Dynamics 365 admin center",
            Self::InternalManagementTool => "Accessed internal management tool",
            Self::SignedInOrOut => "Signed in or out",
            Self::ProcessOrPlugIn => "Activated process or plug-in",
        }
    }

    /// The activity of a record of any product that its origin alone tells.
    pub(crate) fn by_origin(record: &AuditRecord<'_>, category: Option<Category>) -> Option<Self> {
        if record.record_type == RECORD_TYPE_ADMIN_CENTER {
            return Some(Self::AdminCenter);
        }
        if admin_event::is_backend_command(record) {
            return Some(Self::InternalManagementTool);
        }
        (category == Some(Category::SignIn)).then_some(Self::SignedInOrOut)
    }

    /// The activity of a Dynamics 365 record by its message and entity. `request` is the SDK request name, `entity`
    /// the logical name in lower case.
    pub(crate) fn by_content(
        record: &AuditRecord<'_>,
        request: &str,
        category: Category,
        entity: Option<&str>,
        first_party_prefixes: &[String],
    ) -> Self {
        let information = entity.and_then(actlog_dataverse::tables::entity);
        let kind = information.map(|information| information.kind);
        // The prefix table may have made a bulk or process message a Read; the message table still knows what it is.
        let category = actlog_dataverse::tables::message_category(request).map_or(category, Category::from);
        if category == Category::Bulk || kind == Some(EntityKind::Bulk) {
            return Self::BulkActions;
        }
        if category == Category::Process || switches_process(record, request, entity) {
            return Self::ProcessOrPlugIn;
        }
        if category.is_administration() {
            return Self::AdminEntity;
        }
        match (kind, entity) {
            (Some(EntityKind::AdminSecurity | EntityKind::AdminCustomization | EntityKind::AdminSystem), _) => {
                Self::AdminEntity
            }
            // The rows of a business process flow belong to an area as the row that it guides does; definitions of
            // processes, plug-ins and steps do not.
            (Some(EntityKind::Process), _) if information.is_some_and(|information| information.area.is_none()) => {
                Self::AdminEntity
            }
            (Some(_), _) => Self::OutOfBoxEntity,
            (None, Some(name)) if actlog_dataverse::tables::is_custom(name, first_party_prefixes) => Self::CustomEntity,
            (None, Some(name)) if actlog_dataverse::tables::publisher_prefix(name).is_some() => Self::OutOfBoxEntity,
            (None, _) => Self::OtherEntityType,
        }
    }
}

/// Whether a process or a plug-in step is switched on or off: by SetState, or by an Update of its state.
fn switches_process(record: &AuditRecord<'_>, request: &str, entity: Option<&str>) -> bool {
    if !matches!(entity, Some("workflow" | "sdkmessageprocessingstep")) {
        return false;
    }
    match request {
        "SetState" | "SetStateDynamicEntity" => true,
        "Update" => record.fields.iter().any(|field| field.name.eq_ignore_ascii_case("statecode")),
        _ => false,
    }
}
