//! Any bytes as the answer of a receiver of the sink `http`: no format panics, or names a record that was not sent.
#![no_main]

use std::sync::LazyLock;

use actlog_sink_http::{HttpConfig, places_in_answer};
use libfuzzer_sys::fuzz_target;

static CONFIGS: LazyLock<Vec<HttpConfig>> = LazyLock::new(|| {
    let azure = serde_json::json!({ "rule": "dcr-1", "stream": "Custom-A" });
    ["json", "splunk-hec", "elasticsearch", "otlp", "azure-logs"]
        .map(|format| {
            let azure = (format == "azure-logs").then_some(&azure);
            let table = serde_json::json!({ "url": "https://h.example/", "format": format, "azure": azure });
            serde_json::from_value(table).expect("the configurations are valid")
        })
        .into()
});

fuzz_target!(|input: (u16, u8, &[u8])| {
    let (status, count, body) = input;
    for config in &*CONFIGS {
        let places = places_in_answer(config, 200 + status % 400, body, usize::from(count)).unwrap_or_default();
        assert!(places.iter().all(|place| *place < usize::from(count)), "{places:?} of {count}");
    }
});
