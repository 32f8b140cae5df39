//! The areas: groups of entities whose auditing one switch turns on or off, and the 25 messages that are not logged.

use crate::document::AreaSwitches;

/// The groups of Microsoft's page on managing Dataverse auditing ("Enable Auditing in the following areas", and
/// Security of the newer page).
const COMMON: &[&str] = &[
    "systemuser",
    "role",
    "report",
    "goalrollupquery",
    "metric",
    "goal",
    "bulkoperation",
    "list",
    "salesliterature",
    "product",
    "lead",
    "contact",
    "account",
    "activitypointer",
];
const SALES: &[&str] = &[
    "opportunitysalesprocess",
    "leadtoopportunitysalesprocess",
    "invoice",
    "salesorder",
    "quote",
    "competitor",
    "opportunity",
];
const MARKETING: &[&str] = &["campaign"];
const CUSTOMER_SERVICE: &[&str] = &[
    "translationprocess",
    "expiredprocess",
    "newprocess",
    "phonetocaseprocess",
    "service",
    "contract",
    "kbarticle",
    "knowledgearticle",
    "queueitem",
    "incident",
    "socialprofile",
];
const SECURITY: &[&str] =
    &["solution", "entity", "team", "position", "organization", "fieldsecurityprofile", "businessunit"];

/// Entities that are in an area.
pub(crate) const AREA_ENTITIES: usize =
    COMMON.len() + SALES.len() + MARKETING.len() + CUSTOMER_SERVICE.len() + SECURITY.len();

impl AreaSwitches {
    /// Every area that is switched on or off here, with the entities it covers. No entity is in two areas.
    pub(crate) fn switched(&self) -> impl Iterator<Item = (bool, &'static [&'static str])> {
        [
            (self.common, COMMON),
            (self.sales, SALES),
            (self.marketing, MARKETING),
            (self.customer_service, CUSTOMER_SERVICE),
            (self.security, SECURITY),
        ]
        .into_iter()
        .filter_map(|(switch, entities)| Some((switch?, entities)))
    }
}

/// The messages that the specification does not log, in its order and spelling.
pub(crate) const NOT_LOGGED: [&str; 25] = [
    "WhoAmI",
    "RetrieveFilteredForms",
    "TriggerServiceEndpointCheck",
    "QueryExpressionToFetchXml",
    "FetchXmlToQueryExpression",
    "FireNotificationEvent",
    "RetrieveMetadataChanges",
    "RetrieveEntityChanges",
    "RetrieveProvisionedLanguagePackVersion",
    "RetrieveInstalledLanguagePackVersion",
    "RetrieveProvisionedLanguages",
    "RetrieveAvailableLanguages",
    "RetrieveDeprovisionedLanguages",
    "RetrieveInstalledLanguagePacks",
    "GetAllTimeZonesWithDisplayName",
    "GetTimeZoneCodeByLocalizedName",
    "IsReportingDataConnectorInstalled",
    "LocalTimeFromUtcTime",
    "IsBackOfficeInstalled",
    "FormatAddress",
    "IsSupportUserRole",
    "IsComponentCustomizable",
    "ConfigureReportingDataConnector",
    "CheckClientCompatibility",
    "RetrieveAttribute",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_entity_is_in_two_areas_and_each_is_known() {
        let areas = [COMMON, SALES, MARKETING, CUSTOMER_SERVICE, SECURITY];
        let all: Vec<_> = areas.into_iter().flatten().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for name in all {
            assert!(actlog_dataverse::tables::entity(name).is_some_and(|entity| entity.area.is_some()), "{name}");
        }
    }

    #[test]
    fn the_25_are_those_of_the_message_table() {
        let table: HashSet<_> =
            actlog_dataverse::tables::messages().iter().filter(|row| row.not_logged).map(|row| row.request).collect();
        assert_eq!(table, HashSet::from(NOT_LOGGED));
    }
}
