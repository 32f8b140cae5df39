//! What kind of operation a record is about.

use actlog_dataverse::tables::MessageCategory;

/// What kind of operation a record is about: its `Category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Rows are created.
    Create,
    /// One thing is read.
    Read,
    /// Many rows are read.
    ReadMultiple,
    /// Rows are updated.
    Update,
    /// Rows are deleted.
    Delete,
    /// Data is taken out by a message that the specification's prefix table does not place.
    Export,
    /// Who owns or may see a row changes.
    Sharing,
    /// Rows are linked or unlinked.
    Relationship,
    /// The state of a row changes.
    State,
    /// Many rows are changed at once: imports, bulk deletion.
    Bulk,
    /// A process starts or changes.
    Process,
    /// A business operation runs, such as closing a case.
    Business,
    /// Table definitions change.
    AdminMetadata,
    /// Customisations change or are published.
    AdminCustomization,
    /// Solutions change.
    AdminSolution,
    /// Users, teams, roles or privileges change.
    AdminSecurity,
    /// The organisation's own settings change.
    AdminOrganization,
    /// A user signs in or out.
    SignIn,
    /// Anything else: custom actions, unknown messages.
    Other,
}

/// "How we categorize read and readmultiple", in the specification's order: every prefix of ReadMultiple comes before
/// those of Read. Compared without regard to case: the specification's `RollUp` is the message `Rollup`.
const PREFIXES: [(&str, Category); 11] = [
    ("RetrieveMultiple", Category::ReadMultiple),
    ("ExportToExcel", Category::ReadMultiple),
    ("RollUp", Category::ReadMultiple),
    ("RetrieveEntitiesForAggregateQuery", Category::ReadMultiple),
    ("RetrieveRecordWall", Category::ReadMultiple),
    ("RetrievePersonalWall", Category::ReadMultiple),
    ("ExecuteFetch", Category::ReadMultiple),
    ("Retrieve", Category::Read),
    ("Search", Category::Read),
    ("Get", Category::Read),
    ("Export", Category::Read),
];

impl Category {
    /// The category of a message: by the specification's prefix table, else by the message table, else `Other`.
    /// `request` is the SDK request name, `message` the event pipeline's name where that is another.
    pub fn of(request: &str, message: Option<&str>) -> Self {
        let starts = |prefix: &str| {
            request.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        if let Some((_, category)) = PREFIXES.iter().find(|(prefix, _)| starts(prefix)) {
            return *category;
        }
        actlog_dataverse::tables::message_category(request)
            .or_else(|| actlog_dataverse::tables::message_category(message?))
            .map_or(Self::Other, Self::from)
    }

    /// The text in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Read => "Read",
            Self::ReadMultiple => "ReadMultiple",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Export => "Export",
            Self::Sharing => "Sharing",
            Self::Relationship => "Relationship",
            Self::State => "State",
            Self::Bulk => "Bulk",
            Self::Process => "Process",
            Self::Business => "Business",
            Self::AdminMetadata => "AdminMetadata",
            Self::AdminCustomization => "AdminCustomization",
            Self::AdminSolution => "AdminSolution",
            Self::AdminSecurity => "AdminSecurity",
            Self::AdminOrganization => "AdminOrganization",
            Self::SignIn => "SignIn",
            Self::Other => "Other",
        }
    }

    /// Whether it is about administration, so that the activity is "Accessed admin entity".
    pub(crate) fn is_administration(self) -> bool {
        matches!(
            self,
            Self::AdminMetadata
                | Self::AdminCustomization
                | Self::AdminSolution
                | Self::AdminSecurity
                | Self::AdminOrganization
        )
    }
}

impl From<MessageCategory> for Category {
    fn from(category: MessageCategory) -> Self {
        match category {
            MessageCategory::Create => Self::Create,
            MessageCategory::Update => Self::Update,
            MessageCategory::Delete => Self::Delete,
            MessageCategory::Read => Self::Read,
            MessageCategory::ReadMultiple => Self::ReadMultiple,
            MessageCategory::Export => Self::Export,
            MessageCategory::Sharing => Self::Sharing,
            MessageCategory::Relationship => Self::Relationship,
            MessageCategory::State => Self::State,
            MessageCategory::Bulk => Self::Bulk,
            MessageCategory::Process => Self::Process,
            MessageCategory::Business => Self::Business,
            MessageCategory::AdminMetadata => Self::AdminMetadata,
            MessageCategory::AdminCustomization => Self::AdminCustomization,
            MessageCategory::AdminSolution => Self::AdminSolution,
            MessageCategory::AdminSecurity => Self::AdminSecurity,
            MessageCategory::AdminOrganization => Self::AdminOrganization,
            MessageCategory::SigninProbe => Self::SignIn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_prefix_table_holds_without_regard_to_case() {
        for (message, category) in [
            ("RetrieveMultiple", "ReadMultiple"),
            ("ExportToExcel", "ReadMultiple"),
            ("ExportToExcelOnline", "ReadMultiple"),
            ("RollUp", "ReadMultiple"),
            ("Rollup", "ReadMultiple"),
            ("RollupForActivityWall", "ReadMultiple"),
            ("RetrieveEntitiesForAggregateQuery", "ReadMultiple"),
            ("RetrieveRecordWall", "ReadMultiple"),
            ("RetrievePersonalWall", "ReadMultiple"),
            ("ExecuteFetch", "ReadMultiple"),
            ("Retrieve", "Read"),
            ("RetrieveUserPrivileges", "Read"),
            ("Search", "Read"),
            ("SearchByKeywordsKbArticle", "Read"),
            ("GetDefaultPriceLevel", "Read"),
            ("ExportDynamicToExcel", "Read"),
            ("ExportToWord", "Read"),
            ("retrievemultiple", "ReadMultiple"),
            ("EXPORTTOEXCEL", "ReadMultiple"),
            ("retrieve", "Read"),
        ] {
            assert_eq!(Category::of(message, None).as_str(), category, "{message}");
        }
    }

    #[test]
    fn the_letter_of_the_prefix_table_is_kept_where_it_surprises() {
        for message in ["ExportSolution", "GetQuantityDecimal", "RetrieveUnpublishedMultiple", "Search"] {
            assert_eq!(Category::of(message, None), Category::Read, "{message}");
        }
    }

    #[test]
    fn messages_outside_of_the_prefix_table_are_placed_by_the_message_table() {
        for (request, message, category) in [
            ("Create", None, Category::Create),
            ("Update", None, Category::Update),
            ("Delete", None, Category::Delete),
            ("Assign", None, Category::Sharing),
            ("Associate", None, Category::Relationship),
            ("SetState", None, Category::State),
            ("BulkDelete", None, Category::Bulk),
            ("ExecuteWorkflow", None, Category::Process),
            ("WinOpportunity", Some("Win"), Category::Business),
            ("CancelContract", Some("Cancel"), Category::Business),
            ("DeleteAttribute", None, Category::AdminMetadata),
            ("PublishAllXml", Some("PublishAll"), Category::AdminCustomization),
            ("ImportSolution", None, Category::AdminSolution),
            ("AddMembersTeam", Some("AddMembers"), Category::AdminSecurity),
            ("DeleteAuditData", None, Category::AdminOrganization),
            ("ExecuteByIdSavedQuery", None, Category::ReadMultiple),
            ("WhoAmI", None, Category::SignIn),
            ("contoso_Approve", Some("Win"), Category::Business),
            ("contoso_Approve", Some("contoso_Approve"), Category::Other),
            ("", None, Category::Other),
            ("Gé", None, Category::Other),
        ] {
            assert_eq!(Category::of(request, message), category, "{request}");
        }
    }
}
