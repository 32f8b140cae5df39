//! Any text as the FetchXML of an export: it is rewritten or kept raw, never both, and the record stands.
#![no_main]

use actlog_core::Timestamp;
use actlog_dataverse::{Envelope, MappingOptions, map_context};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str)| {
    let (extended_query, fetch) = input;
    // Other texts under that name are words to search for, not queries.
    let fetch = format!("<{fetch}");
    let body = serde_json::json!({
        "MessageName": "ExportToExcel",
        "InputParameters": [{ "key": "FetchXml", "value": fetch }],
    })
    .to_string();
    let options = MappingOptions { extended_query, ..MappingOptions::default() };
    let record = map_context(body.as_bytes(), &Envelope::new(Timestamp::default()), &options).expect("a context");
    if let Some(query) = &record.query {
        assert!(record.extra.get("QueryProblem").is_none());
        assert!(query.starts_with("<filter type=\"") || query.starts_with("<link-entity"), "{query}");
    }
});
