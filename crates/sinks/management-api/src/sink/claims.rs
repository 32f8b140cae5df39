//! Whose feed a record is in.

use std::borrow::Cow;
use std::collections::HashSet;

use actlog_core::AuditRecord;
use actlog_core::config::Organizations;
use url::Url;
use uuid::Uuid;

/// What `[organizations]` and the configured tenants say.
///
/// Where exactly one tenant is served and no organisation is given a tenant, every record is in that one's feed. Where
/// organisations are given tenants, only theirs are served: a feed never has records of an organisation that somebody
/// forgot to name. Records of no organisation (actlog's own) are in the only tenant's feed, or in none.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    organizations: Vec<Claim>,
    tenants: HashSet<Uuid>,
    /// The tenant, if it is the only one.
    only: Option<Uuid>,
}

/// An organisation that is given a tenant.
#[derive(Clone, Debug)]
struct Claim {
    tenant: Uuid,
    id: Option<Uuid>,
    unique_name: String,
    host: Option<String>,
}

/// What a record says of its origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin<'r> {
    id: Option<Uuid>,
    unique_name: Option<Cow<'r, str>>,
    host: Option<String>,
    /// The Office tenant, where the record came from Office.
    tenant: Option<Uuid>,
}

impl<'r> Origin<'r> {
    pub(crate) fn of(record: &'r AuditRecord<'_>) -> Self {
        let tenant = record.extra.get("TenantId").and_then(|value| serde_json::from_str(value.get()).ok());
        Self {
            id: record.organization_id,
            unique_name: record.crm_organization_unique_name.as_deref().map(Cow::Borrowed),
            host: record.instance_url.as_deref().and_then(host),
            tenant,
        }
    }

    fn is_unknown(&self) -> bool {
        self.id.is_none() && self.unique_name.is_none() && self.host.is_none() && self.tenant.is_none()
    }

    /// The id under which records of this origin are kept together, made of all that the record says of it.
    pub(crate) fn key(&self) -> Uuid {
        let (id, tenant) = (self.id.unwrap_or_default(), self.tenant.unwrap_or_default());
        let unique_name = self.unique_name.as_deref().unwrap_or_default();
        let host = self.host.as_deref().unwrap_or_default();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{id}\n{tenant}\n{unique_name}\n{host}").as_bytes())
    }

    /// How a person knows it.
    pub(crate) fn name(&self) -> String {
        match (&self.unique_name, self.id, &self.host, self.tenant) {
            (Some(name), Some(id), ..) => format!("{name} ({id})"),
            (Some(name), None, ..) => name.to_string(),
            (None, Some(id), ..) => id.to_string(),
            (None, None, Some(host), _) => host.clone(),
            (None, None, None, Some(tenant)) => format!("tenant {tenant}"),
            (None, None, None, None) => "no organisation".to_owned(),
        }
    }
}

fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

impl Claims {
    /// From the configuration; `tenants` are those that are served.
    pub(crate) fn new(organizations: &Organizations, tenants: impl IntoIterator<Item = Uuid>) -> Self {
        let claims = organizations.iter().filter_map(|(name, organization)| {
            Some(Claim {
                tenant: organization.tenant?,
                id: organization.id,
                unique_name: organization.unique_name.clone().unwrap_or_else(|| name.clone()),
                host: organization.url.as_deref().and_then(host),
            })
        });
        let tenants: HashSet<Uuid> = tenants.into_iter().collect();
        let only = tenants.iter().copied().next().filter(|_| tenants.len() == 1);
        Self { organizations: claims.collect(), tenants, only }
    }

    /// The tenant whose feed has records of this origin.
    pub(crate) fn tenant(&self, origin: &Origin<'_>) -> Option<Uuid> {
        if let Some(only) = self.only
            && (self.organizations.is_empty() || origin.is_unknown())
        {
            return Some(only);
        }
        if let Some(claim) = self.organizations.iter().find(|claim| claim.is_of(origin)) {
            return Some(claim.tenant);
        }
        // Records that came from Office name the tenant itself, some in the place of the organisation.
        [origin.tenant, origin.id].into_iter().flatten().find(|id| self.tenants.contains(id))
    }
}

impl Claim {
    /// The first thing that both sides know decides: the id, the unique name, the instance's host.
    fn is_of(&self, origin: &Origin<'_>) -> bool {
        if let (Some(mine), Some(its)) = (self.id, origin.id) {
            return mine == its;
        }
        if let Some(its) = &origin.unique_name {
            return self.unique_name.eq_ignore_ascii_case(its);
        }
        self.host.is_some() && self.host == origin.host
    }
}

#[cfg(test)]
mod tests {
    use actlog_core::config::Organization;

    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);
    const ORGANIZATION: Uuid = Uuid::from_u128(1);

    fn record(id: Option<Uuid>, name: Option<&'static str>, url: Option<&'static str>) -> AuditRecord<'static> {
        AuditRecord {
            organization_id: id,
            crm_organization_unique_name: name.map(Into::into),
            instance_url: url.map(Into::into),
            ..AuditRecord::default()
        }
    }

    fn claims() -> Claims {
        let contoso = Organization {
            id: Some(ORGANIZATION),
            unique_name: Some("unqcontoso".into()),
            tenant: Some(A),
            url: Some("https://contoso.crm.dynamics.com".into()),
            ..Organization::default()
        };
        let fabrikam = Organization { tenant: Some(B), ..Organization::default() };
        let nobody = Organization { id: Some(Uuid::from_u128(9)), ..Organization::default() };
        let organizations = [("contoso", contoso), ("fabrikam", fabrikam), ("nobody", nobody)];
        Claims::new(&organizations.into_iter().map(|(name, o)| (name.to_owned(), o)).collect(), [A, B])
    }

    #[test]
    fn an_organisation_is_known_by_id_then_by_name_then_by_address() {
        let url = Some("https://CONTOSO.crm.dynamics.com/main.aspx");
        for (record, expected) in [
            (record(Some(ORGANIZATION), None, None), Some(A)),
            (record(Some(ORGANIZATION), Some("renamed"), None), Some(A)),
            (record(Some(Uuid::from_u128(2)), Some("unqcontoso"), None), None),
            (record(None, Some("UnqContoso"), None), Some(A)),
            (record(None, Some("contoso"), url), None),
            (record(None, None, url), Some(A)),
            (record(Some(Uuid::from_u128(3)), Some("fabrikam"), None), Some(B)),
            (record(Some(Uuid::from_u128(9)), None, None), None),
            (record(None, None, None), None),
        ] {
            assert_eq!(claims().tenant(&Origin::of(&record)), expected, "{}", Origin::of(&record).name());
        }
    }

    #[test]
    fn a_record_of_office_is_in_the_feed_of_its_own_tenant() {
        let mut from_office = record(Some(B), None, None);
        assert_eq!(claims().tenant(&Origin::of(&from_office)), Some(B));
        from_office.organization_id = Some(Uuid::from_u128(77));
        from_office.extra.insert("TenantId", A.to_string());
        assert_eq!(claims().tenant(&Origin::of(&from_office)), Some(A));
        from_office.extra.insert("TenantId", Uuid::from_u128(78).to_string());
        assert_eq!(claims().tenant(&Origin::of(&from_office)), None);
    }

    #[test]
    fn the_only_tenant_has_everything_unless_organisations_are_given_tenants() {
        let anybody = record(Some(Uuid::from_u128(5)), Some("anybody"), None);
        let nobody = record(None, None, None);
        let all = Claims::new(&Organizations::new(), [A]);
        assert_eq!(all.tenant(&Origin::of(&anybody)), Some(A));
        let contoso = Organization { tenant: Some(A), ..Organization::default() };
        let named = Claims::new(&Organizations::from([("contoso".to_owned(), contoso)]), [A]);
        assert_eq!(named.tenant(&Origin::of(&anybody)), None);
        assert_eq!(named.tenant(&Origin::of(&nobody)), Some(A), "actlog's own records");
        let two = Claims::new(&Organizations::new(), [A, B]);
        assert_eq!(two.tenant(&Origin::of(&nobody)), None);
    }
}
