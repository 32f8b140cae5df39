//! What a line of an export means.

use actlog_core::{AuditRecord, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

/// The first line of every export.
const HEADER: &[u8] = b"sequence,time,door,badge,holder,result";

/// What all Ids of this source are made from. It never changes: a badge event that is read again has the same Id.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0e_88c4_35a5_4f0c_a6a8_7f2d_90c1_5b3e);

/// A use of a badge, in the order of the columns.
#[derive(Deserialize)]
struct Event {
    /// The controller's own number, never used twice for the same door.
    sequence: u64,
    /// RFC 3339, with an offset.
    time: String,
    door: String,
    badge: String,
    holder: String,
    result: Outcome,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Granted,
    Refused,
}

/// The record of a line; none for the line with the names of the columns.
///
/// # Errors
/// What is wrong with the line, for a person.
pub(crate) fn read(line: &[u8]) -> Result<Option<AuditRecord<'static>>, String> {
    if line.trim_ascii() == HEADER {
        return Ok(None);
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    let Some(event) = reader.deserialize::<Event>().next() else {
        return Err("the line is empty".to_owned());
    };
    let event = event.map_err(|error| match error.kind() {
        // The rest of csv's message counts lines from the beginning of this one.
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    })?;
    let time = Timestamp::parse(&event.time).map_err(|error| format!("time {:?}: {error}", event.time))?;
    let (operation, status) = match event.result {
        Outcome::Granted => ("DoorOpened", "Success"),
        Outcome::Refused => ("DoorRefused", "Failure"),
    };
    let mut record = AuditRecord {
        id: Uuid::new_v5(&NAMESPACE, format!("{}/{}", event.door, event.sequence).as_bytes()),
        version: 1,
        workload: "Badges".into(),
        creation_time: time,
        operation: operation.into(),
        user_id: Some(event.holder.into()),
        object_id: Some(event.door.into()),
        result_status: Some(status.into()),
        ..AuditRecord::default()
    };
    record.extra.insert("Badge", event.badge);
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"4711,2026-03-02T07:58:12+01:00,\"Server room, east\",0x5A31,ada@contoso.example,granted\r\n";

    #[test]
    fn a_line_becomes_a_record() {
        let record = read(LINE).unwrap().unwrap();
        assert_eq!(record.creation_time.to_string(), "2026-03-02T06:58:12Z");
        assert_eq!(record.operation, "DoorOpened");
        assert_eq!(record.object_id.as_deref(), Some("Server room, east"));
        assert_eq!(record.extra.get("Badge").unwrap().get(), "\"0x5A31\"");
        assert_eq!(read(LINE).unwrap().unwrap().id, record.id);
    }

    #[test]
    fn the_header_is_no_event_and_what_is_wrong_is_said() {
        assert!(read(b"sequence,time,door,badge,holder,result\n").unwrap().is_none());
        assert!(read(b"\n").unwrap_err().contains("empty"));
        assert!(read(b"1,yesterday,Door,0x1,ada,granted\n").unwrap_err().contains("yesterday"));
        assert!(read(b"1,2026-03-02T07:58:12Z,Door,0x1,ada,melted\n").unwrap_err().contains("melted"));
        assert!(read(b"one,2026-03-02T07:58:12Z,Door,0x1,ada,granted\n").unwrap_err().starts_with("field 0: "));
    }
}
