//! The Ids of events whose senders may name them or not.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The Id of a record: made from the Id that its sender gave the event, else from the element's bytes. The same event
/// gives the same Id each time.
///
/// A given Id is not taken as it is: whoever may send here could otherwise name a record that another source is going to
/// deliver, which would then be dropped as a duplicate. `namespace` belongs to the source's kind, for ever.
pub fn record_id(namespace: &Uuid, given: Option<Uuid>, element: &[u8]) -> Uuid {
    match given {
        Some(id) => Uuid::new_v5(namespace, id.as_bytes()),
        None => Uuid::new_v5(namespace, &Sha256::digest(element)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_events_own_and_never_the_one_that_was_given() {
        let (namespace, given) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = record_id(&namespace, Some(given), b"a");
        assert!(id != given && id == record_id(&namespace, Some(given), b"b"));
        let unnamed = record_id(&namespace, None, b"a");
        assert!(unnamed != id && unnamed != record_id(&namespace, None, b"b"));
        assert_eq!(unnamed, record_id(&namespace, None, b"a"));
        assert_ne!(unnamed, record_id(&given, None, b"a"));
    }
}
