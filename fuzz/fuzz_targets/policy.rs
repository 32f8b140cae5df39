//! Any text as a policy: it is refused, or becomes a policy that decides, and whose own text says the same.
#![no_main]

use actlog_core::{AuditRecord, WORKLOAD_CRM};
use actlog_policy::{Policy, PolicyDocument, changes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(document) = PolicyDocument::parse(text) else { return };
    let again = PolicyDocument::parse(&document.to_toml()).expect("what was written is read");
    assert_eq!(changes(&document, &again), Vec::<String>::new());
    let Ok(policy) = Policy::compile(&document, 1, Some(&[7; 32])) else { return };
    for (operation, entity) in [("Update", "account"), ("RetrieveMultiple", "contact"), ("WhoAmI", "none")] {
        let mut record = AuditRecord {
            record_type: 21,
            workload: WORKLOAD_CRM.into(),
            operation: operation.into(),
            entity_name: Some(entity.into()),
            query: Some(
                "<filter type=\"and\"><condition column=\"name\" operator=\"eq\" value=\"secret\" /></filter>".into(),
            ),
            ..AuditRecord::default()
        };
        let _ = policy.apply(&mut record);
    }
});
