//! Audit flags: what Dataverse itself is told to audit.
//!
//! An organisation, its entities and their columns have flags that say what is audited. [`AuditFlags`] holds them, from
//! any place that states them: [`read`] takes a solution file, the `customizations.xml` in it, or an unpacked
//! `Entity.xml`; [`EntityDefinition`] and [`OrganizationRow`] are answers of the Web API.
//!
//! Files come from anywhere. They are streamed, never unpacked to a disk, nothing in them is expanded, and whatever is
//! larger, deeper or more numerous than the constants here allow is refused with a reason.

mod metadata;
mod solution;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Read, Seek, SeekFrom};

pub use metadata::{AttributeDefinition, EntityDefinition, OrganizationRow};

/// The longest `customizations.xml` or `Entity.xml` that is read, in bytes, after decompression.
pub const MAX_XML_BYTES: u64 = 1024 * 1024 * 1024;
/// The longest single text, tag or comment in it, in bytes: as much is held in memory at once.
pub const MAX_PIECE_BYTES: u64 = 16 * 1024 * 1024;
/// How deep its elements may be nested.
pub const MAX_DEPTH: usize = 256;
/// The longest name of an element, an entity or a column, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// How many entities one file may describe.
pub const MAX_ENTITIES: usize = 20_000;
/// How many columns one file may describe, of all entities together.
pub const MAX_COLUMNS: usize = 500_000;
/// How many files a solution file may hold.
pub const MAX_ENTRIES: usize = 65_535;
/// The longest list of files at the end of a solution file, in bytes.
pub const MAX_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;
/// What the files in a solution file may claim to be long, together, in bytes. All but one of them stay unread.
pub const MAX_CLAIMED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// How many times longer a file in a solution file may be than its compressed form. XML of solutions is some 10 to 50
/// times longer.
pub const MAX_RATIO: u64 = 250;

/// What is told to be audited. A flag that is `None` is unknown: the place it was read from does not state it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFlags {
    /// Where the flags are from, for people: a file's name, an organisation's.
    pub source: String,
    /// What holds for the organisation. Solutions don't carry it.
    pub organization: OrganizationFlags,
    /// What holds for entities, by logical name.
    pub entities: BTreeMap<String, EntityFlags>,
    /// What people should know before they use these flags, a sentence each.
    pub warnings: Vec<String>,
}

/// The switches of an organisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrganizationFlags {
    /// Start Auditing: `isauditenabled`.
    pub auditing: Option<bool>,
    /// Audit user access: `isuseraccessauditenabled`.
    pub user_access: Option<bool>,
    /// Start Read Auditing: `isreadauditenabled`.
    pub read: Option<bool>,
}

/// The flags of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityFlags {
    /// Auditing: `IsAuditEnabled`.
    pub audit: ManagedFlag,
    /// Single record auditing: `IsRetrieveAuditEnabled`.
    pub retrieve: Option<bool>,
    /// Multiple record auditing: `IsRetrieveMultipleAuditEnabled`.
    pub retrieve_multiple: Option<bool>,
    /// `IsAuditEnabled` of its columns, by logical name.
    pub attributes: BTreeMap<String, ManagedFlag>,
}

/// A flag that its owner may have fixed: Dataverse's `BooleanManagedProperty`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManagedFlag {
    /// The flag.
    pub value: Option<bool>,
    /// Whether it may be changed.
    pub can_be_changed: Option<bool>,
}

/// One flag of all those that there are. Its text is for people: `account.fax: auditing`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// A switch of the organisation.
    Organization(Switch),
    /// A switch of an entity, by its logical name.
    Entity(String, Switch),
    /// Auditing of a column: the logical names of the entity and the column.
    Column(String, String),
}

/// A switch of an organisation or an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// Auditing; of an organisation, Start Auditing.
    Auditing,
    /// Audit user access, of an organisation.
    UserAccess,
    /// Start Read Auditing, of an organisation.
    Reading,
    /// Single record auditing, of an entity.
    SingleRecord,
    /// Multiple record auditing, of an entity.
    MultipleRecord,
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization(switch) => write!(f, "organization: {switch}"),
            Self::Entity(entity, switch) => write!(f, "{entity}: {switch}"),
            Self::Column(entity, column) => write!(f, "{entity}.{column}: {}", Switch::Auditing),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auditing => "auditing",
            Self::UserAccess => "user access",
            Self::Reading => "reading",
            Self::SingleRecord => "single record",
            Self::MultipleRecord => "multiple record",
        })
    }
}

impl AuditFlags {
    /// Every flag that is known.
    pub fn stated(&self) -> BTreeMap<Flag, bool> {
        let OrganizationFlags { auditing, user_access, read } = self.organization;
        let organization = [(Switch::Auditing, auditing), (Switch::UserAccess, user_access), (Switch::Reading, read)];
        let organization = organization.map(|(switch, value)| (Flag::Organization(switch), value));
        let entities = self.entities.iter().flat_map(|(name, entity)| {
            let switches = [
                (Switch::Auditing, entity.audit.value),
                (Switch::SingleRecord, entity.retrieve),
                (Switch::MultipleRecord, entity.retrieve_multiple),
            ];
            let switches = switches.map(|(switch, value)| (Flag::Entity(name.clone(), switch), value));
            let columns = entity.attributes.iter();
            let columns = columns.map(|(column, flag)| (Flag::Column(name.clone(), column.clone()), flag.value));
            switches.into_iter().chain(columns)
        });
        organization.into_iter().chain(entities).filter_map(|(flag, value)| Some((flag, value?))).collect()
    }
}

/// Why audit flags can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CustomizationsError {
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is neither a solution file nor one of its files.
    #[error(
        "this is no solution file (.zip), no customizations.xml and no unpacked Entity.xml: {0}; export the solution \
         again, or take the file out of it"
    )]
    Unknown(String),
    /// A solution file that is damaged, or that no export makes.
    #[error("the solution file is refused: {0}")]
    Archive(String),
    /// XML that is damaged, or that no export makes.
    #[error("the XML is refused at byte {position}: {reason}")]
    Xml {
        /// Bytes before the place.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
}

/// Reads a solution file, a `customizations.xml` or an unpacked `Entity.xml`; which of them it is, its first bytes
/// tell. `source` names it for people.
///
/// # Errors
/// When it is none of these, damaged, or beyond the bounds of this module. The reader may stand anywhere then.
pub fn read<R: Read + Seek>(mut file: R, source: &str) -> Result<AuditFlags, CustomizationsError> {
    let mut first = [0; 4];
    let mut filled = 0;
    while filled < first.len() {
        match file.read(&mut first[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let mut flags = AuditFlags { source: source.to_owned(), ..AuditFlags::default() };
    match first {
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => solution::read(file, &mut flags)?,
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [b'<', 0, ..] | [0, b'<', ..] => {
            return Err(CustomizationsError::Unknown("it is UTF-16; save it as UTF-8".to_owned()));
        }
        _ => {
            file.seek(SeekFrom::Start(0))?;
            xml::read(BufReader::new(file), MAX_XML_BYTES, &mut flags)?;
        }
    }
    Ok(flags)
}
