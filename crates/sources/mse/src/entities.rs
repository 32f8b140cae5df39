//! The entities and their actions: the specification's table "Microsoft Social Engagement logging".

/// An entity of Social Engagement.
#[derive(Debug, PartialEq, Eq)]
pub struct Entity {
    /// As the specification prints it; `ItemType` of records.
    pub name: &'static str,
    /// In one word; `EntityName` of records.
    pub compact: &'static str,
    /// What is logged.
    pub actions: &'static [Action],
}

/// An action on an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// As the specification prints it; `Message` of records.
    pub name: &'static str,
    /// In one word; `Operation` of records.
    pub compact: &'static str,
    /// `Category` of records.
    pub category: &'static str,
}

const fn action(name: &'static str, compact: &'static str, category: &'static str) -> Action {
    Action { name, compact, category }
}

const fn entity(name: &'static str, compact: &'static str, actions: &'static [Action]) -> Entity {
    Entity { name, compact, actions }
}

const CREATE: Action = action("Create", "Create", "Create");
const ADD: Action = action("Add", "Add", "Create");
const ADD_GDPR: Action = action("Add (GDPR)", "AddGDPR", "Create");
const SEND: Action = action("Send", "Send", "Create");
const UPDATE: Action = action("Update", "Update", "Update");
const RENAME: Action = action("Rename", "Rename", "Update");
const REAUTHENTICATE: Action = action("Reauthenticate", "Reauthenticate", "Update");
const REFRESH: Action = action("Refresh", "Refresh", "Update");
const RESET: Action = action("Reset", "Reset", "Update");
const INTERNAL: Action = action("Internal Action", "InternalAction", "Update");
const EXTERNAL: Action = action("External Action", "ExternalAction", "Other");
const E_MAIL: Action = action("E-mail", "Email", "Other");
const ENABLE: Action = action("Enable", "Enable", "State");
const DISABLE: Action = action("Disable", "Disable", "State");
const EDIT_ROLE: Action = action("Edit Role", "EditRole", "AdminSecurity");
const DELETE: Action = action("Delete", "Delete", "Delete");
const DELETE_GDPR: Action = action("Delete (GDPR)", "DeleteGDPR", "Delete");

/// All entities, in the specification's order. It prints "Internal & External Actions" of acquired posts, which are two.
pub const ENTITIES: [Entity; 24] = [
    entity("Search Topic Category", "SearchTopicCategory", &[CREATE, RENAME, DELETE]),
    entity("Search Topic", "SearchTopic", &[CREATE, UPDATE, DELETE]),
    entity("Custom Source", "CustomSource", &[CREATE, UPDATE, DELETE]),
    entity("Blocked Keyword", "BlockedKeyword", &[ADD, DELETE]),
    entity("Blocked Domain", "BlockedDomain", &[ADD, DELETE]),
    entity("Stream", "Stream", &[CREATE, UPDATE, DELETE]),
    entity("Post (acquired)", "PostAcquired", &[INTERNAL, EXTERNAL]),
    entity("Post (published)", "PostPublished", &[SEND]),
    entity("Author", "Author", &[ADD_GDPR, DELETE_GDPR, DELETE]),
    entity("Activity Map", "ActivityMap", &[CREATE, UPDATE, DELETE]),
    entity("Alert", "Alert", &[CREATE, UPDATE, DELETE]),
    entity("Preference", "Preference", &[UPDATE]),
    entity("Social Profile", "SocialProfile", &[CREATE, UPDATE, REAUTHENTICATE, DELETE]),
    entity("User", "User", &[EDIT_ROLE, E_MAIL]),
    entity("Azure Event Hubs", "AzureEventHubs", &[CREATE, UPDATE, DELETE]),
    entity("Dynamics 365", "Dynamics365", &[CREATE, UPDATE, REFRESH, DELETE]),
    entity("Allowed Domain", "AllowedDomain", &[ADD, DELETE]),
    entity("Automation Rule", "AutomationRule", &[CREATE, UPDATE, DELETE]),
    entity("AR Notification", "ARNotification", &[ENABLE, DISABLE]),
    entity("Tag", "Tag", &[ADD, UPDATE, DELETE]),
    entity("Label", "Label", &[ADD, UPDATE, DELETE]),
    entity("Search Language", "SearchLanguage", &[ADD, DELETE]),
    entity("Adaptive Sentiment", "AdaptiveSentiment", &[ENABLE, DISABLE, RESET]),
    entity("Other Global Settings", "OtherGlobalSettings", &[UPDATE]),
];

/// The entity and the action of these names.
///
/// # Errors
/// Which of the two is unknown, and what is allowed instead, the nearest first.
pub(crate) fn find(entity: &str, action: &str) -> Result<(&'static Entity, &'static Action), String> {
    let found = ENTITIES.iter().find(|known| is_same(known.compact, entity)).ok_or_else(|| {
        let allowed = nearest_first(entity, ENTITIES.iter().map(|known| known.name));
        format!("{} is no entity of Social Engagement; there are: {allowed}", quoted(entity))
    })?;
    let action = found.actions.iter().find(|known| is_same(known.compact, action)).ok_or_else(|| {
        let allowed = nearest_first(action, found.actions.iter().map(|known| known.name));
        format!("{} is no action on {}; there are: {allowed}", quoted(action), found.name)
    })?;
    Ok((found, action))
}

/// Whether a name is this one: spaces, punctuation and case don't count.
fn is_same(compact: &str, name: &str) -> bool {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
    // What is not ASCII is in none of the names.
    name.is_ascii()
        && letters.map(|byte| byte.to_ascii_lowercase()).eq(compact.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// Characters of an unknown name that are looked at and repeated.
const SHOWN: usize = 64;

fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(SHOWN).collect();
    format!("{shown:?}{}", if shown.len() < name.len() { "…" } else { "" })
}

fn nearest_first(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let name: String = name.chars().take(SHOWN).collect::<String>().to_ascii_lowercase();
    let mut known: Vec<_> = known.collect();
    // The sort is stable: what is equally far keeps the specification's order.
    known.sort_by_cached_key(|known| strsim::damerau_levenshtein(&name, &known.to_ascii_lowercase()));
    known.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_printed_and_as_one_word_in_any_case() {
        for (entity, action, expected) in [
            ("Search Topic", "Create", ("SearchTopic", "Create")),
            ("searchtopic", "CREATE", ("SearchTopic", "Create")),
            ("Post (acquired)", "External Action", ("PostAcquired", "ExternalAction")),
            ("post_acquired", "internalaction", ("PostAcquired", "InternalAction")),
            ("AUTHOR", "Add (GDPR)", ("Author", "AddGDPR")),
            ("User", "E-mail", ("User", "Email")),
        ] {
            let (entity, action) = find(entity, action).unwrap();
            assert_eq!((entity.compact, action.compact), expected);
        }
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_allowed_the_nearest_first() {
        let error = find("Serch Topic", "Create").unwrap_err();
        assert!(
            error.starts_with("\"Serch Topic\" is no entity of Social Engagement; there are: Search Topic, "),
            "{error}"
        );
        assert!(ENTITIES.iter().all(|entity| error.contains(entity.name)), "{error}");
        let error = find("Author", "Delete (GDRP)").unwrap_err();
        assert!(error.ends_with("is no action on Author; there are: Delete (GDPR), Add (GDPR), Delete"), "{error}");
        assert!(find("Topic", "Create").is_err() && find("", "").is_err() && find("Ställe", "Create").is_err());
        let long = find(&"é".repeat(1 << 20), "Create").unwrap_err();
        assert!(long.len() < 1000, "{}", long.len());
    }
}
