//! What several tests of the policy need.
#![allow(dead_code, reason = "each test file uses a part of it")]

use actlog_core::{AuditRecord, WORKLOAD_CRM};
use actlog_policy::{Decision, Policy, PolicyDocument};

/// The key that values are hashed with.
pub(crate) const KEY: &[u8] = b"a key for the tests of the policy";

/// A Dynamics 365 record.
pub(crate) fn record(operation: &str, entity: &str) -> AuditRecord<'static> {
    AuditRecord {
        record_type: 21,
        version: 1,
        workload: WORKLOAD_CRM.into(),
        operation: operation.to_owned().into(),
        message: Some(operation.to_owned().into()),
        entity_name: (!entity.is_empty()).then(|| entity.to_owned().into()),
        crm_organization_unique_name: Some("contoso".into()),
        ..AuditRecord::default()
    }
}

/// A policy, version 7, from its TOML.
pub(crate) fn policy(text: &str) -> Policy {
    Policy::compile(&PolicyDocument::parse(text).unwrap(), 7, Some(KEY)).unwrap()
}

/// The label of the rule that leaves the record out; `kept` where none does.
pub(crate) fn decide(policy: &Policy, mut record: AuditRecord<'_>) -> String {
    match policy.apply(&mut record) {
        Decision::Keep => "kept".to_owned(),
        Decision::Exclude(rule) => rule.to_owned(),
    }
}

/// The record as the policy lets it through.
pub(crate) fn applied<'a>(policy: &Policy, mut record: AuditRecord<'a>) -> AuditRecord<'a> {
    assert_eq!(policy.apply(&mut record), Decision::Keep);
    record
}
