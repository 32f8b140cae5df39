//! From entries of the journal to blobs that are ready to become available.

use std::collections::{BTreeMap, HashMap};

use actlog_core::{AuditRecord, Entry, EntryKind};
use actlog_office::output::{self, OutputOptions};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::claims::{Claims, Origin};
use crate::store::{Coverage, NewBlob, Partition, Round};

/// Bytes of records, unpacked, that make a round, however young they are. Bounds memory.
const ROUND_BYTES: usize = 8 << 20;
/// Blobs that make a round: so many tenants and organisations can be in one.
const ROUND_BLOBS: usize = 1024;
/// Organisations without a tenant whose names are kept in memory.
const NAMES: usize = 1000;
/// How hard zstd tries: content is packed once, while records wait.
const LEVEL: i32 = 1;

/// A blob that is being filled: a JSON array without its end.
#[derive(Debug, Default)]
struct Open {
    json: Vec<u8>,
    records: u32,
}

/// Gathers a round.
pub(super) struct Packer {
    claims: Claims,
    options: HashMap<Uuid, OutputOptions>,
    blob_bytes: usize,
    open: BTreeMap<Partition, Open>,
    round: Round,
    /// Whether an entry of the journal was taken for this round.
    is_begun: bool,
    /// Bytes in the round so far, unpacked.
    bytes: usize,
    /// How the organisations that no tenant claims are called.
    names: HashMap<Uuid, String>,
    compressor: zstd::bulk::Compressor<'static>,
}

/// What became of entries.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// How many were taken; the others are for the next round.
    pub(super) done: usize,
    /// Entries that can't be served: their place, and why.
    pub(super) rejected: Vec<(usize, String)>,
}

impl Packer {
    /// `tenants` are those that are served; `covered` is what the rounds before this one hold.
    ///
    /// # Errors
    /// When there is no memory for the compression.
    pub(super) fn new(
        claims: Claims,
        tenants: impl IntoIterator<Item = OutputOptions>,
        blob_bytes: usize,
        covered: Coverage,
    ) -> std::io::Result<Self> {
        Ok(Self {
            claims,
            options: tenants.into_iter().map(|options| (options.tenant, options)).collect(),
            blob_bytes,
            open: BTreeMap::new(),
            round: Round { coverage: covered, ..Round::default() },
            is_begun: false,
            bytes: 0,
            names: HashMap::new(),
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
        })
    }

    /// Whether the round must be published before more is taken.
    pub(super) fn is_full(&self) -> bool {
        let blobs = self.round.blobs.len() + self.open.len() + self.round.replaced.len();
        self.bytes >= ROUND_BYTES || blobs >= ROUND_BLOBS
    }

    /// Whether the round holds anything that is to become available.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.round.replaced.is_empty()
    }

    /// How an organisation that no tenant claims is called.
    pub(super) fn name(&self, organization: Uuid) -> Option<&str> {
        self.names.get(&organization).map(String::as_str)
    }

    /// Takes entries until the round is full. A record is in one round as a whole.
    pub(super) fn take(&mut self, entries: &[Entry]) -> std::io::Result<Packed> {
        let mut packed = Packed::default();
        for entry in entries {
            if self.is_full() {
                break;
            }
            if entry.kind == EntryKind::Record {
                if !std::mem::replace(&mut self.is_begun, true) {
                    self.round.coverage.first = Some((entry.index, entry.id));
                }
                if let Err(reason) = self.add(&entry.bytes)? {
                    packed.rejected.push((packed.done, reason));
                }
                self.round.coverage.next = entry.index + 1;
            }
            packed.done += 1;
        }
        Ok(packed)
    }

    /// Takes the records of a blob that no tenant claimed when it was written: each is looked at again.
    ///
    /// # Errors
    /// When they can't be compressed.
    pub(super) fn take_unclaimed(
        &mut self,
        organization: Uuid,
        created: i64,
        records: &[&RawValue],
    ) -> std::io::Result<()> {
        for record in records {
            let bytes = record.get().as_bytes();
            if let Err(reason) = self.add(bytes)? {
                tracing::error!("a record of an organisation that was not claimed before can't be served: {reason}");
                self.push(Partition::Unclaimed(organization), bytes, 1)?;
            }
        }
        self.round.replaced.push((organization, created));
        Ok(())
    }

    /// Whether a record that no tenant claimed when it came would be in a tenant's feed now.
    ///
    /// # Errors
    /// When it is no record.
    pub(super) fn is_claimed(&mut self, organization: Uuid, record: &RawValue) -> serde_json::Result<bool> {
        let record = AuditRecord::decode_borrowed(record.get().as_bytes())?;
        let origin = Origin::of(&record);
        self.note_name(organization, &origin);
        Ok(self.claims.tenant(&origin).is_some())
    }

    fn note_name(&mut self, organization: Uuid, origin: &Origin<'_>) {
        if self.names.len() < NAMES && !self.names.contains_key(&organization) {
            self.names.insert(organization, origin.name());
        }
    }

    /// Adds a record to the blob it belongs in; the inner error is why it can't be served.
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<Result<(), String>> {
        let record = match AuditRecord::decode_borrowed(bytes) {
            Ok(record) => record,
            Err(error) => return Ok(Err(format!("not a record: {error}"))),
        };
        let origin = Origin::of(&record);
        let Some(options) = self.claims.tenant(&origin).and_then(|tenant| self.options.get(&tenant)).copied() else {
            let key = origin.key();
            self.note_name(key, &origin);
            self.push(Partition::Unclaimed(key), bytes, 1)?;
            return Ok(Ok(()));
        };
        let partition = Partition::Tenant(options.tenant, output::content_type(&record));
        let mut pushed = Ok(());
        let mut records = 1;
        // A record that can't be divided is refused before its first part.
        let mapped = output::to_office(&record, &options, &mut |_, part| {
            if pushed.is_ok() {
                pushed = self.push(partition, part, std::mem::take(&mut records));
            }
        });
        pushed?;
        Ok(mapped.map_err(|error| format!("record {}: {error}", record.id)))
    }

    /// Appends a JSON object to the open blob of a partition, or to a new one where it has no room.
    fn push(&mut self, partition: Partition, json: &[u8], records: u32) -> std::io::Result<()> {
        let open = self.open.entry(partition).or_default();
        if !open.json.is_empty() && open.json.len() + json.len() + 2 > self.blob_bytes {
            let full = std::mem::take(open);
            let blob = pack(&mut self.compressor, partition, full)?;
            self.round.blobs.push(blob);
        }
        let open = self.open.entry(partition).or_default();
        open.json.push(if open.json.is_empty() { b'[' } else { b',' });
        open.json.extend_from_slice(json);
        open.records += records;
        self.bytes += json.len() + 1;
        Ok(())
    }

    /// Everything gathered so far; it stays until [`Packer::published`].
    pub(super) fn round(&mut self) -> std::io::Result<&Round> {
        while let Some((partition, open)) = self.open.pop_first() {
            self.round.blobs.push(pack(&mut self.compressor, partition, open)?);
        }
        Ok(&self.round)
    }

    /// The round has become available: begins the next one.
    pub(super) fn published(&mut self) {
        self.round = Round { coverage: self.round.coverage, ..Round::default() };
        self.bytes = 0;
        self.is_begun = false;
    }
}

fn pack(compressor: &mut zstd::bulk::Compressor<'_>, partition: Partition, mut open: Open) -> std::io::Result<NewBlob> {
    open.json.push(b']');
    let raw = u32::try_from(open.json.len()).map_err(std::io::Error::other)?;
    Ok(NewBlob { partition, records: open.records, raw, packed: compressor.compress(&open.json)? })
}
