//! The record's Id: the same event gives the same Id however often and by whatever way it is delivered.

use sha2::{Digest, Sha256};
use uuid::{Uuid, uuid};

use crate::context::Context;
use crate::json;

/// Namespace of the Ids of Dataverse events. Changing it would make every event a new one.
const NAMESPACE: Uuid = uuid!("b9d7f1c4-52e3-5a0e-9c86-0f6f2f3d7a41");

/// A UUIDv5 over the organisation, OperationId, message, entity, row, stage and depth as the body has them.
///
/// Headers and configuration have no part in it: the same body read from a file later is the same event. All that
/// happens in one synchronous request shares one OperationId, so its bodies count too; so they do where anything that
/// identifies an asynchronous delivery is missing. (A webhook repeats the body byte for byte when it retries.)
pub(crate) fn record_id(body: &[u8], context: &Context<'_>) -> Uuid {
    let mut name = Vec::with_capacity(192);
    // Zero bytes don't occur in JSON, so that no two lists of parts give the same name.
    for part in [
        context.organization_id,
        context.organization_name,
        context.operation_id,
        context.message_name,
        context.primary_entity_name,
        context.primary_entity_id,
        context.stage,
        context.depth,
    ] {
        name.extend_from_slice(part.map_or("", |raw| raw.get()).as_bytes());
        name.push(0);
    }
    let identified = context.operation_id.and_then(json::non_zero_guid).is_some()
        && (context.organization_id.or(context.organization_name)).is_some()
        && context.message_name.is_some()
        && context.mode.and_then(json::integer) == Some(1);
    if !identified {
        name.extend_from_slice(&Sha256::digest(body));
    }
    Uuid::new_v5(&NAMESPACE, &name)
}
