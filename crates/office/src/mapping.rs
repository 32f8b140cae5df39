//! From one record of the feed to one audit record.
//!
//! Each member goes to the key of its name when the key holds its value exactly, and else is kept under Extra as it
//! came. Keys are only filled from other members where the record's own says nothing, or says less
//! (`CrmDefaultActivity`). The rules, member by member, are in `docs/office-records.md`.

use std::borrow::Cow;

use actlog_core::{AuditRecord, Extra, Json, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use serde_json::value::RawValue;
use uuid::{Uuid, uuid};

use crate::json::{self, Members};
use crate::products::{Derived, admin_center, dynamics, sign_in};
use crate::record_types::{ENTRA, ENTRA_SIGN_IN, POWER_PLATFORM_ADMINISTRATION, record_type_name};
use crate::split;
use crate::values;

/// Bytes of the longest record that is read. Office itself limits most products' records to 3 KB.
pub const MAX_RECORD: usize = 4 << 20;

/// Members of one record that are looked at one by one.
const MAX_MEMBERS: usize = 256;
/// Namespace of the Ids of records whose own Id is no GUID. Changing it would make every such event a new one.
const NAMESPACE: Uuid = uuid!("6f1c4a52-0d3b-5b7e-8a39-4f1de2c96b08");
/// What stands where nothing tells it, as in Microsoft's own records.
pub(crate) const UNKNOWN: &str = "Unknown";

/// What is known of a record beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The content type that it came under, one of [`CONTENT_TYPES`](crate::CONTENT_TYPES).
    pub content_type: Option<&'a str>,
    /// When it was received. It stands for the event's time where the record has none.
    pub received: Timestamp,
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfficeError {
    /// Longer than [`MAX_RECORD`].
    #[error("the record has {bytes} bytes, more than the {MAX_RECORD} that are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object in UTF-8.
    #[error("it is not a record: {reason}")]
    NotARecord {
        /// What is wrong, and where.
        reason: String,
    },
}

macro_rules! members {
    ($($member:ident),* $(,)?) => {
        /// The members that have keys of their own in the audit record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Member { $($member),* }

        impl Member {
            const ALL: &[(&str, Self)] = &[$((stringify!($member), Self::$member)),*];
        }
    };
}
members! {
    Id, RecordType, Version, Workload, CreationTime, Operation, OrganizationId, UserId, UserKey, UserType, ClientIP,
    ResultStatus, CorrelationId, ItemType, UserAgent, ObjectId,
    // Those of Dynamics 365 alone.
    Message, CrmOrganizationUniqueName, UserUpn, SystemUserId, InstanceUrl, ItemUrl, EntityId, EntityName, Fields,
    Query, QueryResults, LinkedResults, ServiceName, ServiceContextId, ServiceContextIdType, PrimaryFieldValue, AppName,
}

impl Member {
    /// The member's name as Office spells it.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// The member of that name, in any case of letters.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, member)| *member)
    }

    /// The members that every product's records are read for.
    pub(crate) fn common() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|(_, member)| *member).take(Self::ObjectId as usize + 1)
    }
}

/// Maps one record in JSON to its audit record, which borrows from the bytes what it can. The policy's keys and Source
/// are left to the emitter.
///
/// # Errors
/// When the bytes are no JSON object in UTF-8, or are too many.
pub fn from_office<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<AuditRecord<'a>, OfficeError> {
    if raw.len() > MAX_RECORD {
        return Err(OfficeError::TooLarge { bytes: raw.len() });
    }
    let raw = raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(raw).trim_ascii();
    let json = std::str::from_utf8(raw).map_err(|error| OfficeError::NotARecord {
        reason: format!("it is not UTF-8 at byte {}", error.valid_up_to()),
    })?;
    let Members(members) =
        serde_json::from_str(json).map_err(|error| OfficeError::NotARecord { reason: error.to_string() })?;
    let mut reader = Reader::new(members);
    let mut record = AuditRecord {
        id: reader.id(json),
        record_type: reader.integer(Member::RecordType).unwrap_or_default(),
        version: reader.integer(Member::Version).unwrap_or(1),
        creation_time: reader.time(Member::CreationTime).unwrap_or(envelope.received),
        organization_id: reader.guid(Member::OrganizationId),
        user_id: reader.text(Member::UserId),
        user_key: reader.text(Member::UserKey),
        user_type: reader.integer(Member::UserType),
        result_status: reader.text(Member::ResultStatus),
        correlation_id: reader.guid(Member::CorrelationId),
        item_type: reader.text(Member::ItemType),
        user_agent: reader.text(Member::UserAgent),
        object_id: reader.text(Member::ObjectId),
        content_type: envelope.content_type.map(Cow::Borrowed),
        collected_time: Some(envelope.received),
        ..AuditRecord::default()
    };
    values::set_address(&mut record, reader.text(Member::ClientIP));
    record.workload = reader.text(Member::Workload).unwrap_or_else(|| workload_of(record.record_type).into());
    let operation = reader.text(Member::Operation);
    let mut derived = Derived::default();
    let operation = match record.record_type {
        RECORD_TYPE_CRM => dynamics(&mut record, &mut reader, operation, &mut derived),
        POWER_PLATFORM_ADMINISTRATION => admin_center(&mut record, &reader, operation, &mut derived),
        ENTRA | ENTRA_SIGN_IN => sign_in(&mut record, &reader, operation, &mut derived),
        _ => operation,
    };
    record.operation = operation.unwrap_or(Cow::Borrowed(UNKNOWN));
    // Parts of one record are put together by member, so that they are taken apart whatever their type.
    let is_part = reader.other(split::NUMBERING.1).is_some();
    record.extra = reader.into_extra(json, is_part || record_type_name(record.record_type).is_some());
    derived.add_to(&mut record.extra);
    Ok(record)
}

/// The product where the record doesn't name it.
fn workload_of(record_type: i32) -> &'static str {
    match record_type {
        RECORD_TYPE_CRM => WORKLOAD_CRM,
        ENTRA | ENTRA_SIGN_IN => "AzureActiveDirectory",
        _ => UNKNOWN,
    }
}

/// The members of one record: each is read into the key that holds it, or left for Extra.
pub(crate) struct Reader<'a> {
    /// By [`Member`]; each is taken out when it is read.
    known: [Option<&'a RawValue>; Member::ALL.len()],
    left: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Whether the record can't be taken apart and put together again.
    is_odd: bool,
}

impl<'a> Reader<'a> {
    fn new(members: Vec<(Cow<'a, str>, &'a RawValue)>) -> Self {
        let mut reader =
            Self { known: [None; Member::ALL.len()], left: Vec::with_capacity(members.len()), is_odd: false };
        for (name, value) in members {
            match Member::of(&name).map(|member| &mut reader.known[member as usize]) {
                Some(empty @ None) => *empty = Some(value),
                Some(Some(_)) => reader.is_odd = true,
                None if reader.left.len() == MAX_MEMBERS => reader.is_odd = true,
                None => {
                    reader.is_odd |= Derived::OWN.contains(&name.as_ref());
                    reader.left.push((name, value));
                }
            }
        }
        reader
    }

    /// What `read` makes of a member; what it does not hold exactly is left as well.
    fn take<T>(&mut self, member: Member, read: impl FnOnce(&'a RawValue) -> Option<(T, bool)>) -> Option<T> {
        let value = self.known[member as usize].take()?;
        let (read, is_exact) = read(value).map_or((None, false), |(read, is_exact)| (Some(read), is_exact));
        if !is_exact {
            self.left.push((Cow::Borrowed(member.name()), value));
        }
        read
    }

    /// A text that says something.
    pub(crate) fn text(&mut self, member: Member) -> Option<Cow<'a, str>> {
        self.take(member, |value| json::text(value).filter(|text| !text.is_empty()).map(|text| (text, true)))
    }

    pub(crate) fn guid(&mut self, member: Member) -> Option<Uuid> {
        self.take(member, |value| json::guid(value).map(|id| (id, true)))
    }

    fn integer(&mut self, member: Member) -> Option<i32> {
        self.take(member, |value| json::integer(value).map(|number| (number, true)))
    }

    fn time(&mut self, member: Member) -> Option<Timestamp> {
        self.take(member, |value| values::time(&json::text(value)?))
    }

    pub(crate) fn list<T>(&mut self, member: Member, read: impl FnOnce(&'a RawValue) -> (Vec<T>, bool)) -> Vec<T> {
        self.take(member, |value| Some(read(value))).unwrap_or_default()
    }

    /// A member that has no key of its own.
    pub(crate) fn other(&self, name: &str) -> Option<&'a RawValue> {
        self.left.iter().find(|(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The native Id, or a UUIDv5. To be read first: without an Id the others identify the record.
    fn id(&mut self, json: &str) -> Uuid {
        let native = self.known[Member::Id as usize];
        if let Some(id) = self.guid(Member::Id) {
            return id;
        }
        let name = match native.filter(|native| !json::says_nothing(native.get())) {
            Some(native) => {
                let organization = self.known[Member::OrganizationId as usize].map_or("", RawValue::get);
                // Zero bytes don't occur in JSON, so that no two lists of parts give the same name.
                format!("{organization}\0{native}")
            }
            None if self.is_odd => json.to_owned(),
            // In an order of our own, since the order of members differs from one delivery to the next.
            None => {
                let known =
                    Member::ALL.iter().filter_map(|(name, member)| Some((*name, self.known[*member as usize]?)));
                let mut all: Vec<_> =
                    self.left.iter().map(|(name, value)| (name.as_ref(), *value)).chain(known).collect();
                all.sort_by_key(|(name, value)| (*name, value.get()));
                all.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect()
            }
        };
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }

    /// All that is left, member by member; or the whole record as `Raw`, where its type is not known or it is odd.
    fn into_extra(mut self, json: &'a str, is_known_type: bool) -> Extra<'a> {
        let remaining =
            Member::ALL.iter().filter_map(|(name, member)| Some((Cow::Borrowed(*name), self.known[*member as usize]?)));
        self.left.extend(remaining);
        let mut members = Extra::default();
        let mut is_odd = self.is_odd;
        for (name, value) in self.left {
            is_odd = is_odd || !json::is_readable(value.get()) || members.get(&name).is_some();
            members.insert(name, Json::raw(value));
        }
        if !is_odd && is_known_type {
            return members;
        }
        // The members could be read, so the whole can.
        let whole = serde_json::from_str(json).ok().filter(|_| !is_odd).map(Json::raw);
        let mut extra = Extra::default();
        extra.insert("Raw", whole.unwrap_or_else(|| Json::from(json)));
        extra
    }
}
