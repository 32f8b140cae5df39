//! What becomes of a record.

use std::borrow::Cow;
use std::collections::HashMap;

use actlog_core::AuditRecord;
use actlog_dataverse::directory::{User, user_type};
use globset::GlobSet;
use uuid::Uuid;

/// The users, as records are completed with them.
#[derive(Debug)]
pub(crate) struct Known(HashMap<Uuid, User>);

impl Known {
    pub(crate) fn new(users: &HashMap<Uuid, User>) -> Self {
        Self(users.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Completes a record; false when its system user is not known.
    pub(crate) fn complete(&self, record: &mut AuditRecord<'_>, support: &GlobSet) -> bool {
        if let Some(initiator) = record.initiating_user_id.and_then(|id| self.0.get(&id))
            && let Some(upn) = &initiator.user_upn
        {
            record.extra.insert("InitiatingUserUpn", &**upn);
        }
        let is_known = match record.system_user_id {
            None => true,
            Some(id) => match self.0.get(&id) {
                Some(user) => {
                    complete_user(record, id, user);
                    true
                }
                None => false,
            },
        };
        let name = record.user_upn.as_deref().or(record.user_id.as_deref());
        if name.is_some_and(|name| support.is_match(name)) {
            record.user_type = Some(user_type::SUPPORT);
        }
        is_known
    }
}

fn complete_user(record: &mut AuditRecord<'_>, id: Uuid, user: &User) {
    let owned = |text: &str| Some(Cow::Owned(text.to_owned()));
    if let Some(upn) = &user.user_upn {
        // The id stood there for want of the name.
        if record.user_id.as_deref().is_none_or(|text| text.parse() == Ok(id)) {
            record.user_id = owned(upn);
        }
        if record.user_upn.is_none() {
            record.user_upn = owned(upn);
        }
    }
    if let (None, Some(key)) = (&record.user_key, &user.user_key) {
        record.user_key = owned(key);
    }
    record.user_type = record.user_type.or(user.user_type);
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobSetBuilder};

    use super::*;

    const ANN: Uuid = Uuid::from_u128(1);
    const SERVICE: Uuid = Uuid::from_u128(2);

    fn known() -> Known {
        let user = |upn: &str, user_type| User {
            user_upn: Some(upn.into()),
            user_key: Some("10033FFF".into()),
            user_type: Some(user_type),
        };
        Known(HashMap::from([
            (ANN, user("ann@contoso.com", user_type::REGULAR)),
            (SERVICE, user("svc@contoso.com", user_type::APPLICATION)),
        ]))
    }

    fn support() -> GlobSet {
        GlobSetBuilder::new().add(Glob::new("*@support.example").unwrap()).build().unwrap()
    }

    #[test]
    fn a_name_takes_the_place_of_the_id_and_the_rest_is_added() {
        let mut record =
            AuditRecord { user_id: Some(ANN.to_string().into()), system_user_id: Some(ANN), ..Default::default() };
        record.initiating_user_id = Some(SERVICE);
        assert!(known().complete(&mut record, &support()));
        assert_eq!(record.user_id.as_deref(), Some("ann@contoso.com"));
        assert_eq!(record.user_upn.as_deref(), Some("ann@contoso.com"));
        assert_eq!(record.user_key.as_deref(), Some("10033FFF"));
        assert_eq!(record.user_type, Some(user_type::REGULAR));
        assert_eq!(record.extra.get("InitiatingUserUpn").map(|json| json.get()), Some("\"svc@contoso.com\""));
    }

    #[test]
    fn what_the_source_has_said_stands() {
        let mut record = AuditRecord {
            user_id: Some("old@contoso.com".into()),
            user_upn: Some("old@contoso.com".into()),
            user_key: Some("its own".into()),
            user_type: Some(user_type::ADMINISTRATOR),
            system_user_id: Some(ANN),
            ..Default::default()
        };
        let before = record.clone();
        assert!(known().complete(&mut record, &support()));
        assert_eq!(record, before);
    }

    #[test]
    fn an_unknown_user_stays_an_id() {
        let id = Uuid::from_u128(3);
        let mut record =
            AuditRecord { user_id: Some(id.to_string().into()), system_user_id: Some(id), ..Default::default() };
        let before = record.clone();
        assert!(!known().complete(&mut record, &support()));
        assert_eq!(record, before);
        assert!(known().complete(&mut AuditRecord::default(), &support()), "nobody is no unknown user");
    }

    #[test]
    fn support_users_are_recognised_by_rule_from_any_source() {
        let mut record =
            AuditRecord { user_id: Some("x@support.example".into()), user_type: Some(0), ..Default::default() };
        known().complete(&mut record, &support());
        assert_eq!(record.user_type, Some(user_type::SUPPORT));
    }
}
