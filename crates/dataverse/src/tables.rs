//! Facts about Dataverse that don't depend on an environment: messages, entities, condition operators.
//!
//! The facts live in `data/*.csv`, one row each, and are read into maps at first use. Where they come from: message
//! names and parameters from the metadata of Microsoft's SDK assemblies 9.0 (`documented`), from public lists of
//! undocumented messages (`undocumented`) and of names that a plug-in step can be registered for (`pipeline`); entity
//! areas from Microsoft's page on managing Dataverse auditing; operators from the SDK's `ConditionOperator` and the
//! FetchXML reference. Categories and kinds are ours.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a message does, in our grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageCategory {
    /// Creates rows.
    Create,
    /// Updates rows.
    Update,
    /// Deletes rows.
    Delete,
    /// Reads one thing.
    Read,
    /// Reads many rows.
    ReadMultiple,
    /// Takes data out: to Excel, to Word.
    Export,
    /// Changes who owns or may see a row.
    Sharing,
    /// Links rows with each other, or unlinks them.
    Relationship,
    /// Changes the state of a row.
    State,
    /// Works on many rows at once: imports, bulk deletion, lists.
    Bulk,
    /// Starts or changes processes.
    Process,
    /// Runs a business operation such as closing a case.
    Business,
    /// Reads or changes table definitions.
    AdminMetadata,
    /// Changes or publishes customisations.
    AdminCustomization,
    /// Imports, exports or changes solutions.
    AdminSolution,
    /// Changes users, teams, roles and privileges.
    AdminSecurity,
    /// Changes the organisation.
    AdminOrganization,
    /// Asks who the caller is, as clients do when they sign in.
    SigninProbe,
}

/// Where a message's name is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageOrigin {
    /// A documented SDK request.
    Documented,
    /// A request that works, but that Microsoft doesn't document.
    Undocumented,
    /// A name that only the event pipeline uses; several requests may arrive under it.
    Pipeline,
}

/// One SDK request, or one name of the event pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// Name of the request, such as `WinOpportunity`.
    pub request: &'static str,
    /// The name under which the event pipeline delivers it, such as `Win`.
    pub pipeline_message: &'static str,
    /// The entity that tells it from others of the same pipeline name; empty where the name alone does.
    pub pipeline_entity: &'static str,
    /// What it does.
    pub category: MessageCategory,
    /// Whether it is one of the specification's 25 messages that are not logged.
    pub not_logged: bool,
    /// Where its name is known from.
    pub origin: MessageOrigin,
}

/// What an entity (table) of Dynamics 365 is for, in our grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntityKind {
    /// Business data.
    OutOfBox,
    /// Users, teams, roles, privileges.
    AdminSecurity,
    /// Customisations: forms, views, solutions, web resources.
    AdminCustomization,
    /// The organisation and its services.
    AdminSystem,
    /// Workflows, plug-ins, their steps and jobs.
    Process,
    /// Imports, bulk deletion and other bulk operations.
    Bulk,
}

/// The areas of the specification's "Enable Auditing in the following areas", and Security of today's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntityArea {
    /// Common Entities.
    Common,
    /// Sales Entities.
    Sales,
    /// Marketing Entities.
    Marketing,
    /// Customer Service Entities.
    CustomerService,
    /// Security Entities.
    Security,
}

/// One entity (table) that Dynamics 365 brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityInfo {
    /// Logical name, in lower case.
    pub logical_name: &'static str,
    /// The number that old interfaces use in place of the name, where known.
    pub object_type_code: Option<u32>,
    /// What it is for.
    pub kind: EntityKind,
    /// The area whose check box enables its auditing.
    pub area: Option<EntityArea>,
    /// Whether Microsoft says that its auditing can't be switched on.
    pub not_auditable: bool,
}

/// Publisher prefixes of Microsoft's own solutions: their entities are not a customer's own.
pub const FIRST_PARTY_PREFIXES: &[&str] = &[
    "adx", "li", "msdyn", "msdynce", "msdyncrm", "msdynmkt", "msdyusd", "mserp", "msevtmgt", "msfp", "msgdpr", "mspp",
];

/// Every message, in the order of its request name.
pub fn messages() -> &'static [MessageInfo] {
    &MESSAGES.rows
}

/// The SDK request that arrives under this pipeline message for this entity: `("Win", "opportunity")` is
/// `WinOpportunity`. `None` where the name is unknown, or stands for several requests and the entity doesn't say which.
pub fn request_name(message: &str, entity: &str) -> Option<&'static str> {
    let table = &*MESSAGES;
    let by_entity = table.by_pipeline_entity.get(message).and_then(|rows| {
        // "none" marks requests that are about no entity at all: nothing more exact being there, they are meant.
        let named = |wanted: &str| rows.iter().map(|&row| &table.rows[row]).find(|row| row.pipeline_entity == wanted);
        named(entity).or_else(|| named("none"))
    });
    let by_name = || table.by_request.get(message).map(|&row| &table.rows[row]);
    by_entity.or_else(by_name).filter(|row| row.origin != MessageOrigin::Pipeline).map(|row| row.request)
}

/// What is known of a message, by its request name or its pipeline name.
pub fn message(name: &str) -> Option<&'static MessageInfo> {
    MESSAGES.by_request.get(name).map(|&row| &MESSAGES.rows[row])
}

/// What a message does, by its request name or its pipeline name.
pub fn message_category(name: &str) -> Option<MessageCategory> {
    message(name).map(|message| message.category)
}

/// Every entity that Dynamics 365 brings along, in the order of the logical names.
pub fn entities() -> &'static [EntityInfo] {
    &ENTITIES.rows
}

/// What is known of an entity, by its logical name.
pub fn entity(logical_name: &str) -> Option<&'static EntityInfo> {
    ENTITIES.by_name.get(logical_name).map(|&row| &ENTITIES.rows[row])
}

/// The entity of that object type code, as exports name theirs.
pub fn entity_of_type_code(code: u32) -> Option<&'static EntityInfo> {
    ENTITIES.by_code.get(&code).map(|&row| &ENTITIES.rows[row])
}

/// The publisher prefix of a logical name: `new` of `new_invoice`. It has 2 to 8 letters and digits, begins with a
/// letter and not with `mscrm`, as the platform demands of publishers.
pub fn publisher_prefix(logical_name: &str) -> Option<&str> {
    let (prefix, rest) = logical_name.split_once('_')?;
    let valid = (2..=8).contains(&prefix.len())
        && prefix.starts_with(|first: char| first.is_ascii_alphabetic())
        && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !prefix.starts_with("mscrm")
        && !rest.is_empty();
    valid.then_some(prefix)
}

/// Whether the entity is a customer's own: its name begins with a publisher prefix that is none of `first_party`
/// (see [`FIRST_PARTY_PREFIXES`]), and Dynamics 365 doesn't bring it along. The environment itself knows better
/// (`IsCustomEntity` of its definitions); this is what a name alone can tell.
pub fn is_custom<S: AsRef<str>>(logical_name: &str, first_party: &[S]) -> bool {
    entity(logical_name).is_none()
        && publisher_prefix(logical_name).is_some_and(|prefix| first_party.iter().all(|own| own.as_ref() != prefix))
}

/// FetchXML's name of the SDK's `ConditionOperator` number: 41 is `eq-userid`. `None` for numbers that FetchXML has no
/// name for; [`operator_sdk_name`] may have one.
pub fn operator_name(value: u32) -> Option<&'static str> {
    OPERATORS.get(usize::try_from(value).ok()?).map(|row| row.1).filter(|name| !name.is_empty())
}

/// The SDK's name of the `ConditionOperator` number: 41 is `EqualUserId`.
pub fn operator_sdk_name(value: u32) -> Option<&'static str> {
    OPERATORS.get(usize::try_from(value).ok()?).map(|row| row.0)
}

struct Messages {
    rows: Vec<MessageInfo>,
    by_request: HashMap<&'static str, usize>,
    /// Rows that need an entity to be told apart, by their pipeline name.
    by_pipeline_entity: HashMap<&'static str, Vec<usize>>,
}

struct Entities {
    rows: Vec<EntityInfo>,
    by_name: HashMap<&'static str, usize>,
    by_code: HashMap<u32, usize>,
}

/// The rows of a data file below its heading, as exactly `N` cells. A row of another length is left out; a test makes
/// sure that there is none. The files hold names and numbers only, so they need no quotes.
fn rows<const N: usize>(file: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    file.lines().skip(1).filter_map(|line| line.split(',').collect::<Vec<_>>().try_into().ok())
}

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let rows: Vec<_> = rows::<6>(include_str!("../data/messages.csv")).filter_map(message_row).collect();
    let by_request = rows.iter().enumerate().map(|(place, row)| (row.request, place)).collect();
    let mut by_pipeline_entity = HashMap::<_, Vec<_>>::new();
    for (place, row) in rows.iter().enumerate().filter(|(_, row)| !row.pipeline_entity.is_empty()) {
        by_pipeline_entity.entry(row.pipeline_message).or_default().push(place);
    }
    Messages { rows, by_request, by_pipeline_entity }
});

static ENTITIES: LazyLock<Entities> = LazyLock::new(|| {
    let rows: Vec<_> = rows::<5>(include_str!("../data/entities.csv")).filter_map(entity_row).collect();
    let by_name = rows.iter().enumerate().map(|(place, row)| (row.logical_name, place)).collect();
    let by_code = rows.iter().enumerate().filter_map(|(place, row)| Some((row.object_type_code?, place))).collect();
    Entities { rows, by_name, by_code }
});

/// SDK name and FetchXML name; the place in the list is the number.
static OPERATORS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    rows::<3>(include_str!("../data/operators.csv")).map(|[_, name, fetchxml]| (name, fetchxml)).collect()
});

fn message_row(cells: [&'static str; 6]) -> Option<MessageInfo> {
    let [request, pipeline_message, pipeline_entity, category, not_logged, origin] = cells;
    let category = match category {
        "create" => MessageCategory::Create,
        "update" => MessageCategory::Update,
        "delete" => MessageCategory::Delete,
        "read" => MessageCategory::Read,
        "readmultiple" => MessageCategory::ReadMultiple,
        "export" => MessageCategory::Export,
        "sharing" => MessageCategory::Sharing,
        "relationship" => MessageCategory::Relationship,
        "state" => MessageCategory::State,
        "bulk" => MessageCategory::Bulk,
        "process" => MessageCategory::Process,
        "business" => MessageCategory::Business,
        "admin_metadata" => MessageCategory::AdminMetadata,
        "admin_customization" => MessageCategory::AdminCustomization,
        "admin_solution" => MessageCategory::AdminSolution,
        "admin_security" => MessageCategory::AdminSecurity,
        "admin_org" => MessageCategory::AdminOrganization,
        "signin_probe" => MessageCategory::SigninProbe,
        _ => return None,
    };
    let origin = match origin {
        "documented" => MessageOrigin::Documented,
        "undocumented" => MessageOrigin::Undocumented,
        "pipeline" => MessageOrigin::Pipeline,
        _ => return None,
    };
    let not_logged = not_logged == "yes";
    Some(MessageInfo { request, pipeline_message, pipeline_entity, category, not_logged, origin })
}

fn entity_row(cells: [&'static str; 5]) -> Option<EntityInfo> {
    let [logical_name, code, kind, area, not_auditable] = cells;
    let kind = match kind {
        "out-of-box" => EntityKind::OutOfBox,
        "admin-security" => EntityKind::AdminSecurity,
        "admin-customization" => EntityKind::AdminCustomization,
        "admin-system" => EntityKind::AdminSystem,
        "process" => EntityKind::Process,
        "bulk" => EntityKind::Bulk,
        _ => return None,
    };
    let area = match area {
        "" => None,
        "Common" => Some(EntityArea::Common),
        "Sales" => Some(EntityArea::Sales),
        "Marketing" => Some(EntityArea::Marketing),
        "CustomerService" => Some(EntityArea::CustomerService),
        "Security" => Some(EntityArea::Security),
        _ => return None,
    };
    let not_auditable = not_auditable == "yes";
    Some(EntityInfo { logical_name, object_type_code: code.parse().ok(), kind, area, not_auditable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(file: &str) -> usize {
        file.lines().count() - 1
    }

    #[test]
    fn every_row_of_the_data_files_is_understood_and_unique() {
        assert_eq!(messages().len(), rows_of(include_str!("../data/messages.csv")));
        assert_eq!(MESSAGES.by_request.len(), messages().len());
        assert_eq!(entities().len(), rows_of(include_str!("../data/entities.csv")));
        assert_eq!(ENTITIES.by_name.len(), entities().len());
        assert_eq!(ENTITIES.by_code.len(), entities().iter().filter(|row| row.object_type_code.is_some()).count());
        for (place, [number, _, _]) in rows::<3>(include_str!("../data/operators.csv")).enumerate() {
            assert_eq!(number, place.to_string());
        }
        assert_eq!(OPERATORS.len(), 89);
    }

    #[test]
    fn pipeline_names_become_the_request_that_was_sent() {
        for (message, entity, request) in [
            ("Win", "opportunity", "WinOpportunity"),
            ("Win", "quote", "WinQuote"),
            ("Close", "incident", "CloseIncident"),
            ("Send", "email", "SendEmail"),
            ("AddMembers", "team", "AddMembersTeam"),
            ("AddMember", "list", "AddMemberList"),
            ("Publish", "none", "PublishXml"),
            ("Publish", "account", "PublishXml"),
            ("PublishAll", "none", "PublishAllXml"),
            ("RetrieveMultiple", "account", "RetrieveMultiple"),
            ("QualifyLead", "lead", "QualifyLead"),
        ] {
            assert_eq!(request_name(message, entity), Some(request), "{message} of {entity}");
        }
        assert_eq!(request_name("Win", "account"), None);
        assert_eq!(request_name("contoso_Approve", "account"), None);
    }

    #[test]
    fn the_messages_that_are_not_logged_are_the_25_of_the_specification() {
        let not_logged: Vec<_> = messages().iter().filter(|row| row.not_logged).map(|row| row.request).collect();
        assert_eq!(not_logged.len(), 25);
        for name in ["WhoAmI", "RetrieveAttribute", "FormatAddress", "IsSupportUserRole", "RetrieveFilteredForms"] {
            assert!(not_logged.contains(&name), "{name}");
        }
        assert!(!not_logged.contains(&"Retrieve"));
    }

    #[test]
    fn entities_have_their_kind_and_area() {
        let account = entity("account").unwrap();
        assert_eq!((account.kind, account.area), (EntityKind::OutOfBox, Some(EntityArea::Common)));
        assert_eq!(entity("systemuser").unwrap().kind, EntityKind::AdminSecurity);
        assert_eq!(entity("workflow").unwrap().kind, EntityKind::Process);
        assert_eq!(entity("incident").unwrap().area, Some(EntityArea::CustomerService));
        assert_eq!(entity_of_type_code(112).unwrap().logical_name, "incident");
        assert!(entity("annotation").unwrap().not_auditable);
        assert!(entity("Account").is_none());
    }

    #[test]
    fn custom_entities_are_told_by_their_publisher_prefix() {
        for name in ["new_invoice", "shko_allfields", "co2_emission"] {
            assert!(is_custom(name, FIRST_PARTY_PREFIXES), "{name}");
        }
        for name in [
            "account",
            "msdyn_agentstatus",
            "msdyn_postalbum",
            "userquery",
            "_x",
            "9a_b",
            "toolongprefix_x",
            "a_b",
            "mscrmx_y",
            "new_",
        ] {
            assert!(!is_custom(name, FIRST_PARTY_PREFIXES), "{name}");
        }
        assert!(is_custom("msdyn_agentstatus", &["adx"]));
    }

    #[test]
    fn operators_have_fetchxml_names_where_fetchxml_knows_them() {
        assert_eq!(operator_name(0), Some("eq"));
        assert_eq!(operator_name(41), Some("eq-userid"));
        assert_eq!(operator_name(88), Some("not-contain-values"));
        assert_eq!(operator_name(45), None);
        assert_eq!(operator_sdk_name(45), Some("ChildOf"));
        assert_eq!(operator_name(89), None);
        assert_eq!(operator_name(u32::MAX), None);
    }
}
