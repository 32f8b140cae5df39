//! What the Power Platform admin centre reports, as records of the Office 365 feed.

use actlog_core::AuditRecord;
use actlog_intake::{Arrival, Format};
use actlog_office::{Envelope, from_office};

/// Office records in JSON.
#[derive(Debug)]
pub(crate) struct OfficeRecords;

impl Format for OfficeRecords {
    const ELEMENT: &'static str = "an audit record of Office 365 in JSON";
    const REFUSAL: &'static str = "not-a-record";
    type Envelope<'a> = Envelope<'static>;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Envelope<'static> {
        // Which feed it once came from, nobody says.
        Envelope { content_type: None, received: arrival.received }
    }

    fn map<'a>(&self, element: &'a [u8], envelope: &Envelope<'static>) -> Result<AuditRecord<'a>, String> {
        from_office(element, envelope).map_err(|error| error.to_string())
    }
}
