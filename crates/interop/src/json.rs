//! Writing JSON straight into bytes.

use actlog_core::{AuditRecord, Timestamp};
use serde::Serialize;
use uuid::Uuid;

/// An object that is being written; [`write`] begins and ends it.
#[derive(Debug)]
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

/// Appends an object with the members that `members` writes.
pub(crate) fn write(out: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    members(&mut Object { out, empty: true });
    out.push(b'}');
}

/// Appends anything else that has a JSON form without errors: texts, numbers, slices of them.
pub(crate) fn value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let start = out.len();
    // Out of reach: memory takes all, and what this crate writes has a JSON form. Null would keep the document whole.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends a GUID between quotation marks.
pub(crate) fn uuid(out: &mut Vec<u8>, id: Uuid) {
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.push(b'"');
}

impl Object<'_> {
    /// Begins a member; its value is to be appended to what this gives. The name needs no escaping.
    pub(crate) fn member(&mut self, name: &'static str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A text or a number.
    pub(crate) fn set(&mut self, name: &'static str, scalar: impl Serialize) {
        value(self.member(name), &scalar);
    }

    /// A text or a number, where there is one.
    pub(crate) fn set_if(&mut self, name: &'static str, scalar: Option<impl Serialize>) {
        if let Some(scalar) = scalar {
            self.set(name, scalar);
        }
    }

    /// A GUID.
    pub(crate) fn id(&mut self, name: &'static str, id: impl Into<Option<Uuid>>) {
        if let Some(id) = id.into() {
            uuid(self.member(name), id);
        }
    }

    /// A time as RFC 3339.
    pub(crate) fn time(&mut self, name: &'static str, time: impl Into<Option<Timestamp>>) {
        self.set_if(name, time.into());
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &'static str, members: impl FnOnce(&mut Object<'_>)) {
        write(self.member(name), members);
    }

    /// An array of one object.
    pub(crate) fn object_in_array(&mut self, name: &'static str, members: impl FnOnce(&mut Object<'_>)) {
        let out = self.member(name);
        out.push(b'[');
        write(out, members);
        out.push(b']');
    }

    /// The whole record, with its own keys.
    pub(crate) fn record(&mut self, name: &'static str, record: &AuditRecord<'_>) {
        value(self.member(name), record);
    }
}
