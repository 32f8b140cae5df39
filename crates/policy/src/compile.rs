//! From the policy as a person writes it to the policy at work.

use std::collections::{HashMap, HashSet};

use actlog_dataverse::tables;
use uuid::Uuid;

use crate::areas::{AREA_ENTITIES, NOT_LOGGED};
use crate::document::{EntitySettings, PolicyDocument, Values};
use crate::policy::{EntityPolicy, NameBuffer, Policy, Settings};
use crate::redact::{ColumnValues, ValueHasher};
use crate::rules::CompiledRule;

/// Why a policy can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is too large.
    #[error("the policy has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The text is no TOML, or has an unknown key or a value of a wrong type. The source's text shows the line and what
    /// is allowed there.
    #[error("policy key `{key}`: {error}")]
    Document {
        /// The key's path; `.` for the document as a whole.
        key: String,
        /// What is wrong.
        error: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("policy key `{key}`: {reason}")]
    Invalid {
        /// The key's path.
        key: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Values are to be hashed, but the host has no key.
    #[error(
        "policy key `{key}`: values are to be hashed, but no hash key is configured; configure one, or use \"omit\""
    )]
    HashKeyMissing {
        /// The first key that asks for hashes.
        key: String,
    },
    /// The host's hash key is too short.
    #[error("the hash key has {bytes} bytes; it needs at least {minimum}")]
    HashKeyTooShort {
        /// Its length.
        bytes: usize,
        /// The shortest allowed.
        minimum: usize,
    },
}

impl PolicyError {
    pub(crate) fn invalid(key: String, reason: String) -> Self {
        Self::Invalid { key, reason }
    }
}

impl Policy {
    /// Makes a policy ready for use. `version` is the number that records will carry; `hash_key` the secret for
    /// `values = "hash"`, at least 16 random bytes.
    ///
    /// # Errors
    /// When a name or a pattern makes no sense, or values are to be hashed without a key.
    pub fn compile(document: &PolicyDocument, version: u64, hash_key: Option<&[u8]>) -> Result<Self, PolicyError> {
        let too_short =
            |key: &[u8]| PolicyError::HashKeyTooShort { bytes: key.len(), minimum: ValueHasher::MIN_KEY_BYTES };
        check_size(document)?;
        let hasher = hash_key.map(|key| ValueHasher::new(key).ok_or_else(|| too_short(key))).transpose()?;
        let mut policy = Self {
            version,
            warnings: Vec::new(),
            default: settings(document, "")?,
            organizations: Vec::new(),
            organizations_by_id: HashMap::new(),
            organizations_by_name: HashMap::new(),
            hasher,
        };
        check_names(document, "", &mut policy.warnings)?;
        for (name, over) in &document.organizations {
            let path = format!("organizations.{name}.");
            if !over.organizations.is_empty() {
                let reason = "an organisation can't hold organisations; move them to the top".to_owned();
                return Err(PolicyError::invalid(format!("{path}organizations"), reason));
            }
            check_names(over, &path, &mut policy.warnings)?;
            let place = policy.organizations.len();
            policy.organizations.push(settings(&document.overridden_by(over), &path)?);
            let known = match Uuid::try_parse(name) {
                Ok(id) => policy.organizations_by_id.insert(id, place),
                Err(_) => policy.organizations_by_name.insert(name.to_ascii_lowercase(), place),
            };
            if known.is_some() || name.is_empty() || name.len() > NameBuffer::LENGTH {
                let reason = "an organisation's id or unique name, once, is expected here".to_owned();
                return Err(PolicyError::invalid(format!("organizations.{name}"), reason));
            }
        }
        match hash_asked_for(document) {
            Some(key) if policy.hasher.is_none() => Err(PolicyError::HashKeyMissing { key }),
            _ => Ok(policy),
        }
    }
}

/// Entities and columns that a policy may have in all once it is resolved: each organisation has the top's entities and
/// each entity the columns of all entities, so that a small text could ask for very much memory.
const MAX_RESOLVED: usize = 1_000_000;

fn check_size(document: &PolicyDocument) -> Result<(), PolicyError> {
    let columns_of =
        |settings: &EntitySettings| settings.columns.len() + settings.unaudited_columns.iter().flatten().count();
    // Entities, columns that each of them inherits, and all else.
    let counts = |one: &PolicyDocument| {
        let own: usize = one.entities.values().map(columns_of).sum();
        let rest = own + one.messages.add.len() + one.messages.remove.len() + one.rules.len();
        (one.entities.len(), columns_of(&one.all_entities), rest)
    };
    let top = counts(document);
    let resolved = [(0, 0, 0)].into_iter().chain(document.organizations.values().map(counts)).map(|over| {
        let (entities, columns) = (top.0 + over.0 + AREA_ENTITIES, 1 + top.1 + over.1);
        entities.saturating_mul(columns).saturating_add(top.2 + over.2)
    });
    if resolved.fold(0, usize::saturating_add) <= MAX_RESOLVED {
        return Ok(());
    }
    let reason = format!("entities, their columns and organisations multiply to more than {MAX_RESOLVED} settings");
    Err(PolicyError::invalid(".".to_owned(), reason))
}

/// Resolves what a document says. `path` begins the key paths in errors.
fn settings(document: &PolicyDocument, path: &str) -> Result<Settings, PolicyError> {
    let rules = document.rules.iter().enumerate();
    let rules = rules.map(|(place, rule)| CompiledRule::new(rule, &format!("{path}rules[{place}]")));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let mut labels = HashSet::new();
    if let Some(twice) = rules.iter().find(|rule| !labels.insert(rule.label.as_str())) {
        return Err(PolicyError::invalid(
            format!("{path}rules"),
            format!("two rules have the name of {}", twice.label),
        ));
    }
    let mut not_logged: HashMap<_, _> = NOT_LOGGED.iter().map(|name| message_entry(name)).collect();
    for name in &document.messages.remove {
        not_logged.remove(&name.to_ascii_lowercase());
    }
    not_logged.extend(document.messages.add.iter().map(|name| message_entry(name)));

    let base = &document.all_entities;
    let all_entities = entity_policy(base, None, &EntitySettings::default());
    let mut entities = HashMap::new();
    for (switch, names) in document.areas.switched() {
        for name in names {
            let own = document.entities.get(*name).cloned().unwrap_or_default();
            entities.insert((*name).to_owned(), entity_policy(base, Some(switch), &own));
        }
    }
    for (name, own) in &document.entities {
        entities.entry(name.clone()).or_insert_with(|| entity_policy(base, None, own));
    }
    let anywhere = ColumnValues::strictest_of(entities.values().chain([&all_entities]).map(|entity| &entity.values));
    let hides_columns = entities.values().chain([&all_entities]).any(|entity| !entity.unaudited_columns.is_empty());
    let default_prefixes = || tables::FIRST_PARTY_PREFIXES.iter().map(|prefix| (*prefix).to_owned()).collect();
    Ok(Settings {
        start_auditing: document.audits(),
        audit_user_access: document.audit_user_access.unwrap_or(true),
        start_read_auditing: document.start_read_auditing.unwrap_or(true),
        activities: document.activities.unwrap_or_default(),
        first_party_prefixes: document.first_party_prefixes.clone().unwrap_or_else(default_prefixes),
        all_entities,
        entities,
        not_logged,
        rules,
        changes_records: hides_columns || anywhere.strictest() != Values::Keep,
        anywhere,
    })
}

fn message_entry(name: &str) -> (String, String) {
    (name.to_ascii_lowercase(), format!("message:{name}"))
}

/// The entity's own settings first, then its area's switch, then those of all entities.
fn entity_policy(all: &EntitySettings, area: Option<bool>, own: &EntitySettings) -> EntityPolicy {
    let columns = all.columns.iter().chain(&own.columns).map(|(name, values)| (name.clone(), *values)).collect();
    let unaudited_columns = [all, own].into_iter().filter_map(|settings| settings.unaudited_columns.as_ref()).flatten();
    EntityPolicy {
        auditing: own.auditing.or(area).or(all.auditing).unwrap_or(true),
        single_record: own.single_record.or(all.single_record).unwrap_or(true),
        multiple_record: own.multiple_record.or(all.multiple_record).unwrap_or(true),
        unaudited_columns: unaudited_columns.cloned().collect(),
        values: ColumnValues { columns, others: own.values.or(all.values).unwrap_or_default() },
    }
}

/// What a document says of one entity, which has no `organizations` any more.
pub(crate) fn entity_policy_of(document: &PolicyDocument, entity: &str) -> EntityPolicy {
    let area = document.areas.switched().find(|(_, names)| names.contains(&entity)).map(|(switch, _)| switch);
    let own = document.entities.get(entity).cloned().unwrap_or_default();
    entity_policy(&document.all_entities, area, &own)
}

/// The path of the first key that asks for hashes.
fn hash_asked_for(document: &PolicyDocument) -> Option<String> {
    let of_entity = |path: String, settings: &EntitySettings| {
        if settings.values == Some(Values::Hash) {
            return Some(format!("{path}.values"));
        }
        let column = settings.columns.iter().find(|(_, values)| **values == Values::Hash);
        column.map(|(name, _)| format!("{path}.columns.{name}"))
    };
    let of_entities = || document.entities.iter().find_map(|(name, own)| of_entity(format!("entities.{name}"), own));
    let of_organization = |(name, over): (&String, &PolicyDocument)| {
        hash_asked_for(over).map(|key| format!("organizations.{name}.{key}"))
    };
    of_entity("all_entities".to_owned(), &document.all_entities)
        .or_else(of_entities)
        .or_else(|| document.organizations.iter().find_map(of_organization))
}

/// Refuses names that nothing can have, and warns of those that nothing known has.
fn check_names(document: &PolicyDocument, path: &str, warnings: &mut Vec<String>) -> Result<(), PolicyError> {
    for (name, own) in &document.entities {
        let key = format!("{path}entities.{name}");
        check_logical_name(&key, name)?;
        check_columns(&key, own)?;
        if tables::entity(name).is_none() && tables::publisher_prefix(name).is_none() {
            let nearest = nearest(name, tables::entities().iter().map(|entity| entity.logical_name));
            warnings.push(format!("{key}: no entity of that name is known{nearest}"));
        }
    }
    check_columns(&format!("{path}all_entities"), &document.all_entities)?;

    let messages = || tables::messages().iter().flat_map(|row| [row.request, row.pipeline_message]).chain(NOT_LOGGED);
    for name in document.messages.add.iter().chain(&document.messages.remove) {
        if name.is_empty() || name.len() > NameBuffer::LENGTH {
            let reason = format!("{name:?} is no name of a message: 1 to {} bytes", NameBuffer::LENGTH);
            return Err(PolicyError::invalid(format!("{path}messages"), reason));
        }
    }
    for name in &document.messages.add {
        // A custom message has its publisher's prefix.
        if !messages().any(|known| known.eq_ignore_ascii_case(name)) && tables::publisher_prefix(name).is_none() {
            warnings.push(format!("{path}messages.add: no message {name} is known{}", nearest(name, messages())));
        }
    }
    // An organisation may remove what the default added, so only the top's list can be checked against the 25.
    let removed = document.messages.remove.iter().filter(|_| path.is_empty());
    for name in removed.filter(|name| !NOT_LOGGED.iter().any(|listed| listed.eq_ignore_ascii_case(name))) {
        let nearest = nearest(name, NOT_LOGGED.into_iter());
        warnings.push(format!("{path}messages.remove: {name} is none of the messages that are not logged{nearest}"));
    }
    Ok(())
}

fn check_columns(key: &str, settings: &EntitySettings) -> Result<(), PolicyError> {
    for name in settings.unaudited_columns.iter().flatten() {
        check_logical_name(&format!("{key}.unaudited_columns"), name)?;
    }
    settings.columns.keys().try_for_each(|name| check_logical_name(&format!("{key}.columns.{name}"), name))
}

/// Logical names are in lower case; another spelling would never match.
fn check_logical_name(key: &str, name: &str) -> Result<(), PolicyError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.len() <= NameBuffer::LENGTH && name.bytes().all(fits) {
        return Ok(());
    }
    let reason = format!("{name:?} is no logical name: those have lower-case letters, digits and '_' only");
    Err(PolicyError::invalid(key.to_owned(), reason))
}

/// "; did you mean NAME?" where a known name is near, else nothing.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let name = name.to_ascii_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&name, &known.to_ascii_lowercase());
    let near =
        known.map(|known| (distance(known), known)).min().filter(|(distance, _)| *distance <= 2 + name.len() / 8);
    near.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
}
