//! Any text as a solution's `customizations.xml`: it is refused, or gives flags that a policy can take over and state.
#![no_main]

use std::io::Cursor;

use actlog_dataverse::customizations::read;
use actlog_policy::{Policy, PolicyDocument};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|xml: &[u8]| {
    let Ok(flags) = read(Cursor::new(xml), "file") else { return };
    let imported = PolicyDocument::default().with_flags(&flags, None).document;
    Policy::compile(&imported, 1, None).expect("names in flags are logical names");
    let stated = imported.audit_flags(&flags, None).stated();
    for (flag, value) in flags.stated() {
        assert_eq!(stated.get(&flag), Some(&value), "{flag}");
    }
});
