//! Ids of content, in the shape of Office's: `20171014180051748005825$20171014180051748005825$audit_general$Audit_General`.

use std::fmt;

use actlog_core::Timestamp;
use actlog_office::ContentType;
use chrono::NaiveDateTime;

use super::index::Blob;

/// Digits of the time: to the millisecond.
const TIME: usize = 17;
/// Digits behind it. Office has finer time there; here they are taken from the content's checksum, so that an id is of
/// this content and no other that might have the same time.
const MARK: usize = 6;

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentId {
    pub(super) created: i64,
    mark: u32,
    pub(super) content_type: ContentType,
}

impl ContentId {
    pub(super) fn new(blob: &Blob, content_type: ContentType) -> Self {
        Self { created: blob.created, mark: blob.crc % 10_u32.pow(MARK as u32), content_type }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.split('$').next().filter(|part| part.len() == TIME + MARK)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (time, mark) = digits.split_at(TIME);
        let time = NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S%3f").ok()?;
        let (created, mark) = (time.and_utc().timestamp_millis(), mark.parse().ok()?);
        let named = text.rsplit('$').next()?.replace('_', ".");
        let id = Self { created, mark, content_type: ContentType::parse(&named)? };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_unix_milliseconds(self.created).to_datetime().format("%Y%m%d%H%M%S%3f");
        let digits = format!("{time}{:0width$}", self.mark, width = MARK);
        let name = self.content_type.as_str().replace('.', "_");
        write!(f, "{digits}${digits}${}${name}", name.to_ascii_lowercase())
    }
}
