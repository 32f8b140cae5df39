//! Events for Splunk's HTTP Event Collector.
//!
//! A request holds events one behind the other, without an array around them and without commas between.

use actlog_core::AuditRecord;

use crate::json::write;
use crate::reading::host;

/// What Splunk files events under. What is absent is what the collector's token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplunkOptions {
    /// Where events come from; the host of the record's InstanceUrl where this is absent.
    pub host: Option<String>,
    /// By what way they come.
    pub source: Option<String>,
    /// How Splunk reads them.
    pub sourcetype: Option<String>,
    /// Which index they go into.
    pub index: Option<String>,
}

/// Appends the record as one event. `event` is what Splunk indexes: the record, or another form of it, as JSON.
pub fn event(record: &AuditRecord<'_>, event: &[u8], options: &SplunkOptions, out: &mut Vec<u8>) {
    write(out, |envelope| {
        time(record.creation_time.unix_milliseconds(), envelope.member("time"));
        envelope.set_if("host", options.host.as_deref().or(host(record)));
        envelope.set_if("source", options.source.as_ref());
        envelope.set_if("sourcetype", options.sourcetype.as_ref());
        envelope.set_if("index", options.index.as_ref());
        envelope.member("event").extend_from_slice(event);
    });
}

/// Seconds since 1970 with three digits behind the point, as a JSON number.
fn time(milliseconds: i64, out: &mut Vec<u8>) {
    if milliseconds < 0 {
        out.push(b'-');
    }
    let (seconds, rest) = (milliseconds.unsigned_abs() / 1000, milliseconds.unsigned_abs() % 1000);
    out.extend_from_slice(format!("{seconds}.{rest:03}").as_bytes());
}
